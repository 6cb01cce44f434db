package tiers

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
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

// client uploads an object in parts as the gateway does.
type client struct {
	t    *testing.T
	s    *Store
	up   *s3mem.Memory
	key  akigw.Key
	id   string
	tags map[int]string // the last ETag of each part
	done bool           // the upload is completed
}

func newClient(t *testing.T, s *Store, up *s3mem.Memory, k akigw.Key, header http.Header) *client {
	t.Helper()
	var answer struct{ UploadId string }
	resp, err := up.Do(t.Context(), &cold.Request{Op: "CreateMultipartUpload", Method: http.MethodPost, Key: k, Query: url.Values{"uploads": {""}}, Header: header})
	if err != nil || resp.StatusCode != http.StatusOK || xml.NewDecoder(resp.Body).Decode(&answer) != nil {
		t.Fatalf("CreateMultipartUpload: %v %v", resp, err)
	}
	s.BeginUpload(k, answer.UploadId, header)
	return &client{t: t, s: s, up: up, key: k, id: answer.UploadId, tags: map[int]string{}}
}

// send has the upstream store a part, past the gateway, and returns its ETag.
func (c *client) send(number int, body []byte) (etag string) {
	resp, err := c.up.Do(c.t.Context(), &cold.Request{Op: "UploadPart", Method: http.MethodPut, Key: c.key, Query: url.Values{"uploadId": {c.id}, "partNumber": {strconv.Itoa(number)}}, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Errorf("UploadPart: %v %v", resp, err)
		return ""
	}
	return resp.Header.Get("Etag")
}

// begin sends the first bytes of a part.
func (c *client) begin(number int, body []byte, n int) *PartWrite {
	w := c.s.BeginPart(c.key, c.id, number, int64(len(body)))
	for chunk := range slices.Chunk(body[:n], 50_000) {
		w.Body(chunk)
	}
	return w
}

// part uploads a part.
func (c *client) part(number int, body []byte) {
	w := c.begin(number, body, len(body))
	defer w.End()
	c.tags[number] = c.send(number, body)
	w.Written(c.tags[number])
}

// list returns the parts with these numbers, all for none.
func (c *client) list(numbers ...int) (listed []UploadedPart) {
	if len(numbers) == 0 {
		for number := range c.tags {
			numbers = append(numbers, number)
		}
		slices.Sort(numbers)
	}
	for _, number := range numbers {
		listed = append(listed, UploadedPart{number, c.tags[number]})
	}
	return listed
}

// complete completes the upload with these parts. It reports whether the upstream did.
func (c *client) complete(listed []UploadedPart) bool {
	c.t.Helper()
	change := c.s.Begin(c.key)
	defer change.End()
	var document strings.Builder
	document.WriteString("<CompleteMultipartUpload>")
	for _, p := range listed {
		fmt.Fprintf(&document, "<Part><PartNumber>%d</PartNumber><ETag>%s</ETag></Part>", p.Number, p.ETag)
	}
	document.WriteString("</CompleteMultipartUpload>")
	resp, err := c.up.Do(c.t.Context(), &cold.Request{Op: "CompleteMultipartUpload", Method: http.MethodPost, Key: c.key, Query: url.Values{"uploadId": {c.id}}, Body: strings.NewReader(document.String()), Length: int64(document.Len())})
	if err != nil {
		c.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return false
	}
	var answer struct{ ETag string }
	if err := xml.NewDecoder(resp.Body).Decode(&answer); err != nil {
		c.t.Fatal(err)
	}
	change.Assembled(c.id, listed, http.Header{"Etag": {answer.ETag}})
	c.done = true
	return true
}

// whole makes wantFetched expect all of the object.
const whole = -1

// wantFetched completes the upload and reads the object: all of it, a range, and its end. It expects that
// many bytes to be fetched for that.
func (c *client) wantFetched(bytes int, numbers ...int) {
	c.t.Helper()
	if !c.complete(c.list(numbers...)) {
		c.t.Fatal("the upstream did not complete the upload")
	}
	if len(c.s.open) > 0 || c.s.uploads.blocks != 0 || c.s.parts != 0 {
		c.t.Errorf("still known: %d uploads, %d parts, %d blocks", len(c.s.open), c.s.parts, c.s.uploads.blocks)
	}
	c.up.Reset()
	object, _ := c.up.Get(c.key)
	body := object.Body
	if bytes == whole {
		bytes = len(body)
	}
	wantRead(c.t, c.s, c.key, "", body, "")
	if sent := c.up.Sent(); sent != int64(bytes) {
		c.t.Errorf("%d bytes were fetched, want %d", sent, bytes)
	}
	if bytes == 0 {
		wantCount(c.t, c.up, "GET", 0)
		wantCount(c.t, c.up, "HEAD", 1)
	}
	half := len(body) / 2
	wantRead(c.t, c.s, c.key, fmt.Sprintf("bytes=%d-%d", half, half+block), body[half:min(half+block+1, len(body))], "")
	wantRead(c.t, c.s, c.key, "bytes=-9", body[len(body)-9:], "")
}

// wantNoStrays fails if the disk has blocks of anything but the object, and those of other keys.
func (c *client) wantNoStrays(others ...akigw.Key) {
	c.t.Helper()
	c.s.removals.Wait()
	var extents []uint64
	for _, k := range append(others, c.key) {
		if e := c.s.peek(k); e != nil {
			extents = append(extents, e.extent)
		}
	}
	c.s.warm.Runs(func(extent uint64, blocks int64) bool {
		if !slices.Contains(extents, extent) {
			c.t.Errorf("%d blocks of an extent that nothing refers to", blocks)
		}
		return true
	})
}

// content returns a part of n bytes, different for each seed.
func content(seed, n int) []byte { return testkit.Bytes(uint64(seed), n) }

// TestUploadedParts: what went through the gateway in parts is in the cache, if the object is certain to
// be made of it. Otherwise the object is fetched.
func TestUploadedParts(t *testing.T) {
	const size, rest = 3 * block, block + 17 // of all parts but the last, and of the last
	a, b, z := content(1, size), content(2, size), content(3, rest)
	for _, c := range []struct {
		name    string
		upload  func(c *client)
		numbers []int // to be listed; nil: all
		fetched int   // bytes
	}{
		{"in order", func(c *client) { c.part(1, a); c.part(2, b); c.part(3, z) }, nil, 0},
		{"in another order", func(c *client) { c.part(2, b); c.part(3, z); c.part(1, a) }, nil, 0},
		{"one part", func(c *client) { c.part(1, z) }, nil, 0},
		{"all of one size", func(c *client) { c.part(1, a); c.part(2, b) }, nil, 0},
		{"the last part first", func(c *client) { c.part(3, z); c.part(1, a); c.part(2, b) }, nil, rest},
		{"a last part of whole blocks first", func(c *client) { c.part(3, z[:block]); c.part(1, a); c.part(2, b) }, nil, block},
		{"a larger part while the last one is sent", func(c *client) {
			w := c.begin(3, z[:block], 10)
			c.part(1, a)
			c.part(2, b)
			w.Body(z[10:block])
			c.tags[3] = c.send(3, z[:block])
			w.Written(c.tags[3])
			w.End()
		}, nil, block},
		{"a larger part last of all", func(c *client) { c.part(2, z); c.part(1, a) }, nil, rest},
		{"an empty part at the end", func(c *client) { c.part(1, a); c.part(2, nil) }, nil, 0},
		{"sizes that are no multiples of a block", func(c *client) { c.part(1, a[1:]); c.part(2, b[1:]); c.part(3, z) }, nil, whole},
		{"other sizes", func(c *client) { c.part(1, a); c.part(2, b[:block]); c.part(3, z) }, nil, whole},
		{"a large part at the end", func(c *client) { c.part(1, a); c.part(2, slices.Concat(a, b)) }, nil, whole},
		{"a number is left out", func(c *client) { c.part(1, a); c.part(3, b) }, nil, whole},
		{"a part is not listed", func(c *client) { c.part(1, a); c.part(2, b); c.part(3, z) }, []int{1, 2}, whole},
		{"only the last is listed", func(c *client) { c.part(1, a); c.part(2, b) }, []int{2}, whole},
		{"a part is sent again", func(c *client) { c.part(1, a); c.part(2, b); c.part(1, a) }, nil, 0},
		{"a part is sent again with other bytes", func(c *client) { c.part(1, a); c.part(2, b); c.part(1, content(9, size)) }, nil, whole},
		{"a part is sent again and is shorter", func(c *client) { c.part(1, a); c.part(2, b); c.part(2, b[:block]) }, nil, whole},
		{"a part is sent again after it failed", func(c *client) {
			c.begin(1, a, size-block).End()
			c.part(1, a)
			c.part(2, z)
		}, nil, 0},
		{"a part is sent again with other bytes after it failed", func(c *client) {
			c.begin(1, a, size-block).End()
			c.part(1, b)
			c.part(2, z)
		}, nil, whole},
		{"a part is sent again in vain", func(c *client) {
			c.part(1, a)
			c.part(2, z)
			c.begin(1, a, size-block).End()
		}, nil, 0},
		{"other bytes of a part are sent in vain", func(c *client) {
			c.part(1, a)
			c.part(2, z)
			c.begin(1, b, size-block).End()
		}, nil, whole},
		{"other bytes of a part that is not kept are sent in vain", func(c *client) {
			c.part(2, z)
			c.part(1, a)
			c.begin(2, content(9, rest), block+1).End()
		}, nil, whole},
		{"a part that is not kept is stored while other bytes of it are sent", func(c *client) {
			w := c.begin(2, z, 10)
			c.part(1, a)
			other := c.begin(2, content(9, rest), block+1)
			w.Body(z[10:])
			c.tags[2] = c.send(2, z)
			w.Written(c.tags[2])
			w.End()
			other.End()
		}, nil, whole},
		{"a part arrives twice at a time", func(c *client) {
			w := c.begin(1, a, 2*block)
			c.part(1, a)
			c.part(2, z)
			w.Body(a[2*block:])
			w.Written(c.send(1, a))
			w.End()
		}, nil, 0},
		{"two bodies of a part arrive at a time", func(c *client) {
			w := c.begin(1, a, 2*block)
			c.part(1, b)
			c.part(2, z)
			w.Body(a[2*block:])
			w.Written(c.tags[1]) // this one was stored first
			w.End()
		}, nil, whole},
		{"a part ends without all of its bytes", func(c *client) {
			w := c.begin(1, a, 2*block)
			c.tags[1] = c.send(1, a)
			w.Written(c.tags[1])
			w.End()
			c.part(2, z)
		}, nil, whole},
		{"another client sent a part", func(c *client) { c.part(1, a); c.tags[2] = c.send(2, b); c.part(3, z) }, nil, whole},
		{"another client replaced a part", func(c *client) { c.part(1, a); c.part(2, z); c.tags[1] = c.send(1, b) }, nil, whole},
		{"aborted", func(c *client) { c.part(1, a); c.s.ForgetUpload(c.key, c.id); c.part(2, z) }, nil, whole},
		{"aborted while a part is sent", func(c *client) {
			w := c.begin(1, a, 2*block)
			c.s.ForgetUpload(c.key, c.id)
			w.Body(a[2*block:])
			c.tags[1] = c.send(1, a)
			w.Written(c.tags[1])
			w.End()
			c.part(2, z)
		}, nil, whole},
	} {
		t.Run(c.name, func(t *testing.T) {
			up := s3mem.New()
			s := newStore(t, testConfig(rules.Exclusive), up)
			client := newClient(t, s, up, key("k"), nil)
			c.upload(client)
			client.wantFetched(c.fetched, c.numbers...)
			client.wantNoStrays()
		})
	}
}

// TestUploadIsReplaced: an upload that is completed while the key is written otherwise leaves nothing in
// the cache.
func TestUploadIsReplaced(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	c := newClient(t, s, up, key("k"), nil)
	c.part(1, content(1, 2*block))
	other := s.Begin(key("k"))
	other.Body(content(2, 3*block))
	if !c.complete(c.list()) {
		t.Fatal("not completed")
	}
	etag := up.Put(key("k"), content(2, 3*block))
	other.Written(nil, http.Header{"Etag": {etag}}, nil)
	if e := s.peek(key("k")); e != nil {
		t.Errorf("there is an entry of %d bytes", e.Size)
	}
	c.wantNoStrays()
	wantRead(t, s, key("k"), "", content(2, 3*block), akigw.Cold)
}

// TestUploadWithAnotherETag: an upload is not cached if the ETag of the object is not the one of its parts.
func TestUploadWithAnotherETag(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	for _, etag := range []string{"", `"x"`, `W/"x-1"`, `"` + strings.Repeat("0", 32) + `-1"`} {
		c := newClient(t, s, up, key("k"), nil)
		c.part(1, content(1, 2*block))
		change := s.Begin(key("k"))
		change.Assembled(c.id, c.list(), http.Header{"Etag": {etag}})
		change.End()
		if e := s.peek(key("k")); e != nil {
			t.Errorf("%s: there is an entry with the ETag %s", etag, e.ETag)
		}
		c.wantNoStrays()
	}
	if n := s.catalog.counters.uploadsDropped.Get(); n != 4 {
		t.Errorf("%d uploads were dropped", n)
	}
}

// TestUploadOfOtherParts: an upload is not cached if the parts that are listed are not those that were sent,
// whatever the upstream says of the object.
func TestUploadOfOtherParts(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	c := newClient(t, s, up, key("k"), nil)
	c.part(1, content(1, 2*block))
	sum, err := hex.DecodeString(bareETag(c.tags[1]))
	if err != nil {
		t.Fatal(err)
	}
	change := s.Begin(key("k"))
	change.Assembled(c.id, []UploadedPart{{1, `"` + strings.Repeat("0", 32) + `"`}}, http.Header{"Etag": {fmt.Sprintf("\"%x-1\"", md5.Sum(sum))}})
	change.End()
	if e := s.peek(key("k")); e != nil {
		t.Errorf("there is an entry with the ETag %s", e.ETag)
	}
	c.wantNoStrays()
}

// TestUploadsByRule: parts enter the tiers that take the bodies of writes.
func TestUploadsByRule(t *testing.T) {
	for _, c := range []struct {
		rule         string
		memory, disk bool
	}{
		{`cache_writes = "both"`, true, true},
		{`cache_writes = "memory"`, true, false},
		{`cache_writes = "disk"`, false, true},
		{`cache_writes = "none"`, false, false},
		{`max_object_bytes = "200KiB"`, false, false},
		{`pin = true`, true, true},
	} {
		t.Run(c.rule, func(t *testing.T) {
			table, err := rules.Parse([]byte("[[rule]]\n" + c.rule))
			if err != nil {
				t.Fatal(err)
			}
			up, config := s3mem.New(), testConfig(rules.Exclusive)
			s, err := New(Options{Config: config, Rules: rules.NewSet(table, config.Settings()), Dir: filepath.Join(t.TempDir(), "warm"), Upstream: up})
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			u := newClient(t, s, up, key("k"), nil)
			u.part(1, content(1, 2*block))
			u.part(2, content(2, 2*block))
			if !u.complete(u.list()) {
				t.Fatal("not completed")
			}
			e := s.peek(key("k"))
			memory, disk := e != nil && s.inMemory(e), e != nil && s.onDisk(e)
			if memory != c.memory || disk != c.disk {
				t.Errorf("in memory: %t, on disk: %t", memory, disk)
			}
			u.wantNoStrays()
			if !strings.HasPrefix(c.rule, "max_object") {
				wantRead(t, s, key("k"), "", slices.Concat(content(1, 2*block), content(2, 2*block)), "")
			}
		})
	}
}

// TestUploadAfterARestart: what was kept of open uploads is gone, and what was completed is there.
func TestUploadAfterARestart(t *testing.T) {
	up, config, dir := s3mem.New(), testConfig(rules.Exclusive), filepath.Join(t.TempDir(), "warm")
	s := openStore(t, config, dir, up)
	done, open := newClient(t, s, up, key("done"), nil), newClient(t, s, up, key("open"), nil)
	done.part(1, content(1, 2*block))
	open.part(1, content(2, 2*block))
	done.complete(done.list())
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = openStore(t, config, dir, up)
	defer s.Close()
	done.s, open.s = s, s
	done.wantNoStrays()
	open.part(2, content(3, 2*block))
	open.wantFetched(whole)
	open.wantNoStrays(done.key)
	up.Reset()
	wantRead(t, s, key("done"), "", content(1, 2*block), akigw.Warm)
	wantCount(t, up, "GET", 0)
}

// TestUploadLargerThanMemory: parts take no more memory than the tier has, and what was evicted of them
// is fetched when it is read.
func TestUploadLargerThanMemory(t *testing.T) {
	up, config := s3mem.New(), testConfig(rules.Exclusive)
	config.HotBytes, config.WarmBytes = 1<<20, 0
	s := newStore(t, config, up)
	c := newClient(t, s, up, key("k"), nil)
	var want []byte
	for n := range 10 {
		c.part(n+1, content(n+1, 5*block))
		want = append(want, content(n+1, 5*block)...)
		if used := s.hot.Bytes(); used > 1<<20 {
			t.Fatalf("%d bytes of memory are used", used)
		}
	}
	c.complete(c.list())
	up.Reset()
	wantRead(t, s, key("k"), "", want, "")
	if sent := up.Sent(); sent > int64(len(want)) {
		t.Errorf("%d bytes were fetched", sent)
	}
}

// TestUploadInStrictMode: the object is validated, and not fetched.
func TestUploadInStrictMode(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Strict), up)
	c := newClient(t, s, up, key("k"), nil)
	c.part(1, content(1, 2*block))
	c.complete(c.list())
	up.Reset()
	for range 3 {
		wantRead(t, s, key("k"), "", content(1, 2*block), "")
	}
	wantCount(t, up, "GET", 0)
	wantCount(t, up, "HEAD", 3)
}

