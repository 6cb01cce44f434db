package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// packing packs small objects of the bucket "back".
type packing struct{ byMode }

func (packing) For(bucket, key string) *rules.Settings {
	s := *byMode{}.For(bucket, key)
	if bucket == back {
		s.Pack = 1000
	}
	return &s
}

// packBench is a gateway with some objects of the bucket "back" in packs: "a/0" to
// "a/9", and "b/0" to "b/9".
func packBench(t *testing.T) *bench {
	b := backBenchOf(t, packing{}, testBack)
	b.runPool(t)
	for _, prefix := range []string{"a", "b"} {
		for i := range 10 {
			name := fmt.Sprintf("/back/%s/%d", prefix, i)
			if w := b.ask("root", "PUT", name, "", http.Header{"X-Amz-Meta-M": {name}}, "body of "+name); w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
				t.Fatalf("%d %s", w.Code, w.Body)
			}
		}
	}
	b.settlePacks(t, 20)
	return b
}

// settlePacks waits until so many objects are in packs and nothing is pending.
func (b *bench) settlePacks(t *testing.T, want int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		st := b.writes.Status()
		if st.Packed == want && st.Pending == 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%+v", st)
		}
	}
}

// TestPackedObjectsAreTransparent: clients of the gateway see objects like any others,
// and nothing of the packs.
func TestPackedObjectsAreTransparent(t *testing.T) {
	b := packBench(t)
	if b.up.Len() != 2 {
		t.Errorf("%d objects upstream", b.up.Len())
	}
	for range 2 {
		w := b.ask("root", "GET", "/back/a/3", "", nil, "")
		if want := "body of /back/a/3"; w.Code != 200 || w.Body.String() != want || tagOf(w) != fmt.Sprintf("\"%x\"", md5.Sum([]byte(want))) || sentHeader(w, "x-amz-meta-m") != "/back/a/3" {
			t.Errorf("GET: %d %q %v", w.Code, w.Body, w.Header())
		}
	}
	gets := b.up.Count("GET")
	if w := b.ask("root", "GET", "/back/a/4", "", http.Header{"Range": {"bytes=8-12"}}, ""); w.Code != 206 || w.Body.String() != "/back" || sentHeader(w, "x-akigw-cache") != "hot" {
		t.Errorf("range: %d %q %v", w.Code, w.Body, w.Header())
	}
	if w := b.ask("root", "HEAD", "/back/a/4", "", nil, ""); w.Code != 200 || w.Header().Get("Content-Length") != "17" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if n := b.up.Count("GET") - gets; n != 0 {
		t.Errorf("%d GETs upstream for what is in the same pack", n)
	}
	for query, want := range map[string]int{"list-type=2": 20, "list-type=2&max-keys=7": 7, "prefix=a%2F": 10, "list-type=2&prefix=.akigw": 0} {
		w := b.ask("root", "GET", "/back", query, nil, "")
		if got := strings.Count(w.Body.String(), "<Contents>"); w.Code != 200 || got != want || strings.Contains(w.Body.String(), "<Key>.akigw") {
			t.Errorf("LIST %s: %d, %d keys: %s", query, w.Code, got, w.Body)
		}
	}
	if w := b.ask("root", "GET", "/back", "list-type=2&delimiter=%2F", nil, ""); strings.Count(w.Body.String(), "<CommonPrefixes>") != 2 || strings.Contains(w.Body.String(), ".akigw") {
		t.Errorf("LIST with a delimiter: %s", w.Body)
	}
	for _, method := range []string{"GET", "PUT", "DELETE"} {
		if w := b.ask("root", method, "/back/.akigw/packs/x", "", nil, ""); w.Code != 403 {
			t.Errorf("%s of a pack: %d", method, w.Code)
		}
	}
	document := "<Delete><Object><Key>.akigw/packs/x</Key></Object></Delete>"
	sum := md5.Sum([]byte(document))
	if w := b.ask("root", "POST", "/back", "delete=", http.Header{"Content-Md5": {base64.StdEncoding.EncodeToString(sum[:])}}, document); !strings.Contains(w.Body.String(), "AccessDenied") {
		t.Errorf("DeleteObjects of a pack: %d %s", w.Code, w.Body)
	}
}

