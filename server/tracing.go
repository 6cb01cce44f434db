package server

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/net/http/otelhttp"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
)

// TracingConfig says where traces are sent: [tracing].
type TracingConfig struct {
	Endpoint string  `toml:"endpoint" help:"address of an OpenTelemetry collector, OTLP over HTTP, such as http://127.0.0.1:4318; empty: no traces"`
	Share    float64 `toml:"share" help:"share of requests that are traced, 0 to 1, if the client has not decided"`
}

// Check reports every impossible value by its key.
func (c *TracingConfig) Check(report func(key, problem string)) {
	if c.Endpoint != "" {
		if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
			report("endpoint", "must be http://HOST[:PORT] or https://HOST[:PORT]")
		}
	}
	if !(c.Share >= 0 && c.Share <= 1) {
		report("share", "must be 0 to 1")
	}
}

// tracing creates spans for requests and for the upstream requests that they cause. It is nil when
// tracing is off, which costs nothing.
type tracing struct{ provider *sdktrace.TracerProvider }

// finishTraces bounds the time for sending the remaining spans at shutdown.
const finishTraces = 5 * time.Second

// open starts tracing. It returns nil if no collector is configured.
func (c *TracingConfig) open(version string) (*tracing, error) {
	if c.Endpoint == "" {
		return nil, nil
	}
	exporter, err := otlptracehttp.New(context.Background(), otlptracehttp.WithEndpointURL(c.Endpoint+"/v1/traces"))
	if err != nil {
		return nil, fmt.Errorf("tracing.endpoint: %w", err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(exporter),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(c.Share))),
		sdktrace.WithResource(resource.NewSchemaless(attribute.String("service.name", "akigw"), attribute.String("service.version", version))),
	)
	return &tracing{provider}, nil
}

// client wraps a transport with spans for requests to the upstream. It does not send the trace headers
// to the upstream.
func (t *tracing) client(next http.RoundTripper) http.RoundTripper {
	return otelhttp.NewTransport(next, otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.NewCompositeTextMapPropagator()), otelhttp.WithSpanNameFormatter(func(_ string, r *http.Request) string { return "upstream " + r.Method }))
}

// server wraps a handler with a span for each request, in the trace of the client if it sent one.
func (t *tracing) server(next http.Handler) http.Handler {
	return otelhttp.NewHandler(next, "S3", otelhttp.WithTracerProvider(t.provider), otelhttp.WithPropagators(propagation.TraceContext{}))
}

// close sends the remaining spans.
func (t *tracing) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTraces)
	defer cancel()
	return t.provider.Shutdown(ctx)
}