// TestHeadersOfUploads: the headers of an object that was uploaded in parts are the upstream's, and are
// predicted in time.
func TestHeadersOfUploads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		header := http.Header{"Content-Type": {"text/x-test"}, "X-Amz-Meta-A": {"b"}}
		const n = 3 * proofs
		for i := range n {
			c := newClient(t, s, up, key(odd(i)), header)
			c.part(1, content(i+1, 5<<10))
			c.complete(c.list())
		}
		heads := 0
		for i := range n {
			heads += wantHeaders(t, s, up, up, key(odd(i)))
			synctest.Wait()
		}
		if heads < proofs || heads > proofs+2 { // and two for a page
			t.Errorf("%d HEADs for %d objects", heads, n)
		}
	})
}

// TestOpenUploadsAreBounded: the oldest are forgotten, by number and by age.
func TestOpenUploadsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Exclusive}, up)
		for n := range maxUploads + 10 {
			s.BeginUpload(key("k"), fmt.Sprint(n), nil)
			time.Sleep(time.Second)
		}
		if n := len(s.open); n != maxUploads {
			t.Errorf("%d uploads are known", n)
		}
		for n, known := range map[int]bool{0: false, 9: false, 10: true, maxUploads + 9: true} {
			w := s.BeginPart(key("k"), fmt.Sprint(n), 1, 100)
			if w.End(); w != nil != known {
				t.Errorf("upload %d is known: %t", n, w != nil)
			}
		}
		time.Sleep(maxUploadAge)
		s.BeginUpload(key("k"), "last", nil)
		if n := len(s.open); n != 1 {
			t.Errorf("%d uploads are known a day later", n)
		}
		s.uploads.parts = maxUploadParts
		if w := s.BeginPart(key("k"), "last", 1, 100); w != nil {
			t.Error("a part is known although there are too many")
		}
		s.uploads.parts, s.uploads.blocks = 0, maxUploadBlocks-2
		c := &client{t: t, s: s, up: up, key: key("k"), id: "last", tags: map[int]string{}}
		c.begin(1, content(1, 4*block), 4*block).End()
		if s.open[uploadID{key("k"), "last"}].extent != 0 {
			t.Error("an upload is kept although there are too many blocks")
		}
	})
}

