package cold

import (
	"container/heap"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
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
// to the end of the answer's body. Requests that have to wait are served by fair
// queueing: the flow goes first that has had least for its weight (start-time fair
// queueing, Goyal et al. 1996).
//
// A flow is charged for a request when the request gets its slot, not when it
// begins to wait: a request that is cancelled while it waits costs its flow nothing.
type link struct {
	waits *metrics.Counter // requests that had to wait

	mu      sync.Mutex
	free    int              // slots; guarded by mu
	virtual float64          // time; guarded by mu
	flows   map[string]*lane // by the flow's ID; guarded by mu
	waiting queue            // lanes in which somebody waits; guarded by mu
	order   uint64           // guarded by mu
}

// lane is what a link knows of one flow.
type lane struct {
	finished float64   // when the last request that got a slot ends, in virtual time
	start    float64   // of the first request that waits; it means nothing when none does
	tickets  []*ticket // requests that wait, in the order in which they came
	place    int       // in the link's queue, -1 when nobody waits
}

// ticket is a request that waits.
type ticket struct {
	cost  float64
	order uint64
	ready chan struct{} // closed when it may go
}

// costUnit is how many bytes cost as much as a request does.
const costUnit = 256 << 10

// maxIdleFlows is how many flows a link knows before it drops those without a debt.
const maxIdleFlows = 1024

func newLink(slots int, waits *metrics.Counter) *link {
	if slots == 0 {
		return nil
	}
	return &link{waits: waits, free: slots, flows: make(map[string]*lane)}
}

// acquire waits for a slot. The nil link has one for everybody.
func (l *link) acquire(ctx context.Context, r *Request) error {
	if l == nil {
		return nil
	}
	flow := FlowOf(ctx)
	t := &ticket{cost: (1 + float64(r.Bytes)/costUnit) / float64(max(flow.Weight, 1))}
	l.mu.Lock()
	f := l.lane(flow.ID)
	if l.free > 0 {
		l.free--
		l.charge(f, max(l.virtual, f.finished), t.cost)
		l.mu.Unlock()
		return nil
	}
	l.enqueue(f, t)
	l.mu.Unlock()
	l.waits.Inc()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cancel(f, t)
	return ctx.Err()
}

// lane returns the lane of a flow. It needs mu.
func (l *link) lane(id string) *lane {
	f := l.flows[id]
	if f == nil {
		l.forget()
		f = &lane{place: -1}
		l.flows[id] = f
	}
	return f
}

// charge takes down that a request of a flow gets a slot. It needs mu.
func (l *link) charge(f *lane, start, cost float64) {
	l.virtual = max(l.virtual, start)
	f.finished = start + cost
}

// enqueue has a request wait. It needs mu.
func (l *link) enqueue(f *lane, t *ticket) {
	l.order++
	t.order, t.ready = l.order, make(chan struct{})
	f.tickets = append(f.tickets, t)
	if len(f.tickets) == 1 {
		f.start = max(l.virtual, f.finished)
		heap.Push(&l.waiting, f)
	}
}

// cancel takes a request back that waits, or got its slot at the same moment. It
// needs mu.
func (l *link) cancel(f *lane, t *ticket) {
	i := slices.Index(f.tickets, t)
	if i >= 0 {
		f.tickets = slices.Delete(f.tickets, i, i+1)
	} else { // it got its slot, and does not use it
		f.finished -= t.cost
		f.start -= t.cost
	}
	switch {
	case f.place < 0:
	case len(f.tickets) == 0:
		heap.Remove(&l.waiting, f.place)
	default:
		heap.Fix(&l.waiting, f.place)
	}
	if i < 0 {
		l.pass()
	}
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

// pass gives a slot to the next request. It needs mu.
func (l *link) pass() {
	if len(l.waiting) == 0 {
		l.free++
		return
	}
	f := l.waiting[0]
	t := f.tickets[0]
	f.tickets[0] = nil
	f.tickets = f.tickets[1:]
	l.charge(f, f.start, t.cost)
	if len(f.tickets) > 0 {
		f.start = f.finished
		heap.Fix(&l.waiting, f.place)
	} else {
		heap.Pop(&l.waiting)
	}
	close(t.ready)
}

// forget drops flows that have no debt and do not wait, now and then. It needs mu.
func (l *link) forget() {
	if len(l.flows) < maxIdleFlows {
		return
	}
	for id, f := range l.flows {
		if f.place < 0 && f.finished <= l.virtual {
			delete(l.flows, id)
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

// queue is a heap of the lanes in which somebody waits.
type queue []*lane

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].start < q[j].start || q[i].start == q[j].start && q[i].tickets[0].order < q[j].tickets[0].order
}
func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}
func (q *queue) Push(x any) {
	f := x.(*lane)
	f.place = len(*q)
	*q = append(*q, f)
}
func (q *queue) Pop() any {
	last := len(*q) - 1
	f := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	f.place = -1
	return f
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
