package crashfs

import (
	"errors"
	"slices"
	"syscall"
	"testing"
)

// TestSteps: each modifying call is a step; reads are not. A failed write writes half of its data.
func TestSteps(t *testing.T) {
	disk := New()
	fs := NewSteps(disk)
	var calls []string
	failAt := 0
	fs.Before(func(n int, call string) error {
		if calls = append(calls, call); n == failAt {
			return syscall.EIO
		}
		return nil
	})
	f, err := fs.Create("/a")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = f.Write([]byte("whole"))
	_ = f.Sync()
	_, _ = fs.Open("/a")
	_, _ = fs.List("/")
	_ = fs.Rename("/a", "/b")
	_ = fs.SyncDir("/")
	failAt = 6
	if n, err := f.Write([]byte("half")); n != 2 || !errors.Is(err, syscall.EIO) {
		t.Errorf("%d bytes, %v", n, err)
	}
	_ = fs.Remove("/b")
	if want := []string{"create /a", "write /a", "sync /a", "rename /a", "sync_dir /", "write /a", "remove /b"}; !slices.Equal(calls, want) {
		t.Errorf("%q, want %q", calls, want)
	}
	fs.Before(nil)
	_ = fs.MkdirAll("/d")
	if len(calls) != 7 {
		t.Errorf("called after it was removed: %q", calls)
	}
}

// TestLimited: bytes and files are counted in the limited directory. Reserved space is available when
// the rest is used up, and removed or replaced files release their space.
func TestLimited(t *testing.T) {
	disk := New()
	_ = disk.MkdirAll("/in")
	fs := NewLimited(disk, "/in", 10)
	out, _ := fs.Create("/out")
	if _, err := out.Write(make([]byte, 100)); err != nil {
		t.Errorf("elsewhere: %v", err)
	}
	reserve, err := fs.Reserve("/in/reserve", 4)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fs.Reserve("/in/more", 7); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a reserve without room: %v", err)
	}
	f, _ := fs.Create("/in/a")
	if n, err := f.Write(make([]byte, 8)); n != 6 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%d bytes, %v", n, err)
	}
	if _, err := reserve.Write(make([]byte, 4)); err != nil {
		t.Errorf("the reserve: %v", err)
	}
	if _, err := reserve.Write([]byte{0}); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("writing past the reserve: %v", err)
	}
	if err := fs.Rename("/in/a", "/in/reserve"); err != nil { // four bytes are free again
		t.Fatal(err)
	}
	b, _ := fs.Create("/in/b")
	if n, _ := b.Write(make([]byte, 8)); n != 4 {
		t.Errorf("%d bytes after a file was replaced", n)
	}
	if err := fs.Remove("/in/reserve"); err != nil {
		t.Fatal(err)
	}
	if n, _ := b.Write(make([]byte, 8)); n != 6 {
		t.Errorf("%d bytes after a file was removed", n)
	}
	fs.Set(100, 0)
	if _, err := fs.Create("/in/c"); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("a file beyond the limit: %v", err)
	}
}

// TestCounting: syncs of files are counted.
func TestCounting(t *testing.T) {
	fs := &Counting{FS: New()}
	f, _ := fs.Create("/a")
	_, _ = f.Sync(), f.Sync()
	_ = fs.SyncDir("/")
	if n := fs.Syncs.Load(); n != 2 {
		t.Errorf("%d syncs", n)
	}
	if _, err := fs.Create("/none/a"); err == nil {
		t.Error("a file in no directory")
	}
}
