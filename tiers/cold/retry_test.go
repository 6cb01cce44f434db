package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
)

// script is an upstream made from a function, without a network.
type script func(r *http.Request) (*http.Response, error)

func (s script) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func status(code int) (*http.Response, error) {
	return &http.Response{StatusCode: code, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("body"))}, nil
}

// scripted is an upstream with the product's defaults, modified by change.
func scripted(t testing.TB, s script, change func(c *Config)) *Upstream {
	t.Helper()
	c := Config{URL: "http://upstream.example.com", AccessKey: "key", SecretKey: "secretsecret"}
	c.SetDefaults()
	if change != nil {
		change(&c)
	}
	u, err := New(c, PoolConfig{PoolSize: 2, IdleTimeoutSecs: 5}, func(http.RoundTripper) http.RoundTripper { return s })
	if err != nil {
		t.Fatal(err)
	}
	return u
}

var read = akigw.Key{Bucket: "bucket", Name: "k"}

// TestReadsAreRetried: a read is retried, after a wait, if the failure may be temporary. Other
// failures and writes are not retried.
//
// Scenarios: A1.
func TestReadsAreRetried(t *testing.T) {
	refused := errors.New("connection refused")
	for _, c := range []struct {
		name   string
		method string
		first  int // status of all responses but the last, 0 for no response
		sent   int // requests that reach the upstream
	}{
		{"503", "GET", 503, 3},
		{"429", "HEAD", 429, 3},
		{"500", "GET", 500, 3},
		{"502", "GET", 502, 3},
		{"504", "GET", 504, 3},
		{"no answer", "GET", 0, 3},
		{"404", "GET", 404, 1},
		{"403", "GET", 403, 1},
		{"501", "GET", 501, 1},
		{"E24: a write", "PUT", 503, 1},
		{"E24: a deletion", "DELETE", 0, 1},
		{"E24: a completion", "POST", 500, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := 0
				u := scripted(t, func(*http.Request) (*http.Response, error) {
					if sent++; sent == 3 {
						return status(200)
					}
					if c.first == 0 {
						return nil, refused
					}
					return status(c.first)
				}, nil)
				started := time.Now()
				resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: c.method, Key: read})
				if sent != c.sent {
					t.Fatalf("%d requests, want %d", sent, c.sent)
				}
				switch {
				case c.sent == 3 && (err != nil || resp.StatusCode != 200):
					t.Fatalf("%v %v", resp, err)
				case c.sent == 3 && time.Since(started) == 0:
					t.Error("retried without a wait")
				case c.sent == 1 && c.first == 0 && !errors.Is(err, akigw.ErrUpstreamUnavailable):
					t.Fatal(err)
				case c.sent == 1 && c.first != 0 && resp.StatusCode != c.first:
					t.Fatal(resp.StatusCode)
				}
				if resp != nil {
					resp.Body.Close()
				}
			})
		})
	}
}

// TestRetriesKeepToTheirShare: when everything fails, retries and hedges together add no more than
// a fifth to the requests, plus the saved-up allowance.
//
// Scenarios: A1.
func TestRetriesKeepToTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		u := scripted(t, func(*http.Request) (*http.Response, error) {
			sent++
			return status(503)
		}, func(c *Config) { c.BreakerPercent = 0 })
		const asked = 500
		for range asked {
			resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
			if err != nil || resp.StatusCode != 503 {
				t.Fatal(resp, err)
			}
			resp.Body.Close()
		}
		if most := asked + asked/partsPerRepeat + savedRepeats; sent > most || sent < asked+asked/10 {
			t.Errorf("%d requests for %d, want at most %d", sent, asked, most)
		}
		before, refused := sent, 0
		for range partsPerRepeat {
			resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read, Repeat: true})
			if errors.Is(err, akigw.ErrUpstreamUnavailable) {
				refused++
			} else {
				resp.Body.Close()
			}
		}
		if refused < partsPerRepeat-1 || sent-before > 1 {
			t.Errorf("%d retries were refused, %d sent", refused, sent-before)
		}
	})
}

// TestRetryAfter: the wait that an upstream asks for is respected.
//
// Scenarios: A1.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sent := 0
		u := scripted(t, func(*http.Request) (*http.Response, error) {
			if sent++; sent == 1 {
				resp, err := status(503)
				resp.Header.Set("Retry-After", "3")
				return resp, err
			}
			return status(200)
		}, nil)
		started := time.Now()
		if resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read}); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if waited := time.Since(started); waited != 3*time.Second {
			t.Errorf("waited %v", waited)
		}
	})
}

