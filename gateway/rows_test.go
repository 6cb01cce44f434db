package gateway

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// Rows of the failure scenarios that speak of reads and have no other place.

// TestRangeAndPartNumber: the two together are refused (GetObject).
//
// Scenarios: E10.
func TestRangeAndPartNumber(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	b.up.Put(keyOf("bucket", "k"), []byte("hello"))
	for _, method := range []string{"GET", "HEAD"} {
		if w := b.ask("root", method, "/bucket/k", "partNumber=1", http.Header{"Range": {"bytes=0-1"}}, ""); w.Code != 400 {
			t.Errorf("%s: %d", method, w.Code)
		}
	}
	if b.up.Count("GET")+b.up.Count("HEAD") != 0 {
		t.Error("the upstream was asked")
	}
}

// TestPathsAreNotCleaned: keys with // and .. are keys, over a connection
// too; nobody is redirected.
//
// Scenarios: E12.
func TestPathsAreNotCleaned(t *testing.T) {
	r := newRig(t, rules.Exclusive)
	for _, name := range []string{"/k", "a//b", "../k", "a/../b", "a/./b", "a/"} {
		r.up.Put(keyOf("bucket", name), []byte(name))
		a := r.Must(t, "GET", "/bucket/"+name, "", nil, nil)
		if a.Status != 200 || string(a.Body) != name {
			t.Errorf("%q: %d %q", name, a.Status, a.Body)
		}
	}
}

// TestControlCharactersInAListing: a listing goes through byte for byte, with
// encoding-type and without, and what it names can be read.
//
// Scenarios: E13.
func TestControlCharactersInAListing(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	key := keyOf("bucket", "a\x01b\x1fc")
	b.up.Put(key, []byte("hello"))
	for _, body := range []string{"<ListBucketResult><EncodingType>url</EncodingType><Contents><Key>a%01b%1Fc</Key></Contents></ListBucketResult>", "<ListBucketResult><Contents><Key>a&#x1;b&#x1f;c</Key></Contents></ListBucketResult>"} {
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Key.Name != "" {
				return nil, nil
			}
			return s3mem.Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, []byte(body)), nil
		}
		if w := b.ask("root", "GET", "/bucket", "list-type=2&encoding-type=url", nil, ""); w.Code != 200 || w.Body.String() != body {
			t.Errorf("%d %q", w.Code, w.Body)
		}
	}
	b.up.Before = nil
	if w := b.ask("root", "GET", "/bucket/"+key.Name, "", nil, ""); w.Code != 200 || w.Body.String() != "hello" {
		t.Errorf("%d %q", w.Code, w.Body)
	}
}

// TestHeadAndGetFromOneEntry: whatever happens behind the cache, a HEAD that
// follows a GET says the same of the object, in a mode that lets both lag.
//
// Scenarios: E27.
func TestHeadAndGetFromOneEntry(t *testing.T) {
	b := memoryBench(t, tiers.Config{HotBytes: 16 << 20}, rules.Settings{Freshness: rules.TTL, TTL: time.Hour}, nil)
	defer b.store.Close()
	for n := range 50 {
		key := keyOf("bucket", fmt.Sprint(n%5))
		b.up.PutStored(key, s3mem.Stored{Body: testkit.Bytes(uint64(n), n*3000), ETag: fmt.Sprintf("\"%d-1\"", n), Modified: time.Unix(1_600_000_000+int64(n), 0), Header: http.Header{"X-Amz-Meta-N": {fmt.Sprint(n)}}})
		if n%3 == 0 {
			b.store.Begin(key).End()
		}
		get := b.ask("root", "GET", "/bucket/"+key.Name, "", nil, "")
		head := b.ask("root", "HEAD", "/bucket/"+key.Name, "", nil, "")
		for _, name := range []string{"ETag", "Content-Length", "Last-Modified", "x-amz-meta-n"} {
			if get.Code != 200 || sentHeader(get, name) == "" || sentHeader(get, name) != sentHeader(head, name) {
				t.Errorf("%d: GET %d has %s %q, HEAD %q", n, get.Code, name, sentHeader(get, name), sentHeader(head, name))
			}
		}
	}
}

