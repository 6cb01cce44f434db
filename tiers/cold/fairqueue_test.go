package cold

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestLinkIsSharedFairly: a flow with a thousand requests does not take the share of others.
// Weights count, and no more slots are in use than exist.
func TestLinkIsSharedFairly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		served := map[string]int{}
		now, most := 0, 0
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			served[FlowOf(r.Context()).ID]++
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(10 * time.Millisecond)
			mu.Lock()
			now--
			mu.Unlock()
			return status(200)
		}, func(c *Config) { c.MaxRequests = 4 })
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		ask := func(flow Flow, n int) {
			for range n {
				wait.Go(func() {
					if resp, err := u.Do(&FlowContext{ctx, flow}, &Request{Op: "Test", Method: "GET", Key: read}); err == nil {
						resp.Body.Close()
					}
				})
			}
		}
		ask(Flow{ID: "greedy"}, 1000)
		synctest.Wait()
		ask(Flow{ID: "modest"}, 100)
		ask(Flow{ID: "heavy", Weight: 3}, 100)
		mu.Lock()
		before := served["greedy"]
		mu.Unlock()
		time.Sleep(250 * time.Millisecond) // 100 requests
		mu.Lock()
		greedy, modest, heavy := served["greedy"]-before, served["modest"], served["heavy"]
		mu.Unlock()
		if modest < 17 || modest > 23 || heavy < 55 || heavy > 65 || greedy < 15 || greedy > 25 {
			t.Errorf("of 100 requests: greedy %d, modest %d, three times as heavy %d", greedy, modest, heavy)
		}
		cancel()
		wait.Wait()
		u.Close()
		if most != 4 {
			t.Errorf("%d at a time", most)
		}
		if u.slots.free != 4 || len(u.slots.waiting) != 0 {
			t.Errorf("%d slots free, %d wait", u.slots.free, len(u.slots.waiting))
		}
	})
}

// TestLinkSlotsComeBack: the slot of a request is free afterwards, however the request ends.
func TestLinkSlotsComeBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var n atomic.Int64
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			switch n.Add(1) % 3 {
			case 0:
				return nil, errors.New("refused")
			case 1:
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return status(200)
		}, func(c *Config) { c.MaxRequests, c.Retries, c.BreakerPercent = 2, 0, 0 })
		var wait sync.WaitGroup
		for i := range 60 {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Duration(i+1)*time.Millisecond)
				defer cancel()
				resp, err := u.Do(&FlowContext{ctx, Flow{ID: fmt.Sprint(i % 5)}}, &Request{Op: "Test", Method: "PUT", Key: read})
				if err == nil {
					resp.Body.Close()
				}
			})
		}
		wait.Wait()
		if u.slots.free != 2 || len(u.slots.waiting) != 0 {
			t.Errorf("%d slots free, %d wait", u.slots.free, len(u.slots.waiting))
		}
	})
}

// TestSlowClientsHoldNoSlots: stalled uploads and unread responses leave the link to others.
func TestSlowClientsHoldNoSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			if r.Method == "PUT" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return status(200)
		}, func(c *Config) { c.MaxRequests = 2 })
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		for range 5 {
			wait.Go(func() {
				_, err := u.Do(ctx, &Request{Op: "Test", Method: "PUT", Key: read, Body: strings.NewReader("x"), Length: streamed + 1})
				if err == nil {
					t.Error("the upload ended")
				}
			})
			resp, err := u.Do(ctx, &Request{Op: "Test", Method: "GET", Key: read, Relayed: true})
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close() // and nobody reads it
		}
		synctest.Wait()
		resp, err := u.Do(ctx, &Request{Op: "Test", Method: "GET", Key: read})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		cancel()
		wait.Wait()
		if u.slots.free != 2 {
			t.Errorf("%d slots free", u.slots.free)
		}
	})
}

// TestCancelledWaitersOweNothing: requests that are cancelled while they wait cost their flow
// nothing. They delay neither later requests nor those that are still waiting.
func TestCancelledWaitersOweNothing(t *testing.T) {
	type waiter struct {
		flow   string
		cancel context.CancelFunc
	}
	for _, c := range []struct {
		name string
		// left is how many of the thousand requests are not cancelled.
		left int
		want string // flows, in the order of service
	}{
		{"all of them", 0, "obobob"},
		{"all but the last", 1, "obobob"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFairQueue(1, newCounters(nil).slotWaits)
				if err := l.acquire(&FlowContext{context.Background(), Flow{ID: "holder"}}, &Request{}); err != nil {
					t.Fatal(err)
				}
				var served strings.Builder
				var wait sync.WaitGroup
				ask := func(flow string) waiter {
					ctx, cancel := context.WithCancel(context.Background())
					wait.Go(func() {
						if l.acquire(&FlowContext{ctx, Flow{ID: flow}}, &Request{}) == nil {
							served.WriteString(flow[:1])
						}
					})
					synctest.Wait()
					return waiter{flow, cancel}
				}
				var overload []waiter
				for range 1000 {
					overload = append(overload, ask("overloaded"))
				}
				for _, w := range overload[:1000-c.left] {
					w.cancel()
				}
				synctest.Wait()
				for n := range 3 {
					if n >= c.left {
						overload = append(overload, ask("overloaded"))
					}
					defer ask("background").cancel()
				}
				for range c.want {
					l.release()
					synctest.Wait()
				}
				if got := served.String(); got != c.want {
					t.Errorf("served %s, want %s", got, c.want)
				}
				for _, w := range overload {
					w.cancel()
				}
				wait.Wait()
			})
		})
	}
}

// TestSlotThatIsNotUsedIsRefunded: a request that is cancelled at the moment it gets its slot
// passes the slot on and owes nothing.
func TestSlotThatIsNotUsedIsRefunded(t *testing.T) {
	l := newFairQueue(1, newCounters(nil).slotWaits)
	l.free = 0
	f := l.flowLocked("flow")
	first, second := &ticket{cost: 8}, &ticket{cost: 1}
	l.enqueueLocked(f, first)
	l.enqueueLocked(f, second)
	l.passLocked()
	l.cancelLocked(f, first)
	select {
	case <-second.ready:
	default:
		t.Fatal("the slot was not passed on")
	}
	if f.finished != 1 {
		t.Errorf("the flow owes %v, want 1 for the request that was sent", f.finished)
	}
}
