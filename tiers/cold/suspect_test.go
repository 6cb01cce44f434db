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
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/akidb/akigw"
)

// moody is an upstream whose behaviour can be changed while requests are in progress.
type moody struct {
	mu      sync.Mutex
	delay   time.Duration // before each response; negative for never
	changed chan struct{} // closed and replaced with delay
	asked   atomic.Int64
	probed  atomic.Int64
	atOnce  atomic.Int64 // probes in progress
	most    atomic.Int64 // most of them at a time
}

func (m *moody) answerAfter(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.delay = d
	if m.changed != nil {
		close(m.changed)
	}
	m.changed = make(chan struct{})
}

func (m *moody) wait(ctx context.Context) error {
	for {
		m.mu.Lock()
		delay, changed := m.delay, m.changed
		m.mu.Unlock()
		var answer <-chan time.Time
		if delay >= 0 {
			answer = time.After(delay)
		}
		select {
		case <-answer:
			return nil
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func (m *moody) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method == http.MethodHead && r.URL.Path == "/" {
		m.probed.Add(1)
		m.most.Store(max(m.most.Load(), m.atOnce.Add(1)))
		defer m.atOnce.Add(-1)
	} else {
		m.asked.Add(1)
	}
	if r.Body != nil {
		if _, err := io.ReadAll(r.Body); err != nil {
			return nil, err
		}
	}
	if err := m.wait(r.Context()); err != nil {
		return nil, err
	}
	return status(403) // any response shows that the upstream is alive
}

// suspectable is an upstream behind m. It also returns the changes of suspicion that were reported.
// Retries and breakers are configured so that they do not interfere.
func suspectable(t *testing.T, m *moody) (us *Upstreams, told func() string) {
	t.Helper()
	m.answerAfter(m.delay)
	c := Config{URL: "http://upstream.example.com", AccessKey: "key", SecretKey: "secretsecret"}
	c.SetDefaults()
	us, err := NewUpstreams(c, nil, PoolConfig{PoolSize: 2, IdleTimeoutSecs: 5}, func(http.RoundTripper) http.RoundTripper { return m })
	if err != nil {
		t.Fatal(err)
	}
	var mu sync.Mutex
	var log []string
	start := time.Now()
	us.OnSuspect(func(name string, suspect bool) {
		mu.Lock()
		defer mu.Unlock()
		log = append(log, fmt.Sprintf("%s %t at %v", name, suspect, time.Since(start).Round(time.Second)))
	})
	return us, func() string {
		mu.Lock()
		defer mu.Unlock()
		return strings.Join(log, ", ")
	}
}

func get(ctx context.Context, us *Upstreams, op string) error {
	method := map[string]string{"GetObject": "GET", "HeadObject": "HEAD", "DeleteObject": "DELETE", "PutObject": "PUT"}[op]
	if method == "" {
		method = "POST"
	}
	r := &Request{Op: op, Method: method, Key: read}
	if method == "PUT" {
		r.Body, r.Length = strings.NewReader("body"), 4
	}
	resp, err := us.Do(ctx, r)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	return err
}

// TestHangingUpstreamBecomesSuspect: after a few requests without a response and a probe that times
// out, requests are refused at once until a probe gets a response.
func TestHangingUpstreamBecomesSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{delay: -1}
		us, told := suspectable(t, m)
		defer us.Close()
		errs := make(chan error, 3)
		for _, op := range []string{"GetObject", "HeadObject", "PutObject"} {
			go func() { errs <- get(t.Context(), us, op) }()
		}
		time.Sleep(14 * time.Second)
		if got, want := told(), "default true at 13s"; got != want { // 3 s of silence, then a 10 s probe
			t.Fatalf("reported %q, want %q", got, want)
		}
		before := m.asked.Load()
		start := time.Now()
		if err := get(t.Context(), us, "GetObject"); !errors.Is(err, ErrSuspect) || !errors.Is(err, ErrNotSent) || !errors.Is(err, akigw.ErrUpstreamUnavailable) || time.Since(start) > 0 {
			t.Fatalf("a suspect upstream: %v after %v", err, time.Since(start))
		}
		if m.asked.Load() != before {
			t.Fatal("a request was sent to a suspect upstream")
		}
		if got := us.Suspects(); len(got) != 1 || got[0] != DefaultName {
			t.Errorf("suspects: %v", got)
		}
		for range 3 {
			if err := <-errs; !errors.Is(err, akigw.ErrUpstreamUnavailable) {
				t.Error(err)
			}
		}
		time.Sleep(10 * time.Minute)
		m.answerAfter(0)
		synctest.Wait()
		if !strings.HasSuffix(told(), "default false at 10m30s") { // the probe in progress is answered
			t.Fatalf("told %q", told())
		}
		if err := get(t.Context(), us, "GetObject"); err != nil {
			t.Fatal(err)
		}
		if m.most.Load() != 1 {
			t.Errorf("%d probes at a time", m.most.Load())
		}
		if n := m.probed.Load(); n < 60 || n > 300 {
			t.Errorf("%d probes in ten minutes", n)
		}
	})
}

