package vfs_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// replacing is a file system with a file /dir/file, durable unless old is nil.
func replacing(t *testing.T, old []byte) *crashfs.FS {
	t.Helper()
	disk := crashfs.New()
	if err := errors.Join(disk.MkdirAll("/dir"), disk.SyncDir("/")); err != nil {
		t.Fatal(err)
	}
	if old != nil {
		if err := vfs.Replace(disk, "/dir/file", old); err != nil {
			t.Fatal(err)
		}
	}
	return disk
}

// content returns the content of a file, nil if the file does not exist.
func content(t *testing.T, fs vfs.FS) []byte {
	t.Helper()
	raw, err := vfs.ReadFile(fs, "/dir/file")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	return raw
}

// contents are pairs of old and new content.
var contents = []struct {
	name     string
	old, new []byte
}{
	{"a new file", nil, []byte("new")},
	{"a short one", []byte("old"), []byte("new")},
	{"a longer one", bytes.Repeat([]byte("old "), 100), bytes.Repeat([]byte("the new one "), 4000)},
	{"a shorter one", bytes.Repeat([]byte("the old one "), 4000), []byte("new")},
	{"by nothing", []byte("old"), []byte{}},
}

// TestReplace_Crash: a crash at any step leaves either the old content or the new one, and after Replace
// has returned the new one. The next Replace works on whatever is left.
func TestReplace_Crash(t *testing.T) {
	for _, test := range contents {
		t.Run(test.name, func(t *testing.T) {
			disk := replacing(t, test.old)
			steps := crashfs.NewSteps(disk)
			crashes := 0
			crash := func(what string, allowed ...[]byte) {
				for left := range disk.Crashes(0, 60) {
					crashes++
					if got := content(t, left); !slices.ContainsFunc(allowed, func(want []byte) bool { return bytes.Equal(got, want) && (got == nil) == (want == nil) }) {
						t.Fatalf("a crash %s leaves %.40q", what, got)
					}
					if err := vfs.Replace(left, "/dir/file", []byte("after")); err != nil {
						t.Fatalf("after a crash %s: %v", what, err)
					}
					if got := content(t, left.Crash(crashfs.Loss{})); string(got) != "after" {
						t.Fatalf("replaced after a crash %s: %.40q", what, got)
					}
					if names, _ := left.List("/dir"); !slices.Equal(names, []string{"file"}) {
						t.Fatalf("replaced after a crash %s: %q", what, names)
					}
				}
			}
			steps.Before(func(n int, call string) error {
				crash(fmt.Sprintf("before call %d (%s)", n, call), test.old, test.new)
				return nil
			})
			if err := vfs.Replace(steps, "/dir/file", test.new); err != nil {
				t.Fatal(err)
			}
			crash("after it", test.new)
			if crashes != 60*6 { // create, write, sync, rename, sync_dir, and after it
				t.Errorf("%d crashes", crashes)
			}
		})
	}
}

// TestReplace_Fails: if any of its calls fails, Replace returns an error, the file has the old content,
// and no other file is left. Only if the sync of the directory fails, the file has the new content.
func TestReplace_Fails(t *testing.T) {
	for _, failure := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, test := range contents {
			for n := 1; ; n++ {
				disk := replacing(t, test.old)
				steps := crashfs.NewSteps(disk)
				failed := ""
				steps.Before(func(i int, call string) error {
					if i == n {
						failed = call
						return failure
					}
					return nil
				})
				err := vfs.Replace(steps, "/dir/file", test.new)
				if failed == "" {
					if n != 6 || err != nil {
						t.Errorf("%s: %d calls, %v", test.name, n-1, err)
					}
					break
				}
				want, names := test.old, []string{}
				if strings.HasPrefix(failed, "sync_dir") {
					want = test.new
				}
				if want != nil {
					names = []string{"file"}
				}
				got, _ := disk.List("/dir")
				if !errors.Is(err, failure) || !bytes.Equal(content(t, disk), want) || !slices.Equal(got, names) {
					t.Errorf("%s, %s fails: %v, the file is %.40q, there are %q", test.name, failed, err, content(t, disk), got)
				}
			}
		}
	}
}

