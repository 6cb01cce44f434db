package tiers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// bucketUpstream is an upstream whose buckets have different origins. It may keep listings waiting.
type bucketUpstream struct {
	*s3mem.Memory
	hang bool // a listing gets no response
}

func (u *bucketUpstream) Origin(bucket string) uint64 { return uint64(len(bucket)) }

func (u *bucketUpstream) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if u.hang && r.Op == "ListObjectsV2" {
		<-ctx.Done()
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, ctx.Err())
	}
	return u.Memory.Do(ctx, r)
}

// sentWith is what the gateway sends with an object.
func sentWith(body []byte) http.Header {
	return http.Header{"Content-Type": {"text/x-test"}, "Cache-Control": {"max-age=60"}, "X-Amz-Meta-Length": {fmt.Sprint(len(body))}}
}

// writeWith writes an object as the gateway does, with headers. seen adds a HEAD that verifies it.
func writeWith(t *testing.T, s *Store, up Upstream, k akigw.Key, body []byte, seen bool) {
	t.Helper()
	w := s.Begin(k)
	w.Body(body)
	header := sentWith(body)
	resp, err := up.Do(t.Context(), &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: k, Header: header, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err != nil {
		t.Fatal(err)
	}
	var head http.Header
	if seen {
		head = headOf(t, up, k)
	}
	w.Written(header, resp.Header, head)
}

// headOf returns the upstream's headers of an object.
func headOf(t *testing.T, up Upstream, k akigw.Key) http.Header {
	t.Helper()
	resp, err := up.Do(t.Context(), &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: k})
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("HEAD of %s: %v %v", k, resp, err)
	}
	return resp.Header
}

// wantHeaders reads an object and compares its headers with the upstream's. It returns the number
// of HEADs that the store has sent.
func wantHeaders(t *testing.T, s *Store, up Upstream, mem *s3mem.Memory, k akigw.Key) (heads int) {
	t.Helper()
	before := mem.Count("HEAD")
	r, err := s.Get(t.Context(), k, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	heads = mem.Count("HEAD") - before
	if got, want := r.Object.Header, ObjectHeader(headOf(t, up, k)); !reflect.DeepEqual(got, want) {
		t.Fatalf("%s: the headers are\n%v, the upstream's are\n%v", k, got, want)
	}
	if modified := r.Object.LastModified.UTC().Format(http.TimeFormat); modified != r.Object.Header.Get("Last-Modified") {
		t.Fatalf("%s: the dates are %s and %s", k, modified, r.Object.Header.Get("Last-Modified"))
	}
	return heads
}

// odd returns the name of the n-th object, in ascending order. Some have odd characters.
func odd(n int) string {
	return fmt.Sprintf("k%05d", n) + [...]string{"", " +", "%41", "ä€", "/<&>\"'", "\t\n", "?x=y", "//.."}[n%8]
}

// TestReadsOfWhatWasWritten: a thousand objects need one listing and two HEADs, and show the same
// headers as the upstream.
func TestReadsOfWhatWasWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		up.Clock = func() time.Time { return time.Now().Add(700 * time.Millisecond) } // listings show them, headers do not
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		const n = 2500
		for i := range n {
			writeWith(t, s, up, key(odd(i)), []byte(odd(i)), false)
			if i%100 == 0 {
				time.Sleep(time.Second)
			}
		}
		up.Reset()
		heads := 0
		for i := range n {
			heads += wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait() // for a page
		}
		// For the first ones of the shape, then for the object before each page and the first one
		// on it, and for a sample.
		pages := (n - proofs + 1000) / 1001
		if want := proofs + 2*pages + (n-proofs)/sampleEvery; heads != want {
			t.Errorf("%d HEADs for %d objects, want %d", heads, n, want)
		}
		wantCount(t, up, "GET", pages)
		if saved := s.catalog.counters.savedHeads.Get(); saved != uint64(n-heads) {
			t.Errorf("%d saved, %d sent, of %d", saved, heads, n)
		}
		up.Reset()
		for i := range n {
			wantHeaders(t, s, up, up, key(odd(i)))
		}
		wantCount(t, up, "HEAD", n) // those of wantHeaders itself
	})
}

