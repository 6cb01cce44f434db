package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }

const block = 64 << 10

func testConfig(freshness rules.Freshness) Config {
	return Config{HotBytes: 8 << 20, WarmBytes: 64 << 20, BlockBytes: block, SmallBytes: 4 << 10, MD5ETags: true, Freshness: freshness}
}

func openStore(t *testing.T, config Config, dir string, up Upstream) *Store {
	t.Helper()
	s, err := New(Options{Config: config, Rules: rules.NewSet(nil, config.Settings()), Dir: dir, Upstream: up})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newStore(t *testing.T, config Config, up Upstream) *Store {
	t.Helper()
	s := openStore(t, config, filepath.Join(t.TempDir(), "warm"), up)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func key(name string) akigw.Key { return akigw.Key{Bucket: "bucket", Name: name} }

// readAll reads a key to its end.
func readAll(s *Store, k akigw.Key, rangeHeader string) ([]byte, akigw.Outcome, error) {
	ctx := context.Background()
	r, err := s.Get(ctx, k, akigw.ParseRange(rangeHeader), akigw.Conditions{})
	if r != nil {
		defer r.Close()
	}
	if err != nil {
		return nil, "", err
	}
	data, err := drain(ctx, r)
	return data, r.Outcome, err
}

func drain(ctx context.Context, r *Reader) ([]byte, error) {
	var out bytes.Buffer
	for {
		data, err := r.Next(ctx)
		if err == io.EOF {
			return out.Bytes(), nil
		}
		if err != nil {
			return out.Bytes(), err
		}
		out.Write(data)
	}
}

func wantRead(t *testing.T, s *Store, k akigw.Key, rangeHeader string, want []byte, outcome akigw.Outcome) {
	t.Helper()
	got, from, err := readAll(s, k, rangeHeader)
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %s %q: %d bytes, equal %t, error %v; want %d bytes", k, rangeHeader, len(got), bytes.Equal(got, want), err, len(want))
	}
	if outcome != "" && from != outcome {
		t.Fatalf("read %s %q came from %s, want %s", k, rangeHeader, from, outcome)
	}
}

func wantCount(t *testing.T, up *s3mem.Memory, kind string, want int) {
	t.Helper()
	if got := up.Count(kind); got != want {
		t.Fatalf("%s at the upstream: %d, want %d", kind, got, want)
	}
}

// put writes through the store, as the gateway does.
func put(s *Store, up *s3mem.Memory, k akigw.Key, body []byte) error {
	w := s.Begin(k)
	defer w.End()
	w.Body(body)
	resp, err := up.Do(context.Background(), &cold.Request{Method: http.MethodPut, Key: k, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err == nil {
		w.Written(nil, resp.Header, nil)
	}
	return err
}

var sizes = []int{0, 1, 100, 4 << 10, 4<<10 + 1, block - 1, block, block + 1, 3*block + 17, 40 * block}

func TestSecondReadDoesNotReachTheUpstreamInExclusiveMode(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	for _, n := range sizes {
		k, body := key(fmt.Sprint("k", n)), testkit.Bytes(uint64(n), n)
		up.Put(k, body)
		up.Reset()
		wantRead(t, s, k, "", body, akigw.Cold)
		wantCount(t, up, "GET", 1)
		wantRead(t, s, k, "", body, akigw.Hot)
		wantCount(t, up, "GET", 1)
		wantCount(t, up, "HEAD", 0)
	}
}

func TestStrictHitIsOneConditionalRequest(t *testing.T) {
	up := s3mem.New()
	longAgo(up)
	s := newStore(t, testConfig(rules.Strict), up)
	body := testkit.Bytes(1, 3*block)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	up.Reset()
	for range 3 {
		wantRead(t, s, key("k"), "", body, akigw.Hot)
	}
	wantCount(t, up, "GET", 0)
	wantCount(t, up, "HEAD", 3)
	wantCount(t, up, "HEAD conditional", 3)
	wantCount(t, up, "HEAD 304", 3)
}

// Scenarios: E25.
func TestOutOfBandChangeIsSeenAtOnceInStrictMode(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	for i, n := range []int{100, 3 * block, 10, 0, block} {
		body := testkit.Bytes(uint64(i), n)
		up.Put(key("k"), body)
		wantRead(t, s, key("k"), "", body, akigw.Cold)
	}
	up.Delete(key("k"))
	var refused *cold.ResponseError
	if _, _, err := readAll(s, key("k"), ""); !errors.As(err, &refused) || refused.Status != 404 || !strings.Contains(string(refused.Body), "NoSuchKey") {
		t.Fatalf("read of a deleted object: %v", err)
	}
}

// Scenarios: E26.
func TestSameBytesPutAgainWithOtherMetadata(t *testing.T) {
	for _, bare := range []bool{false, true} {
		t.Run(fmt.Sprintf("304 without Last-Modified=%t", bare), func(t *testing.T) {
			up := s3mem.New()
			longAgo(up)
			if bare {
				up.After = func(_ *cold.Request, resp *http.Response) {
					if resp.StatusCode == http.StatusNotModified {
						resp.Header.Del("Last-Modified")
					}
				}
			}
			s := newStore(t, testConfig(rules.Strict), up)
			body := testkit.Bytes(1, 100)
			etag := up.Put(key("k"), body)
			wantRead(t, s, key("k"), "", body, akigw.Cold)
			up.PutStored(key("k"), s3mem.Stored{Body: body, ETag: etag, Modified: time.Now().Add(time.Hour).Truncate(time.Second), Header: http.Header{"X-Amz-Meta-Color": {"blue"}}})
			r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if got := r.Object.Header.Get("X-Amz-Meta-Color"); got != "blue" {
				t.Fatalf("metadata %q is that of the old version", got)
			}
		})
	}
}

// twoOrigins is two upstreams. The one with the bucket "bare" answers 304 without a date.
type twoOrigins struct {
	*s3mem.Memory
	asked map[string]int // conditional HEADs by bucket
}

func (u *twoOrigins) Origin(bucket string) uint64 { return uint64(len(bucket)) }

func (u *twoOrigins) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if r.Method == http.MethodHead && r.Header.Get("If-None-Match") != "" {
		u.asked[r.Key.Bucket]++
	}
	resp, err := u.Memory.Do(ctx, r)
	if err == nil && resp.StatusCode == http.StatusNotModified && r.Key.Bucket == "bare" {
		resp.Header.Del("Last-Modified")
	}
	return resp, err
}

// TestBare304OfOneUpstream: after a 304 without a date, that upstream gets unconditional requests;
// other upstreams do not.
func TestBare304OfOneUpstream(t *testing.T) {
	up := &twoOrigins{s3mem.New(), map[string]int{}}
	longAgo(up.Memory)
	s := newStore(t, testConfig(rules.Strict), up)
	body := testkit.Bytes(1, 100)
	both := []akigw.Key{{Bucket: "bare", Name: "k"}, {Bucket: "bucket", Name: "k"}}
	for _, k := range both {
		up.Put(k, body)
	}
	for range 3 {
		for _, k := range both {
			wantRead(t, s, k, "", body, "")
		}
	}
	if up.asked["bare"] != 1 || up.asked["bucket"] != 2 {
		t.Errorf("conditional HEADs: %v", up.asked)
	}
}

func TestRestartServesFromDisk(t *testing.T) {
	for _, clean := range []bool{true, false} {
		t.Run(fmt.Sprintf("clean=%t", clean), func(t *testing.T) {
			up := s3mem.New()
			longAgo(up)
			dir := filepath.Join(t.TempDir(), "warm")
			s := openStore(t, testConfig(rules.Exclusive), dir, up)
			bodies := map[akigw.Key][]byte{}
			for _, n := range sizes {
				k := key(fmt.Sprint("k", n))
				bodies[k] = testkit.Bytes(uint64(n), n)
				up.Put(k, bodies[k])
				wantRead(t, s, k, "", bodies[k], akigw.Cold)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if !clean { // as a killed process leaves it
				if err := os.Remove(filepath.Join(dir, "CLEAN")); err != nil {
					t.Fatal(err)
				}
			}
			s = openStore(t, testConfig(rules.Exclusive), dir, up)
			defer s.Close()
			up.Reset()
			for k, body := range bodies {
				wantRead(t, s, k, "", body, akigw.Warm)
				wantRead(t, s, k, "", body, "")
			}
			wantCount(t, up, "GET", 0)
			validations := 0
			if !clean { // each entry once
				validations = len(bodies)
			}
			wantCount(t, up, "HEAD conditional", validations)
		})
	}
}

// TestCrashDoesNotBringADeletedObjectBack: data that the previous epoch removed from the disk tier
// may be back after a crash, and must not be served without validation.
//
// Scenarios: B11, C16.
func TestCrashDoesNotBringADeletedObjectBack(t *testing.T) {
	up := s3mem.New()
	dir := filepath.Join(t.TempDir(), "warm")
	s := openStore(t, testConfig(rules.Exclusive), dir, up)
	body := testkit.Bytes(1, 100)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	saved := filepath.Join(t.TempDir(), "saved")
	if err := os.CopyFS(saved, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, testConfig(rules.Exclusive), dir, up)
	s.Begin(key("k")).End()
	up.Delete(key("k"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	// The power cut restores the directory as it was before the delete.
	if err := os.Remove(filepath.Join(saved, "CLEAN")); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, testConfig(rules.Exclusive), saved, up)
	defer s.Close()
	if _, _, err := readAll(s, key("k"), ""); err == nil {
		t.Fatal("a deleted object was served from the disk tier after a crash")
	}
}

func TestRanges(t *testing.T) {
	const size = 5*block + 123
	body := testkit.Bytes(9, size)
	ranges := []struct{ first, last int }{
		{0, 0}, {0, 9}, {block - 1, block}, {block, 2*block - 1}, {2*block + 5, 4*block + 7}, {size - 1, size - 1}, {size - 10, size + 100}, {0, size - 1},
	}
	for _, warmed := range []bool{false, true} {
		for _, r := range ranges {
			t.Run(fmt.Sprintf("warmed=%t %d-%d", warmed, r.first, r.last), func(t *testing.T) {
				up := s3mem.New()
				s := newStore(t, testConfig(rules.Strict), up)
				up.Put(key("k"), body)
				if warmed {
					wantRead(t, s, key("k"), "", body, akigw.Cold)
				}
				want := body[r.first:min(r.last+1, size)]
				wantRead(t, s, key("k"), fmt.Sprintf("bytes=%d-%d", r.first, r.last), want, "")
				wantRead(t, s, key("k"), fmt.Sprintf("bytes=%d-", r.first), body[r.first:], "")
				wantRead(t, s, key("k"), fmt.Sprintf("bytes=-%d", size-r.first), body[r.first:], "")
				if up.Sent() > size+2*block {
					t.Errorf("the upstream sent %d bytes for an object of %d", up.Sent(), size)
				}
			})
		}
	}
}

func TestOnlyMissingBlocksAreFetched(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(3, 20*block)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), fmt.Sprintf("bytes=%d-%d", 8*block, 10*block-1), body[8*block:10*block], akigw.Cold)
	up.Reset()
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	if up.Sent() != 18*block || up.Count("GET") != 2 {
		t.Fatalf("fetched %d blocks in %d requests, want 18 in 2", up.Sent()/block, up.Count("GET"))
	}
}

// TestMissingBlocksSpareThoseBeforeThem: when memory is full, the block that a read fetches first does not
// take the place of one that the same read has not reached yet.
func TestMissingBlocksSpareThoseBeforeThem(t *testing.T) {
	up := s3mem.New()
	config := testConfig(rules.Exclusive)
	config.HotBytes, config.WarmBytes = 1<<20, 0
	s := newStore(t, config, up)
	body := testkit.Bytes(1, 2*block)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), fmt.Sprintf("bytes=0-%d", block-1), body[:block], akigw.Cold)
	free := func() int64 { return int64(config.HotBytes) - s.hot.Bytes() }
	for n := 0; free() > block; n++ {
		k, other := key(fmt.Sprint("other", n)), testkit.Bytes(uint64(n), 2000)
		if free() > 3*block {
			other = testkit.Bytes(uint64(n), block)
		}
		up.Put(k, other)
		wantRead(t, s, k, "", other, akigw.Cold)
	}
	if e, _ := s.lookup(key("k")); e == nil || !s.hot.Has(hotKey{extent: e.extent, n: 0}) {
		t.Fatal("the first block was evicted before memory was full")
	}
	up.Reset()
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	if up.Sent() != block || up.Count("GET") != 1 {
		t.Errorf("fetched %d bytes in %d requests, want the second block in 1", up.Sent(), up.Count("GET"))
	}
}

