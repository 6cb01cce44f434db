package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
)

// inMemory is a store without a disk, for tests with a fake clock.
func inMemory(t *testing.T, settings rules.Settings, up Upstream) *Store {
	t.Helper()
	config := testConfig(settings.Freshness)
	config.WarmBytes = 0
	return inMemoryWith(t, config, settings, up)
}

func inMemoryWith(t *testing.T, config Config, settings rules.Settings, up Upstream) *Store {
	t.Helper()
	settings.Memory, settings.Block = true, block
	s, err := New(Options{Config: config, Rules: rules.NewSet(nil, settings), Upstream: up})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// down makes an upstream unavailable.
func down(*cold.Request) (*http.Response, error) {
	return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
}

// get reads a key under conditions and returns which tier it came from.
func get(s *Store, k akigw.Key, c akigw.Conditions) (akigw.Outcome, error) {
	r, err := s.Get(context.Background(), k, akigw.RangeSpec{}, c)
	if err != nil {
		return "", err
	}
	defer r.Close()
	_, err = drain(context.Background(), r)
	return r.Outcome, err
}

// TestSharedValidation: readers that arrive during a validation share the next one, and see changes
// made before they arrived.
func TestSharedValidation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Strict}, up)
		up.Put(key("k"), []byte("old"))
		wantRead(t, s, key("k"), "", []byte("old"), akigw.Cold)
		up.Reset()
		up.After = func(*cold.Request, *http.Response) { time.Sleep(100 * time.Millisecond) } // the response shows the state before the wait
		var wait sync.WaitGroup
		first := make(chan []byte, 1)
		wait.Go(func() {
			data, _, _ := readAll(s, key("k"), "")
			first <- data
		})
		time.Sleep(50 * time.Millisecond)
		up.Put(key("k"), []byte("new"))
		for range 100 {
			wait.Go(func() {
				if data, _, err := readAll(s, key("k"), ""); err != nil || string(data) != "new" {
					t.Errorf("a reader that arrived after the change read %q, %v", data, err)
				}
			})
		}
		wait.Wait()
		if data := <-first; string(data) != "old" && string(data) != "new" {
			t.Errorf("the first reader read %q", data)
		}
		if n := up.Count("HEAD"); n != 2 {
			t.Errorf("%d validations for 101 readers", n)
		}
		if n := up.Count("GET"); n != 1 {
			t.Errorf("%d downloads", n)
		}
	})
}

// TestValidationOutlivesItsReader: a reader that gives up does not end the validation for the
// others.
//
// Scenarios: D11.
func TestValidationOutlivesItsReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Strict}, up)
		up.Put(key("k"), []byte("x"))
		wantRead(t, s, key("k"), "", []byte("x"), akigw.Cold)
		up.After = func(*cold.Request, *http.Response) { time.Sleep(time.Second) }
		ctx, cancel := context.WithCancel(context.Background())
		var wait sync.WaitGroup
		wait.Go(func() {
			if _, err := s.Get(ctx, key("k"), akigw.RangeSpec{}, akigw.Conditions{}); !errors.Is(err, context.Canceled) {
				t.Errorf("cancelled: %v", err)
			}
		})
		time.Sleep(time.Millisecond)
		wait.Go(func() { wantRead(t, s, key("k"), "", []byte("x"), akigw.Hot) })
		time.Sleep(time.Millisecond)
		cancel()
		wait.Wait()
	})
}

// TestTTL: no validation within the TTL, one after it. A client can ask for an earlier one.
func TestTTL(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.TTL, TTL: 10 * time.Second}, up)
		up.Put(key("k"), []byte("one"))
		wantRead(t, s, key("k"), "", []byte("one"), akigw.Cold)
		up.Reset()
		up.Put(key("k"), []byte("two"))
		time.Sleep(10*time.Second - 1)
		wantRead(t, s, key("k"), "", []byte("one"), akigw.Hot)
		wantCount(t, up, "HEAD", 0)
		time.Sleep(1)
		wantRead(t, s, key("k"), "", []byte("two"), akigw.Cold)
		wantCount(t, up, "HEAD", 1)
		for _, c := range []struct {
			conditions akigw.Conditions
			asks       int
		}{{akigw.Conditions{MaxAge: 5 * time.Second}, 0}, {akigw.Conditions{NoCache: true}, 1}, {akigw.Conditions{}, 1}} {
			if _, err := get(s, key("k"), c.conditions); err != nil {
				t.Fatal(err)
			}
			wantCount(t, up, "HEAD", 1+c.asks)
		}
		time.Sleep(6 * time.Second)
		if _, err := get(s, key("k"), akigw.Conditions{MaxAge: 5 * time.Second}); err != nil {
			t.Fatal(err)
		}
		wantCount(t, up, "HEAD", 3)
	})
}

