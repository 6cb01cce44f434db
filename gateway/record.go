package gateway

import (
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/akidb/akigw/cost"
)

// seconds is how long requests take, from their head to the last byte of their answer, by what
// they are: "read" are objects and their heads, "write" what stores objects, "list" listings.
var seconds = map[string]*metrics.PrometheusHistogram{
	"read": newSeconds("read"), "write": newSeconds("write"), "list": newSeconds("list"), "other": newSeconds("other"),
}

// secondsBounds are from less than what memory needs to more than a client waits.
var secondsBounds = []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30}

func newSeconds(kind string) *metrics.PrometheusHistogram {
	return metrics.NewPrometheusHistogramExt(`akigw_gateway_request_seconds{kind="`+kind+`"}`, secondsBounds)
}

var (
	sentBytes     = metrics.NewCounter("akigw_gateway_sent_bytes_total")
	receivedBytes = metrics.NewCounter("akigw_gateway_received_bytes_total")
)

// kindOf is what an operation is, for seconds.
func kindOf(op string) string {
	switch op {
	case "GetObject", "HeadObject":
		return "read"
	case "PutObject", "UploadPart", "CopyObject", "UploadPartCopy", "CreateMultipartUpload", "CompleteMultipartUpload", "DeleteObject", "DeleteObjects":
		return "write"
	}
	if strings.HasPrefix(op, "List") {
		return "list"
	}
	return "other"
}

// account counts and logs a request that is over. Failures of this side are warnings.
func (g *Gateway) account(r *http.Request, w *answer, op, accessKey, requestID string, started time.Time) {
	if op == "" {
		op = "none"
	}
	took := time.Since(started)
	requestCounter(op, w.status).Inc()
	seconds[kindOf(op)].Update(took.Seconds())
	sentBytes.AddInt64(w.bytes)
	receivedBytes.AddInt64(max(0, r.ContentLength))
	if g.Costs != nil && w.call != nil {
		g.Costs.Count(g.Costs.Named(w.call.key.Bucket, w.status), cost.KindOf(r.Method, w.call.key.Name != "", w.call.query), r.ContentLength, w.bytes)
	}
	if g.AccessLog != nil {
		g.AccessLog.write(r, w, op, accessKey, requestID, g.hostID[0], started, took)
	}
	if span := trace.SpanFromContext(r.Context()); span.IsRecording() {
		span.SetName(op)
		span.SetAttributes(attribute.String("aws.request_id", requestID), attribute.String("akigw.outcome", w.Header().Get("X-Akigw-Cache")))
		if w.call != nil {
			span.SetAttributes(attribute.String("aws.s3.bucket", w.call.key.Bucket), attribute.String("aws.s3.key", w.call.key.Name))
		}
	}
	level := slog.LevelDebug
	if w.status >= 500 {
		level = slog.LevelWarn
	}
	if !g.Log.Enabled(r.Context(), level) {
		return
	}
	g.Log.LogAttrs(r.Context(), level, "request", slog.String("request_id", requestID), slog.String("op", op),
		slog.String("method", r.Method), slog.String("path", clip(r.URL.EscapedPath())), slog.Int("status", w.status),
		slog.Int64("bytes", w.bytes), slog.Duration("took", took), slog.String("access_key", clip(accessKey)),
		slog.String("remote", r.RemoteAddr))
}
