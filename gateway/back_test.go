package gateway

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback"
)

// testBack, testParallel and testBatch are settings for tests: nothing waits long.
var (
	testBack     = writeback.Config{MaxPendingBytes: 1 << 30, MaxPending: 100_000, MaxPendingSecs: 3600, InlineBytes: 16 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 10, MaxDates: 100_000, DrainTimeoutSecs: 10}
	testParallel = uploadpool.ParallelConfig{Enabled: true, Concurrency: 8, MaxRetries: 5, BackoffBaseMs: 2, MaxAgeSecs: 3600, ConfirmAfterMs: 5}
	testBatch    = uploadpool.BatchConfig{Enabled: true, BatchSize: 10, FlushIntervalSecs: 1, MaxPacked: 1000}
)

// backBench is a gateway whose bucket "back" is written back, and whose pool does
// nothing until it is run.
func backBench(t *testing.T) *bench { return backBenchWith(t, testBack) }

func backBenchWith(t *testing.T, c writeback.Config) *bench { return backBenchOf(t, byMode{}, c) }

func backBenchOf(t *testing.T, book storekit.Rules, c writeback.Config) *bench {
	return backBenchLogging(t, book, c, slog.New(slog.DiscardHandler))
}

func backBenchLogging(t *testing.T, book storekit.Rules, c writeback.Config, log *slog.Logger) *bench {
	up := s3mem.New()
	config := tiers.Config{HotBytes: 8 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	c.Dir = cmp.Or(c.Dir, t.TempDir())
	kit := openKit(t, storekit.Options{Cache: config, WarmDir: t.TempDir(), Back: c, Batch: testBatch, Rules: book, Upstream: up, Log: log})
	t.Cleanup(func() { kit.Close() })
	return kitBench(kit, up, up, log)
}

// openKit opens a cache with write-back.
func openKit(t *testing.T, o storekit.Options) *storekit.Kit {
	t.Helper()
	o.Parallel = testParallel
	kit, err := storekit.Open(o)
	if err != nil {
		t.Fatal(err)
	}
	return kit
}

// kitBench is a gateway over a kit, whose upstream is memory, perhaps by way of up.
func kitBench(kit *storekit.Kit, memory *s3mem.Memory, up Upstream, log *slog.Logger) *bench {
	return &bench{up: memory, store: kit.Store, writes: kit.Writes, kit: kit, g: New(Options{Verifier: &sigv4.Verifier{Region: "us-east-1", Keys: rootAlone}, Policies: rootAlone, Store: kit.Store, Writes: kit.Writes, Upstream: up, Log: log})}
}

// runPool runs the upload pool until the test ends.
func (b *bench) runPool(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- b.kit.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
}

// teach has the upstream accept an object with an unusual key, and removes it.
func (b *bench) teach(t *testing.T, name string) {
	t.Helper()
	if w := b.ask("root", "PUT", "/back/"+name, "", nil, ""); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
		t.Fatalf("the first %s: %d, commit %q", name, w.Code, sentHeader(w, "x-akigw-commit"))
	}
	b.up.Delete(backKey(name))
}

func backKey(name string) akigw.Key { return akigw.Key{Bucket: back, Name: name} }