// TestStaleIfError: while the upstream is unavailable, cached data is served for at most max_stale,
// and marked as stale.
func TestStaleIfError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.TTL, TTL: 10 * time.Second, MaxStale: time.Minute}, up)
		body := testkit.Bytes(1, 3*block)
		up.Put(key("k"), body)
		wantRead(t, s, key("k"), "", body, akigw.Cold)
		for _, fault := range []func(*cold.Request) (*http.Response, error){down, func(*cold.Request) (*http.Response, error) {
			return s3mem.Response(http.StatusServiceUnavailable, nil, nil), nil
		}} {
			up.Before = fault
			wantRead(t, s, key("k"), "", body, akigw.Hot)
		}
		time.Sleep(11 * time.Second)
		wantRead(t, s, key("k"), "", body, akigw.Stale)
		if _, err := get(s, key("k"), akigw.Conditions{NoCache: true}); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("with no-cache: %v", err)
		}
		if _, _, err := readAll(s, key("other"), ""); err == nil {
			t.Error("an unknown key was served")
		}
		time.Sleep(59 * time.Second)
		if _, _, err := readAll(s, key("k"), ""); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("beyond max_stale: %v", err)
		}
		up.Before = nil
		wantRead(t, s, key("k"), "", body, akigw.Hot)
	})
}

// TestCannotKnowIsNotDeleted: in the other modes an unavailable upstream causes an error, and
// cached data is kept.
//
// Scenarios: A23.
func TestCannotKnowIsNotDeleted(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	up.Put(key("k"), []byte("x"))
	wantRead(t, s, key("k"), "", []byte("x"), akigw.Cold)
	up.Before = down
	if _, _, err := readAll(s, key("k"), ""); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
		t.Errorf("strict: %v", err)
	}
	up.Before = nil
	wantRead(t, s, key("k"), "", []byte("x"), akigw.Hot)
}

// TestImmutable: an object is never validated after its fill, unless a client asks for it.
func TestImmutable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Immutable}, up)
		up.Put(key("k"), []byte("x"))
		wantRead(t, s, key("k"), "", []byte("x"), akigw.Cold)
		up.Before = down
		time.Sleep(1000 * time.Hour)
		wantRead(t, s, key("k"), "", []byte("x"), akigw.Hot)
		if _, err := get(s, key("k"), akigw.Conditions{NoCache: true}); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("with no-cache: %v", err)
		}
	})
}

// TestAbsence: in mode TTL, and in no other, a clean 404 is cached for at most a second, and only
// until a write.
func TestAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.TTL, TTL: time.Minute}, up)
		missing := func(requests int) {
			t.Helper()
			var refused *cold.ResponseError
			if _, _, err := readAll(s, key("k"), ""); !errors.As(err, &refused) || refused.Status != http.StatusNotFound || len(refused.Body) == 0 {
				t.Fatalf("read: %v", err)
			}
			if _, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); !errors.As(err, &refused) || refused.Status != http.StatusNotFound {
				t.Fatalf("head: %v", err)
			}
			wantCount(t, up, "GET", requests)
			wantCount(t, up, "HEAD", 0)
		}
		missing(1)
		missing(1)
		time.Sleep(time.Second)
		missing(2)
		if _, err := get(s, key("k"), akigw.Conditions{NoCache: true}); err == nil {
			t.Fatal("served")
		}
		wantCount(t, up, "GET", 3)
		if err := put(s, up, key("k"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		wantRead(t, s, key("k"), "", []byte("x"), "")

		up.Before = func(*cold.Request) (*http.Response, error) {
			return s3mem.Response(http.StatusNotFound, nil, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
		}
		up.Reset()
		for range 2 { // another kind of absence
			if _, _, err := readAll(s, key("other"), ""); err == nil {
				t.Fatal("served")
			}
		}
		wantCount(t, up, "GET", 2)

		strict := s3mem.New()
		s = inMemory(t, rules.Settings{Freshness: rules.Strict}, strict)
		for range 2 {
			if _, _, err := readAll(s, key("k"), ""); err == nil {
				t.Fatal("served")
			}
		}
		wantCount(t, strict, "GET", 2)
	})
}

// TestAbsenceIsFenced: a 404 that was in progress while the key was written is not cached.
//
// Scenarios: D2.
func TestAbsenceIsFenced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.TTL, TTL: time.Minute}, up)
		up.After = func(r *cold.Request, resp *http.Response) {
			if resp.StatusCode == http.StatusNotFound {
				time.Sleep(time.Millisecond)
			}
		}
		var wait sync.WaitGroup
		wait.Go(func() {
			if _, _, err := readAll(s, key("k"), ""); err == nil {
				t.Error("an object was served before it was written")
			}
		})
		synctest.Wait()
		if err := put(s, up, key("k"), []byte("x")); err != nil {
			t.Fatal(err)
		}
		wait.Wait()
		wantRead(t, s, key("k"), "", []byte("x"), "")
	})
}