// TestPackedIsTakenOut: a request that only the upstream can answer finds an object of
// its own; what is deleted or written over is; and the packs go.
func TestPackedIsTakenOut(t *testing.T) {
	b := packBench(t)
	if w := b.ask("root", "PUT", "/back/copy", "", http.Header{"X-Amz-Copy-Source": {"back/a/3"}, "X-Amz-Copy-Source-If-None-Match": {`"x"`}}, ""); w.Code != 200 {
		t.Fatalf("copy: %d %s", w.Code, w.Body)
	}
	if o, ok := b.up.Get(backKey("copy")); !ok || string(o.Body) != "body of /back/a/3" {
		t.Errorf("%t %q", ok, o.Body)
	}
	if w := b.ask("root", "PUT", "/back/a/4", "", http.Header{"If-Match": {fmt.Sprintf("\"%x\"", md5.Sum([]byte("body of /back/a/4")))}}, "new"); w.Code != 200 {
		t.Errorf("conditional: %d %s", w.Code, w.Body)
	}
	if w := b.ask("root", "GET", "/back/a/4", "", nil, ""); w.Body.String() != "new" {
		t.Errorf("%q", w.Body)
	}
	for i := range 10 {
		if w := b.ask("root", "DELETE", fmt.Sprintf("/back/a/%d", i), "", nil, ""); w.Code != 204 {
			t.Errorf("DELETE: %d", w.Code)
		}
	}
	if w := b.ask("root", "GET", "/back/a/7", "", nil, ""); w.Code != 404 {
		t.Errorf("deleted: %d", w.Code)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if n, err := b.writes.Unpack(ctx, back); err != nil || n != 10 {
		t.Errorf("%d out of packs, %v", n, err)
	}
	for end := time.Now().Add(5 * time.Second); b.up.Len() != 11 && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if st := b.writes.Status(); b.up.Len() != 11 || st.Packs != 0 || st.Packed != 0 { // ten and the copy
		t.Errorf("%d objects upstream, %+v", b.up.Len(), st.Stats)
	}
}

// largePacking packs larger objects, so that a pack has several blocks.
type largePacking struct{ byMode }

func (largePacking) For(bucket, key string) *rules.Settings {
	s := *byMode{}.For(bucket, key)
	s.Pack = 20_000
	return &s
}

// TestCorruptedPack: what comes damaged out of a pack is read again, also if it was
// brought along with a neighbour that was not damaged.
//
// Scenarios: A8.
func TestCorruptedPack(t *testing.T) {
	for _, size := range []int{100, 20_000} {
		b := backBenchOf(t, largePacking{}, testBack)
		b.runPool(t)
		body := func(i int) string { return strings.Repeat(fmt.Sprint(i), size) }
		for i := range 10 {
			b.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", nil, body(i))
		}
		b.settlePacks(t, 10)
		for _, name := range b.up.KeysOf(back) { // it is in memory from its upload
			b.store.Begin(backKey(name)).End()
		}
		damaged := 0
		b.up.After = func(r *cold.Request, resp *http.Response) {
			if r.Op != "GetObject" || damaged > 0 {
				return
			}
			damaged++
			data, _ := io.ReadAll(resp.Body)
			for i := 2 * size; i < len(data); i++ { // not of the first objects in it
				data[i] ^= 1
			}
			resp.Body = io.NopCloser(bytes.NewReader(data))
		}
		for i := range 10 {
			if w := b.ask("root", "GET", fmt.Sprintf("/back/%d", i), "", nil, ""); w.Code != 200 || w.Body.String() != body(i) {
				t.Errorf("%d of %d bytes: %d, %d bytes", i, size, w.Code, w.Body.Len())
			}
		}
		if damaged != 1 {
			t.Error("nothing was damaged")
		}
	}
}

// TestBucketWithPacksIsDeleted: once its objects are.
func TestBucketWithPacksIsDeleted(t *testing.T) {
	b := packBench(t)
	left := -1
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "DeleteBucket" {
			left = b.up.Len()
			return s3mem.Response(204, nil, nil), nil
		}
		return nil, nil
	}
	for _, prefix := range []string{"a", "b"} {
		for i := range 10 {
			b.ask("root", "DELETE", fmt.Sprintf("/back/%s/%d", prefix, i), "", nil, "")
		}
	}
	if w := b.ask("root", "DELETE", "/back", "", nil, ""); w.Code != 204 || left != 0 {
		t.Errorf("%d %s, with %d objects upstream", w.Code, w.Body, left)
	}
}