// TestOneClientFindsOut: requests one after the other also make an upstream suspect, because those
// that met their deadline are remembered.
func TestOneClientFindsOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, told := suspectable(t, &moody{delay: -1})
		defer us.Close()
		for range 2 {
			start := time.Now()
			if err := get(t.Context(), us, "GetObject"); !errors.Is(err, ErrDeadline) || time.Since(start) != 15*time.Second {
				t.Fatalf("%v after %v", err, time.Since(start))
			}
		}
		if err := get(t.Context(), us, "GetObject"); !errors.Is(err, ErrSuspect) {
			t.Fatalf("the third request: %v (reported %q)", err, told())
		}
	})
}

// TestSlowUpstreamIsNoSuspect: an upstream that takes eight seconds to the first byte for an hour
// does not become suspect, with any number of clients.
func TestSlowUpstreamIsNoSuspect(t *testing.T) {
	for _, clients := range []int{1, 2, 40} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{delay: 8 * time.Second}
				us, told := suspectable(t, m)
				defer us.Close()
				var work sync.WaitGroup
				for i := range clients {
					work.Go(func() {
						time.Sleep(time.Duration(i) * 100 * time.Millisecond)
						for start := time.Now(); time.Since(start) < time.Hour; {
							if err := get(t.Context(), us, []string{"GetObject", "HeadObject", "PutObject", "DeleteObject"}[i%4]); err != nil {
								t.Error(err)
								return
							}
						}
					})
				}
				work.Wait()
				if told() != "" || us.all[0].breakers.open() > 0 {
					t.Errorf("reported %q, %d breakers open", told(), us.all[0].breakers.open())
				}
			})
		})
	}
}

// TestWhatIsNoReasonForSuspicion: none of these cases causes a probe.
func TestWhatIsNoReasonForSuspicion(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(t *testing.T, us *Upstreams, m *moody)
	}{
		{"one request alone", func(t *testing.T, us *Upstreams, _ *moody) { _ = get(t.Context(), us, "GetObject") }},
		{"operations that may take long", func(t *testing.T, us *Upstreams, m *moody) {
			var work sync.WaitGroup
			for _, op := range []string{"CompleteMultipartUpload", "CopyObject", "UploadPartCopy", "DeleteObjects", "PutBucketPolicy"} {
				work.Go(func() {
					if err := get(t.Context(), us, op); err != nil {
						t.Error(err)
					}
				})
			}
			time.Sleep(9 * time.Minute)
			m.answerAfter(0)
			work.Wait()
		}},
		{"clients that leave", func(t *testing.T, us *Upstreams, _ *moody) {
			for range 100 { // each is alone, and silent for a moment
				ctx, cancel := context.WithTimeout(t.Context(), 4*time.Second)
				if err := get(ctx, us, "GetObject"); err == nil {
					t.Error("a request got a response")
				}
				cancel()
			}
		}},
		{"deadlines that were met long ago", func(t *testing.T, us *Upstreams, _ *moody) {
			for range 5 {
				_ = get(t.Context(), us, "GetObject")
				time.Sleep(2 * memory)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m := &moody{delay: -1}
				us, told := suspectable(t, m)
				defer us.Close()
				c.do(t, us, m)
				if told() != "" || m.probed.Load() > 0 {
					t.Errorf("reported %q, %d probes", told(), m.probed.Load())
				}
			})
		})
	}
}