// A pending object answers like one that is upstream: GET, HEAD, ranges, conditions,
// checksums.
func TestPendingObjectIsRead(t *testing.T) {
	for _, n := range []int{0, 100, 300_000} {
		b := backBench(t)
		body := testkit.Bytes(3, n)
		sum := crc32.Checksum(body, crc32.MakeTable(crc32.Castagnoli))
		crc := base64.StdEncoding.EncodeToString([]byte{byte(sum >> 24), byte(sum >> 16), byte(sum >> 8), byte(sum)})
		w := b.ask("root", "PUT", "/back/k", "", http.Header{"Content-Type": {"a/b"}, "X-Amz-Meta-M": {"v"}, "X-Amz-Checksum-Crc32c": {crc}}, string(body))
		etag := fmt.Sprintf("\"%x\"", md5.Sum(body))
		if w.Code != 200 || tagOf(w) != etag || sentHeader(w, "x-akigw-commit") != "journal" || sentHeader(w, "x-amz-checksum-crc32c") != crc || b.up.Len() != 0 {
			t.Fatalf("PUT: %d %v", w.Code, w.Header())
		}
		for _, method := range []string{"GET", "HEAD"} {
			w = b.ask("root", method, "/back/k", "", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, "")
			if w.Code != 200 || tagOf(w) != etag || sentHeader(w, "x-amz-meta-m") != "v" || w.Header().Get("Content-Type") != "a/b" || sentHeader(w, "x-akigw-cache") != "overlay" ||
				w.Header().Get("Content-Length") != fmt.Sprint(n) || sentHeader(w, "x-amz-checksum-crc32c") != crc || w.Header().Get("Last-Modified") == "" || method == "GET" && !bytes.Equal(w.Body.Bytes(), body) {
				t.Errorf("%s of %d: %d %v", method, n, w.Code, w.Header())
			}
		}
		if w = b.ask("root", "GET", "/back/k", "", http.Header{"If-None-Match": {etag}}, ""); w.Code != 304 {
			t.Errorf("If-None-Match: %d", w.Code)
		}
		if w = b.ask("root", "GET", "/back/k", "", http.Header{"If-Match": {`"x"`}}, ""); w.Code != 412 {
			t.Errorf("If-Match: %d", w.Code)
		}
		if n > 0 {
			w = b.ask("root", "GET", "/back/k", "", http.Header{"Range": {"bytes=70-98"}}, "")
			if w.Code != 206 || !bytes.Equal(w.Body.Bytes(), body[70:99]) || w.Header().Get("Content-Range") != fmt.Sprintf("bytes 70-98/%d", n) {
				t.Errorf("range: %d %v", w.Code, w.Header())
			}
		}
		if w = b.ask("root", "GET", "/back/k", "", http.Header{"Range": {"bytes=999999-"}}, ""); w.Code != 416 {
			t.Errorf("range beyond the end: %d", w.Code)
		}
		if w = b.ask("root", "DELETE", "/back/k", "", nil, ""); w.Code != 204 || sentHeader(w, "x-akigw-commit") != "journal" {
			t.Errorf("DELETE: %d", w.Code)
		}
		if w = b.ask("root", "GET", "/back/k", "", nil, ""); w.Code != 404 || !strings.Contains(w.Body.String(), "NoSuchKey") || sentHeader(w, "x-akigw-cache") != "overlay" {
			t.Errorf("GET of what was deleted: %d %s", w.Code, w.Body)
		}
	}
}

// TestBadDigestInWriteBack: what a client says of a body is verified before it is
// acknowledged, and nothing is kept of a lie.
//
// Scenarios: E20.
func TestBadDigestInWriteBack(t *testing.T) {
	b := backBench(t)
	for name, h := range map[string]http.Header{
		"Content-MD5": {"Content-Md5": {base64.StdEncoding.EncodeToString(make([]byte, 16))}},
		"checksum":    {"X-Amz-Checksum-Crc32": {"AAAAAA=="}},
		"malformed":   {"Content-Md5": {"x"}},
	} {
		w := b.ask("root", "PUT", "/back/k", "", h, "body")
		if w.Code != 400 {
			t.Errorf("%s: %d %s", name, w.Code, w.Body)
		}
		if st := b.writes.Status(); st.Pending != 0 || b.up.Len() != 0 {
			t.Errorf("%s: something was kept", name)
		}
	}
}

// TestWhatGoesThrough: a write that asks for more than to be stored is the
// upstream's, after what was acknowledged before of its key.
//
// Scenarios: B12.
func TestWhatGoesThrough(t *testing.T) {
	b := backBench(t)
	var mu sync.Mutex
	var seen []byte
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if o, ok := b.up.Get(backKey("k")); ok && r.Method == "PUT" && r.Key == backKey("k") && r.Header.Get("X-Amz-Meta-Through") != "" {
			mu.Lock()
			defer mu.Unlock()
			seen = o.Body
		}
		return nil, nil
	}
	b.runPool(t)
	for name, h := range map[string]http.Header{
		"If-None-Match": {"If-None-Match": {`"other"`}},
		"ACL":           {"X-Amz-Acl": {"private"}},
		"lock":          {"X-Amz-Object-Lock-Mode": {"GOVERNANCE"}},
		"tags":          {"X-Amz-Tagging": {"a=b"}},
		"encryption":    {"X-Amz-Server-Side-Encryption": {"AES256"}},
		"copy":          {"X-Amz-Copy-Source": {"/back/source"}, "X-Amz-Copy-Source-If-None-Match": {`"x"`}},
		"SSE-C":         {"X-Amz-Server-Side-Encryption-Customer-Algorithm": {"AES256"}},
	} {
		b.ask("root", "PUT", "/back/source", "", nil, "source")
		b.ask("root", "PUT", "/back/k", "", nil, "before "+name)
		h["X-Amz-Meta-Through"] = []string{"yes"}
		body := "after"
		if name == "copy" {
			body = ""
		}
		w := b.ask("root", "PUT", "/back/k", "", h, body)
		if w.Code != 200 || sentHeader(w, "x-akigw-commit") != "upstream" {
			t.Errorf("%s: %d %s %v", name, w.Code, w.Body, w.Header())
		}
		mu.Lock()
		if string(seen) != "before "+name {
			t.Errorf("%s: the upstream had %q by then", name, seen)
		}
		mu.Unlock()
	}
	b.ask("root", "PUT", "/back/k", "", nil, "pending")
	if w := b.ask("root", "GET", "/back/k", "tagging=", nil, ""); w.Code >= 500 {
		t.Errorf("tags of a pending object: %d %s", w.Code, w.Body)
	}
	if o, ok := b.up.Get(backKey("k")); !ok || string(o.Body) != "pending" {
		t.Error("the object was not upstream before a question about it was")
	}
}

