package gateway

import (
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
)

// TestMetricsBelongToAGateway: two gateways in one process count their own requests.
func TestMetricsBelongToAGateway(t *testing.T) {
	var sets [2]*metrics.Set
	for i := range sets {
		sets[i] = metrics.NewSet()
		b := newBench(t, rootAlone, rootAlone)
		b.reconfigure(func(o *Options) { o.Metrics = sets[i] })
		for range i + 1 {
			b.ask("root", "GET", "/bucket/k", "", nil, "")
		}
	}
	for i, set := range sets {
		var text strings.Builder
		set.WritePrometheus(&text)
		want := []string{`akigw_gateway_requests_total{op="GetObject",status="404"} 1`, `akigw_gateway_requests_total{op="GetObject",status="404"} 2`}[i]
		for _, line := range []string{want, `akigw_gateway_request_seconds_count{kind="read"} ` + want[len(want)-1:], "akigw_gateway_panics_total 0", `akigw_gateway_get_seconds_count{outcome="cold"} 0`, "akigw_gateway_over_quota_total 0", "akigw_gateway_throttled_failures_total 0"} {
			if !strings.Contains(text.String(), line+"\n") {
				t.Errorf("gateway %d does not show %s:\n%s", i, line, text.String())
			}
		}
	}
}
