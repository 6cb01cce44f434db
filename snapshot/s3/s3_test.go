package s3

import (
	"bytes"
	"context"
	"io"
	"slices"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/snapshot"
)

var _ snapshot.Remote = (*Remote)(nil)

// sender sends objects to an upstream in memory.
type sender struct{ *s3mem.Memory }

// Send implements Sender.
func (s sender) Send(_ context.Context, to akigw.Key, _ string, body io.ReaderAt, size int64) error {
	data, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	s.Put(to, data)
	return err
}

// TestRemote: files are objects below the prefix, and a deletion fences its key.
func TestRemote(t *testing.T) {
	up := s3mem.New()
	var fenced []string
	r := &Remote{Bucket: "bucket", Prefix: "snapshots/", Upstream: up, Sender: sender{up}, Begin: func(key akigw.Key) func() {
		return func() { fenced = append(fenced, key.Name) }
	}}
	up.Put(akigw.Key{Bucket: "bucket", Name: "other"}, []byte("not a snapshot"))
	for _, name := range []string{"a", "b"} {
		if err := r.Put(t.Context(), name, bytes.NewReader([]byte("file "+name)), 6); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Delete(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	var names []string
	if err := r.List(t.Context(), func(name string, size int64) { names = append(names, name) }); err != nil || !slices.Equal(names, []string{"b"}) {
		t.Errorf("%q, %v", names, err)
	}
	body, err := r.Get(t.Context(), "b")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if data, err := io.ReadAll(body); string(data) != "file b" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if _, err := r.Get(t.Context(), "a"); err == nil {
		t.Error("a deleted file still exists")
	}
	if !slices.Equal(fenced, []string{"snapshots/a"}) {
		t.Errorf("fenced: %q", fenced)
	}
}
