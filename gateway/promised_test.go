package gateway

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/storekit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// dating is a gateway with directories that outlive it, before an upstream whose clock is
// not the gateway's.
type dating struct {
	*bench
	t    *testing.T
	dirs [2]string // of the cache and of the journal
	book storekit.Rules
	stop func()
}

// backAs is the bucket "back" in a freshness mode.
type backAs struct {
	storekit.Rules
	freshness rules.Freshness
}

func (b backAs) For(bucket, key string) *rules.Settings {
	s := *b.Rules.For(bucket, key)
	if bucket == back {
		s.Freshness = b.freshness
	}
	return &s
}

func newDating(t *testing.T, book storekit.Rules, ahead time.Duration) *dating {
	d := &dating{bench: &bench{up: s3mem.New()}, t: t, dirs: [2]string{t.TempDir(), t.TempDir()}, book: book}
	d.up.Clock = func() time.Time { return time.Now().Truncate(time.Second).Add(ahead + 523*time.Millisecond) }
	d.start(testBack)
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *dating) start(c writeback.Config) {
	d.t.Helper()
	log := slog.New(slog.DiscardHandler)
	config := tiers.Config{HotBytes: 8 << 20, WarmBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, FetchBytes: 128 << 10, ParallelFetches: 4, MD5ETags: true}
	c.Dir = d.dirs[1]
	kit := openKit(d.t, storekit.Options{Cache: config, WarmDir: d.dirs[0], Back: c, Batch: testBatch, Rules: d.book, Upstream: d.up, Log: log})
	d.bench = kitBench(kit, d.up, d.up, log)
	d.stop = func() {
		if err := kit.Close(); err != nil {
			d.t.Error(err)
		}
	}
}

// again stops the gateway and starts it anew.
func (d *dating) again(c writeback.Config) {
	d.t.Helper()
	d.stop()
	d.start(c)
}

// flush runs the pool until nothing is pending.
func (d *dating) flush() {
	d.t.Helper()
	d.t.Run("flush", func(t *testing.T) { d.drain(t) }) // the pool ends with it
}

// date is the Last-Modified of an answer.
func date(t *testing.T, w *httptest.ResponseRecorder) time.Time {
	t.Helper()
	at, err := http.ParseTime(sentHeader(w, "Last-Modified"))
	if err != nil {
		t.Errorf("%d: Last-Modified %q", w.Code, sentHeader(w, "Last-Modified"))
	}
	return at
}

// promised is the date that is shown of a key.
func (d *dating) promised(path string) time.Time {
	d.t.Helper()
	return date(d.t, d.ask("root", "HEAD", path, "", nil, ""))
}