// TestAnswerDuringTheProbeClears: while a probe waits, any byte from the upstream counts like a
// response to the probe.
func TestAnswerDuringTheProbeClears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lost atomic.Int64
		var m moody
		us, told := suspectable(t, &m)
		defer us.Close()
		us.all[0].transport = script(func(r *http.Request) (*http.Response, error) {
			if lost.Add(1) <= 2 { // on a dead connection
				<-r.Context().Done()
				return nil, r.Context().Err()
			}
			return status(200)
		})
		us.all[0].suspicion.probe = func(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
		for range 2 {
			go func() { _ = get(t.Context(), us, "GetObject") }()
		}
		time.Sleep(5 * time.Second)
		if err := get(t.Context(), us, "GetObject"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		if told() != "" {
			t.Errorf("told %q", told())
		}
	})
}

// TestUpstreamReturnsSlow: an upstream that is slow when it returns still ceases to be suspect.
func TestUpstreamReturnsSlow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{delay: -1}
		us, told := suspectable(t, m)
		defer us.Close()
		for range 2 {
			go func() { _ = get(t.Context(), us, "GetObject") }()
		}
		time.Sleep(20 * time.Second)
		m.answerAfter(8 * time.Second)
		time.Sleep(5 * time.Minute)
		if !strings.Contains(told(), "default false") {
			t.Errorf("told %q", told())
		}
	})
}

// TestCloseEndsProbes: an upstream can be closed while it is suspect.
func TestCloseEndsProbes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, told := suspectable(t, &moody{delay: -1})
		for range 2 {
			go func() { _ = get(t.Context(), us, "GetObject") }()
		}
		time.Sleep(30 * time.Second)
		if told() == "" {
			t.Fatal("not suspect")
		}
		us.Close()
	})
}

// TestDeadlineIsShared: retries, hedges and the wait for a slot share one deadline, which ends at
// the head of the response. A body may take longer.
func TestDeadlineIsShared(t *testing.T) {
	for name, change := range map[string]func(c *Config){
		"retries": func(c *Config) { c.Retries = 10 },
		"hedges":  func(c *Config) { c.HedgeAfterMs = 1000 },
		"slots":   func(c *Config) { c.MaxRequests = 1 },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				sent := atomic.Int64{}
				u := scripted(t, func(r *http.Request) (*http.Response, error) {
					if sent.Add(1)%2 == 1 && name == "retries" {
						select {
						case <-time.After(6 * time.Second):
							return status(500)
						case <-r.Context().Done():
						}
					}
					<-r.Context().Done()
					return nil, r.Context().Err()
				}, change)
				defer u.Close()
				if name == "slots" {
					go func() { _, _ = u.Do(t.Context(), &Request{Op: "CopyObject", Method: "PUT", Key: read}) }()
					synctest.Wait()
				}
				start := time.Now()
				_, err := u.Do(t.Context(), &Request{Op: "GetObject", Method: "GET", Key: read})
				if !errors.Is(err, ErrDeadline) || !errors.Is(err, akigw.ErrUpstreamUnavailable) || time.Since(start) != 15*time.Second {
					t.Errorf("%v after %v", err, time.Since(start))
				}
				if sent.Load() == 0 {
					t.Error("nothing was sent")
				}
			})
		})
	}
	t.Run("a body", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := scripted(t, func(r *http.Request) (*http.Response, error) {
				return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(&slowSender{left: 10, pause: 20 * time.Second})}, nil
			}, nil)
			defer u.Close()
			resp, err := u.Do(t.Context(), &Request{Op: "GetObject", Method: "GET", Key: read})
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 10 {
				t.Errorf("%q, %v", body, err)
			}
			resp.Body.Close()
		})
	})
}