// TestEachAttemptIsSignedAnew: a retry has its own date.
//
// Scenarios: A14.
func TestEachAttemptIsSignedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var dates []string
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			dates = append(dates, r.Header.Get("X-Amz-Date")+r.Header.Get("Authorization"))
			if len(dates) == 1 {
				resp, err := status(503)
				resp.Header.Set("Retry-After", "2")
				return resp, err
			}
			return status(200)
		}, nil)
		header := http.Header{"Range": {"bytes=0-1"}}
		if resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read, Header: header}); err != nil || resp.StatusCode != 200 {
			t.Fatal(resp, err)
		}
		if len(dates) != 2 || dates[0] == dates[1] {
			t.Errorf("dates and signatures %v", dates)
		}
		if len(header) != 1 {
			t.Errorf("the caller's header was changed: %v", header)
		}
	})
}

// TestHalfOpenLetsAFewThrough: a breaker opens at a share of failures, per bucket. After its pause
// it lets a few requests through, and their success closes it.
//
// Scenarios: A2.
func TestHalfOpenLetsAFewThrough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var healthy atomic.Bool
		var sent atomic.Int64
		hold := make(chan struct{})
		close(hold)
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			sent.Add(1)
			<-hold
			if healthy.Load() || strings.HasPrefix(r.URL.Path, "/other/") {
				return status(200)
			}
			return status(500)
		}, func(c *Config) { c.Retries = 0 })
		do := func(bucket string) (int, error) {
			resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: akigw.Key{Bucket: bucket, Name: "k"}})
			if err != nil {
				return 0, err
			}
			resp.Body.Close()
			return resp.StatusCode, nil
		}
		for range breakerLeast {
			if code, err := do("bucket"); err != nil || code != 500 {
				t.Fatal(code, err)
			}
		}
		before := sent.Load()
		for range 100 {
			if _, err := do("bucket"); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
				t.Fatal(err)
			}
		}
		if broken := u.breakers.broken(); len(broken) != 1 || broken[0] != "bucket" {
			t.Errorf("open breakers: %q", broken)
		}
		if sent.Load() != before || u.breakers.open() != 1 {
			t.Fatalf("an open breaker let %d requests through", sent.Load()-before)
		}
		if code, err := do("other"); err != nil || code != 200 {
			t.Fatalf("another bucket: %d %v", code, err)
		}
		time.Sleep(breakerRest + time.Second)
		healthy.Store(true)
		hold = make(chan struct{})
		before = sent.Load()
		var good atomic.Int64
		var wait sync.WaitGroup
		for range 100 {
			wait.Go(func() {
				if code, err := do("bucket"); err == nil && code == 200 {
					good.Add(1)
				}
			})
		}
		synctest.Wait()
		if through := sent.Load() - before; through != breakerProbes {
			t.Errorf("half-open let %d through, want %d", through, breakerProbes)
		}
		close(hold)
		wait.Wait()
		if good.Load() != breakerProbes {
			t.Errorf("%d were answered", good.Load())
		}
		for range 50 {
			if code, err := do("bucket"); err != nil || code != 200 {
				t.Fatalf("closed again: %d %v", code, err)
			}
		}
	})
}

// TestBreakerCountsSharesAndNotClients: a few failures among many successes, and requests that
// their clients cancelled, do not open the breaker.
func TestBreakerCountsSharesAndNotClients(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			if n++; r.URL.Path == "/bucket/slow" {
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			if n%4 == 0 {
				return status(500)
			}
			return status(200)
		}, func(c *Config) { c.Retries = 0 })
		for range 200 {
			resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			ctx, cancel := context.WithTimeout(context.Background(), time.Millisecond)
			_, err = u.Do(ctx, &Request{Op: "Test", Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "slow"}})
			cancel()
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
		}
		if u.breakers.open() != 0 {
			t.Error("a quarter of failures opened the breaker")
		}
	})
}

// TestOneFailureBesideSlowAnswers: requests without a response yet, and requests that clients
// cancelled, do not count as samples. One failure beside them does not open the breaker.
func TestOneFailureBesideSlowAnswers(t *testing.T) {
	for name, patience := range map[string]time.Duration{"under way": time.Minute, "given up": time.Second} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := scripted(t, func(r *http.Request) (*http.Response, error) {
					if r.URL.Path == "/bucket/k" {
						return status(500)
					}
					select {
					case <-time.After(8 * time.Second):
						return status(200)
					case <-r.Context().Done():
						return nil, r.Context().Err()
					}
				}, func(c *Config) { c.Retries = 0 })
				defer u.Close()
				ask := func(name string) {
					ctx, cancel := context.WithTimeout(t.Context(), patience)
					defer cancel()
					if resp, err := u.Do(ctx, &Request{Op: "GetObject", Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: name}}); err == nil {
						resp.Body.Close()
					}
				}
				var slow sync.WaitGroup
				for range 2 * breakerLeast {
					slow.Go(func() { ask("slow") })
				}
				time.Sleep(2 * time.Second)
				ask("k")
				if u.breakers.open() != 0 {
					t.Error("the failure opened the breaker")
				}
				slow.Wait()
			})
		})
	}
}