// TestUploadsAtRandom: whatever happens to the parts of an upload, its object is read as it is upstream.
func TestUploadsAtRandom(t *testing.T) {
	random := testkit.Random(t)
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	cached := 0
	for range 500 {
		c := newClient(t, s, up, key(fmt.Sprint("k", random.IntN(5))), nil)
		sizes := []int{testkit.Pick(random, block, 2*block, 2*block, block+1), 2 * block, block / 2}[:1+random.IntN(3)]
		var open []*sending
		for range 2 + random.IntN(16) {
			if len(open) == 0 || random.IntN(3) == 0 {
				open = append(open, c.sending(random, sizes))
				continue
			}
			i := random.IntN(len(open))
			if open[i].goOn(random) {
				open = slices.Delete(open, i, i+1)
			}
		}
		if len(c.tags) == 0 || !c.complete(c.someOf(random)) {
			s.ForgetUpload(c.key, c.id)
		}
		if e := s.peek(c.key); e != nil {
			cached++
		}
		for _, o := range open { // too late
			for !o.goOn(random) {
			}
		}
		if object, ok := up.Get(c.key); ok {
			wantRead(t, s, c.key, "", object.Body, "")
		}
	}
	if cached < 25 {
		t.Errorf("%d of 500 objects were cached", cached)
	}
}

