package admin

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/cost"
)

// Overview describes the last second: an event of GET /api/v1/stream.
type Overview struct {
	At       int64                 `json:"at"`       // Unix time in milliseconds
	Requests map[string]float64    `json:"requests"` // requests of clients per second: read, write, list, other
	Errors   float64               `json:"errors"`   // 5xx responses per second
	Outcomes map[string]float64    `json:"outcomes"` // reads per second, by the slowest tier that they needed
	Latency  map[string]*Quantiles `json:"latency_ms"`
	// Bytes per second: to and from clients, from and to the upstream.
	Sent             float64 `json:"sent_bytes"`
	Received         float64 `json:"received_bytes"`
	UpstreamRequests float64 `json:"upstream_requests"`
	UpstreamReceived float64 `json:"upstream_received_bytes"`
	UpstreamSent     float64 `json:"upstream_sent_bytes"`
	Saved            Saved   `json:"saved"`
	Goroutines       int     `json:"goroutines"`
	Status           Status  `json:"status"`
}

// Quantiles are the request times of the last ten seconds, in milliseconds.
type Quantiles struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	P99 float64 `json:"p99"`
}

// Saved is the sum of the cost report.
type Saved struct {
	Bytes    int64     `json:"bytes"`
	Requests int64     `json:"requests"`
	Money    float64   `json:"money"`
	Currency string    `json:"currency"`
	Since    time.Time `json:"since"`
}

// saved totals the cost report.
func saved(r cost.Report) Saved {
	return Saved{
		Bytes:    int64(r.Total.Clients.Out) - int64(r.Total.Upstream.Out),
		Requests: int64(r.Total.Clients.Requests()) - int64(r.Total.Upstream.Requests()),
		Money:    r.Total.Saved, Currency: r.Prices.Currency, Since: r.Since,
	}
}

// counted is a snapshot of the gateway's counters, by name with labels.
type counted struct {
	at     time.Time
	values map[string]float64
}

// countedNow reads the counters that an Overview and an advice need.
func (s *Server) countedNow() counted {
	var text bytes.Buffer
	s.metrics.WritePrometheus(&text)
	c := counted{time.Now(), map[string]float64{}}
	for line := range strings.Lines(text.String()) {
		line = strings.TrimSpace(line)
		space := strings.LastIndexByte(line, ' ')
		if space < 0 || !overviewed(line) {
			continue
		}
		if n, err := strconv.ParseFloat(line[space+1:], 64); err == nil {
			c.values[line[:space]] = n
		}
	}
	return c
}

// overviewed reports whether countedNow reads a metric.
func overviewed(line string) bool {
	for _, prefix := range [...]string{"akigw_gateway_", "akigw_cold_", "akigw_tiers_reads_total", "akigw_tiers_lookups"} {
		if strings.HasPrefix(line, prefix) {
			return true
		}
	}
	return false
}

// label returns the value of a label in a metric's name, "" if it has none.
func label(name, label string) string {
	_, rest, ok := strings.Cut(name, label+`="`)
	if !ok {
		return ""
	}
	value, _, _ := strings.Cut(rest, `"`)
	return value
}

// since calls yield with the growth per second of each counter of a family.
func (c counted) since(old counted, family string, yield func(name string, perSecond float64)) {
	seconds := max(c.at.Sub(old.at).Seconds(), 1e-3)
	for name, value := range c.values {
		if rest, ok := strings.CutPrefix(name, family); ok && (rest == "" || rest[0] == '{') {
			yield(name, max(0, value-old.values[name])/seconds)
		}
	}
}

// sum returns the growth per second of a family.
func (c counted) sum(old counted, family string) (sum float64) {
	c.since(old, family, func(_ string, n float64) { sum += n })
	return sum
}