// TestVersionedBucketGoesThrough: and one that is not there.
func TestVersionedBucketGoesThrough(t *testing.T) {
	for answer, want := range map[string]string{
		"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>":   "upstream",
		"<VersioningConfiguration><Status>Suspended</Status></VersioningConfiguration>": "upstream",
		"<VersioningConfiguration/>": "journal",
		"404":                        "upstream",
		"501":                        "journal", // and HeadBucket says that it is there
		"500":                        "upstream",
	} {
		b := backBench(t)
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			switch {
			case r.Op == "HeadBucket":
				return s3mem.Response(200, nil, nil), nil
			case r.Op != "GetBucketVersioning":
				return nil, nil
			case len(answer) == 3:
				var code int
				fmt.Sscan(answer, &code)
				return s3mem.Response(code, nil, []byte("<Error><Code>X</Code></Error>")), nil
			}
			return s3mem.Response(200, nil, []byte(answer)), nil
		}
		for range 2 {
			if w := b.ask("root", "PUT", "/back/k", "", nil, "x"); sentHeader(w, "x-akigw-commit") != want {
				t.Errorf("%s: %d, commit %q, want %q", answer, w.Code, sentHeader(w, "x-akigw-commit"), want)
			}
			if want == "journal" {
				break
			}
		}
	}
}

const versioningEnabled = "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"

// takeVersioning lets versioning be switched on upstream, of all buckets at once.
func takeVersioning(up *s3mem.Memory) {
	var on atomic.Bool
	up.Before = func(r *cold.Request) (*http.Response, error) {
		switch {
		case r.Op == "PutBucketVersioning":
			on.Store(true)
			return s3mem.Response(200, nil, nil), nil
		case r.Op == "GetBucketVersioning" && on.Load():
			return s3mem.Response(200, nil, []byte(versioningEnabled)), nil
		}
		return nil, nil
	}
}

// TestVersioningSwitchedOn: from the answer on writes to the bucket go through.
func TestVersioningSwitchedOn(t *testing.T) {
	b := backBench(t)
	takeVersioning(b.up)
	b.runPool(t)
	for _, want := range []string{"journal", "upstream"} {
		if w := b.ask("root", "PUT", "/back/k", "", nil, want); sentHeader(w, "x-akigw-commit") != want {
			t.Errorf("%d, commit %q, want %q", w.Code, sentHeader(w, "x-akigw-commit"), want)
		}
		if w := b.ask("root", "PUT", "/back", "versioning=", nil, versioningEnabled); w.Code != 200 {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	}
}

// TestLimitsFallBack: over any of its limits the journal takes nothing, writes go
// through, and if that fails the client is told to come back.
func TestLimitsFallBack(t *testing.T) {
	c := testBack
	c.MaxPending = 2
	b := backBenchWith(t, c)
	commit := func(name, body string) string {
		w := b.ask("root", "PUT", "/back/"+name, "", nil, body)
		return fmt.Sprint(w.Code, " ", sentHeader(w, "x-akigw-commit"))
	}
	if a, b, c := commit("a", "x"), commit("b", "x"), commit("c", "x"); a != "200 journal" || b != "200 journal" || c != "200 upstream" {
		t.Error(a, b, c)
	}
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
	}
	if d := commit("d", "x"); d != "503 " {
		t.Error(d)
	}
	c = testBack
	c.MaxPendingBytes = 1 << 20
	b = backBenchWith(t, c)
	if got := commit("large", strings.Repeat("x", 1<<20+1)); got != "200 upstream" {
		t.Error(got)
	}
	c = testBack
	c.MinFreeBytes = 1 << 60
	b = backBenchWith(t, c)
	if got := commit("a", "x"); got != "200 upstream" { // C1: no room
		t.Error(got)
	}
}

