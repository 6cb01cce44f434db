package doctor

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
)

// TestSecondJournal: the check names the directory of the journal in which something was repaired, a
// copy that is incomplete, and two directories on the same disk.
func TestSecondJournal(t *testing.T) {
	dir, second := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
	open := func() {
		t.Helper()
		j, err := journal.Open(journal.Config{Dir: dir, SecondDir: second, FS: vfs.Disk{}, Log: slog.New(slog.DiscardHandler), InlineBytes: 1 << 10, SegmentBytes: 1 << 20, SyncTimeout: time.Minute})
		if err == nil {
			err = j.Close()
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	said := func() string {
		var r Report
		(&Machine{Journal: dir, SecondJournal: second}).secondJournal(&r)
		var b strings.Builder
		if err := r.WriteText(&b); err != nil {
			t.Fatal(err)
		}
		return b.String()
	}
	open()
	if text := said(); !strings.Contains(text, "neither had to be repaired") || !strings.Contains(text, "are on the same disk") {
		t.Errorf("%s", text)
	}
	segments, err := filepath.Glob(filepath.Join(second, "segments", "*.seg"))
	if err != nil || len(segments) == 0 {
		t.Fatalf("%v, %v", segments, err)
	}
	raw, err := os.ReadFile(segments[0])
	if err != nil {
		t.Fatal(err)
	}
	raw[20] ^= 1
	if err := os.WriteFile(segments[0], raw, 0o600); err != nil {
		t.Fatal(err)
	}
	open()
	if text := said(); !strings.Contains(text, "records and bodies in "+second) || strings.Contains(text, "in "+dir+" were") {
		t.Errorf("%s", text)
	}
	if err := os.WriteFile(filepath.Join(second, "unfinished"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if text := said(); !strings.Contains(text, second+" is an incomplete copy") {
		t.Errorf("%s", text)
	}
}