// quantiles returns the quantiles of the requests of a kind that have ended since old, nil if there
// are none.
func (c counted) quantiles(old counted, kind string) *Quantiles {
	type bucket struct{ bound, count float64 }
	var all []bucket
	total := 0.0
	c.since(old, "akigw_gateway_request_seconds_bucket", func(name string, n float64) {
		if label(name, "kind") != kind {
			return
		}
		bound, err := strconv.ParseFloat(label(name, "le"), 64)
		if err == nil {
			all = append(all, bucket{bound, n})
			total = max(total, n)
		}
	})
	if total == 0 {
		return nil
	}
	// Counts are cumulative. The quantile is in the lowest bucket that reaches it; its position
	// between the bounds is interpolated.
	at := func(q float64) float64 {
		upper, lower := bucket{math.Inf(1), math.Inf(1)}, bucket{}
		for _, b := range all {
			if b.count >= q*total && b.bound < upper.bound {
				upper = b
			}
		}
		for _, b := range all {
			if b.bound < upper.bound && b.bound > lower.bound {
				lower = b
			}
		}
		if math.IsInf(upper.bound, 1) || upper.count == lower.count {
			return 1000 * lower.bound
		}
		return 1000 * (lower.bound + (upper.bound-lower.bound)*(q*total-lower.count)/(upper.count-lower.count))
	}
	return &Quantiles{at(.5), at(.95), at(.99)}
}

// overview describes the time since old; its quantiles cover the time since older.
func (s *Server) overview(now, old, older counted) Overview {
	o := Overview{
		At: now.at.UnixMilli(), Requests: map[string]float64{"read": 0, "write": 0, "list": 0, "other": 0}, Outcomes: map[string]float64{}, Latency: map[string]*Quantiles{},
		Sent: now.sum(old, "akigw_gateway_sent_bytes_total"), Received: now.sum(old, "akigw_gateway_received_bytes_total"),
		UpstreamRequests: now.sum(old, "akigw_cold_requests_total"), UpstreamReceived: now.sum(old, "akigw_cold_received_bytes_total"), UpstreamSent: now.sum(old, "akigw_cold_sent_bytes_total"),
		Goroutines: runtime.NumGoroutine(), Status: s.statusNow(),
	}
	now.since(old, "akigw_gateway_request_seconds_count", func(name string, n float64) { o.Requests[label(name, "kind")] = n })
	now.since(old, "akigw_gateway_requests_total", func(name string, n float64) {
		if strings.HasPrefix(label(name, "status"), "5") {
			o.Errors += n
		}
	})
	now.since(old, "akigw_tiers_reads_total", func(name string, n float64) { o.Outcomes[label(name, "outcome")] = n })
	for _, kind := range [...]string{"read", "write"} {
		o.Latency[kind] = now.quantiles(older, kind)
	}
	if s.Costs != nil {
		o.Saved = saved(s.Costs.Report())
	}
	return o
}

const (
	// streamEvery is the interval between overviews. quantileSpan is the number of intervals that the
	// quantiles cover.
	streamEvery  = time.Second
	quantileSpan = 10
)

// stream sends an Overview each second, as server-sent events.
func (s *Server) stream(w http.ResponseWriter, r *http.Request) {
	ticker := time.NewTicker(streamEvery)
	defer ticker.Stop()
	past := []counted{s.countedNow()}
	events := newEvents(w)
	for {
		select {
		case <-ticker.C:
		case <-r.Context().Done():
			return
		}
		now := s.countedNow()
		if !events.send(s.overview(now, past[len(past)-1], past[0])) {
			return
		}
		if past = append(past, now); len(past) > quantileSpan {
			past = past[1:]
		}
	}
}

// events is a stream of server-sent events.
type events struct {
	w     http.ResponseWriter
	flush *http.ResponseController
}

func newEvents(w http.ResponseWriter) events {
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // tells proxies not to buffer
	e := events{w, http.NewResponseController(w)}
	_ = e.flush.Flush() // sends the headers, so that a browser knows that it is connected
	return e
}

// send sends an event. It returns false when the client has disconnected.
func (e events) send(v any) bool {
	raw, err := json.Marshal(v)
	return err == nil && e.line(raw)
}

// line sends an event that is already encoded as JSON.
func (e events) line(raw []byte) bool {
	_, err := fmt.Fprintf(e.w, "data: %s\n\n", raw)
	return err == nil && e.flush.Flush() == nil
}

// logs streams the log: first its last records, then each new one.
func (s *Server) logs(w http.ResponseWriter, r *http.Request) {
	if s.Logs == nil {
		http.Error(w, "the log is not kept", http.StatusNotFound)
		return
	}
	events := newEvents(w)
	s.Logs.Follow(r.Context(), events.line)
}

// costs returns the cost report.
func (s *Server) costs(w http.ResponseWriter, _ *http.Request) {
	if s.Costs == nil {
		http.Error(w, "costs are not counted", http.StatusNotFound)
		return
	}
	writeJSON(w, s.Costs.Report())
}