// TestConcurrentPutsAtTheLimit: each fits, all together do not.
//
// Scenarios: E21.
func TestConcurrentPutsAtTheLimit(t *testing.T) {
	c := testBack
	c.MaxPendingBytes = 1 << 20
	b := backBenchWith(t, c)
	b.ask("root", "PUT", "/back/first", "", nil, "x") // so that the bucket is known
	var journal atomic.Int64
	var wait sync.WaitGroup
	for i := range 32 {
		wait.Go(func() {
			w := b.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", nil, strings.Repeat("x", 100_000))
			if sentHeader(w, "x-akigw-commit") == "journal" {
				journal.Add(1)
			} else if w.Code != 200 {
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	wait.Wait()
	if st := b.writes.Status(); st.Bytes > 1<<20 || journal.Load() < 5 {
		t.Errorf("%d bytes pending, %d acknowledged by the journal", st.Bytes, journal.Load())
	}
}

// TestDeleteObjectsBack: each key is tombstoned at once, and listed as deleted.
func TestDeleteObjectsBack(t *testing.T) {
	b := backBench(t)
	b.up.Put(backKey("a"), nil)
	b.ask("root", "PUT", "/back/b", "", nil, "x")
	document := "<Delete><Object><Key>a</Key></Object><Object><Key>b</Key></Object><Object><Key>c&lt;</Key></Object></Delete>"
	sum := md5.Sum([]byte(document))
	w := b.ask("root", "POST", "/back", "delete=", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, document)
	if w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" || strings.Count(w.Body.String(), "<Deleted>") != 3 || !strings.Contains(w.Body.String(), "c&lt;") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for _, name := range []string{"a", "b"} {
		if w := b.ask("root", "GET", "/back/"+name, "", nil, ""); w.Code != 404 {
			t.Errorf("%s: %d", name, w.Code)
		}
	}
	b.runPool(t)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	b.writes.DrainAll(ctx)
	if b.up.Len() != 0 {
		t.Errorf("%d objects upstream", b.up.Len())
	}
}

// TestDeleteBucketDrains: a bucket is not deleted under what was acknowledged in it.
func TestDeleteBucketDrains(t *testing.T) {
	b := backBench(t)
	b.ask("root", "PUT", "/back/k", "", nil, "x")
	had := -1
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "DeleteBucket" {
			had = b.up.Len()
			return s3mem.Response(409, nil, []byte("<Error><Code>BucketNotEmpty</Code></Error>")), nil
		}
		return nil, nil
	}
	b.runPool(t)
	if w := b.ask("root", "DELETE", "/back", "", nil, ""); w.Code != 409 || had != 1 {
		t.Errorf("%d, the upstream had %d objects", w.Code, had)
	}
}

// TestDisconnectInWriteBack: a body that breaks off leaves nothing.
//
// Scenarios: D13.
func TestDisconnectInWriteBack(t *testing.T) {
	b := backBench(t)
	body := bytes.Repeat([]byte("x"), 200_000)
	r := &http.Request{Method: "PUT", URL: &url.URL{Path: "/back/k"}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	s3client.Signing{AccessKey: "root", Secret: tenantSecret, Body: body}.Sign(r)
	r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:100_000]), brokenReader{}))
	w := b.answer(r)
	if w.Code == 200 {
		t.Errorf("%d", w.Code)
	}
	if st := b.writes.Status(); st.Pending != 0 {
		t.Errorf("%+v", st)
	}
}

type brokenReader struct{}

func (brokenReader) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// kmsSays answers GetBucketEncryption of a bucket that is encrypted with keys of a KMS,
// or that its reader may not ask.
func kmsSays(says bool) func(r *cold.Request) (*http.Response, error) {
	return func(r *cold.Request) (*http.Response, error) {
		switch {
		case r.Op == "GetBucketEncryption" && says:
			return s3mem.Response(200, nil, []byte("<ServerSideEncryptionConfiguration><Rule><ApplyServerSideEncryptionByDefault><SSEAlgorithm>aws:kms</SSEAlgorithm></ApplyServerSideEncryptionByDefault></Rule></ServerSideEncryptionConfiguration>")), nil
		case r.Op == "GetBucketEncryption":
			return s3mem.Response(403, nil, nil), nil
		}
		return nil, nil
	}
}

