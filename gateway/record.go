package gateway

import (
	"cmp"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
)

// counters are the metrics of a gateway.
type counters struct {
	set            *metrics.Set
	panics         *metrics.Counter
	sent, received *metrics.Counter // bytes of bodies
	// seconds measures the time from the request's head to the last byte of the response, by kind.
	seconds map[string]*metrics.PrometheusHistogram
	// gets and puts measure the same of GetObject by outcome, and of PutObject by commit.
	gets, puts map[string]*metrics.PrometheusHistogram
	// requests are the counters by operation and status; formatting their names on every request
	// would be expensive.
	requests sync.Map // requestLabels -> *metrics.Counter
}

type requestLabels struct {
	op     string
	status int
}

func newCounters(set *metrics.Set) *counters {
	c := &counters{set: set, seconds: map[string]*metrics.PrometheusHistogram{}, gets: map[string]*metrics.PrometheusHistogram{}, puts: map[string]*metrics.PrometheusHistogram{},
		panics:   set.GetOrCreateCounter("akigw_gateway_panics_total"),
		sent:     set.GetOrCreateCounter("akigw_gateway_sent_bytes_total"),
		received: set.GetOrCreateCounter("akigw_gateway_received_bytes_total"),
	}
	// From less than the time of a hit in memory to more than a client waits.
	bounds := []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}
	for _, kind := range []string{"read", "write", "list", "other"} {
		c.seconds[kind] = set.GetOrCreatePrometheusHistogramExt(`akigw_gateway_request_seconds{kind="`+kind+`"}`, bounds)
	}
	for _, outcome := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Overlay, akigw.Stale} {
		c.gets[string(outcome)] = set.GetOrCreatePrometheusHistogramExt(`akigw_gateway_get_seconds{outcome="`+string(outcome)+`"}`, bounds)
	}
	for _, commit := range []string{"journal", "upstream"} {
		c.puts[commit] = set.GetOrCreatePrometheusHistogramExt(`akigw_gateway_put_seconds{commit="`+commit+`"}`, bounds)
	}
	return c
}

// served measures a GetObject by what served it, and a PutObject by what acknowledged it, if it
// succeeded.
func (c *counters) served(x *exchange, seconds float64) {
	all, name, by := c.gets, "x-akigw-cache", ""
	switch x.op {
	case "PutObject":
		all, name, by = c.puts, "x-akigw-commit", "upstream" // that is what an answer without the header means
	case "GetObject":
	default:
		return
	}
	if x.answer.status >= http.StatusMultipleChoices {
		return
	}
	if h := all[cmp.Or(x.answer.sent(name), by)]; h != nil {
		h.Update(seconds)
	}
}

// request returns the counter of an operation and a status.
func (c *counters) request(op string, status int) *metrics.Counter {
	labels := requestLabels{op, status}
	if n, ok := c.requests.Load(labels); ok {
		return n.(*metrics.Counter)
	}
	n := c.set.GetOrCreateCounter(`akigw_gateway_requests_total{op="` + op + `",status="` + strconv.Itoa(status) + `"}`)
	c.requests.Store(labels, n)
	return n
}

// kindOf returns the kind of an operation in akigw_gateway_request_seconds.
func kindOf(op string) string {
	switch op {
	case "GetObject", "HeadObject", "GetVectors", "QueryVectors":
		return "read"
	case "PutObject", "PostObject", "UploadPart", "CopyObject", "UploadPartCopy", "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObject", "DeleteObjects", "PutVectors", "DeleteVectors":
		return "write"
	}
	if strings.HasPrefix(op, "List") {
		return "list"
	}
	return "other"
}

// recorder counts and logs requests that have ended.
type recorder struct {
	log       *slog.Logger
	counters  *counters
	costs     *cost.Ledger // nil: none
	accessLog *AccessLog   // nil: none
	hostID    string       // x-amz-id-2
}

// record counts and logs an exchange that has ended.
func (l *recorder) record(x *exchange) {
	if x.op == "" {
		x.op = "none"
	}
	w, took := &x.answer, time.Since(x.answer.started)
	l.counters.request(x.op, w.status).Inc()
	l.counters.seconds[kindOf(x.op)].Update(took.Seconds())
	l.counters.served(x, took.Seconds())
	l.counters.sent.AddInt64(w.bytes)
	l.counters.received.AddInt64(max(0, x.request.ContentLength))
	if c := x.answer.call; l.costs != nil && c != nil && !w.vectors { // costs are those of S3
		l.costs.Count(l.costs.Named(c.key.Bucket, w.status), cost.KindOf(c.Method, c.key.Name != "", c.query), c.ContentLength, w.bytes)
	}
	if l.accessLog != nil {
		l.accessLog.write(x, l.hostID, took)
	}
	l.trace(x)
	l.logRequest(x, took)
}

// trace describes the exchange in the request's span, if there is one.
func (l *recorder) trace(x *exchange) {
	span := trace.SpanFromContext(x.request.Context())
	if !span.IsRecording() {
		return
	}
	span.SetName(x.op)
	span.SetAttributes(attribute.String("aws.request_id", x.id()), attribute.String("akigw.outcome", x.answer.sent("x-akigw-cache")))
	if x.answer.call != nil {
		span.SetAttributes(attribute.String("aws.s3.bucket", x.answer.call.key.Bucket), attribute.String("aws.s3.key", x.answer.call.key.Name))
	}
}

// logRequest logs the exchange. A failure of the gateway or the upstream is a warning.
func (l *recorder) logRequest(x *exchange, took time.Duration) {
	level := slog.LevelDebug
	if x.answer.status >= 500 {
		level = slog.LevelWarn
	}
	r := x.request
	if !l.log.Enabled(r.Context(), level) {
		return
	}
	l.log.LogAttrs(r.Context(), level, "request", slog.String("request_id", x.id()), slog.String("op", x.op),
		slog.String("method", r.Method), slog.String("path", clip(r.URL.EscapedPath())), slog.Int("status", x.answer.status),
		slog.Int64("bytes", x.answer.bytes), slog.Duration("took", took), slog.String("access_key", clip(x.accessKey())),
		slog.String("remote", r.RemoteAddr))
}