// quick asks as a client whose connection is not new; false if it is not answered so.
func (d *dating) quick(path string, header http.Header) (*httptest.ResponseRecorder, bool) {
	r := &http.Request{Method: "GET", URL: &url.URL{Path: path}, Host: "s3.example.com", Header: header.Clone(), Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
	if r.Header == nil {
		r.Header = http.Header{}
	}
	s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
	w := httptest.NewRecorder()
	return w, d.g.ServeLocal(w, r.WithContext(d.t.Context()))
}

// expect sees that everything that shows the date of an object, or decides on it, goes by
// the date want.
func (d *dating) expect(when, path string, want time.Time) {
	t := d.t
	t.Helper()
	listed := want.UTC().Format(listTime)
	want = want.Truncate(time.Second)
	noStore := http.Header{"Cache-Control": {"no-store"}}
	for _, method := range []string{"GET", "HEAD"} {
		for _, h := range []http.Header{nil, noStore, {"Range": {"bytes=0-1"}}} {
			if w := d.ask("root", method, path, "", h, ""); w.Code/100 != 2 || !date(t, w).Equal(want) {
				t.Errorf("%s: %s %v: %d %s, want %s", when, method, h, w.Code, date(t, w), want)
			}
		}
	}
	if w := d.ask("root", "GET", path, "attributes=", http.Header{"X-Amz-Object-Attributes": {"ETag"}}, ""); w.Code != 200 || !date(t, w).Equal(want) {
		t.Errorf("%s: GetObjectAttributes: %d %s, want %s", when, w.Code, date(t, w), want)
	}
	_, name, _ := strings.Cut(path[1:], "/")
	for _, query := range []string{"list-type=2", "prefix=k", "list-type=2&encoding-type=url", "versions="} {
		w := d.ask("root", "GET", "/back", query, nil, "")
		line := regexp.MustCompile(`<Key>` + name + `</Key>.*?<LastModified>(.*?)</LastModified>`).FindStringSubmatch(w.Body.String())
		if w.Code != 200 || line == nil || line[1] != listed {
			t.Errorf("%s: %s: %d %q, want %s", when, query, w.Code, line, listed)
		}
	}
	at := func(d time.Duration) []string { return []string{want.Add(d).UTC().Format(http.TimeFormat)} }
	for _, c := range []struct {
		header  string
		from    time.Duration
		status  int
		condemn int // of a copy
	}{
		{"If-Unmodified-Since", 0, 200, 200}, {"If-Unmodified-Since", -time.Second, 412, 412}, {"If-Unmodified-Since", time.Hour, 200, 200},
		{"If-Unmodified-Since", 1000 * time.Hour, 200, 200}, {"If-Unmodified-Since", -1000 * time.Hour, 412, 412},
		{"If-Modified-Since", 0, 304, 412}, {"If-Modified-Since", -time.Second, 200, 200}, {"If-Modified-Since", time.Hour, 304, 412},
		{"If-Modified-Since", 1000 * time.Hour, 304, 412}, {"If-Modified-Since", -1000 * time.Hour, 200, 200},
	} {
		for _, h := range []http.Header{{c.header: at(c.from)}, {c.header: at(c.from), "Cache-Control": {"no-store"}}} {
			for _, method := range []string{"GET", "HEAD"} {
				if w := d.ask("root", method, path, "", h, ""); w.Code != c.status || w.Code != 412 && !date(t, w).Equal(want) {
					t.Errorf("%s: %s %v: %d %s, want %d", when, method, h, w.Code, sentHeader(w, "Last-Modified"), c.status)
				}
			}
		}
		h := http.Header{"X-Amz-Copy-Source": {path[1:]}, "X-Amz-Copy-Source-" + c.header: at(c.from)}
		if w := d.ask("root", "PUT", "/back/copy", "", h, ""); w.Code != c.condemn {
			t.Errorf("%s: copy %v: %d, want %d", when, h, w.Code, c.condemn)
		}
	}
	if settings := d.book.For(back, name); settings.Freshness != rules.Exclusive {
		return
	}
	w, ok := d.quick(path, nil)
	if !ok || !date(t, w).Equal(want) {
		t.Errorf("%s: quickly %t, %s, want %s", when, ok, sentHeader(w, "Last-Modified"), want)
	}
	if w, ok := d.quick(path, http.Header{"If-Unmodified-Since": at(0)}); !ok || w.Code != 200 {
		t.Errorf("%s: quickly on a condition: %t %d", when, ok, w.Code)
	}
	if _, ok := d.quick(path, http.Header{"If-Unmodified-Since": at(-time.Second)}); ok {
		t.Errorf("%s: a condition that does not hold is answered quickly", when)
	}
}

// keptDates are the ways in which an object comes to the upstream.
var keptDates = map[string]func(t *testing.T, d *dating){
	"put": func(t *testing.T, d *dating) { d.ask("root", "PUT", "/back/k", "", nil, "body") },
	"large put": func(t *testing.T, d *dating) {
		d.ask("root", "PUT", "/back/k", "", nil, strings.Repeat("x", 300_000))
	},
	"multipart": func(t *testing.T, d *dating) {
		u := d.upload(t, "/back/k", nil)
		for i, body := range partBodies {
			u.mustPart(i+1, body, nil)
		}
		if w := u.complete(nil); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	},
	"copy": func(t *testing.T, d *dating) {
		d.ask("root", "PUT", "/back/source", "", nil, "body")
		if _, at := d.copyOf(t, "/back/k", "back/source", nil); !at.Equal(d.promised("/back/k")) {
			t.Errorf("the copy was made at %s, and is of %s", at, d.promised("/back/k"))
		}
	},
	"answer lost": func(t *testing.T, d *dating) {
		lost := false
		d.up.After = func(r *cold.Request, resp *http.Response) {
			if r.Op == "PutObject" && !lost {
				lost = true
				*resp = *s3mem.Response(500, nil, []byte("<Error><Code>InternalError</Code></Error>"))
			}
		}
		d.ask("root", "PUT", "/back/k", "", nil, "body")
	},
	"another ETag": func(t *testing.T, d *dating) {
		d.up.KMS.Store(true)
		d.up.Before = kmsSays(false)
		d.ask("root", "PUT", "/back/k", "", nil, "body")
	},
}

// TestPromisedDateIsKept: the Last-Modified that an object has while it is pending is the
// one that it has for good, wherever it is shown or decides: flushed, cached and not,
// started again; whether the upstream's clock is ahead or behind.
func TestPromisedDateIsKept(t *testing.T) {
	for name, write := range keptDates {
		for _, c := range []struct {
			freshness rules.Freshness
			ahead     time.Duration
		}{{rules.Exclusive, 2 * time.Hour}, {rules.Strict, -2 * time.Hour}, {rules.Strict, 0}} {
			t.Run(fmt.Sprintf("%s/%s/%s", name, c.freshness, c.ahead), func(t *testing.T) {
				d := newDating(t, backAs{byMode{}, c.freshness}, c.ahead)
				write(t, d)
				want := d.promised("/back/k")
				d.flush()
				if o, ok := d.up.Get(backKey("k")); !ok || o.Modified.Equal(want) {
					t.Fatalf("upstream %t at %s, promised %s", ok, o.Modified, want)
				}
				d.ask("root", "GET", "/back/k", "", nil, "") // its headers are asked for once
				d.expect("flushed", "/back/k", want)
				d.store.Begin(backKey("k")).End()
				d.ask("root", "GET", "/back/k", "", nil, "")
				d.expect("out of the cache", "/back/k", want)
				d.again(testBack)
				d.ask("root", "GET", "/back/k", "", nil, "")
				d.expect("started again", "/back/k", want)
			})
		}
	}
}

// TestPromisedDateOfPackedObjects: in a pack, and taken out of it.
func TestPromisedDateOfPackedObjects(t *testing.T) {
	d := newDating(t, packing{}, 2*time.Hour)
	d.ask("root", "PUT", "/back/k", "", nil, "body")
	want := d.promised("/back/k")
	t.Run("pool", func(t *testing.T) {
		d.runPool(t)
		d.settlePacks(t, 1)
		if at := d.promised("/back/k"); !at.Equal(want) {
			t.Errorf("packed: %s, want %s", at, want)
		}
		if n, err := d.writes.Unpack(t.Context(), back); n != 1 || err != nil {
			t.Errorf("%d %v", n, err)
		}
	})
	d.ask("root", "GET", "/back/k", "", nil, "")
	d.expect("unpacked", "/back/k", want)
	d.again(testBack)
	d.ask("root", "GET", "/back/k", "", nil, "")
	d.expect("started again", "/back/k", want)
}

// TestPromisedDateEnds: another object has the date that the upstream gives it, however it
// came there.
func TestPromisedDateEnds(t *testing.T) {
	written := time.Now().Truncate(time.Second).Add(time.Hour)
	for name, replace := range map[string]func(d *dating){
		"past the gateway": func(d *dating) {
			d.up.PutStored(backKey("k"), s3mem.Stored{Body: []byte("body"), ETag: plainTag("body"), Modified: d.up.Clock()})
		},
		"through it": func(d *dating) {
			d.ask("root", "PUT", "/back/k", "", http.Header{"X-Amz-Tagging": {"a=b"}}, "another")
		},
		"the same bytes, in the second of the flush": func(d *dating) {
			d.up.Clock = func() time.Time { return written }
			d.ask("root", "PUT", "/back/k", "", http.Header{"X-Amz-Tagging": {"a=b"}}, "body")
		},
		"deleted first": func(d *dating) {
			d.ask("root", "DELETE", "/back/k", "", nil, "")
			d.flush()
			d.up.PutStored(backKey("k"), s3mem.Stored{Body: []byte("body"), ETag: plainTag("body"), Modified: written})
		},
		"copied over": func(d *dating) {
			d.up.Put(backKey("source"), []byte("another"))
			d.ask("root", "PUT", "/back/k", "", http.Header{"X-Amz-Copy-Source": {"back/source"}}, "")
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDating(t, backAs{byMode{}, rules.Strict}, 0)
			d.up.Clock = func() time.Time { return written }
			d.ask("root", "PUT", "/back/k", "", nil, "body")
			d.flush()
			d.up.Clock = func() time.Time { return written.Add(time.Hour) }
			replace(d)
			o, ok := d.up.Get(backKey("k"))
			if !ok {
				t.Fatal("nothing is there")
			}
			for range 2 {
				d.expect(name, "/back/k", o.Modified)
				d.ask("root", "DELETE", "/back/copy", "", nil, "")
				d.flush()
				d.again(testBack)
			}
			if st := d.writes.Status(); st.Dates > 1 { // that of the copy may be left
				t.Errorf("%d dates stay", st.Dates)
			}
		})
	}
}

