package journal

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
)

// soon releases the newest entries of keys, and returns how many have been released so far.
func soon(t *testing.T, j *Journal, keys ...string) (released func() int) {
	t.Helper()
	done := make(chan error, len(keys))
	for _, name := range keys {
		if err := j.Flushed(j.Take(key(name)), Stored{}, func(err error) { done <- err }); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	return func() int {
		t.Helper()
		for len(done) > 0 {
			if err := <-done; err != nil {
				t.Error(err)
			}
			n++
		}
		return n
	}
}

// TestPatientRecords: releases share a sync with a write, or wait for a bounded time.
func TestPatientRecords(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &crashfs.Counting{FS: crashfs.New()}
		j := open(t, testConfig(fs, "/j"))
		defer j.Close()
		var names []string
		for i := range 20 {
			names = append(names, fmt.Sprint(i))
			mustPut(t, j, names[i], []byte("x"))
		}
		before := fs.Syncs.Load()
		released := soon(t, j, names[:10]...)
		synctest.Wait()
		if n := released(); n != 0 || j.Len() != 20 || fs.Syncs.Load() != before {
			t.Errorf("%d were released at once, %d entries are left, %d syncs", n, j.Len(), fs.Syncs.Load()-before)
		}
		mustPut(t, j, "another", []byte("x"))
		synctest.Wait()
		if n := released(); n != 10 || j.Len() != 11 || fs.Syncs.Load() != before+1 {
			t.Errorf("after a write, %d were released, %d entries are left, %d syncs", n, j.Len(), fs.Syncs.Load()-before)
		}
		released = soon(t, j, names[10:]...)
		time.Sleep(maxPatience)
		synctest.Wait()
		if n := released(); n != 10 || j.Len() != 1 || fs.Syncs.Load() > before+3 { // the last one may mark the end
			t.Errorf("after %s, %d were released, %d entries are left, %d syncs", maxPatience, n, j.Len(), fs.Syncs.Load()-before)
		}
	})
}

// TestReleaseIsDurableBeforeTheNextWriter: what goes past the journal, after Wait or Hold, is not
// overwritten after a crash by an entry that had been uploaded before.
func TestReleaseIsDurableBeforeTheNextWriter(t *testing.T) {
	for name, deletes := range map[string]bool{"PUT": false, "DELETE": true} {
		for wait, around := range map[string]func(*Journal, *testing.T, akigw.Key) error{
			"Hold": func(j *Journal, t *testing.T, k akigw.Key) error { return j.Hold(t.Context(), k) },
			"Wait": func(j *Journal, t *testing.T, k akigw.Key) error { return j.Wait(t.Context(), k) },
		} {
			t.Run(name+" "+wait, func(t *testing.T) {
				fs := crashfs.New()
				j := open(t, testConfig(fs, "/j"))
				defer j.Close()
				if deletes {
					if err := j.Delete(t.Context(), []akigw.Key{key("k")}, time.Now()); err != nil {
						t.Fatal(err)
					}
				} else {
					mustPut(t, j, "k", make([]byte, 64<<10))
				}
				soon(t, j, "k")
				if err := around(j, t, key("k")); err != nil {
					t.Fatal(err)
				}
				for crashed := range fs.Crashes(1, 20) {
					again := open(t, testConfig(crashed, "/j"))
					if e := again.Last(key("k")); e != nil {
						t.Errorf("after a crash the journal would upload entry %d again", e.ID)
					}
					again.Close()
				}
			})
		}
	}
}

// TestUnreleasedEntryKeepsItsBody: an entry whose release was lost in a crash is there with its body.
func TestUnreleasedEntryKeepsItsBody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := crashfs.New()
		j := open(t, testConfig(fs, "/j"))
		defer j.Close()
		body := make([]byte, 64<<10)
		mustPut(t, j, "k", body)
		soon(t, j, "k")
		synctest.Wait()
		found := 0
		for crashed := range fs.Crashes(1, 20) {
			again := open(t, testConfig(crashed, "/j"))
			if e := again.Last(key("k")); e != nil {
				found++
				b, err := again.Body(e, 0, e.Size)
				if err != nil {
					t.Errorf("the body of an entry that is not released cannot be opened: %v", err)
				} else {
					b.Close()
				}
			}
			again.Close()
		}
		if found != 20 {
			t.Errorf("the entry survived %d of 20 crashes before its release", found)
		}
	})
}
