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

// Flow is on whose behalf a request is sent. When an upstream has as many requests under way as it may
// have, each flow gets a share of them by its weight.
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

// fairQueue bounds the requests to one upstream that are under way, from sending them to the end of the
// response's body. Requests that have to wait are served by start-time fair queueing (Goyal et al.
// 1996): the flow that has had least for its weight goes first.
//
// A flow is charged for a request when the request gets its slot, not when it begins to wait: a request
// that is cancelled while it waits costs its flow nothing.
type fairQueue struct {
	waits *metrics.Counter // requests that had to wait

	mu      sync.Mutex
	free    int                   // slots; guarded by mu
	virtual float64               // time; guarded by mu
	flows   map[string]*flowQueue // by the flow's ID; guarded by mu
	waiting flowHeap              // flows with requests that wait; guarded by mu
	order   uint64                // guarded by mu
}

// flowQueue is the state of one flow.
type flowQueue struct {
	finished float64   // when the last request that got a slot ends, in virtual time
	start    float64   // of the first request that waits; undefined when none does
	tickets  []*ticket // requests that wait, in the order in which they came
	place    int       // in fairQueue.waiting, -1 when no request waits
}

// ticket is a request that waits.
type ticket struct {
	cost  float64
	order uint64
	ready chan struct{} // closed when it may go
}

// costUnit is the number of bytes that cost as much as a request.
const costUnit = 256 << 10

// maxIdleFlows is how many flows are remembered before those without a debt are dropped.
const maxIdleFlows = 1024

func newFairQueue(slots int, waits *metrics.Counter) *fairQueue {
	if slots == 0 {
		return nil
	}
	return &fairQueue{waits: waits, free: slots, flows: make(map[string]*flowQueue)}
}

// acquire waits for a slot. The nil queue has no limit.
func (q *fairQueue) acquire(ctx context.Context, r *Request) error {
	if q == nil {
		return nil
	}
	flow := FlowOf(ctx)
	cost := (1 + float64(r.Bytes)/costUnit) / float64(max(flow.Weight, 1))
	q.mu.Lock()
	f := q.flowLocked(flow.ID)
	if q.free > 0 {
		q.free--
		q.chargeLocked(f, max(q.virtual, f.finished), cost)
		q.mu.Unlock()
		return nil
	}
	t := &ticket{cost: cost}
	q.enqueueLocked(f, t)
	q.mu.Unlock()
	q.waits.Inc()
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.cancelLocked(f, t)
	return ctx.Err()
}

// flowLocked returns the state of a flow.
func (q *fairQueue) flowLocked(id string) *flowQueue {
	f := q.flows[id]
	if f == nil {
		q.forgetLocked()
		f = &flowQueue{place: -1}
		q.flows[id] = f
	}
	return f
}

// chargeLocked records that a request of a flow gets a slot.
func (q *fairQueue) chargeLocked(f *flowQueue, start, cost float64) {
	q.virtual = max(q.virtual, start)
	f.finished = start + cost
}

// enqueueLocked has a request wait.
func (q *fairQueue) enqueueLocked(f *flowQueue, t *ticket) {
	q.order++
	t.order, t.ready = q.order, make(chan struct{})
	f.tickets = append(f.tickets, t)
	if len(f.tickets) == 1 {
		f.start = max(q.virtual, f.finished)
		heap.Push(&q.waiting, f)
	}
}

// cancelLocked takes back a request that waits, or got its slot at the same moment.
func (q *fairQueue) cancelLocked(f *flowQueue, t *ticket) {
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
		heap.Remove(&q.waiting, f.place)
	default:
		heap.Fix(&q.waiting, f.place)
	}
	if i < 0 {
		q.passLocked()
	}
}

// release frees a slot.
func (q *fairQueue) release() {
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	q.passLocked()
}

// passLocked gives a slot to the next request.
func (q *fairQueue) passLocked() {
	if len(q.waiting) == 0 {
		q.free++
		return
	}
	f := q.waiting[0]
	t := f.tickets[0]
	f.tickets[0] = nil
	f.tickets = f.tickets[1:]
	q.chargeLocked(f, f.start, t.cost)
	if len(f.tickets) > 0 {
		f.start = f.finished
		heap.Fix(&q.waiting, f.place)
	} else {
		heap.Pop(&q.waiting)
	}
	close(t.ready)
}

// forgetLocked drops the flows that have no debt and no request that waits, if there are many flows.
func (q *fairQueue) forgetLocked() {
	if len(q.flows) < maxIdleFlows {
		return
	}
	for id, f := range q.flows {
		if f.place < 0 && f.finished <= q.virtual {
			delete(q.flows, id)
		}
	}
}

// crowded reports whether a request waits.
func (q *fairQueue) crowded() bool {
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.waiting) > 0
}

// flowHeap is a heap of the flows with requests that wait.
type flowHeap []*flowQueue

func (q flowHeap) Len() int { return len(q) }

func (q flowHeap) Less(i, j int) bool {
	return q[i].start < q[j].start || q[i].start == q[j].start && q[i].tickets[0].order < q[j].tickets[0].order
}

func (q flowHeap) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].place, q[j].place = i, j
}

func (q *flowHeap) Push(x any) {
	f := x.(*flowQueue)
	f.place = len(*q)
	*q = append(*q, f)
}

func (q *flowHeap) Pop() any {
	last := len(*q) - 1
	f := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	f.place = -1
	return f
}

// streamed is the size in bytes above which a body is sent at its sender's pace.
const streamed = 64 << 10

// send sends a request when it has a slot. Slow clients hold no slots: a large upload takes none, and a
// response that goes straight to a client holds its own only until it begins.
func (q *fairQueue) send(ctx context.Context, r *Request, next sender) (*http.Response, error) {
	if q == nil || r.Length > streamed {
		return next(ctx, r)
	}
	if err := q.acquire(ctx, r); err != nil {
		return nil, unavailable(r, fmt.Errorf("%w: %w", ErrNotSent, err))
	}
	resp, err := next(ctx, r)
	if err != nil || r.Method == http.MethodHead || resp.ContentLength == 0 || r.Relayed {
		q.release() // there is no body to wait for, or the client reads it
		return resp, err
	}
	resp.Body = &slotBody{ReadCloser: resp.Body, release: sync.OnceFunc(q.release)}
	return resp, nil
}

// slotBody holds a slot until the body ends.
type slotBody struct {
	io.ReadCloser
	release func()
}

func (b *slotBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if err != nil {
		b.release()
	}
	return n, err
}

func (b *slotBody) Close() error {
	defer b.release()
	return b.ReadCloser.Close()
}