// TestKMSBucketIsWrittenThrough: a bucket whose ETags are no MD5 sums is not written
// back, because its ETags cannot be promised: whether it says so, or is found out by the
// first of its objects.
func TestKMSBucketIsWrittenThrough(t *testing.T) {
	for _, says := range []bool{true, false} {
		b := backBench(t)
		b.up.KMS.Store(true)
		b.up.Before = kmsSays(says)
		commit := func(name string) string {
			w := b.ask("root", "PUT", "/back/"+name, "", nil, "body")
			if w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
			return sentHeader(w, "x-akigw-commit")
		}
		if got := commit("first"); (got == "upstream") != says {
			t.Errorf("says %t: the first one is committed by %s", says, got)
		}
		b.drain(t)
		if st := b.writes.Status(); st.Dead > 0 || st.Translations != map[bool]int{false: 1}[says] {
			t.Errorf("says %t: %+v", says, st.Stats)
		}
		if got := commit("second"); got != "upstream" {
			t.Errorf("says %t: the second one is committed by %s", says, got)
		}
	}
}

// TestPendingIsNotEvicted: whatever the tiers let go of to make room, what is
// pending stays, and is not theirs to let go of.
//
// Scenarios: C4, D9.
func TestPendingIsNotEvicted(t *testing.T) {
	b := backBench(t)
	body := func(i int) string { return strings.Repeat(string(rune('a'+i)), 100_000) }
	for i := range 20 {
		if w := b.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", nil, body(i)); sentHeader(w, "x-akigw-commit") != "journal" {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
	}
	for i := range 300 { // several times of what memory holds
		key := akigw.Key{Bucket: "exclusive", Name: fmt.Sprint(i)}
		b.up.Put(key, testkit.Bytes(uint64(i), 100_000))
		for range 2 {
			b.ask("root", "GET", "/exclusive/"+key.Name, "", nil, "")
		}
	}
	for i := range 20 {
		if w := b.ask("root", "GET", fmt.Sprintf("/back/%d", i), "", nil, ""); w.Body.String() != body(i) || sentHeader(w, "x-akigw-cache") != "overlay" {
			t.Errorf("%d: %d, %d bytes, %s", i, w.Code, w.Body.Len(), sentHeader(w, "x-akigw-cache"))
		}
	}
	if _, err := b.store.Purge(t.Context(), akigw.Pattern{Bucket: back}); err != nil {
		t.Error(err)
	}
	if w := b.ask("root", "GET", "/back/7", "", nil, ""); w.Body.String() != body(7) {
		t.Errorf("after a purge: %d", w.Code)
	}
	if st := b.writes.Status(); st.Pending != 20 || st.Bytes != 2_000_000 {
		t.Errorf("%+v", st.Stats)
	}
}

// TestUploadsAreNotBuffered: however large bodies are and however many come at a
// time, they go to disk as they come.
//
// Scenarios: E8.
func TestUploadsAreNotBuffered(t *testing.T) {
	const clients, size, most = 24, 12 << 20, 64 << 20
	b := backBench(t)
	b.ask("root", "PUT", "/back/first", "", nil, "")
	runtime.GC()
	var before, now runtime.MemStats
	runtime.ReadMemStats(&before)
	var wait sync.WaitGroup
	var here atomic.Int32
	all := make(chan struct{})
	for i := range clients {
		wait.Go(func() {
			r := &http.Request{Method: "PUT", URL: &url.URL{Path: fmt.Sprintf("/back/%d", i)}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
			s3client.Signing{AccessKey: "root", Secret: tenantSecret, Payload: "UNSIGNED-PAYLOAD"}.Sign(r)
			r.Body, r.ContentLength = io.NopCloser(&pausing{left: size, pause: func() {
				if here.Add(1) == clients { // everybody has sent all but the end
					runtime.GC()
					runtime.ReadMemStats(&now)
					close(all)
				}
				<-all
			}}), size
			w := b.answer(r)
			if w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
				t.Errorf("%d %s %v", w.Code, w.Body, w.Header())
			}
		})
	}
	wait.Wait()
	if grown := int64(now.HeapAlloc) - int64(before.HeapAlloc); here.Load() != clients || grown > most {
		t.Errorf("%d bodies of %d bytes under way take %d bytes of memory", here.Load(), size, grown)
	}
}