// TestDeadlinesByKind: how long each kind of operation waits for its response.
func TestDeadlinesByKind(t *testing.T) {
	for op, want := range map[string]time.Duration{
		"GetObject": 15 * time.Second, "ListObjectsV2": 15 * time.Second, "DeleteObject": 15 * time.Second, "CreateMultipartUpload": 15 * time.Second,
		"PutObject": 30 * time.Second, "UploadPart": 30 * time.Second,
		"CompleteMultipartUpload": 10 * time.Minute, "CopyObject": 10 * time.Minute, "DeleteObjects": 10 * time.Minute, "PutBucketPolicy": 10 * time.Minute, "GetBucketPolicy": 15 * time.Second,
	} {
		t.Run(op, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := scripted(t, func(r *http.Request) (*http.Response, error) {
					<-r.Context().Done()
					return nil, r.Context().Err()
				}, nil)
				defer u.Close()
				start := time.Now()
				_, err := u.Do(t.Context(), &Request{Op: op, Method: "POST", Key: read})
				if !errors.Is(err, ErrDeadline) || time.Since(start) != want {
					t.Errorf("%v after %v, want %v", err, time.Since(start), want)
				}
			})
		})
	}
}

// TestNoKeysWhileSuspect: the keys expire while the upstream is suspect, and their source hangs
// too. Probes that cannot be signed are repeated at intervals. When both recover, requests succeed
// again.
func TestNoKeysWhileSuspect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &moody{delay: -1}
		us, told := suspectable(t, m)
		defer us.Close()
		var back atomic.Bool
		u := us.of("bucket").Upstream
		u.keyring = newKeyringOf(&source{hand: func(ctx context.Context, n int) (credentials.Value, error) {
			if n > 1 && !back.Load() {
				return hang(ctx)
			}
			return lasting("key", time.Minute), nil
		}}, false, nil, newCounters(nil))
		var asked atomic.Int64
		probe := u.suspicion.probe
		const most = 10 * 60 // one per second
		u.suspicion.probe = func(ctx context.Context) error {
			if asked.Add(1) > most {
				<-ctx.Done() // time stands still while a goroutine is busy
			}
			return probe(ctx)
		}
		for range 2 {
			go func() { _ = get(t.Context(), us, "GetObject") }()
		}
		time.Sleep(10 * time.Minute)
		if got, want := told(), "default true at 13s"; got != want {
			t.Fatalf("reported %q, want %q", got, want)
		}
		if n := asked.Load(); n > most {
			t.Errorf("more than %d probes in ten minutes", most)
		}
		back.Store(true)
		m.answerAfter(0)
		time.Sleep(fetchKeys + keysBackoffMost + keysPatience + restBetweenProbes) // a fetch may have begun to hang just before
		if err := get(t.Context(), us, "GetObject"); err != nil {
			t.Error(err)
		}
	})
}

// steps is a body that has one more byte after each step.
type steps chan struct{}

func (s steps) Read(p []byte) (int, error) {
	<-s
	return copy(p, "x"), nil
}

// TestBodyReadAfterTheEnd: net/http may still read the body of a request that has failed or was
// answered. Such a read must not count the request as waiting for a response, because that would
// never end.
func TestBodyReadAfterTheEnd(t *testing.T) {
	for name, answer := range map[string]script{
		"failed":   func(*http.Request) (*http.Response, error) { return nil, errors.New("connection reset") },
		"answered": func(*http.Request) (*http.Response, error) { return status(403) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := make(steps)
				u := scripted(t, func(r *http.Request) (*http.Response, error) {
					go func() { _, _ = r.Body.Read(make([]byte, 1)) }()
					synctest.Wait()
					return answer(r)
				}, nil)
				resp, err := u.Do(t.Context(), &Request{Op: "PutObject", Method: "PUT", Key: read, Body: body, Length: 10})
				if err == nil {
					resp.Body.Close()
				}
				body <- struct{}{}
				time.Sleep(10 * time.Minute)
				u.suspicion.mu.Lock()
				defer u.suspicion.mu.Unlock()
				if u.suspicion.silent != 0 {
					t.Errorf("%d requests count as waiting for a response", u.suspicion.silent)
				}
			})
		})
	}
}

// TestProbeOutlastsRequests: a probe waits for probe_timeout_ms even if requests have shorter
// deadlines.
func TestProbeOutlastsRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		us, told := suspectable(t, &moody{delay: 8 * time.Second})
		defer us.Close()
		us.of("bucket").deadlines.Read = 5 * time.Second
		for range 4 {
			for range 2 {
				go func() { _ = get(t.Context(), us, "GetObject") }()
			}
			time.Sleep(20 * time.Second)
		}
		if told() != "" {
			t.Errorf("told %q", told())
		}
	})
}
