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

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/akidb/akigw"
)

// source is a source of keys. hand decides on the n-th fetch, counted from 1.
type source struct {
	hand    func(ctx context.Context, n int) (credentials.Value, error)
	asked   atomic.Int64
	now     atomic.Int64
	atATime atomic.Int64 // most concurrent fetches
}

func (s *source) RetrieveWithCredContext(cc *credentials.CredContext) (credentials.Value, error) {
	s.atATime.Store(max(s.atATime.Load(), s.now.Add(1)))
	defer s.now.Add(-1)
	return s.hand(cc.Context, int(s.asked.Add(1)))
}

func (s *source) Retrieve() (credentials.Value, error) { return s.RetrieveWithCredContext(nil) }
func (s *source) IsExpired() bool                      { return true }

// hang is a source that never responds.
func hang(ctx context.Context) (credentials.Value, error) {
	<-ctx.Done()
	return credentials.Value{}, ctx.Err()
}

func lasting(key string, d time.Duration) credentials.Value {
	return credentials.Value{AccessKeyID: key, SecretAccessKey: "s", SessionToken: "t", Expiration: time.Now().Add(d), SignerType: credentials.SignatureV4}
}

// keyed is an upstream that takes its keys from s and answers every request with one status.
func keyed(t *testing.T, s *source, answer func(key string) int) *Upstream {
	u := scripted(t, func(r *http.Request) (*http.Response, error) {
		_, rest, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		key, _, _ := strings.Cut(rest, "/")
		return status(answer(key))
	}, nil)
	u.keyring = newKeyringOf(s, false, nil, newCounters(nil))
	return u
}

func always(code int) func(string) int { return func(string) int { return code } }

// try sends a request. It returns the status, 0 for none, the error, and how long the request took.
func try(u *Upstream, ctx context.Context) (int, error, time.Duration) {
	began := time.Now()
	resp, err := u.Do(ctx, &Request{Op: "Test", Method: "GET", Key: read})
	if err != nil {
		return 0, err, time.Since(began)
	}
	resp.Body.Close()
	return resp.StatusCode, nil, time.Since(began)
}

// TestHangingSourceOfKeys: while the keys are valid, no request waits for a source that hangs. Once
// they have expired, requests are refused within seconds, with the reason. The source gets one
// fetch at a time, less and less often. When it works again, requests succeed again.
func TestHangingSourceOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hangs atomic.Bool
		s := &source{hand: func(ctx context.Context, n int) (credentials.Value, error) {
			if hangs.Load() {
				return hang(ctx)
			}
			return lasting(fmt.Sprint("KEY", n), time.Hour), nil
		}}
		u := keyed(t, s, always(200))
		defer u.Close()
		ctx := context.Background()
		if code, err, _ := try(u, ctx); code != 200 {
			t.Fatal(err)
		}
		hangs.Store(true)
		for range 59 { // minutes
			if code, err, took := try(u, ctx); code != 200 || took != 0 {
				t.Fatalf("with valid keys: %d %v after %v", code, err, took)
			}
			time.Sleep(time.Minute)
		}
		if n := s.asked.Load(); n < 3 || n > 20 {
			t.Errorf("in the 15 minutes before the keys expired their source was asked %d times", n-1)
		}
		time.Sleep(2 * time.Minute)
		before := s.asked.Load()
		for range 600 { // one each second
			code, err, took := try(u, ctx)
			if code != 0 || took > keysPatience+time.Second || !errors.Is(err, akigw.ErrUpstreamUnavailable) || !errors.Is(err, ErrNotSent) || !errors.Is(err, ErrNoKeys) {
				t.Fatalf("without valid keys: %d %v after %v", code, err, took)
			}
			time.Sleep(time.Second)
		}
		if n := s.asked.Load() - before; n > 40 {
			t.Errorf("a source that hangs was asked %d times in ten minutes", n)
		}
		hangs.Store(false)
		time.Sleep(keysBackoffMost + fetchKeys)
		if code, err, _ := try(u, ctx); code != 200 {
			t.Errorf("when the source works again: %v; breakers are open: %d", err, u.breakers.open())
		}
		if n := s.atATime.Load(); n != 1 {
			t.Errorf("%d fetches at a time", n)
		}
	})
}

