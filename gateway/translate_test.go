package gateway

import (
	"context"
	"crypto/md5"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// TestPromisedETagIsKept: what the journal acknowledged has the ETag that was promised
// for good, also if the upstream turns out to call it otherwise: in GET, HEAD, LIST and
// conditions, of whole uploads and of parts, cached and not.
func TestPromisedETagIsKept(t *testing.T) {
	for _, parts := range []bool{false, true} {
		b := backBench(t)
		b.up.KMS.Store(true)
		b.up.Before = kmsSays(false)
		body := strings.Join(partBodies, "")
		promised := plainTag(body)
		if parts {
			promised = multipartTag(partBodies...)
			u := b.upload(t, "/back/k", http.Header{"X-Amz-Meta-M": {"v"}})
			for i, body := range partBodies {
				u.mustPart(i+1, body, nil)
			}
			if w := u.complete(nil); w.Code != 200 {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		} else if w := b.ask("root", "PUT", "/back/k", "", http.Header{"X-Amz-Meta-M": {"v"}}, body); tagOf(w) != promised {
			t.Fatalf("%d %v", w.Code, w.Header())
		}
		b.drain(t)
		o, ok := b.up.Get(backKey("k"))
		if st := b.writes.Status(); !ok || o.ETag == promised || st.Translations != 1 || st.Dead+st.Pending > 0 {
			t.Fatalf("%t: upstream %s, promised %s, %+v", parts, o.ETag, promised, st.Stats)
		}
		check := func(when string) {
			t.Helper()
			for _, h := range []http.Header{{}, {"Cache-Control": {"no-store"}}, {"If-Match": {promised}}, {"If-None-Match": {`"x"`}}, {"If-Match": {promised}, "Cache-Control": {"no-store"}}} {
				if w := b.ask("root", "GET", "/back/k", "", h, ""); w.Code != 200 || tagOf(w) != promised || w.Body.String() != body || sentHeader(w, "x-amz-meta-m") != "v" {
					t.Errorf("%s: GET %v: %d %s", when, h, w.Code, tagOf(w))
				}
				if w := b.ask("root", "HEAD", "/back/k", "", h, ""); w.Code != 200 || tagOf(w) != promised {
					t.Errorf("%s: HEAD %v: %d %s", when, h, w.Code, tagOf(w))
				}
			}
			for _, h := range []http.Header{{"If-None-Match": {`"x", ` + promised}}, {"If-None-Match": {promised}, "Cache-Control": {"no-store"}}} {
				if w := b.ask("root", "GET", "/back/k", "", h, ""); w.Code != 304 || tagOf(w) != promised {
					t.Errorf("%s: GET %v: %d %s", when, h, w.Code, tagOf(w))
				}
			}
			for _, query := range []string{"list-type=2", "prefix=k"} {
				if w := b.ask("root", "GET", "/back", query, nil, ""); !strings.Contains(w.Body.String(), strings.Trim(promised, `"`)) || strings.Contains(w.Body.String(), strings.Trim(o.ETag, `"`)) {
					t.Errorf("%s: LIST: %s", when, w.Body)
				}
			}
		}
		check("flushed")
		b.store.Begin(backKey("k")).End()
		check("out of the cache")
		seen := ""
		b.up.Before = func(r *cold.Request) (*http.Response, error) {
			if r.Op == "CopyObject" {
				seen = r.Header.Get("X-Amz-Copy-Source-If-Match")
			}
			return nil, nil
		}
		b.ask("root", "PUT", "/back/copy", "", http.Header{"X-Amz-Copy-Source": {"back/k"}, "X-Amz-Copy-Source-If-Match": {promised}}, "")
		if seen != o.ETag {
			t.Errorf("a copy of %s asks for %s", o.ETag, seen)
		}
		if w := b.ask("root", "PUT", "/back/k", "", nil, "new"); sentHeader(w, "x-akigw-commit") != "upstream" {
			t.Errorf("the next write is committed by %s", sentHeader(w, "x-akigw-commit"))
		}
		now, _ := b.up.Get(backKey("k"))
		for range 2 {
			if w := b.ask("root", "GET", "/back/k", "", nil, ""); w.Body.String() != "new" || tagOf(w) != now.ETag {
				t.Errorf("written over: %q %s", w.Body, tagOf(w))
			}
		}
		for end := time.Now().Add(5 * time.Second); b.writes.Status().Translations > 0; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatal("the translation stays")
			}
		}
	}
}

// TestOtherBytesAreADeadLetter: an upstream that stores something else than was sent is
// found out, whatever ETag it gives.
func TestOtherBytesAreADeadLetter(t *testing.T) {
	b := backBench(t)
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "PutObject" {
			b.up.Put(r.Key, []byte("b0dy"))
			_, _ = io.Copy(io.Discard, r.Body)
			return s3mem.Response(200, http.Header{"Etag": {plainTag("b0dy")}}, nil), nil
		}
		return nil, nil
	}
	b.ask("root", "PUT", "/back/k", "", nil, "body")
	b.drain(t)
	if dead := b.writes.DeadLetters.List(); len(dead) != 1 || !strings.Contains(dead[0].Reason, "not those that were sent") {
		t.Errorf("%+v", dead)
	}
	if w := b.ask("root", "GET", "/back/k", "", nil, ""); w.Body.String() != "body" {
		t.Errorf("%q", w.Body)
	}
}

// TestPacksOfAnEncryptedBucket: they have ETags of their own, and their objects the
// promised ones.
func TestPacksOfAnEncryptedBucket(t *testing.T) {
	b := backBenchOf(t, packing{}, testBack)
	b.up.KMS.Store(true)
	b.up.Before = kmsSays(false)
	for i := range 10 {
		b.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", nil, fmt.Sprint("body ", i))
	}
	b.runPool(t)
	b.settlePacks(t, 10)
	for i := range 10 {
		body := fmt.Sprint("body ", i)
		if w := b.ask("root", "GET", fmt.Sprintf("/back/%d", i), "", nil, ""); w.Body.String() != body || tagOf(w) != fmt.Sprintf("\"%x\"", md5.Sum([]byte(body))) {
			t.Errorf("%d: %d %q %s", i, w.Code, w.Body, tagOf(w))
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if n, err := b.writes.Unpack(ctx, back); n != 10 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	w := b.ask("root", "GET", "/back", "list-type=2", nil, "")
	for i, m := range regexp.MustCompile("<ETag>&#34;(.*?)&#34;</ETag>|<ETag>&quot;(.*?)&quot;</ETag>").FindAllStringSubmatch(w.Body.String(), -1) {
		if want := fmt.Sprintf("%x", md5.Sum(fmt.Append(nil, "body ", i))); m[1]+m[2] != want {
			t.Errorf("%d: %s, want %s", i, m[0], want)
		}
	}
	if st := b.writes.Status(); st.Translations != 10 {
		t.Errorf("%+v", st.Stats)
	}
}