// TestOnlyExclusiveModePredicts: every other mode asks for each object that was written.
func TestOnlyExclusiveModePredicts(t *testing.T) {
	for _, mode := range rules.Modes() {
		if mode == rules.Exclusive {
			continue
		}
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := s3mem.New()
				s := inMemory(t, rules.Settings{Freshness: mode, TTL: time.Hour}, up)
				for i := range 50 {
					writeWith(t, s, up, key(odd(i)), []byte("x"), i%2 == 0)
				}
				up.Reset()
				for i := range 50 {
					if heads := wantHeaders(t, s, up, up, key(odd(i))); heads != 1 {
						t.Errorf("%d HEADs", heads)
					}
					synctest.Wait()
				}
				wantCount(t, up, "GET", 0)
			})
		})
	}
}

// TestBadListings: if a listing cannot be used, each object gets its HEAD, at about the time that a
// HEAD takes.
func TestBadListings(t *testing.T) {
	refuse := func(status int, code string) func(*cold.Request, *http.Response) {
		return func(_ *cold.Request, resp *http.Response) {
			*resp = *s3mem.Response(status, nil, []byte("<Error><Code>"+code+"</Code></Error>"))
		}
	}
	replace := func(change func(page string) string) func(*cold.Request, *http.Response) {
		return func(_ *cold.Request, resp *http.Response) {
			page, _ := io.ReadAll(resp.Body)
			*resp = *s3mem.Response(http.StatusOK, nil, []byte(change(string(page))))
		}
	}
	for name, c := range map[string]struct {
		listing func(*cold.Request, *http.Response)
		hang    bool
		wrong   uint64 // pages that a HEAD contradicts
	}{
		"other ETags":    {listing: replace(func(p string) string { return strings.ReplaceAll(p, `<ETag>"`, `<ETag>"0`) }), wrong: 2},
		"other sizes":    {listing: replace(func(p string) string { return strings.ReplaceAll(p, "<Size>", "<Size>1") }), wrong: 2},
		"other dates":    {listing: replace(func(p string) string { return strings.ReplaceAll(p, "<LastModified>20", "<LastModified>19") }), wrong: 2},
		"no dates":       {listing: replace(func(p string) string { return strings.ReplaceAll(p, "LastModified>", "Created>") })},
		"nothing listed": {listing: replace(func(string) string { return "<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>" })},
		"cut off":        {listing: replace(func(p string) string { return p[:len(p)/2] })},
		"not XML":        {listing: replace(func(string) string { return "busy" })},
		"403":            {listing: refuse(http.StatusForbidden, "AccessDenied")},
		"501":            {listing: refuse(http.StatusNotImplemented, "NotImplemented")},
		"hangs":          {hang: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := &bucketUpstream{Memory: s3mem.New(), hang: c.hang}
				s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
				up.After = func(r *cold.Request, resp *http.Response) {
					if r.Op == "ListObjectsV2" {
						c.listing(r, resp)
					}
				}
				const n = 200
				for i := range n {
					writeWith(t, s, up, key(odd(i)), []byte("x"), false)
				}
				began, heads := time.Now(), 0
				for i := range n {
					heads += wantHeaders(t, s, up, up.Memory, key(odd(i)))
					synctest.Wait()
				}
				if heads != n {
					t.Errorf("%d HEADs for %d objects", heads, n)
				}
				if took := time.Since(began); took > pagePatience {
					t.Errorf("the readers waited for %s", took)
				}
				if lists := up.Count("GET"); lists > firstCredit/pagePrice {
					t.Errorf("%d listings", lists)
				}
				if wrong := s.catalog.counters.wrongPages.Get(); wrong != c.wrong {
					t.Errorf("%d pages were contradicted, want %d", wrong, c.wrong)
				}
			})
		})
	}
}