// TestAbsenceIsNotKeptOnDisk: after a restart nobody remembers that a key
// held nothing.
//
// Scenarios: E32.
func TestAbsenceIsNotKeptOnDisk(t *testing.T) {
	up, dir := s3mem.New(), filepath.Join(t.TempDir(), "warm")
	open := func() *bench {
		return diskBench(t, dir, up, tiers.Config{HotBytes: 16 << 20, WarmBytes: 64 << 20}, rules.Settings{Freshness: rules.TTL, TTL: time.Hour, Disk: true}, nil)
	}
	b := open()
	for range 2 {
		if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Code != 404 {
			t.Fatal(w.Code)
		}
	}
	if up.Count("GET") != 1 {
		t.Errorf("%d GETs: the absence was not remembered at all", up.Count("GET"))
	}
	up.Put(keyOf("bucket", "k"), []byte("hello"))
	if err := b.store.Close(); err != nil {
		t.Fatal(err)
	}
	b = open()
	defer b.store.Close()
	if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Code != 200 {
		t.Errorf("after a restart: %d", w.Code)
	}
}

// TestListingsDuringWrites: with listings kept in memory, whoever lists after
// a write was acknowledged sees it, and each key once.
//
// Scenarios: D7.
func TestListingsDuringWrites(t *testing.T) {
	b := memoryBench(t, tiers.Config{HotBytes: 16 << 20}, rules.Settings{Freshness: rules.TTL, TTL: time.Hour, ListTTL: time.Hour}, nil)
	defer b.store.Close()
	var wait sync.WaitGroup
	for writer := range 4 {
		wait.Go(func() {
			for n := range 100 {
				name := fmt.Sprintf("%d-%03d", writer, n)
				if w := b.ask("root", "PUT", "/bucket/"+name, "", nil, "x"); w.Code != 200 {
					t.Errorf("PUT: %d", w.Code)
				}
				w := b.ask("root", "GET", "/bucket", "list-type=2", nil, "")
				if got := strings.Count(w.Body.String(), "<Key>"+name+"</Key>"); got != 1 {
					t.Errorf("%s is listed %d times after its PUT", name, got)
				}
				if n%2 == 0 {
					b.ask("root", "DELETE", "/bucket/"+name, "", nil, "")
					if w := b.ask("root", "GET", "/bucket", "list-type=2", nil, ""); strings.Contains(w.Body.String(), "<Key>"+name+"</Key>") {
						t.Errorf("%s is listed after its DELETE", name)
					}
				}
			}
		})
	}
	wait.Wait()
}

// TestSheddingIsSlowDown: a read for which there is no memory is told to come
// again later.
//
// Scenarios: E7.
func TestSheddingIsSlowDown(t *testing.T) {
	const block = 64 << 10
	b := memoryBench(t, tiers.Config{HotBytes: 1 << 20, FillBytes: 6 * block}, rules.Settings{Freshness: rules.Immutable}, nil)
	defer b.store.Close()
	body := testkit.Bytes(1, 20*block)
	var wait sync.WaitGroup
	for n := range 8 { // readers that do not read
		b.up.Put(keyOf("bucket", fmt.Sprint(n)), body)
		wait.Go(func() {
			r, err := b.store.Get(context.Background(), keyOf("bucket", fmt.Sprint(n)), akigw.RangeSpec{}, akigw.Conditions{})
			if err == nil {
				defer r.Close()
				time.Sleep(3 * time.Second)
			}
		})
	}
	refused := false
	for range 50 {
		b.up.Put(keyOf("bucket", "other"), body)
		r := b.ask("root", "GET", "/bucket/other", "", nil, "")
		if r.Code == 503 && codeOf(r) == "SlowDown" && r.Header().Get("Retry-After") != "" {
			refused = true
			break
		}
		if r.Code != 200 || !bytes.Equal(r.Body.Bytes(), body) {
			t.Fatalf("%d, %d bytes", r.Code, r.Body.Len())
		}
		b.store.Begin(keyOf("bucket", "other")).End()
	}
	wait.Wait()
	if !refused {
		t.Error("nobody was told to slow down")
	}
}