// TestPromisedDateIsBounded: over the bound the object that was flushed first has the
// upstream's date, everywhere; without a bound none has.
func TestPromisedDateIsBounded(t *testing.T) {
	c := testBack
	c.MaxDates = 1
	d := newDating(t, backAs{byMode{}, rules.Strict}, 2*time.Hour)
	d.again(c)
	for _, name := range []string{"k", "k2"} {
		d.ask("root", "PUT", "/back/"+name, "", nil, "body")
		if name == "k2" {
			d.expectAfterFlush("k2")
			continue
		}
		d.flush()
	}
	o, _ := d.up.Get(backKey("k"))
	d.expect("the first", "/back/k", o.Modified)
	c.MaxDates = 0
	d.again(c)
	o, _ = d.up.Get(backKey("k2"))
	if at := d.promised("/back/k2"); !at.Equal(o.Modified.Truncate(time.Second)) {
		t.Errorf("%s, want %s", at, o.Modified)
	}
}

// expectAfterFlush flushes, and sees that a key keeps its date.
func (d *dating) expectAfterFlush(name string) {
	d.t.Helper()
	want := d.promised("/back/" + name)
	d.flush()
	d.expect("the second", "/back/"+name, want)
}

// TestRefusedWriteKeepsTheDate: a write that changed nothing does not end what was promised.
func TestRefusedWriteKeepsTheDate(t *testing.T) {
	d := newDating(t, backAs{byMode{}, rules.Strict}, 2*time.Hour)
	d.ask("root", "PUT", "/back/k", "", nil, "body")
	want := d.promised("/back/k")
	d.flush()
	if w := d.ask("root", "PUT", "/back/k", "", http.Header{"If-None-Match": {"*"}}, "body"); w.Code != 412 {
		t.Fatalf("%d", w.Code)
	}
	d.expect("after a refusal", "/back/k", want)
}

