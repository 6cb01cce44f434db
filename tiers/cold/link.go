package cold

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/VictoriaMetrics/metrics"
)

// Flow is on whose behalf a request is sent. When the link to an upstream is
// full, each flow gets a share of it by its weight.
type Flow struct {
	ID     string
	Weight int // 0 is 1
}

// FlowContext is a context that carries a flow.
type FlowContext struct {
	context.Context
	Flow Flow
}

type flowKey struct{}

// Value implements context.Context.
func (c *FlowContext) Value(key any) any {
	if key == (flowKey{}) {
		return &c.Flow
	}
	return c.Context.Value(key)
}

// FlowOf returns the flow of a context, the zero one if it has none.
func FlowOf(ctx context.Context) Flow {
	if f, ok := ctx.Value(flowKey{}).(*Flow); ok {
		return *f
	}
	return Flow{}
}

// link bounds the requests to one upstream that are under way, from sending them
// to the end of the answer's body. Who has to wait is served by fair queueing:
// the flow goes first that has had least for its weight (start-time fair
// queueing, Goyal et al. 1996).
type link struct {
	mu       sync.Mutex
	free     int                // slots; guarded by mu
	virtual  float64            // time; guarded by mu
	finished map[string]float64 // when each flow's last request ends in virtual time; guarded by mu
	waiting  queue              // guarded by mu
	order    uint64             // guarded by mu
}

// ticket is a request that waits.
type ticket struct {
	start float64
	order uint64
	ready chan struct{} // closed when it may go
	place int           // in the queue, -1 when it has left
}

// costUnit is how many bytes cost as much as a request does.
const costUnit = 256 << 10

var linkWaits = metrics.NewCounter("akigw_cold_link_waits_total")

func newLink(slots int) *link {
	if slots == 0 {
		return nil
	}
	return &link{free: slots, finished: make(map[string]float64)}
}

// acquire waits for a slot. The nil link has one for everybody.
func (l *link) acquire(ctx context.Context, r *Request) error {
	if l == nil {
		return nil
	}
	flow := FlowOf(ctx)
	l.mu.Lock()
	start := max(l.virtual, l.finished[flow.ID])
	l.finished[flow.ID] = start + (1+float64(r.Bytes)/costUnit)/float64(max(flow.Weight, 1))
	if l.free > 0 {
		l.free--
		l.virtual = max(l.virtual, start)
		l.forget()
		l.mu.Unlock()
		return nil
	}
	l.order++
	t := &ticket{start: start, order: l.order, ready: make(chan struct{})}
	heap.Push(&l.waiting, t)
	l.mu.Unlock()
	linkWaits.Inc()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if t.place < 0 { // it got its slot at the same moment
		l.pass()
	} else {
		heap.Remove(&l.waiting, t.place)
	}
	return ctx.Err()
}

// release gives a slot back.
func (l *link) release() {
	if l == nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pass()
}

// pass gives a slot to the next one. It needs mu.
func (l *link) pass() {
	if len(l.waiting) == 0 {
		l.free++
		l.forget()
		return
	}
	t := heap.Pop(&l.waiting).(*ticket)
	l.virtual = max(l.virtual, t.start)
	close(t.ready)
}

// forget drops what is known of flows that have no debt, now and then. It needs
// mu.
func (l *link) forget() {
	if len(l.finished) < 1024 {
		return
	}
	for id, end := range l.finished {
		if end <= l.virtual {
			delete(l.finished, id)
		}
	}
}

// crowded reports whether somebody waits.
func (l *link) crowded() bool {
	if l == nil {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.waiting) > 0
}

type queue []*ticket

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].start < q[j].start || q[i].start == q[j].start && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	t := x.(*ticket)
	t.place = len(*q)
	*q = append(*q, t)
}
func (q *queue) Pop() any {
	last := len(*q) - 1
	t := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	t.place = -1
	return t
}

// streamed is the size in bytes from which on a body goes at its sender's pace.
const streamed = 64 << 10

// linked sends a request in its turn. Clients do not hold slots by being slow:
// a large upload takes none, and an answer that goes straight to a client holds
// its own until it begins.
func (u *Upstream) linked(ctx context.Context, r *Request) (*http.Response, error) {
	if u.link == nil || r.Length > streamed {
		return u.send(ctx, r)
	}
	if err := u.link.acquire(ctx, r); err != nil {
		return nil, unavailable(r, fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	resp, err := u.send(ctx, r)
	if err != nil || r.Method == http.MethodHead || resp.ContentLength == 0 || r.Relayed {
		u.link.release() // there is no body to wait for, or not by us
		return resp, err
	}
	resp.Body = &linkedBody{ReadCloser: resp.Body, release: sync.OnceFunc(u.link.release)}
	return resp, nil
}

// linkedBody holds a slot until it ends.
type linkedBody struct {
	io.ReadCloser
	release func()
}

func (b *linkedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

func (b *linkedBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
