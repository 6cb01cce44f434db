// Package tiertest opens a tiers.Store for tests of packages above it, and reads and writes through it
// as the gateway does.
package tiertest

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// Block is the size of a block in bytes under Config.
const Block = 64 << 10

// Config is 8 MiB of memory and 64 MiB of disk, with blocks of 64 KiB; objects up to 4 KiB are
// one entry.
func Config(freshness rules.Freshness) tiers.Config {
	return tiers.Config{HotBytes: 8 << 20, WarmBytes: 64 << 20, BlockBytes: Block, SmallBytes: 4 << 10, MD5ETags: true, Freshness: freshness}
}

// Open opens a store. Without rules, the settings of its configuration apply; without a directory, it
// uses a temporary one. The caller closes the store.
func Open(t testing.TB, o tiers.Options) *tiers.Store {
	t.Helper()
	if o.Rules == nil {
		o.Rules = rules.NewSet(nil, o.Config.Settings())
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "warm")
	}
	s, err := tiers.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Close closes a store.
func Close(t testing.TB, s *tiers.Store) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// Key returns a key of the bucket "bucket".
func Key(name string) akigw.Key { return akigw.Key{Bucket: "bucket", Name: name} }

// Read reads a key to its end. The range is a Range header, or "".
func Read(s *tiers.Store, k akigw.Key, rangeHeader string) ([]byte, akigw.Outcome, error) {
	ctx := context.Background()
	r, err := s.Get(ctx, k, akigw.ParseRange(rangeHeader), akigw.Conditions{})
	if r != nil {
		defer r.Close()
	}
	if err != nil {
		return nil, "", err
	}
	var out bytes.Buffer
	for {
		data, err := r.Next(ctx)
		if err == io.EOF {
			return out.Bytes(), r.Outcome, nil
		}
		if err != nil {
			return out.Bytes(), r.Outcome, err
		}
		out.Write(data)
	}
}

// MustRead fails the test if a key cannot be read.
func MustRead(t testing.TB, s *tiers.Store, k akigw.Key) {
	t.Helper()
	if _, _, err := Read(s, k, ""); err != nil {
		t.Fatal(err)
	}
}

// WantRead fails the test unless a key has these bytes, from this tier if it is not "".
func WantRead(t testing.TB, s *tiers.Store, k akigw.Key, want []byte, outcome akigw.Outcome) {
	t.Helper()
	got, from, err := Read(s, k, "")
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read %s: %d bytes, equal %t, error %v; want %d bytes", k, len(got), bytes.Equal(got, want), err, len(want))
	}
	if outcome != "" && from != outcome {
		t.Fatalf("read %s came from %s, want %s", k, from, outcome)
	}
}

// Put writes a key through the store, as the gateway does.
func Put(s *tiers.Store, up *s3mem.Memory, k akigw.Key, body []byte) error {
	w := s.Begin(k)
	defer w.End()
	w.Body(body)
	resp, err := up.Do(context.Background(), &cold.Request{Method: http.MethodPut, Key: k, Body: bytes.NewReader(body), Length: int64(len(body))})
	if err == nil {
		w.Written(nil, resp.Header, nil)
	}
	return err
}