// TestIfRange: the upstream is asked for its own date, or ETag, in the place of the promised one.
func TestIfRange(t *testing.T) {
	d := newDating(t, backAs{byMode{}, rules.Strict}, 2*time.Hour)
	d.ask("root", "PUT", "/back/k", "", nil, "body")
	want := d.promised("/back/k")
	d.flush()
	o, _ := d.up.Get(backKey("k"))
	seen := ""
	d.up.Before = func(r *cold.Request) (*http.Response, error) {
		seen = r.Header.Get("If-Range")
		return nil, nil
	}
	for _, c := range []struct{ asked, sent string }{
		{want.UTC().Format(http.TimeFormat), o.Modified.UTC().Format(http.TimeFormat)},
		{want.Add(time.Second).UTC().Format(http.TimeFormat), want.Add(time.Second).UTC().Format(http.TimeFormat)},
		{o.ETag, o.ETag},
	} {
		w := d.ask("root", "GET", "/back/k", "", http.Header{"Range": {"bytes=0-1"}, "If-Range": {c.asked}}, "")
		if w.Code != 206 || seen != c.sent || !date(t, w).Equal(want) {
			t.Errorf("%s: %d, the upstream is asked for %s, want %s", c.asked, w.Code, seen, c.sent)
		}
	}
}