// TestHedgedRead: a second request is sent when the first is slow. The first good response is used
// and the other request is cancelled.
func TestHedgedRead(t *testing.T) {
	for _, c := range []struct {
		name         string
		first, other time.Duration
		code         int // of the second request
		took         time.Duration
		sent         int
	}{
		{"fast", 10 * time.Millisecond, 0, 200, 10 * time.Millisecond, 1},
		{"second wins", 2 * time.Second, 10 * time.Millisecond, 200, 60 * time.Millisecond, 2},
		{"first wins", 80 * time.Millisecond, time.Second, 200, 80 * time.Millisecond, 2},
		{"second fails", 300 * time.Millisecond, 10 * time.Millisecond, 500, 300 * time.Millisecond, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var sent, ended atomic.Int64
				u := scripted(t, func(r *http.Request) (*http.Response, error) {
					delay, code := c.first, 200
					if sent.Add(1) == 2 {
						delay, code = c.other, c.code
					}
					select {
					case <-time.After(delay):
						return status(code)
					case <-r.Context().Done():
						ended.Add(1)
						return nil, r.Context().Err()
					}
				}, func(c *Config) { c.HedgeAfterMs = 50 })
				started := time.Now()
				resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
				if err != nil || resp.StatusCode != 200 || time.Since(started) != c.took {
					t.Fatalf("%v %v after %v, want %v", resp, err, time.Since(started), c.took)
				}
				if body, err := io.ReadAll(resp.Body); err != nil || string(body) != "body" {
					t.Errorf("the body of the used response: %q %v", body, err)
				}
				resp.Body.Close()
				u.Close()
				if int(sent.Load()) != c.sent {
					t.Errorf("%d requests, want %d", sent.Load(), c.sent)
				}
				if lost := c.sent == 2 && c.code == 200; lost && ended.Load() != 1 {
					t.Error("the other request was not cancelled")
				}
			})
		})
	}
}

// TestHedgesKeepToTheirShare: hedges use the same allowance as retries.
func TestHedgesKeepToTheirShare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent atomic.Int64
		u := scripted(t, func(*http.Request) (*http.Response, error) {
			sent.Add(1)
			time.Sleep(time.Second)
			return status(200)
		}, func(c *Config) { c.HedgeAfterMs = 10 })
		for range 200 {
			resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
		}
		u.Close()
		if most := int64(200 + 200/partsPerRepeat + savedRepeats); sent.Load() > most || sent.Load() < 220 {
			t.Errorf("%d requests for 200, want at most %d", sent.Load(), most)
		}
	})
}

// TestBreakerIgnoresBadBodies: uploads that their clients do not finish, or get wrong, do not open
// the breaker.
func TestBreakerIgnoresBadBodies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			if _, err := io.ReadAll(r.Body); err != nil {
				return nil, err
			}
			return status(200)
		}, nil)
		for range 3 * breakerLeast {
			body := io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("wrong digest")))
			if _, err := u.Do(context.Background(), &Request{Op: "Test", Method: "PUT", Key: read, Body: body, Length: 8}); err == nil {
				t.Fatal("no error")
			}
		}
		if u.breakers.open() != 0 {
			t.Error("bad uploads opened the breaker")
		}
	})
}

// TestInventedBucketsCloseNoBreaker: breakers for invented bucket names evict breakers without
// state, never an open one.
func TestInventedBucketsCloseNoBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := &breakers{share: 0.5, opened: newCounters(nil).breakerOpened}
		for range breakerLeast {
			_, _ = b.of("failing").Execute(func() (*http.Response, error) { return nil, errors.New("failed") })
		}
		for i := range 3 * maxBreakers {
			b.of(fmt.Sprint("invented-", i))
		}
		if open := b.broken(); len(open) != 1 || open[0] != "failing" {
			t.Errorf("open: %q", open)
		}
		if len(b.byID) > maxBreakers {
			t.Errorf("%d breakers", len(b.byID))
		}
	})
}
