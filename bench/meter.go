package bench

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/HdrHistogram/hdrhistogram-go"
)

// Latency is the distribution of the latencies of requests, failed ones included, in milliseconds.
// Quantiles come from an HDR histogram and are exact to three digits.
type Latency struct {
	Requests int64   `json:"requests"`
	Errors   int64   `json:"errors"`
	Mean     float64 `json:"mean_ms"`
	P50      float64 `json:"p50_ms"`
	P95      float64 `json:"p95_ms"`
	P99      float64 `json:"p99_ms"`
	P999     float64 `json:"p99_9_ms"`
	Max      float64 `json:"max_ms"`
}

// The bounds of the histogram in microseconds. Longer times count as the longest.
const longest = 10 * 60 * 1e6

// times is the histogram of one kind of request.
type times struct {
	hist   *hdrhistogram.Histogram
	errors int64
}

func newTimes() *times { return &times{hist: hdrhistogram.New(1, longest, 3)} }

func (t *times) add(took time.Duration, err error) {
	_ = t.hist.RecordValue(min(max(took.Microseconds(), 1), longest)) // cannot fail: the value is within the bounds
	if err != nil {
		t.errors++
	}
}

func (t *times) latency() Latency {
	ms := func(us int64) float64 { return float64(us) / 1000 }
	at := func(percent float64) float64 { return ms(t.hist.ValueAtPercentile(percent)) }
	return Latency{t.hist.TotalCount(), t.errors, t.hist.Mean() / 1000, at(50), at(95), at(99), at(99.9), ms(t.hist.Max())}
}

// Sample describes an interval, and the resource usage of the server at its end.
type Sample struct {
	At          float64          `json:"at_secs"` // since the start of the run
	Requests    int64            `json:"requests"`
	Errors      int64            `json:"errors"`
	PerSec      float64          `json:"requests_per_sec"`
	Bytes       int64            `json:"bytes"` // of bodies, in both directions
	P50         float64          `json:"p50_ms"`
	P95         float64          `json:"p95_ms"`
	P99         float64          `json:"p99_ms"`
	Outstanding int64            `json:"outstanding"` // requests without a response
	Tiers       map[string]int64 `json:"tiers,omitempty"`
	Inserted    int64            `json:"inserted_bytes,omitempty"` // new vectors since the start of the run
	Server      *Process         `json:"server,omitempty"`
}

// meter counts requests. Its methods may be called concurrently.
type meter struct {
	mu       sync.Mutex
	began    time.Time
	all      *times
	warmer   *times // without the operations that cold objects or collections served
	ops      map[string]*times
	tiers    map[string]*times
	window   *times // since the last sample
	sampled  time.Time
	bytes    int64
	shares   map[string]int64 // requests by tier since the last sample
	open     int64
	problems []string
	wrong    int64
	codes    map[string]int64 // errors by code
	inserted int64            // bytes that were added to the data
}

func newMeter() *meter {
	now := time.Now()
	return &meter{began: now, sampled: now, all: newTimes(), warmer: newTimes(), codes: map[string]int64{}, window: newTimes(), ops: map[string]*times{}, tiers: map[string]*times{}, shares: map[string]int64{}}
}

// begin counts a request that is due.
func (m *meter) begin() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open++
}

// end counts the result of a request.
func (m *meter) end(op, tier string, took time.Duration, bytes int64, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.open--
	if err != nil {
		m.note(op, err)
	} else {
		m.bytes += bytes
	}
	m.all.add(took, err)
	if tier != "cold" {
		m.warmer.add(took, err)
	}
	m.window.add(took, err)
	of(m.ops, op).add(took, err)
	if tier != "" {
		of(m.tiers, tier).add(took, err)
		m.shares[tier]++
	}
}

// note records an error. m.mu is held.
func (m *meter) note(op string, err error) {
	if errors.Is(err, errWrong) {
		m.wrong++
	}
	m.codes[codeOf(err)]++
	if text := fmt.Sprintf("%s: %v", op, err); len(m.problems) < 20 && !slices.Contains(m.problems, text) {
		m.problems = append(m.problems, text)
	}
}

// codeOf classifies an error: by the service's code or the status of the response, or by what is wrong.
func codeOf(err error) string {
	var status *statusError
	switch {
	case errors.As(err, &status):
		return cmp.Or(status.code, strconv.Itoa(status.status))
	case errors.Is(err, errWrong):
		return "wrong response"
	case errors.Is(err, errOverload):
		return "not sent"
	}
	return "other"
}

// refute counts a request as failed that end has counted as successful.
func (m *meter) refute(op, tier string, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.note(op, err)
	counts := []*times{m.all, m.window, of(m.ops, op)}
	if tier != "" {
		counts = append(counts, of(m.tiers, tier))
	}
	if tier != "cold" {
		counts = append(counts, m.warmer)
	}
	for _, t := range counts {
		t.errors++
	}
}

// grow counts bytes that were added to the data of the server.
func (m *meter) grow(bytes int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.inserted += bytes
}

func of(all map[string]*times, name string) *times {
	if all[name] == nil {
		all[name] = newTimes()
	}
	return all[name]
}

// since returns the time since the last sample.
func (m *meter) since() time.Duration {
	m.mu.Lock()
	defer m.mu.Unlock()
	return time.Since(m.sampled)
}

// sample ends an interval.
func (m *meter) sample() Sample {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	l := m.window.latency()
	s := Sample{At: now.Sub(m.began).Seconds(), Requests: l.Requests, Errors: l.Errors, PerSec: float64(l.Requests) / now.Sub(m.sampled).Seconds(), Bytes: m.bytes, P50: l.P50, P95: l.P95, P99: l.P99, Outstanding: m.open, Tiers: m.shares, Inserted: m.inserted}
	m.window.hist.Reset()
	m.window.errors, m.sampled, m.bytes, m.shares = 0, now, 0, map[string]int64{}
	return s
}

// latencies returns the distributions by kind of request.
func latencies(all map[string]*times) map[string]Latency {
	named := make(map[string]Latency, len(all))
	for name, t := range all {
		named[name] = t.latency()
	}
	return named
}

// problem shortens an error to one line without details that differ between requests.
func problem(err error) error {
	if err == nil {
		return nil
	}
	text := err.Error()
	if i := strings.LastIndex(text, "dial tcp"); i >= 0 { // drop the method and URL before it
		return errors.New(text[i:])
	}
	return err
}