// TestUnsatisfiableRanges: the response is 416 with the size, from a cold and a warm cache.
//
// Scenarios: E9.
func TestUnsatisfiableRanges(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	up.Put(key("k"), testkit.Bytes(1, 100))
	up.Put(key("empty"), nil)
	for range 2 {
		for _, c := range []struct{ key, header string }{{"k", "bytes=100-"}, {"k", "bytes=-0"}, {"empty", "bytes=0-0"}, {"k", "bytes=70000-"}} {
			_, _, err := readAll(s, key(c.key), c.header)
			var refused *cold.ResponseError
			if !errors.Is(err, akigw.ErrRangeNotSatisfiable) && !(errors.As(err, &refused) && refused.Status == 416) {
				t.Errorf("%s %s: %v", c.key, c.header, err)
			}
		}
		wantRead(t, s, key("k"), "", testkit.Bytes(1, 100), "")
		wantRead(t, s, key("empty"), "", nil, "")
		wantRead(t, s, key("empty"), "bytes=-5", nil, "")
	}
}

func TestColdReadIsFetchedOnceForEverybody(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(5, 30*block)
	up.Put(key("k"), body)
	var wait sync.WaitGroup
	var failures atomic.Int32
	for range 50 {
		wait.Go(func() {
			if got, _, err := readAll(s, key("k"), ""); err != nil || !bytes.Equal(got, body) {
				failures.Add(1)
			}
		})
	}
	wait.Wait()
	if failures.Load() > 0 || up.Sent() != int64(len(body)) {
		t.Fatalf("%d failures, the upstream sent %d bytes, want %d", failures.Load(), up.Sent(), len(body))
	}
}

