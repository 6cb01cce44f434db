package crashfs

import (
	"errors"
	"fmt"
	"path"
	"testing"

	"github.com/akidb/akigw/internal/vfs"
)

// diary is a small program that stores numbers in files of one line each. It can be made to have typical
// mistakes.
type diary struct {
	fs                          vfs.FS
	fileSync, dirSync, dirFirst bool
	written                     int // the last number that was acknowledged
}

// begin creates the directory of the diary.
func (d *diary) begin() error {
	return errors.Join(d.fs.MkdirAll("/diary"), d.fs.SyncDir("/"))
}

// write adds a number, in a new file that is renamed when it is complete.
func (d *diary) write(n int) error {
	name := path.Join("/diary", fmt.Sprint(n))
	f, err := d.fs.Create(name + ".new")
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(f, "this is entry %d.", n)
	if d.fileSync {
		err = errors.Join(err, f.Sync())
	}
	err = errors.Join(err, f.Close())
	if d.dirFirst && d.dirSync {
		err = errors.Join(err, d.fs.SyncDir("/diary"))
	}
	err = errors.Join(err, d.fs.Rename(name+".new", name))
	if !d.dirFirst && d.dirSync {
		err = errors.Join(err, d.fs.SyncDir("/diary"))
	}
	if err == nil {
		d.written = n
	}
	return err
}

// lost returns an error if a crash has lost one of the numbers up to last.
func lost(left vfs.FS, last int) error {
	for n := 1; n <= last; n++ {
		raw, err := vfs.ReadFile(left, path.Join("/diary", fmt.Sprint(n)))
		if err != nil {
			return err
		}
		if string(raw) != fmt.Sprintf("this is entry %d.", n) {
			return fmt.Errorf("entry %d is %q", n, raw)
		}
	}
	return nil
}

// TestBugs: crashes at any step find each missing sync before an acknowledgement, and nothing in correct
// code.
func TestBugs(t *testing.T) {
	for _, test := range []struct {
		name  string
		diary diary
		wrong bool
	}{
		{"right", diary{fileSync: true, dirSync: true}, false},
		{"no sync of the file", diary{dirSync: true}, true},
		{"no sync of the directory after the rename", diary{fileSync: true}, true},
		{"sync of the directory before the rename", diary{fileSync: true, dirSync: true, dirFirst: true}, true},
	} {
		for _, keep := range []int{0, 30, 70} {
			t.Run(fmt.Sprintf("%s, %d%% kept", test.name, keep), func(t *testing.T) {
				d := test.diary
				disk := New()
				steps := NewSteps(disk)
				d.fs = steps
				var found error
				trials := 0
				steps.Before(func(n int, call string) error {
					for range 5 {
						trials++
						if err := lost(disk.Crash(Loss{KeepPercent: keep, Seed: uint64(trials)}), d.written); err != nil && found == nil {
							found = fmt.Errorf("crash before call %d (%s): %w", n, call, err)
						}
					}
					return nil
				})
				if err := d.begin(); err != nil {
					t.Fatal(err)
				}
				for n := range 10 {
					if err := d.write(n + 1); err != nil {
						t.Fatal(err)
					}
				}
				if (found != nil) != test.wrong {
					t.Errorf("%d crashes found %v", trials, found)
				}
			})
		}
	}
}
