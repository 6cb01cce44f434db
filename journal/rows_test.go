package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// TestBodyWithoutARecord: a body that was synced but has no record was not acknowledged, so the
// next start removes it.
//
// Scenarios: B2.
func TestBodyWithoutARecord(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	d := j.Receive(200_000)
	if _, err := d.Write(random(200_000, 1)); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Finish(); err != nil {
		t.Fatal(err)
	}
	if n := bodies(t, j); n != 1 {
		t.Fatalf("%d bodies", n)
	}
	j = reopen(t, j)
	if n := bodies(t, j); n != 0 || !j.Idle() {
		t.Errorf("%d bodies left, %+v", n, j.Stats())
	}
}

// TestRepeatedAfterALostAnswer: a client that received no response repeats its PUT, and there is
// still one object.
//
// Scenarios: B4.
func TestRepeatedAfterALostAnswer(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	for range 2 {
		mustPut(t, j, "k", random(100_000, 1))
		j = reopen(t, j)
	}
	if st := j.Stats(); st.Pending != 1 || st.Bytes != 100_000 || bodies(t, j) != 1 || string(read(t, j, key("k"))) != string(random(100_000, 1)) {
		t.Errorf("%+v, %d bodies", st, bodies(t, j))
	}
}

// TestBodyOfWhatIsDone: after a crash between a completed flush and the removal of its body, the
// next start removes the body.
//
// Scenarios: B9.
func TestBodyOfWhatIsDone(t *testing.T) {
	c := testConfig(vfs.Disk{}, t.TempDir())
	j := open(t, c)
	defer func() { j.Close() }()
	mustPut(t, j, "k", random(100_000, 1))
	name := j.spool.Name(1)
	body, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Done(t.Context(), j.Take(key("k"))); err != nil {
		t.Fatal(err)
	}
	settled(t, j, 0)
	if err := os.WriteFile(name, body, 0o600); err != nil { // as if the crash had come before its removal
		t.Fatal(err)
	}
	j = reopen(t, j)
	if bodies(t, j) != 0 || !j.Idle() {
		t.Errorf("%d bodies, %+v", bodies(t, j), j.Stats())
	}
}

// TestCrashLoop: starts that fail, at any call and any number of times, do not change what the next
// start finds.
//
// Scenarios: B21.
func TestCrashLoop(t *testing.T) {
	dir := t.TempDir()
	c := testConfig(vfs.Disk{}, dir)
	c.SegmentBytes = 2 << 10
	j := open(t, c)
	for i := range 30 {
		mustPut(t, j, fmt.Sprint(i), random(100+i*300, uint64(i)))
	}
	j.Close()
	died := 0
	for n := 1; n < 60; n++ {
		fs := crashfs.NewSteps(vfs.Disk{})
		fs.Before(func(i int, _ string) error {
			if i >= n {
				return syscall.EIO
			}
			return nil
		})
		broken := c
		broken.FS = fs
		if j, err := Open(broken); err != nil {
			died++
		} else {
			_ = j.Close() // Close fails as well
		}
	}
	j = open(t, c)
	defer j.Close()
	for i := range 30 {
		if string(read(t, j, key(fmt.Sprint(i)))) != string(random(100+i*300, uint64(i))) {
			t.Errorf("%d has changed", i)
		}
	}
	if died < 10 || j.Accepting() != nil || j.Len() != 30 {
		t.Errorf("%d starts ended early, %+v", died, j.Stats())
	}
}

// TestNoSpaceForABody: a PUT whose body does not fit on the disk is not acknowledged and leaves no
// files, and the journal keeps working.
//
// Scenarios: C1.
func TestNoSpaceForABody(t *testing.T) {
	fs := crashfs.NewSteps(vfs.Disk{})
	full := false
	fs.Before(func(_ int, what string) error {
		if full && strings.HasPrefix(what, "write") && strings.Contains(what, spoolDir) {
			return syscall.ENOSPC
		}
		return nil
	})
	j := open(t, testConfig(fs, t.TempDir()))
	defer j.Close()
	full = true
	d := j.Receive(200_000)
	_, err := d.Write(random(200_000, 1))
	d.Discard()
	if !errors.Is(err, errSpool) || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	if names, _ := filepath.Glob(filepath.Join(j.config.Dir, spoolDir, "*")); len(names) > 0 {
		t.Errorf("%q left behind", names)
	}
	mustPut(t, j, "small", []byte("it goes on"))
}

// TestSpoolStays: the spool directory is never removed, even when bodies are added and removed
// concurrently.
//
// Scenarios: D18.
func TestSpoolStays(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer j.Close()
	var writers sync.WaitGroup
	for w := range 4 {
		writers.Go(func() {
			for i := range 30 { // the last body may have been removed a moment ago
				k := key(fmt.Sprint(w))
				if err := put(t, j, k, random(50_000, uint64(i))); err != nil {
					t.Error(err)
					return
				}
				if err := j.Done(t.Context(), j.Take(k)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	settled(t, j, 0)
	mustPut(t, j, "k", random(50_000, 1))
}

// TestNewest: records written after a start have higher numbers than those of earlier epochs.
func TestNewest(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	for range 3 {
		if err := j.Uploads.Begin(t.Context(), Upload{ID: "u", Key: key("k")}); err != nil {
			t.Fatal(err)
		}
		if n := j.Uploads.Find("u").Number; n <= j.Newest() {
			t.Errorf("the first record has number %d, and the newest before it %d", n, j.Newest())
		}
		j = reopen(t, j)
		u := j.Uploads.Find("u")
		if u.Number > j.Newest() {
			t.Errorf("an upload of an earlier epoch has number %d, and the newest of that epoch is %d", u.Number, j.Newest())
		}
		if err := j.Uploads.Abort(t.Context(), u); err != nil {
			t.Fatal(err)
		}
		j = reopen(t, j)
	}
}