// sending is a part on its way.
type sending struct {
	*client
	w      *PartWrite
	number int
	body   []byte
	at     int
}

// sending begins a part. Most bodies of a part are the same.
func (c *client) sending(random *rand.Rand, sizes []int) *sending {
	number := 1 + random.IntN(3)
	body := content(random.IntN(10)/9*10+number, sizes[random.IntN(len(sizes))])
	return &sending{client: c, w: c.begin(number, body, 0), number: number, body: body}
}

// goOn sends more of the part, or ends it, and reports whether it has ended. Some fail, and some answers are
// lost.
func (s *sending) goOn(random *rand.Rand) (ended bool) {
	if n := min(len(s.body)-s.at, 1+random.IntN(2*block)); n > 0 && random.IntN(10) > 0 {
		s.w.Body(s.body[s.at : s.at+n])
		s.at += n
		return false
	}
	if s.at == len(s.body) && !s.done {
		if s.tags[s.number] = s.send(s.number, s.body); random.IntN(10) > 0 {
			s.w.Written(s.tags[s.number])
		}
	}
	s.w.End()
	return true
}

// someOf returns the list of all parts, or of some.
func (c *client) someOf(random *rand.Rand) (listed []UploadedPart) {
	listed = c.list()
	if random.IntN(4) == 0 {
		i := random.IntN(len(listed))
		listed = slices.Delete(listed, i, i+1)
	}
	return listed
}

