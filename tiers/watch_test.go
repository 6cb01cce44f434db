package tiers

import (
	"context"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestWatch: a watch knows of each change since the read, whether it comes before the watch or after it,
// and does not take an eviction for one.
func TestWatch(t *testing.T) {
	const modified = "not new"
	for name, c := range map[string]struct {
		change func(t *testing.T, s *Store, up *s3mem.Memory)
		want   bool // it is a change
	}{
		"nothing": {func(*testing.T, *Store, *s3mem.Memory) {}, false},
		"another read": {func(t *testing.T, s *Store, _ *s3mem.Memory) {
			wantRead(t, s, key("k"), "", []byte(modified), akigw.Hot)
		}, false},
		"an eviction": {func(_ *testing.T, s *Store, _ *s3mem.Memory) { s.dropEntry(key("k")) }, false},
		"a validation": {func(t *testing.T, s *Store, _ *s3mem.Memory) {
			if _, err := get(s, key("k"), akigw.Conditions{NoCache: true}); err != nil {
				t.Error(err)
			}
		}, false},
		"a write": {func(t *testing.T, s *Store, up *s3mem.Memory) {
			if err := put(s, up, key("k"), []byte("new")); err != nil {
				t.Error(err)
			}
		}, true},
		"a write that was evicted": {func(t *testing.T, s *Store, up *s3mem.Memory) {
			if err := put(s, up, key("k"), []byte("new")); err != nil {
				t.Error(err)
			}
			s.dropEntry(key("k"))
		}, true},
		"a write under way": {func(t *testing.T, s *Store, _ *s3mem.Memory) {
			w := s.Begin(key("k"))
			t.Cleanup(w.End)
		}, true},
		"an event": {func(_ *testing.T, s *Store, up *s3mem.Memory) {
			s.Changed(cold.Change{Key: key("k"), ETag: up.Put(key("k"), []byte("new"))})
		}, true},
		"a validation that finds another object": {func(t *testing.T, s *Store, up *s3mem.Memory) {
			up.Put(key("k"), []byte("new"))
			if _, err := get(s, key("k"), akigw.Conditions{NoCache: true}); err != nil {
				t.Error(err)
			}
		}, true},
	} {
		t.Run(name, func(t *testing.T) {
			up := s3mem.New()
			up.PutStored(key("k"), s3mem.Stored{Body: []byte(modified), ETag: `"old"`, Modified: time.Now().Add(-time.Hour)})
			s := newStore(t, testConfig(rules.Exclusive), up)
			read := func() *Reader {
				for range 2 {
					r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
					if err != nil {
						t.Fatal(err)
					}
					if r.Outcome == akigw.Hot {
						return r
					}
					if _, err := drain(context.Background(), r); err != nil {
						t.Fatal(err)
					}
					r.Close()
				}
				t.Fatal("the object is not in memory")
				return nil
			}
			r := read()
			defer r.Close()
			w := r.Watch()
			if w == nil || w.Changed() {
				t.Fatal("changed before anything has")
			}
			c.change(t, s, up)
			if w.Changed() != c.want {
				t.Errorf("changed: %t, want %t", !c.want, c.want)
			}
			w.Close()
			// A watch that begins after the change is none, or sees it; after an eviction it is none as well.
			if late := r.Watch(); late != nil {
				if c.want || late.Changed() {
					t.Error("a watch that began after the change")
				}
				late.Close()
			}
		})
	}
}

// TestWatchConfirms: a watch asks the upstream whether the object is still there.
func TestWatchConfirms(t *testing.T) {
	up := s3mem.New()
	up.Put(key("k"), []byte("body"))
	s := newStore(t, testConfig(rules.Immutable), up)
	wantRead(t, s, key("k"), "", []byte("body"), akigw.Cold)
	r, err := s.Get(context.Background(), key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	w := r.Watch()
	if w == nil || !w.Confirm(context.Background()) {
		t.Fatal("an object that is there is not confirmed")
	}
	defer w.Close()
	up.Delete(key("k"))
	if w.Confirm(context.Background()) {
		t.Error("an object that is gone is confirmed")
	}
	up.Before = down
	if w.Confirm(context.Background()) {
		t.Error("an object is confirmed while the upstream is down")
	}
}