// TestPartOfAListing: a page that leaves objects out, or ends early, is used for the others.
func TestPartOfAListing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		up.After = func(r *cold.Request, resp *http.Response) {
			if r.Op == "ListObjectsV2" {
				page, _ := io.ReadAll(resp.Body)
				short := strings.ReplaceAll(string(page), "<Key>k00015%2F%2F..</Key>", "<Key>other</Key>")
				short = strings.Replace(short, "<IsTruncated>false", "<IsTruncated>true", 1)
				*resp = *s3mem.Response(http.StatusOK, nil, []byte(short))
			}
		}
		for i := range 40 {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		for i := range 40 {
			want := 0
			if i < proofs+2 || i == 15 {
				want = 1
			}
			if heads := wantHeaders(t, s, up, up, key(odd(i))); heads != want {
				t.Errorf("object %d: %d HEADs, want %d", i, heads, want)
			}
			synctest.Wait()
		}
	})
}

// TestWrongPrediction: an upstream that shows something else gets a HEAD for each object, from the
// first HEAD on that reveals it.
func TestWrongPrediction(t *testing.T) {
	for name, c := range map[string]struct {
		header string
		from   int // the first object that shows it
		heads  int
	}{
		"from the start": {"X-Amz-Replication-Status", 0, 2200},
		"in between":     {"X-Amz-Replication-Status", 4, 2200},
		"later":          {"X-Amz-Tagging-Count", 500, 2200 - (sampleEvery - 1)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := s3mem.New()
				s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
				const n = 2200
				for i := range n {
					writeWith(t, s, up, key(odd(i)), []byte("x"), false)
				}
				i := 0
				up.After = func(r *cold.Request, resp *http.Response) {
					if r.Method == http.MethodHead && i >= c.from {
						resp.Header.Set(c.header, "1")
					}
				}
				up.Reset()
				for ; i < n; i++ {
					if err := readHead(s, key(odd(i))); err != nil {
						t.Fatal(err)
					}
					synctest.Wait()
				}
				wantCount(t, up, "HEAD", c.heads)
				if wrong := s.catalog.counters.wrongHeaders.Get(); wrong != 1 {
					t.Errorf("reported %d times", wrong)
				}
			})
		})
	}
}

func readHead(s *Store, k akigw.Key) error {
	r, err := s.Head(context.Background(), k, akigw.RangeSpec{}, akigw.Conditions{})
	if err == nil {
		r.Close()
	}
	return err
}

// TestDateOfAnOverwrittenObject: the same bytes again have another date, which a page from before
// does not show.
func TestDateOfAnOverwrittenObject(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		const n = 60
		for i := range n {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		for i := range 20 {
			wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait()
		}
		time.Sleep(time.Minute)
		for i := 0; i < n; i += 3 {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		for i := range n {
			wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait()
		}
	})
}

// TestPredictionDoesNotReturn: an entry that a reader has looked up, and a deletion has overtaken,
// is not published again.
func TestPredictionDoesNotReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		for i := range proofs + 10 {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		for i := range proofs + 5 {
			wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait()
		}
		k, v := key(odd(proofs+5)), s.source.validator
		known := s.catalog.peek(k)
		other := *s.catalog.peek(key(odd(proofs + 6)))
		if v.asPredicted(t.Context(), &other, akigw.Conditions{}) == nil {
			t.Fatal("an object that was written is not predicted")
		}
		deletion := s.Begin(k)
		up.Delete(k)
		deletion.End()
		if e := v.asPredicted(t.Context(), known, akigw.Conditions{}); e != nil || s.catalog.peek(k) != nil {
			t.Error("a deleted object is back")
		}
	})
}

// TestHEADDuringAWrite: a HEAD that a write overlaps contradicts nothing.
func TestHEADDuringAWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		for i := range 2 * proofs {
			k := key(odd(i))
			writeWith(t, s, up, k, []byte("x"), true)
			time.Sleep(time.Second)
			up.Before = func(*cold.Request) (*http.Response, error) { // the same bytes again, before the HEAD arrives
				up.Before = nil
				writeWith(t, s, up, k, []byte("x"), false)
				return nil, nil
			}
			if err := readHead(s, k); err != nil {
				t.Fatal(err)
			}
		}
		if wrong := s.catalog.counters.wrongHeaders.Get() + s.catalog.counters.wrongPages.Get(); wrong != 0 {
			t.Errorf("%d contradictions", wrong)
		}
	})
}