// TestPartsInParallel: parts that arrive at the same time, with some of them sent again meanwhile.
func TestPartsInParallel(t *testing.T) {
	up := s3mem.New()
	s := newStore(t, testConfig(rules.Exclusive), up)
	for round := range 20 {
		c := newClient(t, s, up, key("k"), nil)
		var wait sync.WaitGroup
		var mu sync.Mutex
		for n := range 8 {
			for range 1 + n%2 {
				wait.Go(func() {
					body := content(n+1, 2*block)
					w := c.begin(n+1, body, len(body))
					defer w.End()
					etag := c.send(n+1, body)
					w.Written(etag)
					mu.Lock()
					defer mu.Unlock()
					c.tags[n+1] = etag
				})
			}
		}
		wait.Wait()
		if !c.complete(c.list()) {
			t.Fatal("not completed")
		}
		up.Reset()
		object, _ := up.Get(key("k"))
		wantRead(t, s, key("k"), "", object.Body, "")
		if n := up.Count("GetObject"); n > 0 {
			t.Fatalf("round %d: %d GETs", round, n)
		}
		s.removals.Wait()
	}
}

// TestSlowPartOfACompletedUpload: a body of a part that still arrives when the upload is completed, or
// dropped, neither changes the object nor leaves blocks.
func TestSlowPartOfACompletedUpload(t *testing.T) {
	for _, drop := range []bool{false, true} {
		up := s3mem.New()
		s := newStore(t, testConfig(rules.Exclusive), up)
		c := newClient(t, s, up, key("k"), nil)
		body := content(1, 4*block)
		c.part(1, body)
		w := c.begin(1, body, 2*block)
		if drop {
			s.ForgetUpload(c.key, c.id)
		} else if !c.complete(c.list()) {
			t.Fatal("not completed")
		}
		w.Body(content(2, 2*block))
		w.Written(`"x"`)
		w.End()
		c.wantNoStrays()
		if !drop {
			up.Reset()
			wantRead(t, s, c.key, "", body, "")
			wantCount(t, up, "GET", 0)
		}
	}
}