// TestClockSetBack: a confirmation with a time in the future does not count.
//
// Scenarios: E35.
func TestClockSetBack(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.TTL), up)
	e := s.newEntry(akigw.Object{Key: key("k"), ETag: `"x"`, Header: http.Header{}}, 1, time.Now().Add(time.Hour))
	settings := &rules.Settings{Freshness: rules.TTL, TTL: 1000 * time.Hour, MaxStale: time.Hour}
	if s.source.validator.fresh(e, settings, akigw.Conditions{}) || s.source.validator.usable(e, settings, akigw.Conditions{}) || s.source.validator.fresh(e, &rules.Settings{Freshness: rules.Immutable}, akigw.Conditions{MaxAge: time.Hour}) {
		t.Error("trusted")
	}
}

// TestTiersOfARule: a tier that a rule excludes is not used. Without any tier, or above the largest
// size, nothing is cached.
func TestTiersOfARule(t *testing.T) {
	for name, c := range map[string]struct {
		settings         rules.Settings
		cached, hot, all bool
	}{
		"both":        {rules.Settings{Memory: true, Disk: true, Block: block}, true, true, true},
		"memory":      {rules.Settings{Memory: true, Block: block}, true, true, false},
		"disk":        {rules.Settings{Disk: true, Block: block}, true, false, true},
		"none":        {rules.Settings{Block: block}, false, false, false},
		"small alone": {rules.Settings{Memory: true, Disk: true, MaxObject: 50, Block: block}, false, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			c.settings.Freshness = rules.Exclusive
			up := s3mem.New()
			s, err := New(Options{Config: testConfig(rules.Exclusive), Rules: rules.NewSet(nil, c.settings), Dir: t.TempDir() + "/warm", Upstream: up})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			for _, size := range []int{100, 3 * block} {
				for _, written := range []bool{false, true} {
					k, body := key(fmt.Sprint(size, written)), testkit.Bytes(1, size)
					if written {
						if err := put(s, up, k, body); err != nil {
							t.Fatal(err)
						}
					} else {
						up.Put(k, body)
					}
					for range 2 {
						if _, _, err := readAll(s, k, ""); errors.Is(err, ErrUncacheable) == c.cached {
							t.Fatalf("%s: %v", k, err)
						}
					}
					if !c.cached {
						continue
					}
					e, _ := s.lookup(k)
					hot, disk := s.hot.Has(hotKey{key: k}) && e.body != nil, s.warm.HasEntry(k)
					if size > 100 {
						hot, disk = s.hot.Has(hotKey{extent: e.extent, n: 1}), s.warm.HasBlock(e.warmRun(), 1)
					}
					if hot != c.hot || disk != c.all {
						t.Errorf("%s: in memory %t, on disk %t", k, hot, disk)
					}
				}
			}
			if !c.cached && s.warm.HasBlock(warm.Run{}, 0) {
				t.Error("something is on disk")
			}
		})
	}
}

// TestDeadlinesReachTheUpstream: when the last reader of a fill meets its deadline, the request to
// the upstream ends with that cause, so that the missing response counts against the upstream. When
// the client leaves, it does not count.
func TestDeadlinesReachTheUpstream(t *testing.T) {
	for name, c := range map[string]struct{ cause, want error }{
		"deadline":           {cold.ErrDeadline, cold.ErrDeadline},
		"client that leaves": {nil, context.Canceled},
	} {
		for _, known := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, known %t", name, known), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					up := &listening{Memory: s3mem.New()}
					s := inMemory(t, rules.Settings{Freshness: rules.Immutable}, up)
					up.Put(key("k"), testkit.Bytes(1, 3*finishBlocks*block))
					if known { // all but the block that is read now
						if _, _, err := readAll(s, key("k"), "bytes=0-1"); err != nil {
							t.Fatal(err)
						}
					}
					up.hangs.Store(true)
					ctx, cancel := context.WithCancelCause(t.Context())
					time.AfterFunc(time.Second, func() { cancel(c.cause) })
					if _, err := s.Get(ctx, key("k"), akigw.ParseRange(fmt.Sprintf("bytes=%d-", 2*block)), akigw.Conditions{}); err == nil {
						t.Fatal("the request got a response")
					}
					synctest.Wait()
					if got := up.ended.Load(); got == nil || !errors.Is(*got, c.want) {
						t.Errorf("the request ended by %v, want %v", got, c.want)
					}
				})
			})
		}
	}
}

// listening is an upstream that can hang. It records why its requests end.
type listening struct {
	*s3mem.Memory
	hangs atomic.Bool
	ended atomic.Pointer[error]
}

func (l *listening) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if !l.hangs.Load() {
		return l.Memory.Do(ctx, r)
	}
	<-ctx.Done()
	cause := context.Cause(ctx)
	l.ended.Store(&cause)
	return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cause)
}