// TestSeenWhenWritten: a HEAD that verified an upload leaves nothing to ask.
func TestSeenWhenWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		for i := range proofs + 50 {
			writeWith(t, s, up, key(odd(i)), []byte("x"), true)
			want := 0
			if i < proofs {
				want = 1
			}
			if heads := wantHeaders(t, s, up, up, key(odd(i))); heads != want {
				t.Errorf("object %d: %d HEADs, want %d", i, heads, want)
			}
		}
		wantCount(t, up, "GET", 0)
	})
}

// TestWrittenAndMovedToCold: the GET that brings an object back tells its headers, in every mode.
func TestWrittenAndMovedToCold(t *testing.T) {
	for _, mode := range rules.Modes() {
		for _, warm := range []bool{false, true} {
			t.Run(fmt.Sprint(mode, " warm ", warm), func(t *testing.T) {
				up, config := s3mem.New(), testConfig(mode)
				if !warm {
					config.WarmBytes = 0
				}
				s := newStore(t, config, up)
				for _, size := range []int{0, 1, 4 << 10} {
					k := key(odd(size))
					writeWith(t, s, up, k, testkit.Bytes(1, size), false)
					s.Leave(k)
					up.Reset()
					heads := wantHeaders(t, s, up, up, k)
					gets := up.Count("GET")
					switch {
					case size == 0 && warm && (heads != 1 || gets != 0): // no bytes have left
						t.Errorf("empty: %d HEADs, %d GETs", heads, gets)
					case size > 0 && (heads != 0 || gets != 1):
						t.Errorf("%d bytes: %d HEADs, %d GETs", size, heads, gets)
					}
					wantRead(t, s, k, "", testkit.Bytes(1, size), "")
				}
			})
		}
	}
}

// TestVersionedBucket: the version ID of the response to the PUT is the object's.
func TestVersionedBucket(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		up.After = func(r *cold.Request, resp *http.Response) {
			if r.Key.Name != "" {
				resp.Header.Set("X-Amz-Version-Id", "v-"+r.Key.Name[:6])
				resp.Header.Set("X-Amz-Server-Side-Encryption", "AES256")
			}
		}
		heads := 0
		for i := range 100 {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		for i := range 100 {
			heads += wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait()
			if id := s.catalog.peek(key(odd(i))).VersionID(); id != "v-"+odd(i)[:6] {
				t.Errorf("version %q", id)
			}
		}
		if heads != proofs+2 {
			t.Errorf("%d HEADs", heads)
		}
		version := key(odd(50)) // a read of one version is validated, as before
		version.Version = "v-" + odd(50)[:6]
		up.Reset()
		up.Put(version, []byte("x"))
		if err := readHead(s, version); err != nil {
			t.Fatal(err)
		}
		wantCount(t, up, "HEAD", 1)
	})
}

// TestPagesOfTwoUpstreams: equal keys and bytes in two buckets have the dates of their own.
func TestPagesOfTwoUpstreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := &bucketUpstream{Memory: s3mem.New()}
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		heads := 0
		for i := range 50 {
			writeWith(t, s, up, akigw.Key{Bucket: "one", Name: odd(i)}, []byte("x"), false)
			time.Sleep(time.Second)
			writeWith(t, s, up, akigw.Key{Bucket: "three", Name: odd(i)}, []byte("x"), false)
		}
		for i := range 50 {
			for _, bucket := range []string{"one", "three"} {
				heads += wantHeaders(t, s, up, up.Memory, akigw.Key{Bucket: bucket, Name: odd(i)})
				synctest.Wait()
			}
		}
		if heads != 2*(proofs+2) {
			t.Errorf("%d HEADs", heads)
		}
		moved := *s.catalog.peek(akigw.Key{Bucket: "one", Name: odd(40)})
		if s.source.validator.pages.modified(t.Context(), &moved, pageAge).IsZero() {
			t.Error("a page does not show its object")
		}
		moved.origin++
		if !s.source.validator.pages.modified(t.Context(), &moved, pageAge).IsZero() {
			t.Error("a page of one upstream tells about another")
		}
	})
}