// TestLeaderLeaves: when the client that started a fill leaves, the readers that wait for the fill
// still get their bytes.
//
// Scenarios: D11.
func TestLeaderLeaves(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(5, 100*block)
	up.Put(key("k"), body)
	ctx, cancel := context.WithCancel(context.Background())
	leader, err := s.Get(ctx, key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	follower, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer follower.Close()
	cancel()
	leader.Close()
	got, err := drain(context.Background(), follower)
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("the follower got %d bytes and %v", len(got), err)
	}
	if up.Count("GET") != 1 {
		t.Fatalf("%d GETs at the upstream, want 1", up.Count("GET"))
	}
}

// TestReplacedWhileAnOpeningFillIsUnderWay: in strict mode, a reader that arrives after the
// replacement gets the new version at once, not the one that is still being filled for earlier
// readers.
func TestReplacedWhileAnOpeningFillIsUnderWay(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	old, fresh := testkit.Bytes(1, 100*block), testkit.Bytes(2, 90*block)
	up.Put(key("k"), old)
	early, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer early.Close()
	up.Put(key("k"), fresh)
	up.Reset()
	wantRead(t, s, key("k"), "", fresh, akigw.Cold)
	if n := up.Count("HEAD"); n > 3 {
		t.Errorf("the late reader asked the upstream %d times", n)
	}
	if got, err := drain(context.Background(), early); err != nil || !bytes.Equal(got, old) {
		t.Errorf("the early reader got %d bytes, error %v", len(got), err)
	}
	gets := up.Count("GET")
	wantRead(t, s, key("k"), "", fresh, "")
	wantCount(t, up, "GET", gets)
}

