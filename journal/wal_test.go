package journal

import (
	"bytes"
	"log/slog"
	"testing"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// newLog makes a log on its own, with its first segment.
func newLog(t *testing.T, fs vfs.FS) *wal {
	t.Helper()
	h := &health{dir: "/j", log: slog.New(slog.DiscardHandler)}
	w := &wal{fs: fs, dir: "/j", segmentBytes: 400, health: h, begun: func() {}, next: 1, epoch: epoch{1, 2}, reserve: &reserve{fs: fs, dir: "/j", log: h.log, health: h}}
	if err := fs.MkdirAll("/j/" + segmentDir); err != nil {
		t.Fatal(err)
	}
	if err := w.create(succession{id: 1}); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestLog: a record is found at the place that append returned, in segments whose heads name their
// predecessors. A batch takes one sync, whatever its records mean.
func TestLog(t *testing.T) {
	fs := &crashfs.Counting{FS: crashfs.New()}
	w := newLog(t, fs)
	var places []place
	for n := range 20 {
		before, segments := fs.Syncs.Load(), w.lastID()
		ops := []*op{{kind: kindPut, put: &Entry{Key: key("k"), Size: 3}, key: key("k"), data: []byte{byte(n), 1, 2}}, {kind: kindDelete, put: &Entry{Key: key("k")}, key: key("k")}}
		all, err := w.append(ops)
		if err != nil || len(all) != 2 {
			t.Fatalf("%+v %v", all, err)
		}
		if syncs := fs.Syncs.Load() - before; w.lastID() == segments && syncs != 1 {
			t.Errorf("%d syncs for a batch", syncs)
		}
		w.mark()
		places = append(places, all[0])
	}
	if n, total, last := w.sizes(); n < 4 || last > total || uint64(n) != w.lastID() {
		t.Fatalf("%d segments, %d and %d bytes", n, total, last)
	}
	for n, p := range places {
		s := w.acquire(p.segment)
		got := make([]byte, 3)
		if _, err := s.file.ReadAt(got, p.at); err != nil || !bytes.Equal(got, []byte{byte(n), 1, 2}) {
			t.Errorf("record %d: %v %v", n, got, err)
		}
		w.release(s)
	}
	for _, s := range w.complete() {
		raw, err := vfs.ReadFile(fs, w.segmentName(s.id))
		if err != nil {
			t.Fatal(err)
		}
		found := &scan{segment: s, size: int64(len(raw))}
		if found.read(raw); len(found.holes) > 0 || found.head == nil || found.head.id != s.id || found.head.before != s.id-1 || found.head.nonce != 2 {
			t.Errorf("segment %d: %+v, holes %v", s.id, found.head, found.holes)
		}
	}
}

// TestLog_RemovedWhileRead: readers that have a segment open can read it to the end after its
// removal; nobody else can open it.
func TestLog_RemovedWhileRead(t *testing.T) {
	w := newLog(t, crashfs.New())
	for range 10 {
		if _, err := w.append([]*op{{kind: kindPut, put: &Entry{Key: key("k"), Size: 100}, key: key("k"), data: make([]byte, 100)}}); err != nil {
			t.Fatal(err)
		}
	}
	s := w.acquire(1)
	if oldest, next := w.oldest(); oldest != s || next != 2 {
		t.Fatalf("segment %+v, then %d", oldest, next)
	}
	if !w.beginRemoval(s) || w.beginRepair(s) {
		t.Error("a segment that is being removed may be repaired")
	}
	if err := w.remove(s); err != nil {
		t.Fatal(err)
	}
	w.endRemoval(s)
	if w.acquire(1) != nil || w.firstID() != 2 {
		t.Error("the segment still exists")
	}
	if _, err := s.file.ReadAt(make([]byte, 10), 0); err != nil {
		t.Error(err)
	}
	w.release(s)
	w.beginRepair(w.acquire(2))
	if oldest, _ := w.oldest(); oldest != nil || w.beginRemoval(w.acquire(2)) {
		t.Error("a segment under repair may be removed")
	}
}