// TestConditionsOfDeletions: those that name a date or an ETag name the promised one.
func TestConditionsOfDeletions(t *testing.T) {
	d := newDating(t, backAs{byMode{}, rules.Strict}, 2*time.Hour)
	d.ask("root", "PUT", "/back/k", "", nil, "body")
	want := d.promised("/back/k")
	d.flush()
	o, _ := d.up.Get(backKey("k"))
	seen := ""
	d.up.Before = func(r *cold.Request) (*http.Response, error) {
		switch r.Op {
		case "DeleteObjects":
			b := make([]byte, r.Length)
			_, err := r.Body.Read(b)
			seen = string(b)
			return s3mem.Response(200, nil, []byte("<DeleteResult></DeleteResult>")), err
		case "DeleteObject":
			seen = r.Header.Get("X-Amz-If-Match-Last-Modified-Time")
			return s3mem.Response(412, nil, nil), nil
		}
		return nil, nil
	}
	for _, layout := range []string{http.TimeFormat, time.RFC3339} {
		document := "<Delete><Object><Key>k</Key><LastModifiedTime>" + want.UTC().Format(layout) + "</LastModifiedTime></Object></Delete>"
		w := d.ask("root", "POST", "/back", "delete=", nil, document)
		if stored := o.Modified.UTC().Format(layout); w.Code != 200 || !strings.Contains(seen, "<LastModifiedTime>"+stored+"<") {
			t.Errorf("%d: the upstream is asked for %s, has %s", w.Code, seen, stored)
		}
	}
	d.ask("root", "DELETE", "/back/k", "", http.Header{"X-Amz-If-Match-Last-Modified-Time": {want.UTC().Format(http.TimeFormat)}}, "")
	if stored := o.Modified.UTC().Format(http.TimeFormat); seen != stored {
		t.Errorf("the upstream is asked for %s, has %s", seen, stored)
	}
}

// TestPromisedDateOfAReadThatMeetsTheFlush: a read that began before the write and sees it
// flushed shows the promised date, as those after it do.
func TestPromisedDateOfAReadThatMeetsTheFlush(t *testing.T) {
	for _, method := range []string{"GET", "HEAD"} {
		for _, h := range []http.Header{nil, {"Cache-Control": {"no-store"}}} {
			d := newDating(t, backAs{byMode{}, rules.Strict}, 2*time.Hour)
			first := true
			d.up.Before = func(r *cold.Request) (*http.Response, error) {
				if first && (r.Op == "GetObject" || r.Op == "HeadObject") {
					first = false
					d.ask("root", "PUT", "/back/k", "", nil, "body")
					d.flush()
				}
				return nil, nil
			}
			w := d.ask("root", method, "/back/k", "", h, "")
			if at := date(t, w); first || w.Code != 200 || !at.Equal(d.promised("/back/k")) || time.Until(at) > time.Hour {
				t.Errorf("%s %v: %d %s, then %s", method, h, w.Code, at, d.promised("/back/k"))
			}
		}
	}
}