// TestPredictionsAcrossRestarts: what was predicted is on disk. After a crash each entry is
// validated.
func TestPredictionsAcrossRestarts(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(fmt.Sprint("crash ", crash), func(t *testing.T) {
			up, dir := s3mem.New(), filepath.Join(t.TempDir(), "warm")
			const n = 60
			s := openStore(t, testConfig(rules.Exclusive), dir, up)
			for i := range n {
				writeWith(t, s, up, key(odd(i)), []byte(odd(i)), false)
				up.PutStored(key(odd(i)), older(up, key(odd(i)), i))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if crash {
				if err := os.Remove(filepath.Join(dir, "CLEAN")); err != nil {
					t.Fatal(err)
				}
			}
			s = openStore(t, testConfig(rules.Exclusive), dir, up)
			defer s.Close()
			heads := 0
			for i := range n {
				heads += wantHeaders(t, s, up, up, key(odd(i)))
				awaitPage(s)
			}
			want := proofs + 2
			if crash {
				want = n
			}
			if heads != want {
				t.Errorf("%d HEADs, want %d", heads, want)
			}
		})
	}
}

// older returns an object with a date in the past.
func older(up *s3mem.Memory, k akigw.Key, hours int) s3mem.Stored {
	o, _ := up.Get(k)
	o.Modified = o.Modified.Add(-time.Duration(hours) * time.Hour)
	return o
}

// awaitPage waits until no page is being loaded.
func awaitPage(s *Store) {
	p := s.source.validator.pages
	for busy := true; busy; {
		p.mu.Lock()
		busy = len(p.loading) > 0
		p.mu.Unlock()
		if busy {
			time.Sleep(time.Millisecond)
		}
	}
}

// TestSingleReadsDoNotList: where objects are read here and there, listings stop.
func TestSingleReadsDoNotList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		const n = 300
		for i := range n {
			writeWith(t, s, up, key(odd(i)), []byte("x"), false)
		}
		up.Reset()
		for i := n - 1; i >= 0; i-- { // a page begins after the key that asks for it, so none is of any use
			if heads := wantHeaders(t, s, up, up, key(odd(i))); heads != 1 {
				t.Errorf("%d HEADs", heads)
			}
			synctest.Wait()
		}
		wantCount(t, up, "GET", firstCredit/pagePrice)
	})
}

// TestHeadersWhileWriting: whatever readers and writers do at once, no reader sees a date from
// before a write that was acknowledged.
func TestHeadersWhileWriting(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	var clock sync.Mutex
	now := time.Unix(1_700_000_000, 0)
	up.Clock = func() time.Time {
		clock.Lock()
		defer clock.Unlock()
		now = now.Add(time.Second)
		return now
	}
	const keys, writes = 40, 60
	var wait sync.WaitGroup
	for w := range 4 {
		wait.Go(func() {
			for range writes {
				for i := w; i < keys; i += 4 {
					writeWith(t, s, up, key(odd(i)), []byte("x"), false)
					acked, _ := up.Get(key(odd(i)))
					r, err := s.Head(t.Context(), key(odd(i)), akigw.RangeSpec{}, akigw.Conditions{})
					if err != nil {
						t.Error(err)
						return
					}
					if r.Object.LastModified.Before(acked.Modified) {
						t.Errorf("%s: a date from before its last write", odd(i))
					}
				}
			}
		})
		wait.Go(func() {
			for n := range writes * 4 {
				_ = readHead(s, key(odd((n*7+w)%keys))) // it may not exist yet
			}
		})
	}
	wait.Wait()
	for i := range keys {
		wantHeaders(t, s, up, up, key(odd(i)))
	}
}

