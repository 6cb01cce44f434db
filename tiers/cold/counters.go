package cold

import (
	"cmp"
	"net/http/httptrace"
	"strconv"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// counters are the metrics of an upstream. Those of all upstreams of a gateway are one: they have
// no label that tells them apart.
type counters struct {
	set      *metrics.Set // those that have labels are in it
	requests requestCounters

	sentBytes, receivedBytes    *metrics.Counter // of bodies
	breakerOpened               *metrics.Counter
	breakerRefused              *metrics.Counter // requests
	hedges, hedgesWon           *metrics.Counter
	retries, retriesRefused     *metrics.Counter
	slotWaits                   *metrics.Counter // requests that waited for a slot
	suspected, suspectRefused   *metrics.Counter
	probes                      *metrics.Counter
	keysFetched, keysNotFetched *metrics.Counter
	connections                 *httptrace.ClientTrace // counts whether requests go out on connections of the pool
}

// newCounters registers the metrics in set, or in a private one if it is nil.
func newCounters(set *metrics.Set) *counters {
	set = cmp.Or(set, metrics.NewSet())
	c := &counters{
		set:            set,
		requests:       requestCounters{set: set, known: make(map[outcome]*metrics.Counter)},
		sentBytes:      set.GetOrCreateCounter("akigw_cold_sent_bytes_total"),
		receivedBytes:  set.GetOrCreateCounter("akigw_cold_received_bytes_total"),
		breakerOpened:  set.GetOrCreateCounter("akigw_cold_breaker_opened_total"),
		breakerRefused: set.GetOrCreateCounter("akigw_cold_breaker_refused_total"),
		hedges:         set.GetOrCreateCounter("akigw_cold_hedges_total"),
		hedgesWon:      set.GetOrCreateCounter("akigw_cold_hedges_won_total"),
		retries:        set.GetOrCreateCounter("akigw_cold_retries_total"),
		retriesRefused: set.GetOrCreateCounter("akigw_cold_retries_refused_total"),
		slotWaits:      set.GetOrCreateCounter("akigw_cold_link_waits_total"),
		suspected:      set.GetOrCreateCounter("akigw_cold_suspected_total"),
		suspectRefused: set.GetOrCreateCounter("akigw_cold_suspect_refused_total"),
		probes:         set.GetOrCreateCounter("akigw_cold_probes_total"),
		keysFetched:    set.GetOrCreateCounter(`akigw_cold_credential_fetches_total{result="ok"}`),
		keysNotFetched: set.GetOrCreateCounter(`akigw_cold_credential_fetches_total{result="error"}`),
	}
	pooled, dialled := c.connection("pool"), c.connection("dial")
	c.connections = &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			pooled.Inc()
		} else {
			dialled.Inc()
		}
	}}
	return c
}

// connection counts requests by where their connection comes from: pool or dial.
func (c *counters) connection(from string) *metrics.Counter {
	return c.set.GetOrCreateCounter(`akigw_cold_connections_total{from="` + from + `"}`)
}

// request counts requests that were sent, by S3 API name.
func (c *counters) request(op string) *metrics.Counter { return c.requests.of(outcome{op, wasSent}) }

// failure counts requests without a response.
func (c *counters) failure(op string) *metrics.Counter { return c.requests.of(outcome{op, noResponse}) }

// response counts responses.
func (c *counters) response(op string, status int) *metrics.Counter {
	return c.requests.of(outcome{op, status})
}

// outcome is what happened to a request: an HTTP status, or one of those below.
type outcome struct {
	op     string // the S3 API name
	status int
}

const (
	wasSent    = 0
	noResponse = -1
)

// name is the name of the metric that counts an outcome.
func (o outcome) name() string {
	switch o.status {
	case wasSent:
		return `akigw_cold_requests_total{op="` + o.op + `"}`
	case noResponse:
		return `akigw_cold_errors_total{op="` + o.op + `"}`
	default:
		return `akigw_cold_responses_total{op="` + o.op + `",status="` + strconv.Itoa(o.status) + `"}`
	}
}

// requestCounters finds the counters of outcomes without building their names each time. Operations are
// those of the S3 API, so there are few.
type requestCounters struct {
	set *metrics.Set

	mu    sync.RWMutex
	known map[outcome]*metrics.Counter // guarded by mu
}

// of returns the counter of an outcome.
func (r *requestCounters) of(o outcome) *metrics.Counter {
	r.mu.RLock()
	counter := r.known[o]
	r.mu.RUnlock()
	if counter != nil {
		return counter
	}
	counter = r.set.GetOrCreateCounter(o.name())
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[o] = counter
	return counter
}
