package journal

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// stuckRemovals is a file system on which the removal of some files blocks until it is released.
type stuckRemovals struct {
	vfs.FS
	suffix string
	gate   chan struct{}
}

func (s *stuckRemovals) Remove(name string) error {
	if strings.HasSuffix(name, s.suffix) {
		<-s.gate
	}
	return s.FS.Remove(name)
}

// TestCompactionDelaysNoCommit: writes are acknowledged while the removal of a segment or of a
// spool file is stuck in the disk.
func TestCompactionDelaysNoCommit(t *testing.T) {
	for _, suffix := range []string{".seg", ".body"} {
		synctest.Test(t, func(t *testing.T) {
			fs := &stuckRemovals{crashfs.New(), suffix, make(chan struct{})}
			j := open(t, testConfig(fs, "/j"))
			defer j.Close()
			for n := range 400 {
				mustPut(t, j, "k", random(2000, uint64(n)))
				mustPut(t, j, "large", random(20_000, uint64(n)))
			}
			before := j.Stats()
			if close(fs.gate); before.Segments < 10 && suffix == ".seg" {
				t.Errorf("%s: no removal was stuck: %+v", suffix, before)
			}
			synctest.Wait()
			if st := j.Stats(); st.Segments > 2 || bodies(t, j) != 1 {
				t.Errorf("%s: %d segments and %d bodies are left", suffix, st.Segments, bodies(t, j))
			}
		})
	}
}

// TestRewriteLeavesOutWhatHasLeft: an entry that leaves the journal after it was chosen for
// rewriting is not rewritten. Otherwise it would come back with the next start.
func TestRewriteLeavesOutWhatHasLeft(t *testing.T) {
	table := newTable(&health{})
	for n := range uint64(3) {
		k := key(fmt.Sprint(n + 1))
		table.update(func(s *state) {
			s.apply(&op{kind: kindPut, key: k, put: &Entry{Key: k, Size: 1}}, place{number: n + 1, segment: 1, size: 30})
		})
	}
	r := &rewrite{segment: 1, bodies: map[uint64][]byte{}}
	if inline := table.inlineOf(r); len(inline) != 3 {
		t.Fatalf("%v", inline)
	}
	table.update(func(s *state) {
		s.apply(&op{kind: kindDone, entry: 1, key: key("1")}, place{number: 4, segment: 2})
		s.apply(&op{kind: kindPut, entry: 2, key: key("2"), put: &Entry{Key: key("2"), Size: 1}}, place{number: 5, segment: 2, size: 30})
	})
	if ops := table.rewritten(r); len(ops) != 1 || ops[0].entry != 3 {
		t.Errorf("%+v", ops)
	}
}

// TestTakeDeletions: only pending deletions that are free and wanted are taken, oldest first.
func TestTakeDeletions(t *testing.T) {
	j := open(t, testConfig(crashfs.New(), "/j"))
	defer j.Close()
	var keys []akigw.Key
	for n := range 10 {
		keys = append(keys, key(fmt.Sprint(n)))
	}
	if err := j.Delete(t.Context(), keys, lateDate); err != nil {
		t.Fatal(err)
	}
	mustPut(t, j, "put", nil)
	mustPut(t, j, "3", nil)
	err := j.Bury(t.Context(), j.Last(key("4")), "why", lateDate)
	if err == nil {
		err = j.Hold(t.Context(), key("none"))
	}
	if err != nil {
		t.Fatal(err)
	}
	j.Take(key("5"))
	j.table.held[key("6")] = 1
	var got []string
	for _, e := range j.TakeDeletions("bucket", 4, func(e *Entry) bool { return e.Key != key("0") }) {
		got = append(got, e.Key.Name)
	}
	if fmt.Sprint(got) != "[1 2 7 8]" {
		t.Errorf("%q", got)
	}
	if all := j.TakeDeletions("bucket", 10, func(*Entry) bool { return true }); len(all) != 2 || j.TakeDeletions("other", 10, nil) != nil {
		t.Errorf("%d more", len(all))
	}
}
