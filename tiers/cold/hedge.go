package cold

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// hedger sends slow reads a second time.
type hedger struct {
	after     time.Duration // 0: never
	allowance *allowance
	counters  *counters
	work      *sync.WaitGroup // requests in the background
	next      sender
}

// attempt is one of two requests of which the first good response counts. resp and err are set when the
// attempt comes out of the channel that it was launched with.
type attempt struct {
	resp   *http.Response
	err    error
	cancel context.CancelFunc
}

// launch sends a request in the background, with a context of its own.
func (h *hedger) launch(ctx context.Context, r *Request, answers chan<- *attempt) *attempt {
	ctx, cancel := context.WithCancel(ctx)
	a := &attempt{cancel: cancel}
	h.work.Go(func() {
		a.resp, a.err = h.next(ctx, r)
		answers <- a
	})
	return a
}

// good reports whether an attempt got a response that is worth returning.
func (a *attempt) good() bool { return a.err == nil && !transient(a.resp.StatusCode) }

// answer returns the response. The context of the attempt ends with its body.
func (a *attempt) answer() (*http.Response, error) {
	if a.err != nil {
		a.cancel()
		return nil, a.err
	}
	a.resp.Body = &cancelledBody{a.resp.Body, a.cancel}
	return a.resp, nil
}

// drop cancels an attempt that has ended, and closes its response.
func (a *attempt) drop() {
	a.cancel()
	if a.resp != nil {
		a.resp.Body.Close()
	}
}

// send sends a read, and sends it a second time if the response does not come soon. The first good
// response counts, and cancels the other request.
func (h *hedger) send(ctx context.Context, r *Request) (*http.Response, error) {
	if h.after == 0 || !r.repeatable() {
		return h.next(ctx, r)
	}
	answers := make(chan *attempt, 2)
	first := h.launch(ctx, r, answers)
	timer := time.NewTimer(h.after)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.answer()
	case <-timer.C:
	}
	if !h.allowance.spend() {
		return (<-answers).answer()
	}
	h.counters.hedges.Inc()
	second := h.launch(ctx, r, answers)
	winner := <-answers
	if !winner.good() {
		winner.drop()
		return (<-answers).answer()
	}
	loser := first
	if winner == first {
		loser = second
	} else {
		h.counters.hedgesWon.Inc()
	}
	loser.cancel()
	h.work.Go(func() { (<-answers).drop() })
	return winner.answer()
}