// TestPartsComeFromBlocks: a part by its number is served from the same blocks as
// the whole object and its ranges, once the upstream has said where it is.
func TestPartsComeFromBlocks(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	body := testkit.Bytes(1, 300_000)
	const etag = `"0123456789abcdef0123456789abcdef-3"`
	b.up.PutStored(keyOf("bucket", "k"), s3mem.Stored{Body: body, ETag: etag, Modified: time.Unix(1_600_000_000, 0)})
	b.up.Put(keyOf("bucket", "plain"), body)
	asked := 0
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		n := r.Query.Get("partNumber")
		if r.Key.Name == "plain" {
			r.Query = nil
		}
		if n == "" || r.Key.Name == "plain" {
			return nil, nil
		}
		asked++
		if r.Header.Get("If-Match") != etag && r.Method == "HEAD" && n != "4" {
			t.Errorf("asked without If-Match: %v", r.Header)
		}
		if n == "4" {
			return s3mem.Response(http.StatusRequestedRangeNotSatisfiable, nil, []byte("<Error><Code>InvalidPartNumber</Code></Error>")), nil
		}
		at := map[string]akigw.Range{"1": {Start: 0, Length: 100_000}, "2": {Start: 100_000, Length: 100_000}, "3": {Start: 200_000, Length: 100_000}}[n]
		resp := s3mem.Response(http.StatusPartialContent, http.Header{"Etag": {etag}, "X-Amz-Mp-Parts-Count": {"3"}, "X-Amz-Checksum-Crc32": {"part" + n},
			"Content-Range": {at.ContentRange(300_000)}, "Last-Modified": {time.Unix(1_600_000_000, 0).UTC().Format(http.TimeFormat)}}, nil)
		resp.ContentLength = at.Length
		return resp, nil
	}
	read := func(method, query string, header http.Header, want []byte, outcome akigw.Outcome) {
		t.Helper()
		w := b.ask("root", method, "/bucket/k", query, header, "")
		partial := query != "" || header.Get("Range") != ""
		if partial != (w.Code == 206) || method == "GET" && !bytes.Equal(w.Body.Bytes(), want) || sentHeader(w, "Content-Length") != fmt.Sprint(len(want)) {
			t.Errorf("%s %s: %d, %d bytes, Content-Length %s, want %d", method, query, w.Code, w.Body.Len(), sentHeader(w, "Content-Length"), len(want))
		}
		if got := sentHeader(w, "x-akigw-cache"); got != string(outcome) {
			t.Errorf("%s %s came from %s, want %s", method, query, got, outcome)
		}
		if query != "" && (sentHeader(w, "x-amz-mp-parts-count") != "3" || !strings.HasSuffix(sentHeader(w, "Content-Range"), "/300000")) {
			t.Errorf("%s %s: %v", method, query, w.Header())
		}
	}
	read("GET", "partNumber=2", nil, body[100_000:200_000], akigw.Cold)
	read("GET", "", http.Header{"Range": {"bytes=131072-196607"}}, body[131072:196608], akigw.Hot) // of that part
	read("GET", "", nil, body, akigw.Cold)
	read("GET", "partNumber=1", nil, body[:100_000], akigw.Hot)
	read("GET", "partNumber=2", nil, body[100_000:200_000], akigw.Hot)
	read("HEAD", "partNumber=3", nil, body[200_000:], akigw.Hot)
	read("GET", "partNumber=3", nil, body[200_000:], akigw.Hot)
	if asked != 3 {
		t.Errorf("the upstream was asked %d times where parts are, want once for each", asked)
	}
	if w := b.ask("root", "GET", "/bucket/k", "partNumber=1", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, ""); sentHeader(w, "x-amz-checksum-crc32") != "part1" {
		t.Errorf("checksum of the part: %v", w.Header())
	}
	if w := b.ask("root", "GET", "/bucket/k", "partNumber=4", nil, ""); w.Code != 416 || codeOf(w) != "InvalidPartNumber" {
		t.Errorf("no such part: %d %s", w.Code, w.Body)
	}
	if w := b.ask("root", "GET", "/bucket/plain", "partNumber=1", nil, ""); w.Code != 200 || !bytes.Equal(w.Body.Bytes(), body) {
		t.Errorf("an upstream that counts no parts: %d", w.Code)
	}
	// A service that gives a part an ETag of its own answers by itself.
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Query.Get("partNumber") == "" {
			return nil, nil
		}
		return s3mem.Response(http.StatusOK, http.Header{"Etag": {`"of the part"`}}, []byte("its own idea")), nil
	}
	if w := b.ask("root", "GET", "/bucket/plain", "partNumber=2", nil, ""); w.Code != 200 || w.Body.String() != "its own idea" || sentHeader(w, "x-akigw-cache") != string(akigw.Bypass) {
		t.Errorf("a service with its own idea of parts: %d %s", w.Code, sentHeader(w, "x-akigw-cache"))
	}
	// Another version: what was known of its parts is not.
	b.up.Before = nil
	if w := b.ask("root", "PUT", "/bucket/k", "", nil, "short"); w.Code != 200 {
		t.Fatal(w.Code)
	}
	if w := b.ask("root", "GET", "/bucket/k", "partNumber=1", nil, ""); w.Code != 206 || w.Body.String() != "short" {
		t.Errorf("after a write: %d %q", w.Code, w.Body)
	}
}