// BenchmarkBodies compares a part of 8 MiB on its way into memory with the body of a PUT.
func BenchmarkBodies(b *testing.B) {
	const size = 8 << 20
	up, body := s3mem.New(), content(1, size)
	config := testConfig(rules.Exclusive)
	config.WarmBytes, config.HotBytes = 0, 64<<20
	s, err := New(Options{Config: config, Rules: rules.NewSet(nil, config.Settings()), Upstream: up})
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	pass := func(to func([]byte)) {
		for chunk := range slices.Chunk(body, 32<<10) {
			to(chunk)
		}
	}
	b.Run("put", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			w := s.Begin(key("k"))
			pass(w.Body)
			w.Written(nil, http.Header{"Etag": {`"x"`}}, nil)
		}
	})
	b.Run("part", func(b *testing.B) {
		b.SetBytes(size)
		for b.Loop() {
			s.BeginUpload(key("k"), "id", nil)
			w := s.BeginPart(key("k"), "id", 1, size)
			pass(w.Body)
			w.Written(`"x"`)
			w.End()
		}
	})
}

// TestUploadsOfOneKey: of two uploads of a key and a PUT, whatever was last is read, from memory.
func TestUploadsOfOneKey(t *testing.T) {
	for _, order := range [][]int{{0, 1}, {1, 0}, {0, 2, 1}, {2, 0, 1}, {0, 1, 2}} {
		t.Run(fmt.Sprint(order), func(t *testing.T) {
			up := s3mem.New()
			s := newStore(t, testConfig(rules.Exclusive), up)
			clients := []*client{newClient(t, s, up, key("k"), nil), newClient(t, s, up, key("k"), nil)}
			for i, c := range clients {
				c.part(1, content(10+i, 2*block))
				c.part(2, content(20+i, block+1))
			}
			for _, n := range order {
				if n < len(clients) {
					if !clients[n].complete(clients[n].list()) {
						t.Fatal("not completed")
					}
					continue
				}
				w := s.Begin(key("k"))
				w.Body(content(30, 3*block))
				w.Written(nil, http.Header{"Etag": {up.Put(key("k"), content(30, 3*block))}}, nil)
				w.End()
			}
			object, _ := up.Get(key("k"))
			up.Reset()
			wantRead(t, s, key("k"), "", object.Body, akigw.Hot)
			wantCount(t, up, "GET", 0)
		})
	}
}

// TestUploadWithOpaqueETags: the ETags of parts that are encrypted with keys of a KMS are no MD5s of them. The
// gateway only needs to have sent each part under its ETag.
func TestUploadWithOpaqueETags(t *testing.T) {
	up := s3mem.New()
	up.KMS.Store(true)
	s := newStore(t, testConfig(rules.Exclusive), up)
	c := newClient(t, s, up, key("k"), nil)
	c.part(1, content(1, 2*block))
	c.part(2, content(2, block+1))
	c.wantFetched(0)
	c.wantNoStrays()
}