// TestConfirmByListing: in exclusive mode a page confirms the objects on it, for some seconds.
func TestConfirmByListing(t *testing.T) {
	for mode, want := range map[rules.Freshness][2]int{rules.Exclusive: {2, 1}, rules.Strict: {200, 0}} {
		t.Run(string(mode), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				up := s3mem.New()
				s := inMemory(t, rules.Settings{Freshness: mode}, up)
				const n = 200
				for i := range n {
					up.Put(key(odd(i)), []byte("x"))
					if err := readHead(s, key(odd(i))); err != nil {
						t.Fatal(err)
					}
				}
				confirm := func(i int) error {
					err := s.Confirm(t.Context(), key(odd(i)))
					synctest.Wait()
					return err
				}
				up.Reset()
				for i := range n {
					if err := confirm(i); err != nil {
						t.Fatal(err)
					}
				}
				wantCount(t, up, "HEAD", want[0])
				wantCount(t, up, "GET", want[1])
				time.Sleep(confirmsFor + 1)
				up.Before = down
				if err := confirm(n / 2); err == nil {
					t.Error("confirmed by an upstream that gives no answers")
				}
			})
		})
	}
}

func TestPredictHeader(t *testing.T) {
	answer := http.Header{"Etag": {`"e"`}, "Content-Type": {"application/xml"}, "Date": {"now"}, "X-Amz-Request-Id": {"1"}, "X-Amz-Version-Id": {"v"}, "X-Amz-Checksum-Crc32": {"AAAA"}, "X-Amz-Expiration": {"soon"}}
	base := http.Header{"Etag": {`"e"`}, "X-Amz-Version-Id": {"v"}, "X-Amz-Checksum-Crc32": {"AAAA"}, "X-Amz-Expiration": {"soon"}}
	with := func(name, value string) http.Header {
		h := maps.Clone(base)
		h[name] = []string{value}
		return h
	}
	for _, c := range []struct {
		name, value string
		want        http.Header
	}{
		{"Content-Type", "text/html; charset=utf-8", with("Content-Type", "text/html; charset=utf-8")},
		{"X-Amz-Meta-A", "b", with("X-Amz-Meta-A", "b")},
		{"X-Amz-Storage-Class", "STANDARD", base},
		{"X-Amz-Storage-Class", "GLACIER_IR", with("X-Amz-Storage-Class", "GLACIER_IR")},
		{"X-Amz-Checksum-Crc32", "AAAA", base},
		{"X-Amz-Checksum-Sha1", "AAAA", with("X-Amz-Checksum-Sha1", "AAAA")},
		{"X-Amz-Sdk-Checksum-Algorithm", "CRC32", base},
		{"X-Amz-Server-Side-Encryption", "aws:kms", with("X-Amz-Server-Side-Encryption", "aws:kms")},
		{"X-Amz-Server-Side-Encryption-Context", "e30=", base},
		{"X-Amz-Acl", "private", base},
		{"If-None-Match", "*", base},
		{"Content-Md5", "x", base},
		{"X-Amz-Meta-A", "ä", nil},
		{"X-Amz-Meta-A", "", nil},
		{"X-Amz-Meta-A", "b  c", nil},
		{"X-Amz-Tagging", "a=b", nil},
		{"X-Amz-Object-Lock-Mode", "COMPLIANCE", nil},
		{"X-Amz-Invented", "1", nil},
	} {
		if got := PredictHeader(http.Header{c.name: {c.value}}, answer); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %q: %v, want %v", c.name, c.value, got, c.want)
		}
	}
	if got := PredictHeader(http.Header{"X-Amz-Sdk-Checksum-Algorithm": {"CRC32"}}, http.Header{"Etag": {`"e"`}}); got != nil {
		t.Errorf("a checksum that the response does not have: %v", got)
	}
	if got := PredictHeader(nil, answer); !reflect.DeepEqual(got, base) {
		t.Errorf("nothing sent: %v", got)
	}
}