// pausing is a body of zeros that pauses before its last 1000 bytes.
type pausing struct {
	left  int
	pause func()
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.left == 0 {
		return 0, io.EOF
	}
	n := min(len(b), p.left)
	if p.left > 1000 {
		n = min(n, p.left-1000)
	}
	clear(b[:n])
	if p.left -= n; p.left == 1000 {
		p.pause()
	}
	return n, nil
}

// TestSecondDirectory: with second_dir a pending body whose first copy is damaged is read by
// clients, and uploaded, from the second one, and the status says that it was repaired.
//
// Scenarios: C9.
func TestSecondDirectory(t *testing.T) {
	for what, damage := range map[string]func(raw []byte) []byte{
		"a bit": func(raw []byte) []byte { raw[200_000] ^= 1; return raw },
		"cut":   func(raw []byte) []byte { return raw[:1000] },
	} {
		t.Run(what, func(t *testing.T) {
			c := testBack
			c.Dir, c.SecondDir = t.TempDir(), t.TempDir()
			b := backBenchWith(t, c)
			body := testkit.Bytes(9, 300_000)
			if w := b.ask("root", "PUT", "/back/k", "", nil, string(body)); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
				t.Fatalf("PUT: %d", w.Code)
			}
			files, err := filepath.Glob(filepath.Join(c.Dir, "spool", "*.body"))
			if err != nil || len(files) != 1 {
				t.Fatalf("%v, %v", files, err)
			}
			raw, err := os.ReadFile(files[0])
			if err == nil {
				err = os.WriteFile(files[0], damage(raw), 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
			if w := b.ask("root", "GET", "/back/k", "", nil, ""); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), body) {
				t.Errorf("GET: %d, %d bytes", w.Code, w.Body.Len())
			}
			for end := time.Now().Add(10 * time.Second); b.writes.Status().Repaired == 0; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("it is not repaired")
				}
			}
			if err := os.WriteFile(files[0], raw[:70], 0o600); err != nil {
				t.Fatal(err)
			}
			b.runPool(t)
			if err := b.writes.Drain(t.Context(), backKey("k")); err != nil {
				t.Fatal(err)
			}
			if got, _ := b.up.Get(backKey("k")); !bytes.Equal(got.Body, body) || b.writes.Status().Dead > 0 {
				t.Errorf("upstream has %d bytes; %d dead letters", len(got.Body), b.writes.Status().Dead)
			}
		})
	}
}

// TestBodiesThatAreNotCached: cache_writes holds for bodies that are written through and for those that
// are flushed.
func TestBodiesThatAreNotCached(t *testing.T) {
	for _, c := range []struct{ writes, read string }{{"both", "hot"}, {"memory", "hot"}, {"disk", "cold"}, {"none", "cold"}} {
		table, err := rules.Parse(fmt.Appendf(nil, "[[rule]]\ncache_writes = %q\n[[rule]]\nbucket = \"back\"\nwrite = \"back\"\n", c.writes))
		if err != nil {
			t.Fatal(err)
		}
		b := backBenchOf(t, rules.NewSet(table, rules.Settings{Freshness: rules.Exclusive, Memory: true, Disk: true, Block: 64 << 10}), testBack)
		paths := map[string]int{"/back/small": 100, "/back/large": 300_000, "/through/small": 100, "/through/large": 300_000}
		for path, n := range paths {
			if w := b.ask("root", "PUT", path, "", nil, string(testkit.Bytes(1, n))); w.Code != 200 || (sentHeader(w, "x-akigw-commit") == "journal") != strings.HasPrefix(path, "/back/") {
				t.Fatalf("PUT %s: %d, commit %q", path, w.Code, sentHeader(w, "x-akigw-commit"))
			}
		}
		b.drain(t)
		for path, n := range paths {
			if w := b.ask("root", "GET", path, "", nil, ""); w.Code != 200 || sentHeader(w, "x-akigw-cache") != c.read || !bytes.Equal(w.Body.Bytes(), testkit.Bytes(1, n)) {
				t.Errorf("cache_writes = %q: GET %s: %d, from %q", c.writes, path, w.Code, sentHeader(w, "x-akigw-cache"))
			}
		}
	}
}