// TestNoKeysYet: before the first keys arrive, requests wait a few seconds for a source that hangs,
// counted from its fetch, and never beyond their own deadlines.
func TestNoKeysYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{hand: func(ctx context.Context, _ int) (credentials.Value, error) { return hang(ctx) }}
		u := keyed(t, s, always(200))
		u.retrier.retries = 0
		defer u.Close()
		var wait sync.WaitGroup
		ask := func(deadline, want time.Duration) {
			wait.Go(func() {
				ctx, cancel := context.WithTimeout(context.Background(), deadline)
				defer cancel()
				if _, err, took := try(u, ctx); err == nil || took != want {
					t.Errorf("with %v to go: %v after %v, want %v", deadline, err, took, want)
				}
			})
		}
		for range 100 {
			ask(time.Minute, keysPatience)
		}
		ask(time.Second, time.Second)
		time.Sleep(2 * time.Second)
		ask(time.Minute, keysPatience-2*time.Second)
		time.Sleep(2 * time.Second)
		ask(time.Minute, 0)
		wait.Wait()
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
	})
}

// TestExpiredKeysFromTheSource: keys that have already expired when the source returns them are not
// used. The source is not hammered, and the current keys stay in use.
func TestExpiredKeysFromTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{hand: func(_ context.Context, n int) (credentials.Value, error) {
			if n == 1 {
				return lasting("GOOD", 20*time.Minute), nil
			}
			return lasting("ENDED", -time.Minute), nil
		}}
		u := keyed(t, s, func(key string) int {
			if key != "GOOD" {
				t.Errorf("a request was signed with %s", key)
			}
			return 200
		})
		defer u.Close()
		ctx := context.Background()
		ended := time.Now().Add(20 * time.Minute)
		for range 3600 {
			code, err, took := try(u, ctx)
			switch valid := time.Now().Before(ended); {
			case valid && code != 200:
				t.Fatalf("with valid keys: %v", err)
			case !valid && (code != 0 || took > 2*time.Second || !strings.Contains(err.Error(), "keys that expired at")):
				t.Fatalf("without valid keys: %d %v after %v", code, err, took)
			}
			time.Sleep(time.Second)
		}
		if n := s.asked.Load(); n < 10 || n > 120 {
			t.Errorf("the source was asked %d times in an hour", n)
		}
	})
}

// TestRefusalsDoNotHammerTheSource: a flood of 403 responses, most of them about permissions,
// causes a fetch only now and then. Replaced keys are used at once.
func TestRefusalsDoNotHammerTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{hand: func(_ context.Context, n int) (credentials.Value, error) {
			return lasting(fmt.Sprint("KEY", min(n, 2)), 12*time.Hour), nil
		}}
		u := keyed(t, s, func(key string) int {
			if key == "KEY1" {
				return 400 // ExpiredToken
			}
			return 403
		})
		defer u.Close()
		for n, want := range []int{400, 403} {
			if code, err, _ := try(u, context.Background()); code != want {
				t.Fatalf("request %d: %d %v, want %d", n, code, err, want)
			}
		}
		for range 6000 {
			try(u, context.Background())
			time.Sleep(10 * time.Millisecond)
		}
		if n := s.asked.Load(); n > 9 {
			t.Errorf("in a minute of 403s the source was asked %d times", n)
		}
	})
}

// TestDeafSourceOfKeys: a source that ignores its deadline blocks neither requests nor the shutdown
// of the gateway.
func TestDeafSourceOfKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		s := &source{hand: func(context.Context, int) (credentials.Value, error) {
			<-release
			return credentials.Value{}, errors.New("too late")
		}}
		u := keyed(t, s, always(200))
		try(u, context.Background())
		time.Sleep(time.Hour)
		if _, err, took := try(u, context.Background()); took > time.Second || !strings.Contains(fmt.Sprint(err), "has not responded for 1h") {
			t.Errorf("%v after %v", err, took)
		}
		began := time.Now()
		u.Close()
		if took := time.Since(began); took > 2*time.Second {
			t.Errorf("closing took %v", took)
		}
		if n := s.asked.Load(); n != 1 {
			t.Errorf("the source was asked %d times", n)
		}
		close(release)
	})
}
