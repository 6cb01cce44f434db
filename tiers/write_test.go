package tiers

import (
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// pinnedInMemory pins everything in memory.
type pinnedInMemory struct{}

func (pinnedInMemory) Any() bool { return true }

func (pinnedInMemory) Apply(_ akigw.Key, settings *rules.Settings) *rules.Settings {
	own := *settings
	own.Pin, own.PinHot = true, true
	return &own
}

// TestCacheWrites: a PUT body enters the tiers that cache_writes names, and those in which the object is
// pinned. A tier that writes skip is not written to at all, and keeps no older version. A read brings
// the object in as usual.
func TestCacheWrites(t *testing.T) {
	for _, c := range []struct {
		rule         string
		pins         Pins
		memory, disk bool
	}{
		{rule: ``, memory: true, disk: true},
		{rule: `cache_writes = "both"`, memory: true, disk: true},
		{rule: `cache_writes = "memory"`, memory: true},
		{rule: `cache_writes = "disk"`, disk: true},
		{rule: `cache_writes = "none"`},
		{rule: "cache_writes = \"memory\"\ntiers = [\"warm\"]"},
		{rule: "cache_writes = \"none\"\npin = true", disk: true},
		{rule: `cache_writes = "none"`, pins: pinnedInMemory{}, memory: true, disk: true},
	} {
		for _, size := range []int{0, 100, 4<<10 + 1, 3*block + 17} {
			t.Run(fmt.Sprint(c.rule, " pinned by an operator ", c.pins != nil, ", bytes ", size), func(t *testing.T) {
				table, err := rules.Parse([]byte("[[rule]]\n" + c.rule))
				if err != nil {
					t.Fatal(err)
				}
				up, config := s3mem.New(), testConfig(rules.Exclusive)
				var writes atomic.Int64
				config.WarmFault = func(op akigw.DiskOp, _ string, _ int) (int, error) {
					if op == akigw.DiskWrite {
						writes.Add(1)
					}
					return 0, nil
				}
				s, err := New(Options{Config: config, Rules: rules.NewSet(table, config.Settings()), Dir: filepath.Join(t.TempDir(), "warm"), Upstream: up, Pins: c.pins})
				if err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				before := writes.Load()
				body := testkit.Bytes(1, size)
				if err := put(s, up, key("k"), body); err != nil {
					t.Fatal(err)
				}
				e := s.peek(key("k"))
				memory, disk := e != nil && s.inMemory(e), e != nil && s.onDisk(e)
				if memory != c.memory || disk != c.disk {
					t.Errorf("in memory: %t, on disk: %t", memory, disk)
				}
				if n := writes.Load() - before; n > 0 != c.disk {
					t.Errorf("%d writes to the disk", n)
				}
				wantRead(t, s, key("k"), "", body, "")
				if err := put(s, up, key("k"), testkit.Bytes(2, size)); err != nil {
					t.Fatal(err)
				}
				wantRead(t, s, key("k"), "", testkit.Bytes(2, size), "")
			})
		}
	}
}

// TestOverwrittenOnDisk: whatever becomes of a write, what was on disk before it is not served from
// when it begins, and not after it, nor after a restart.
func TestOverwrittenOnDisk(t *testing.T) {
	written := func(w *Write, etag string) { w.Written(nil, http.Header{"Etag": {etag}}, nil) }
	for name, c := range map[string]struct {
		rule string
		end  func(w *Write, etag string)
	}{
		"kept in both tiers":    {`"both"`, written},
		"kept in memory":        {`"memory"`, written},
		"kept on disk":          {`"disk"`, written},
		"not kept":              {`"none"`, written},
		"failed":                {`"both"`, func(w *Write, _ string) { w.End() }},
		"of unknown outcome":    {`"both"`, func(w *Write, _ string) { w.Unsettled() }},
		"not ended at shutdown": {`"both"`, func(*Write, string) {}},
	} {
		for _, size := range []int{100, 3 * block} {
			t.Run(fmt.Sprint(name, ", ", size), func(t *testing.T) {
				table, err := rules.Parse([]byte("[[rule]]\ncache_writes = " + c.rule))
				if err != nil {
					t.Fatal(err)
				}
				up, config := s3mem.New(), testConfig(rules.Exclusive)
				options := Options{Config: config, Rules: rules.NewSet(table, config.Settings()), Dir: filepath.Join(t.TempDir(), "warm"), Upstream: up}
				s, err := New(options)
				if err != nil {
					t.Fatal(err)
				}
				older, newer := testkit.Bytes(1, size), testkit.Bytes(2, size)
				up.Put(key("k"), older)
				wantRead(t, s, key("k"), "", older, akigw.Cold)
				leave := func() {
					s.LeaveMemory(key("k"))
					s.hot.Drop(hotKey{key: key("k")})
				}
				leave()
				wantRead(t, s, key("k"), "", older, akigw.Warm)
				w := s.Begin(key("k"))
				if e, _ := s.lookup(key("k")); e != nil {
					t.Error("what was there before is found while it is being replaced")
				}
				etag := up.Put(key("k"), newer)
				w.Body(newer)
				c.end(w, etag)
				leave()
				if w.ended { // otherwise a reader would bring the new bytes in
					wantRead(t, s, key("k"), "", newer, "")
				}
				leave()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = New(options); err != nil {
					t.Fatal(err)
				}
				defer s.Close()
				wantRead(t, s, key("k"), "", newer, "")
			})
		}
	}
}
