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

// TestNoRoomToOpen: if there is no room for Badger to open, nothing is opened, set aside or
// changed.
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

// TestDistrust: after an epoch that did not use the tier, the next one trusts its data neither as
// current nor as the remains of a crash.
//
// Scenarios: C3.
func TestDistrust(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	if err := Distrust(dir); err != nil {
		t.Errorf("without a directory: %v", err)
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
		t.Errorf("it was recorded as a crash: %v", err)
	}
	closeTier(t, tier)
	tier = open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	if !tier.Clean() {
		t.Error("the tier is distrusted forever")
	}
}

// TestRemoveWithoutRoom: data that has to be removed, but cannot be, is not served in this epoch,
// nor without validation in the next.
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
		t.Error("a full disk must not keep valid data from being served")
	}
	tier.space.ballast.release()
	disk.Fill(0)
	if err := tier.DropEntry(roomKey); err != nil {
		t.Error(err)
	}
	if _, ok := tier.Entry(roomKey); ok || tier.Problem() == "" {
		t.Errorf("the removed data is still served: %t, %q", ok, tier.Problem())
	}
	closeTier(t, tier)
	disk.Empty()
	if err := tier.data.db.Close(); err != nil { // as the end of the process does
		t.Fatal(err)
	}
	tier = open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	if tier.Clean() {
		t.Error("the next epoch trusts the data")
	}
}

// TestDirectoryGone: a tier whose directory is missing stores nothing, and neither blocks nor
// fails.
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
		t.Errorf("the tier is used: %q", tier.Problem())
	}
	closeTier(t, tier)
	if err := errors.Join(os.Remove(dir), os.Rename(dir+".away", dir), tier.data.db.Close()); err != nil {
		t.Fatal(err)
	}
}