// TestReplace_FindsMistakes: the crash tests detect missing syncs.
func TestReplace_FindsMistakes(t *testing.T) {
	for name, lazy := range map[string]func(*crashfs.FS) vfs.FS{
		"files":       func(fs *crashfs.FS) vfs.FS { return lazyFiles{fs} },
		"directories": func(fs *crashfs.FS) vfs.FS { return lazyDirs{fs} },
	} {
		disk := replacing(t, []byte("old"))
		if err := vfs.Replace(lazy(disk), "/dir/file", []byte("new")); err != nil {
			t.Fatal(err)
		}
		if got := string(content(t, disk.Crash(crashfs.Loss{}))); got == "new" {
			t.Errorf("%s that are not synced survive a crash", name)
		}
	}
}

type lazyDirs struct{ vfs.FS }

func (lazyDirs) SyncDir(string) error { return nil }

type lazyFiles struct{ vfs.FS }

func (l lazyFiles) Create(name string) (vfs.File, error) {
	f, err := l.FS.Create(name)
	return lazyFile{f}, err
}

type lazyFile struct{ vfs.File }

func (lazyFile) Sync() error { return nil }

// TestReplace_Disk: on a real disk the file is accessible to this user only, and no other file is left.
func TestReplace_Disk(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	for _, want := range []string{"one", "two, which is longer", ""} {
		if err := vfs.Replace(vfs.Disk{}, path, []byte(want)); err != nil {
			t.Fatal(err)
		}
		got, err := vfs.ReadFile(vfs.Disk{}, path)
		info, statErr := os.Stat(path)
		if err != nil || statErr != nil || string(got) != want || info.Mode() != 0o600 {
			t.Errorf("%q, %v, %v, %v", got, info.Mode(), err, statErr)
		}
	}
	names, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
}

// TestRename_Crash: after Rename the new name is durable and the old one is removed durably. A name that
// Remove has removed may come back.
func TestRename_Crash(t *testing.T) {
	disk := replacing(t, []byte("old"))
	if err := vfs.Rename(disk, "/dir/file", "/dir/other"); err != nil {
		t.Fatal(err)
	}
	if names, _ := disk.Crash(crashfs.Loss{}).List("/dir"); !slices.Equal(names, []string{"other"}) {
		t.Errorf("renamed: %q", names)
	}
	for range 2 { // the second time it is not there
		if err := vfs.Remove(disk, "/dir/other"); err != nil {
			t.Error(err)
		}
	}
	if names, _ := disk.Crash(crashfs.Loss{}).List("/dir"); !slices.Equal(names, []string{"other"}) {
		t.Errorf("removed without a sync: %q", names)
	}
	if err := vfs.Remove(disk, "/none/other"); err != nil {
		t.Error(err)
	}
	if err := vfs.Rename(disk, "/dir/none", "/dir/some"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// TestReadFile: a missing file, an empty one, and one that is truncated meanwhile are distinguished.
func TestReadFile(t *testing.T) {
	disk := replacing(t, []byte{})
	if raw, err := vfs.ReadFile(disk, "/dir/file"); err != nil || len(raw) != 0 {
		t.Errorf("%q, %v", raw, err)
	}
	if _, err := vfs.ReadFile(disk, "/dir/none"); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if _, err := vfs.ReadFile(shrinking{disk}, "/dir/file"); err == nil {
		t.Error("a file with less than its size was read")
	}
}

// shrinking has files that are one byte shorter than their Size.
type shrinking struct{ vfs.FS }

func (s shrinking) Open(name string) (vfs.File, error) {
	f, err := s.FS.Open(name)
	return shrinkingFile{f}, err
}

type shrinkingFile struct{ vfs.File }

func (f shrinkingFile) Size() (int64, error) {
	n, err := f.File.Size()
	return n + 1, err
}
