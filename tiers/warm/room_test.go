package warm

import (
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
)

var roomKey = akigw.Key{Bucket: "bucket", Name: "k"}

// TestNoRoomToOpen: where Badger would find no room nothing is opened, set aside or changed.
//
// Scenarios: C3.
func TestNoRoomToOpen(t *testing.T) {
	for name, take := range map[string]func(*testkit.SmallDisk){
		"no bytes":      func(d *testkit.SmallDisk) { d.Fill(0) },
		"15 MiB":        func(d *testkit.SmallDisk) { d.Fill(15 << 20) },
		"no more files": func(d *testkit.SmallDisk) { d.FillFiles() },
		"read-only":     func(d *testkit.SmallDisk) { d.ReadOnly(true) },
	} {
		t.Run(name, func(t *testing.T) {
			disk := testkit.NewSmallDisk(t, 96<<20, 1000)
			dir := filepath.Join(disk.Dir, "warm")
			tier := open(t, dir, 64<<20, "1")
			tier.PutEntry(roomKey, []byte("entry"), []byte("summary"), Handling{})
			closeTier(t, tier)
			if err := os.Truncate(filepath.Join(dir, ballastFile), 0); err != nil {
				t.Fatal(err)
			}
			take(disk)
			if _, err := Open(Config{Dir: dir, Quota: 64 << 20, Format: "1", Log: slog.New(slog.DiscardHandler)}); !errors.Is(err, errNoRoom) {
				t.Fatalf("%v", err)
			}
			if name == "read-only" {
				disk.ReadOnly(false)
			}
			disk.Empty()
			if aside, _ := filepath.Glob(dir + ".broken-*"); len(aside) > 0 {
				t.Errorf("%q was set aside", aside)
			}
			tier = open(t, dir, 64<<20, "1")
			defer closeTier(t, tier)
			if got, ok := tier.Entry(roomKey); !ok || string(got) != "entry" || !tier.Clean() {
				t.Errorf("%q %t, clean %t", got, ok, tier.Clean())
			}
		})
	}
}

// TestDistrust: what a run did not use is not taken for current by the next one, nor for the
// remains of a crash.
//
// Scenarios: C3.
func TestDistrust(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	if err := Distrust(dir); err != nil {
		t.Errorf("of none: %v", err)
	}
	tier := open(t, dir, 64<<20, "1")
	tier.PutBlock(Run{ID: 1}, 0, make([]byte, 2000)) // so that there is a value log
	closeTier(t, tier)
	for range 2 {
		if err := Distrust(dir); err != nil {
			t.Fatal(err)
		}
	}
	tier = open(t, dir, 64<<20, "1")
	if tier.Clean() || !tier.HasBlock(Run{ID: 1}, 0) {
		t.Errorf("clean %t", tier.Clean())
	}
	if _, err := os.Stat(marks{tier.config.Dir}.path(crashFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it was taken for a crash: %v", err)
	}
	closeTier(t, tier)
	tier = open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	if !tier.Clean() {
		t.Error("it is distrusted for ever")
	}
}

// TestRemoveWithoutRoom: what has to be removed, and cannot be, is not served, neither in this
// run nor, unvalidated, in the next.
//
// Scenarios: C3.
func TestRemoveWithoutRoom(t *testing.T) {
	disk := testkit.NewSmallDisk(t, 96<<20, 0)
	dir := filepath.Join(disk.Dir, "warm")
	tier := open(t, dir, 64<<20, "1")
	if !tier.PutEntry(roomKey, []byte("entry"), []byte("summary"), Handling{}) {
		t.Fatal("not stored")
	}
	disk.Fill(0)
	if _, ok := tier.Entry(roomKey); !ok {
		t.Error("a full disk is no reason not to serve what is there")
	}
	tier.space.ballast.release()
	disk.Fill(0)
	if err := tier.DropEntry(roomKey); err != nil {
		t.Error(err)
	}
	if _, ok := tier.Entry(roomKey); ok || tier.Problem() == "" {
		t.Errorf("it is still there: %t, %q", ok, tier.Problem())
	}
	closeTier(t, tier)
	disk.Empty()
	if err := tier.data.db.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	tier = open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	if tier.Clean() {
		t.Error("the next run trusts it")
	}
}

// TestDirectoryGone: a tier whose directory is gone takes nothing, and neither waits nor fails.
//
// Scenarios: C3.
func TestDirectoryGone(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	tier.PutEntry(roomKey, []byte("entry"), []byte("summary"), Handling{})
	if err := os.Rename(dir, dir+".away"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := tier.DropEntry(roomKey); err != nil {
		t.Error(err)
	}
	if tier.PutEntry(roomKey, []byte("entry"), []byte("summary"), Handling{}) || tier.HasEntry(roomKey) || tier.Problem() == "" {
		t.Errorf("it is used: %q", tier.Problem())
	}
	closeTier(t, tier)
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir), tier.data.db.Close()); err != nil {
		t.Fatal(err)
	}
}
