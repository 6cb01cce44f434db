package facts

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// TestSave_Crash: a crash at any step of a save leaves the complete facts of either the previous
// save or this one. Nothing is ever set aside as damaged.
func TestSave_Crash(t *testing.T) {
	disk := crashfs.New()
	if err := errors.Join(disk.MkdirAll("/data"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	const path = "/data/bucket-facts"
	steps := crashfs.NewSteps(disk)
	b := openOn(steps, path, noLog)
	saved, crashes := 0, 0 // number of records in the last save
	check := func(what string, allowed ...int) {
		for left := range disk.Crashes(uint64(crashes), 20) {
			crashes++
			again := openOn(left, path, noLog)
			if n := len(again.All()); n != allowed[0] && n != allowed[len(allowed)-1] {
				t.Fatalf("a crash %s leaves %d records, want %v", what, n, allowed)
			}
			if _, err := left.Size(path + damagedSuffix); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("a crash %s damages the file: %v", what, err)
			}
			answer(t, again, named("after"), Versioned, time.Now())
			if err := again.Save(); err != nil {
				t.Fatalf("a save after a crash %s: %v", what, err)
			}
		}
	}
	steps.Before(func(_ int, call string) error {
		check("before "+call, saved, len(b.All()))
		return nil
	})
	for n := range 5 {
		for i := range 60 * (n + 1) {
			answer(t, b, named(fmt.Sprint(n, "/", i)), Absent, time.Now())
		}
		if err := b.Save(); err != nil {
			t.Fatal(err)
		}
		saved = len(b.All())
		check("after a save", saved)
	}
	if crashes < 5*6*20 {
		t.Errorf("only %d crashes", crashes)
	}
}

// TestSave_Fails: a failed save keeps what was saved before, and the next save includes the facts
// that it missed.
func TestSave_Fails(t *testing.T) {
	disk := crashfs.New()
	full := crashfs.NewLimited(disk, "/", 1<<20)
	b := openOn(full, "/facts", noLog)
	answer(t, b, named("first"), Absent, time.Now())
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	answer(t, b, named("second"), Absent, time.Now())
	full.Set(3, 1000)
	if err := b.Save(); !vfs.NoRoom(err) {
		t.Errorf("on a full disk: %v", err)
	}
	if n := len(openOn(disk.Crash(crashfs.Loss{}), "/facts", noLog).All()); n != 1 {
		t.Errorf("%d records after a failed save", n)
	}
	full.Set(1<<20, 1000)
	if err := b.Save(); err != nil {
		t.Error(err)
	}
	if n := len(openOn(disk.Crash(crashfs.Loss{}), "/facts", noLog).All()); n != 2 {
		t.Errorf("%d records after the next save", n)
	}
}
