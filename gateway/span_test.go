package gateway

import (
	"net/http"
	"net/http/httptest"
	"testing"

	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/akidb/akigw"
)

// TestSpanHasTheOutcome: the span of a request says which tier answered it, though the header with
// that has the spelling of S3 once it is sent.
func TestSpanHasTheOutcome(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	ctx, span := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans)).Tracer("").Start(t.Context(), "")
	x := newExchange(httptest.NewRecorder(), httptest.NewRequest("GET", "/b/k", nil).WithContext(ctx), false)
	x.op = "GetObject"
	x.answer.Header().Set("X-Akigw-Cache", string(akigw.Warm))
	x.answer.WriteHeader(http.StatusOK)
	(&recorder{}).trace(x)
	span.End()
	for _, a := range spans.Ended()[0].Attributes() {
		if a.Key == "akigw.outcome" && a.Value.AsString() == string(akigw.Warm) {
			return
		}
	}
	t.Errorf("%v", spans.Ended()[0].Attributes())
}