// TestClientLeavesMidDownload: the fill stops, and the blocks that it stored are used for the next
// reader.
//
// Scenarios: D14.
func TestClientLeavesMidDownload(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(5, 200*block)
	up.Put(key("k"), body)
	r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	for range 10 {
		if _, err := r.Next(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	r.Close()
	s.tasks.work.Wait()
	if sent := up.Count("GET"); sent != 1 {
		t.Fatalf("%d GETs", sent)
	}
	wantRead(t, s, key("k"), "bytes=0-99", body[:100], akigw.Hot)
	wantCount(t, up, "GET", 1)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
}

// TestFailureIsNotRemembered: every reader that waited for a failed fill gets the error, and the
// next reader tries again.
//
// Scenarios: D12.
func TestFailureIsNotRemembered(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Exclusive, rules.TTL} {
		for name, failure := range map[string]func() (*http.Response, error){
			"no answer": func() (*http.Response, error) { return nil, fmt.Errorf("%w: test", akigw.ErrUpstreamUnavailable) },
			"503": func() (*http.Response, error) {
				return s3mem.Response(http.StatusServiceUnavailable, nil, []byte("<Error><Code>SlowDown</Code></Error>")), nil
			},
			"403": func() (*http.Response, error) { return s3mem.Response(http.StatusForbidden, nil, nil), nil },
			"no bucket": func() (*http.Response, error) {
				return s3mem.Response(http.StatusNotFound, nil, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
			},
		} {
			up := s3mem.New()
			config := testConfig(freshness)
			config.TTLSecs = 3600
			s := newStore(t, config, up)
			body := testkit.Bytes(5, 100)
			up.Put(key("k"), body)
			up.Before = func(*cold.Request) (*http.Response, error) { return failure() }
			if _, err := s.Get(t.Context(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err == nil {
				t.Errorf("%s: GET succeeded", name)
			}
			if name != "no bucket" { // a HEAD has no error code, so this is an absence like any other
				if _, err := s.Head(t.Context(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err == nil {
					t.Errorf("%s: HEAD succeeded", name)
				}
			}
			up.Before = nil
			wantRead(t, s, key("k"), "", body, akigw.Cold)
		}
	}
}

// brokenBody ends before its length.
type brokenBody struct{ io.Reader }

func (brokenBody) Close() error { return nil }

// TestShortBodyIsNotCachedAndIsResumed: a body that ends early is continued from where it stopped,
// with If-Match. If it keeps ending early, the reader gets an error.
//
// Scenarios: A7.
func TestShortBodyIsNotCachedAndIsResumed(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(5, 20*block)
	up.Put(key("k"), body)
	short, short2 := 1, int64(7*block+5)
	up.After = func(r *cold.Request, resp *http.Response) {
		if r.Method == http.MethodGet && short > 0 {
			short--
			whole := resp.Body
			resp.Body = brokenBody{io.LimitReader(whole, short2)}
		}
	}
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	if up.Count("GET") != 2 {
		t.Fatalf("%d GETs, want the first and its continuation", up.Count("GET"))
	}
	short, short2 = 1000, block+5
	k := key("hopeless")
	up.Put(k, body)
	got, _, err := readAll(s, k, "")
	if err == nil || len(got) == len(body) {
		t.Fatalf("a body that always ends early was read to %d bytes without an error", len(got))
	}
	short = 0
	wantRead(t, s, k, "", body, akigw.Cold)
}

// TestCorruptedBodyIsCutOffAndNotCached: the MD5 in the ETag detects a bit that was flipped in
// transit. The last block is withheld and nothing is cached, even if a HEAD made the object known
// before.
//
// Scenarios: A8.
func TestCorruptedBodyIsCutOffAndNotCached(t *testing.T) {
	for i, n := range []int{100, 3 * block, 100, 3 * block} {
		up := s3mem.New()
		s := newStore(t, testConfig(rules.Exclusive), up)
		body := testkit.Bytes(5, n)
		up.Put(key("k"), body)
		if known := i >= 2; known {
			if _, err := s.Head(t.Context(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err != nil {
				t.Fatal(err)
			}
		}
		corrupt := true
		up.After = func(r *cold.Request, resp *http.Response) {
			if r.Method == http.MethodGet && corrupt {
				raw, _ := io.ReadAll(resp.Body)
				bad := bytes.Clone(raw)
				bad[10] ^= 1
				resp.Body = io.NopCloser(bytes.NewReader(bad))
			}
		}
		got, _, err := readAll(s, key("k"), "")
		if !errors.Is(err, akigw.ErrChecksum) || len(got) >= n {
			t.Fatalf("size %d: read %d bytes of a corrupted body, error %v", n, len(got), err)
		}
		corrupt = false
		wantRead(t, s, key("k"), "", body, akigw.Cold)
	}
}

// TestWrongRangeIsRefused: the upstream ignores Range or shifts it.
//
// Scenarios: A9.
func TestWrongRangeIsRefused(t *testing.T) {
	body := testkit.Bytes(5, 10*block)
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	up.Put(key("k"), body)
	up.Before = func(r *cold.Request) (*http.Response, error) { // 200 with the whole object
		r.Header.Del("Range")
		return nil, nil
	}
	wantRead(t, s, key("k"), fmt.Sprintf("bytes=%d-%d", 3*block, 4*block-1), body[3*block:4*block], akigw.Cold)

	shifted := newStore(t, testConfig(rules.Exclusive), up)
	up.Before = nil
	up.After = func(r *cold.Request, resp *http.Response) {
		if resp.StatusCode == http.StatusPartialContent {
			resp.Header.Set("Content-Range", fmt.Sprintf("bytes 1-%d/%d", resp.ContentLength+5, len(body)))
		}
	}
	if got, _, err := readAll(shifted, key("k"), "bytes=0-99"); err == nil {
		t.Fatalf("read %d bytes of a range that was not requested", len(got))
	}
}

// TestOverwriteBetweenTwoRanges: the object is replaced before the second range of a read is
// fetched. The response must never contain bytes of both versions.
//
// Scenarios: A10.
func TestOverwriteBetweenTwoRanges(t *testing.T) {
	old, fresh := testkit.Bytes(1, 400*block), testkit.Bytes(2, 400*block)
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	up.Put(key("k"), old)
	wantRead(t, s, key("k"), fmt.Sprintf("bytes=0-%d", 2*block-1), old[:2*block], akigw.Cold)
	r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	up.Put(key("k"), fresh)
	got, err := drain(context.Background(), r)
	if err == nil || !bytes.Equal(got, old[:len(got)]) {
		t.Fatalf("read %d bytes, error %v: want a prefix of the old version and an error", len(got), err)
	}
	if !errors.Is(err, akigw.ErrChanged) {
		t.Fatalf("error %v, want ErrChanged", err)
	}
	wantRead(t, s, key("k"), "", fresh, akigw.Cold)
}

// TestNoETagIsNotCached: without a strong validator, versions cannot be told apart.
//
// Scenarios: A12.
func TestNoETagIsNotCached(t *testing.T) {
	for _, etag := range []string{"", `W/"x"`} {
		up := s3mem.New()
		s := newStore(t, testConfig(rules.Exclusive), up)
		up.PutStored(key("k"), s3mem.Stored{Body: []byte("x"), ETag: etag, Modified: time.Now()})
		if _, _, err := readAll(s, key("k"), ""); !errors.Is(err, ErrUncacheable) {
			t.Errorf("ETag %q: %v", etag, err)
		}
		if _, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); !errors.Is(err, ErrUncacheable) {
			t.Errorf("HEAD with ETag %q: %v", etag, err)
		}
	}
}

// TestUpstreamDown: in strict mode reads fail, because nothing can be validated; in exclusive mode
// the cache serves them.
//
// Scenarios: A23.
func TestUpstreamDown(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Strict, rules.Exclusive} {
		up := s3mem.New()
		s := newStore(t, testConfig(freshness), up)
		body := testkit.Bytes(5, 3*block)
		up.Put(key("k"), body)
		wantRead(t, s, key("k"), "", body, akigw.Cold)
		for _, down := range []func(*cold.Request) (*http.Response, error){
			func(*cold.Request) (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable },
			func(*cold.Request) (*http.Response, error) { return s3mem.Response(503, nil, nil), nil },
		} {
			up.Before = down
			_, _, err := readAll(s, key("k"), "")
			if (freshness == rules.Strict) != errors.Is(err, akigw.ErrUpstreamUnavailable) || freshness == rules.Exclusive && err != nil {
				t.Errorf("%s: %v", freshness, err)
			}
		}
		up.Before = nil
		up.Reset()
		wantRead(t, s, key("k"), "", body, akigw.Hot)
		wantCount(t, up, "GET", 0) // the entry was kept
	}
}

// TestBitFlipInAWarmBlock: the CRC detects the damage, and the block is dropped and fetched again.
//
// Scenarios: C8.
func TestBitFlipInAWarmBlock(t *testing.T) {
	up := s3mem.New()
	config := testConfig(rules.Exclusive)
	config.HotBytes = 0
	dir := filepath.Join(t.TempDir(), "warm")
	s := openStore(t, config, dir, up)
	body := testkit.Bytes(5, 10*block)
	up.Put(key("k"), body)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	defer s.Close()
	if flipIn(t, dir, body[5*block+100:5*block+200]) == 0 {
		t.Fatal("found no block on disk to damage")
	}
	up.Reset()
	got, _, err := readAll(s, key("k"), "")
	if err != nil || !bytes.Equal(got, body) {
		t.Fatalf("read %d bytes, equal %t, error %v", len(got), bytes.Equal(got, body), err)
	}
	if up.Count("GET") == 0 || up.Sent() != block {
		t.Fatalf("%d GETs for %d bytes, want the damaged block only", up.Count("GET"), up.Sent())
	}
}

// TestT10_C8_C10_WarmFlips: bits are flipped, sectors zeroed and ends cut off anywhere in the files
// of a closed tier. Every read afterwards is right.
//
// Scenarios: C8, C10.
func TestT10_C8_C10_WarmFlips(t *testing.T) {
	p := testkit.Prove(t, "T10-warm")
	up := s3mem.New()
	config := testConfig(rules.Exclusive)
	config.HotBytes = 0
	whole := filepath.Join(t.TempDir(), "whole")
	s := openStore(t, config, whole, up)
	random := p.Random(0)
	bodies := map[akigw.Key][]byte{}
	for n := range 40 {
		k := key(strconv.Itoa(n))
		bodies[k] = testkit.Bytes(uint64(n)|1, testkit.Pick(random, 10, 1000, 5000, 20_000, block+1, 3*block))
		up.Put(k, bodies[k])
		wantRead(t, s, k, "", bodies[k], akigw.Cold)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	damages, noticed := p.Amount(10, 200, 5000), 0
	for n := range damages {
		random := p.Random(n + 1)
		dir := filepath.Join(t.TempDir(), strconv.Itoa(n))
		if err := os.CopyFS(dir, os.DirFS(whole)); err != nil {
			t.Fatal(err)
		}
		what := harm(t, random, dir)
		s := openStore(t, config, dir, up)
		up.Reset()
		for k, body := range bodies {
			if got, _, err := readAll(s, k, ""); err != nil || !bytes.Equal(got, body) {
				t.Errorf("damage %d, %s: %d bytes of %s, equal %t, error %v", n, what, len(got), k, bytes.Equal(got, body), err)
			}
		}
		if up.Count("GET")+up.Count("HEAD") > 0 {
			noticed++
		}
		if err := s.Close(); err != nil {
			t.Errorf("damage %d, %s: %v", n, what, err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if noticed == 0 {
		t.Error("no damage was noticed")
	}
	p.Figure("damages", damages)
	p.Figure("noticed by a read or the start", noticed)
	p.Figure("wrong bytes", 0)
}

// harm damages a file below dir and returns a description of the damage.
func harm(t *testing.T, random *rand.Rand, dir string) string {
	t.Helper()
	var files []string
	testkit.EachFile(t, dir, func(_, path string) error {
		files = append(files, path)
		return nil
	})
	slices.Sort(files)
	name, raw, err := "", []byte(nil), error(nil)
	for len(raw) == 0 {
		name = files[random.IntN(len(files))]
		if raw, err = os.ReadFile(name); err != nil {
			t.Fatal(err)
		}
	}
	at := random.IntN(len(raw))
	what := fmt.Sprintf("byte %d of %s", at, filepath.Base(name))
	switch random.IntN(6) {
	case 0:
		raw, what = raw[:at], "cut before "+what
	case 1:
		clear(raw[at:min(at+512, len(raw))])
		what = "zeroes from " + what
	default:
		raw[at] ^= 1 << random.IntN(8)
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return what
}

// flipIn flips one bit at each place below dir where pattern is stored.
func flipIn(t *testing.T, dir string, pattern []byte) (n int) {
	t.Helper()
	testkit.EachFile(t, dir, func(_, path string) error {
		raw, err := os.ReadFile(path)
		i := bytes.Index(raw, pattern)
		if err != nil || i < 0 {
			return err
		}
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		n++
		_, err = f.WriteAt([]byte{raw[i+50] ^ 4}, int64(i+50)) // while the store has the file open
		return errors.Join(err, f.Close())
	})
	return n
}

func TestWriteFillsTheCache(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Strict, rules.Exclusive} {
		for _, n := range sizes {
			up := s3mem.New()
			s := newStore(t, testConfig(freshness), up)
			body := testkit.Bytes(uint64(n), n)
			if err := put(s, up, key("k"), body); err != nil {
				t.Fatal(err)
			}
			wantRead(t, s, key("k"), "", body, akigw.Hot)
			wantCount(t, up, "GET", 0)
			wantCount(t, up, "HEAD", 1) // the headers
			wantRead(t, s, key("k"), "", body, akigw.Hot)
			wantCount(t, up, "GET", 0)
		}
	}
}

// TestFillRacesPut: a fill that asked the upstream before a PUT must not publish its result after
// the PUT.
//
// Scenarios: D1.
func TestFillRacesPut(t *testing.T) {
	for _, deleted := range []bool{false, true} {
		up := s3mem.New()
		s := newStore(t, testConfig(rules.Exclusive), up)
		old, fresh := testkit.Bytes(1, 100), testkit.Bytes(2, 200)
		up.Put(key("k"), old)
		asked, resume := make(chan struct{}), make(chan struct{})
		var once sync.Once
		up.After = func(r *cold.Request, _ *http.Response) {
			if r.Method == http.MethodGet {
				once.Do(func() {
					close(asked)
					<-resume
				})
			}
		}
		done := make(chan error, 1)
		go func() {
			_, _, err := readAll(s, key("k"), "")
			done <- err
		}()
		<-asked // the fill has received the old object
		if deleted {
			w := s.Begin(key("k"))
			up.Delete(key("k"))
			w.End()
		} else if err := put(s, up, key("k"), fresh); err != nil {
			t.Fatal(err)
		}
		close(resume)
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if deleted {
			if _, _, err := readAll(s, key("k"), ""); err == nil {
				t.Fatal("D2: a fill restored a deleted object")
			}
		} else {
			wantRead(t, s, key("k"), "", fresh, "")
		}
	}
}

// TestOverlappingPuts: it is unknown which of two overlapping PUTs the upstream kept, so neither is
// cached.
//
// Scenarios: D3.
func TestOverlappingPuts(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	a, b := testkit.Bytes(1, 100), testkit.Bytes(2, 100)
	first, second := s.Begin(key("k")), s.Begin(key("k"))
	first.Body(a)
	second.Body(b)
	etagB := up.Put(key("k"), b)
	second.Written(nil, http.Header{"Etag": {etagB}}, nil)
	etagA := up.Put(key("k"), a)
	first.Written(nil, http.Header{"Etag": {etagA}}, nil)
	wantRead(t, s, key("k"), "", a, akigw.Cold)
}

// TestReadersDuringOverwrites: readers get whole objects, old or new, never a mixture and never a
// 404.
//
// Scenarios: D6.
func TestReadersDuringOverwrites(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Strict, rules.Exclusive} {
		up := s3mem.New()
		s := newStore(t, testConfig(freshness), up)
		versions := make([][]byte, 20)
		for i := range versions {
			versions[i] = testkit.Bytes(uint64(i), 5*block+i)
		}
		if err := put(s, up, key("k"), versions[0]); err != nil {
			t.Fatal(err)
		}
		var acked atomic.Int32
		var wait sync.WaitGroup
		stop := make(chan struct{})
		var reads atomic.Int32
		for range 4 {
			wait.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					before := acked.Load()
					got, _, err := readAll(s, key("k"), "")
					if errors.Is(err, akigw.ErrChanged) {
						continue // replaced while it was being fetched: cut off, not mixed
					}
					i := len(got) - 5*block
					if err != nil || i < int(before) || i >= len(versions) || !bytes.Equal(got, versions[i]) {
						t.Errorf("%s: read %d bytes, error %v, after version %d was acknowledged", freshness, len(got), err, before)
						return
					}
					reads.Add(1)
				}
			})
		}
		for i, v := range versions {
			if err := put(s, up, key("k"), v); err != nil {
				t.Error(err)
			}
			acked.Store(int32(i))
			time.Sleep(2 * time.Millisecond)
			for end := time.Now().Add(time.Second); reads.Load() <= int32(i) && time.Now().Before(end); time.Sleep(time.Millisecond) {
			}
		}
		close(stop)
		wait.Wait()
		if reads.Load() < 20 {
			t.Errorf("%s: only %d reads: the race was not exercised", freshness, reads.Load())
		}
	}
}

func TestConditions(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	etag := up.Put(key("k"), testkit.Bytes(1, 5*block))
	for range 2 {
		for _, c := range []struct {
			conditions akigw.Conditions
			want       error
		}{
			{akigw.Conditions{IfNoneMatch: etag}, akigw.ErrNotModified},
			{akigw.Conditions{IfMatch: `"other"`}, akigw.ErrPreconditionFailed},
			{akigw.Conditions{IfMatch: etag}, nil},
		} {
			r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, c.conditions)
			if !errors.Is(err, c.want) || r == nil {
				t.Fatalf("%+v: %v", c.conditions, err)
			}
			r.Close()
		}
		wantRead(t, s, key("k"), "", testkit.Bytes(1, 5*block), "")
	}
}

func TestHeadAndGetComeFromOneEntry(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(1, 100)
	up.Put(key("k"), body)
	head, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil || head.Object.Size != 100 {
		t.Fatal(head, err)
	}
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	up.Reset()
	again, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil || again.Object.ETag != head.Object.ETag || up.Count("HEAD") != 0 {
		t.Fatal(again, err, up.Count("HEAD"))
	}
	if _, err := s.Head(context.Background(), key("none"), akigw.RangeSpec{}, akigw.Conditions{}); err == nil {
		t.Fatal("HEAD of an absent key succeeded")
	}
}

// TestHotTierStaysWithinItsQuota reads ten times the hot quota.
//
// Scenarios: I7.
func TestHotTierStaysWithinItsQuota(t *testing.T) {
	up := s3mem.New()
	config := testConfig(rules.Exclusive)
	config.WarmBytes = 0
	s := newStore(t, config, up)
	for i := range 20 {
		k, body := key(fmt.Sprint(i)), testkit.Bytes(uint64(i), 64*block)
		up.Put(k, body)
		wantRead(t, s, k, "", body, "")
		up.Delete(k)
		if used := s.Usage().HotBytes; used > int64(config.HotBytes) {
			t.Fatalf("the hot tier holds %d bytes, quota %d", used, config.HotBytes)
		}
	}
}

// TestHeadAndGetDisagree: a HEAD from a stale replica reports A, and the GET returns B. B is
// served, and A is dropped.
//
// Scenarios: A11.
func TestHeadAndGetDisagree(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	up.Put(key("k"), testkit.Bytes(1, 3*block))
	if _, err := s.Head(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); err != nil {
		t.Fatal(err)
	}
	fresh := testkit.Bytes(2, 4*block)
	up.Put(key("k"), fresh)
	up.Before = func(r *cold.Request) (*http.Response, error) { // this upstream also ignores If-Match
		r.Header.Del("If-Match")
		return nil, nil
	}
	wantRead(t, s, key("k"), "", fresh, akigw.Cold)
}

// TestUpstreamWhoseChecksumIsNotOfTheBody: the first read has to be cut off. The second one brings
// the same bytes, so these are the bytes that the upstream holds.
func TestUpstreamWhoseChecksumIsNotOfTheBody(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	body := testkit.Bytes(1, 3*block)
	up.PutStored(key("k"), s3mem.Stored{Body: body, ETag: `"5d41402abc4b2a76b9719d911017c592"`, Modified: time.Now().Truncate(time.Second)})
	if _, _, err := readAll(s, key("k"), ""); !errors.Is(err, akigw.ErrChecksum) {
		t.Fatal(err)
	}
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	wantRead(t, s, key("k"), "", body, akigw.Hot)
}

// TestReplacedWhilePartlyCached: the end of an object is missing from the cache. If the object was
// replaced, or the upstream is unavailable, this is noticed before the first byte is sent.
//
// Scenarios: A10.
func TestReplacedWhilePartlyCached(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Immutable), up)
	old, changed := testkit.Bytes(1, 10*block), testkit.Bytes(2, 9*block)
	up.Put(key("k"), old)
	part := fmt.Sprintf("bytes=0-%d", 4*block-1)
	wantRead(t, s, key("k"), part, old[:4*block], akigw.Cold)
	up.Before = func(r *cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
	}
	if r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{}); r != nil || !errors.Is(err, akigw.ErrUpstreamUnavailable) {
		t.Errorf("with the upstream down: %v %v", r, err)
	}
	up.Before = nil
	wantRead(t, s, key("k"), part, old[:4*block], akigw.Hot)
	up.Put(key("k"), changed)
	wantRead(t, s, key("k"), "", changed, akigw.Cold)
}

// TestOlderVersionOnDiskDoesNotComeBack: a version that does not fit on the disk still removes the
// record of its predecessor. Otherwise the old version would be served once the new one has left
// memory.
func TestOlderVersionOnDiskDoesNotComeBack(t *testing.T) {
	up, full := s3mem.New(), atomic.Bool{}
	config := testConfig(rules.TTL)
	config.TTLSecs, config.MaxStaleSecs = 3600, 0
	config.WarmFault = func(op akigw.DiskOp, _ string, size int) (int, error) {
		if full.Load() && op == akigw.DiskWrite {
			return 0, syscall.ENOSPC
		}
		return size, nil
	}
	s := newStore(t, config, up)
	for _, size := range []int{100, 3 * block} {
		k, older, newer := key(fmt.Sprint(size)), testkit.Bytes(1, size), testkit.Bytes(2, size)
		full.Store(false)
		up.Put(k, older)
		wantRead(t, s, k, "", older, akigw.Cold)
		up.Put(k, newer)
		full.Store(true)
		r, err := s.Get(t.Context(), k, akigw.RangeSpec{}, akigw.Conditions{NoCache: true})
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		s.LeaveMemory(k)
		s.hot.Drop(hotKey{key: k})
		wantRead(t, s, k, "", newer, akigw.Cold)
	}
}

// TestReadsDuringAWrite: once a reader has seen a write that is in progress, no reader gets data
// that was filled before the write.
//
// Scenarios: D6.
func TestReadsDuringAWrite(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	older, newer := testkit.Bytes(1, 100), testkit.Bytes(2, 100)
	up.Put(key("k"), older)
	w := s.Begin(key("k"))
	wantRead(t, s, key("k"), "", older, akigw.Cold) // after the write began, before the upstream has it
	up.Put(key("k"), newer)
	wantRead(t, s, key("k"), "", newer, akigw.Cold)
	w.End()
	wantRead(t, s, key("k"), "", newer, akigw.Cold)
	wantRead(t, s, key("k"), "", newer, akigw.Hot)
}

// TestAbsenceThatWasAskedForBefore: in strict mode a reader does not get a 404 from a request that
// was sent before the reader arrived.
//
// Scenarios: E25.
func TestAbsenceThatWasAskedForBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Strict}, up)
		asked, answer := make(chan struct{}, 10), make(chan struct{})
		var once sync.Once
		up.After = func(r *cold.Request, _ *http.Response) { // the response is delayed
			once.Do(func() {
				asked <- struct{}{}
				<-answer
			})
			time.Sleep(100 * time.Millisecond)
		}
		first := make(chan error, 1)
		go func() {
			_, _, err := readAll(s, key("k"), "")
			first <- err
		}()
		<-asked
		body := testkit.Bytes(1, 100)
		up.Put(key("k"), body)
		second := make(chan error, 20)
		for range 20 {
			go func() {
				got, _, err := readAll(s, key("k"), "")
				if err == nil && !bytes.Equal(got, body) {
					err = errors.New("other bytes")
				}
				second <- err
			}()
		}
		synctest.Wait() // they wait for the first reader
		close(answer)
		if err := <-first; err == nil {
			t.Error("the first reader got an object that did not exist yet")
		}
		for range 20 {
			if err := <-second; err != nil {
				t.Errorf("a reader that arrived after the write: %v", err)
			}
		}
		if n := up.Count("GET"); n != 2 { // one for the first reader, and one for all others
			t.Errorf("%d GETs", n)
		}
	})
}
