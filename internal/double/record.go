package double

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Call is one request and its response.
type Call struct {
	Time    time.Time `json:"time"`
	Op      string    `json:"op"` // S3 API name, "" for one without
	Bucket  string    `json:"bucket,omitempty"`
	Key     string    `json:"key,omitempty"`
	Query   string    `json:"query,omitempty"`
	Status  int       `json:"status"` // 0: no response
	Code    string    `json:"code,omitempty"`
	In      int64     `json:"in"`  // bytes of the request's body on the wire
	Out     int64     `json:"out"` // bytes of the response's body
	Seconds float64   `json:"seconds"`
}

// Count holds the counters of an operation.
type Count struct {
	Requests int   `json:"requests"`
	Failed   int   `json:"failed"` // without a response, or with a status of 400 or above
	In       int64 `json:"in"`
	Out      int64 `json:"out"`
}

// mostCalls bounds the history.
const mostCalls = 10_000

// recorder keeps the last calls, and counts all of them.
type recorder struct {
	mu     sync.Mutex
	calls  []Call           // the last ones; guarded by mu
	counts map[string]Count // never nil: none is an object as JSON; guarded by mu
}

// note records a call.
func (r *recorder) note(c Call) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.calls = append(r.calls, c); len(r.calls) > 2*mostCalls {
		r.calls = slices.Clone(r.calls[mostCalls:])
	}
	n := r.counts[c.Op]
	n.Requests, n.In, n.Out = n.Requests+1, n.In+c.In, n.Out+c.Out
	if c.Status == 0 || c.Status >= 400 {
		n.Failed++
	}
	r.counts[c.Op] = n
}

// History returns the last calls, up to 10,000, oldest first.
func (r *recorder) History() []Call {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Call{}, r.calls[max(0, len(r.calls)-mostCalls):]...) // never nil, so that JSON has a list
}

// Counts returns the counters by operation.
func (r *recorder) Counts() map[string]Count {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.counts)
}

// Forget clears the history and the counters.
func (r *recorder) Forget() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls, r.counts = nil, map[string]Count{}
}
