package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
)

// byRange reads an object by GETs with a Range.
type byRange struct {
	b    *bench
	path string
	n    int
}

func (r *byRange) ReadAt(p []byte, at int64) (int, error) {
	r.n++
	w := r.b.ask("root", "GET", r.path, "", http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, at+int64(len(p))-1)}}, "")
	if w.Code != http.StatusPartialContent {
		return 0, fmt.Errorf("%d %s", w.Code, w.Body)
	}
	return io.ReadFull(w.Body, p)
}

// TestDeadLettersAreArchived: all in one object upstream, each of which a client finds
// by ranges. Large ones, parts, and those of several buckets.
func TestDeadLettersAreArchived(t *testing.T) {
	b := backBench(t)
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Key.Bucket == back && (r.Method == "PUT" || r.Method == "POST") {
			return s3mem.Response(400, nil, []byte("<Error><Code>EntityTooLarge</Code></Error>")), nil
		}
		return nil, nil
	}
	to := akigw.Key{Bucket: "exclusive", Name: "archive"}
	if _, err := b.writes.DeadLetters.Archive(t.Context(), to); err == nil {
		t.Error("nothing was archived")
	}
	want := map[string]string{"back/parts": strings.Join(partBodies, "")}
	for i, n := range []int{0, 10, 100_000, 9 << 20, 3} {
		body := string(testkit.Bytes(uint64(i+1), n))
		want[fmt.Sprintf("back/%d", i)] = body
		b.ask("root", "PUT", fmt.Sprintf("/back/%d", i), "", http.Header{"X-Amz-Meta-M": {"v"}}, body)
	}
	u := b.upload(t, "/back/parts", nil)
	for i, body := range partBodies {
		u.mustPart(i+1, body, nil)
	}
	u.complete(nil)
	b.drain(t)
	n, err := b.writes.DeadLetters.Archive(t.Context(), to)
	if err != nil || n != len(want) || len(b.writes.DeadLetters.List()) != len(want) {
		t.Fatalf("%d of %d: %v", n, len(want), err)
	}
	w := b.ask("root", "HEAD", "/exclusive/archive", "", nil, "")
	size, _ := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64)
	r := &byRange{b: b, path: "/exclusive/archive"}
	objects, err := pack.ReadIndex(r, size)
	if err != nil || len(objects) != len(want) || r.n != 2 || w.Header().Get("Content-Type") != pack.ContentType || !strings.HasSuffix(tagOf(w), `-2"`) {
		t.Fatalf("%d objects by %d ranges, %v, %v", len(objects), r.n, err, w.Header())
	}
	for _, o := range objects {
		data := make([]byte, o.Size)
		if o.Size > 0 {
			_, err = r.ReadAt(data, o.Offset)
		}
		if err != nil || !bytes.Equal(data, []byte(want[o.Name])) || o.Name != "back/parts" && (o.ETag != plainTag(want[o.Name]) || o.Header.Get("X-Amz-Meta-M") != "v") {
			t.Errorf("%s: %d bytes, %s, %v", o.Name, len(data), o.ETag, err)
		}
	}
	if b.up.Uploads() > 0 {
		t.Error("an upload is left upstream")
	}
}
