package testkit

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// SmallDisk is a disk that can be filled, a tmpfs. Only root can mount one.
type SmallDisk struct {
	t   testing.TB
	Dir string // where it is mounted
}

// NewSmallDisk mounts a disk of so many bytes and files; 0 files: as many as it likes. Without
// the right to mount the test is skipped.
func NewSmallDisk(t testing.TB, size int64, files int) *SmallDisk {
	t.Helper()
	d := &SmallDisk{t, filepath.Join(t.TempDir(), "disk")}
	if err := os.Mkdir(d.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	options := fmt.Sprintf("size=%d,mode=0700", size)
	if files > 0 {
		options += fmt.Sprintf(",nr_inodes=%d", files)
	}
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", 0, options); err != nil {
		t.Skipf("a small disk cannot be mounted (that takes root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(d.Dir, syscall.MNT_DETACH) }) // a test may have done it
	return d
}

// Free is how many bytes are free.
func (d *SmallDisk) Free() int64 {
	d.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// Fill takes all room but so many bytes, with a file that Empty removes.
func (d *SmallDisk) Fill(but int64) {
	d.t.Helper()
	f, err := os.OpenFile(filepath.Join(d.Dir, "filler"), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		d.t.Fatal(err)
	}
	if n := d.Free() - but; n > 0 {
		if err := syscall.Fallocate(int(f.Fd()), 0, info.Size(), n); err != nil {
			d.t.Fatal(err)
		}
	}
}

// FillFiles makes files until there can be no more.
func (d *SmallDisk) FillFiles() {
	d.t.Helper()
	dir := filepath.Join(d.Dir, "fillers")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		d.t.Fatal(err)
	}
	for i := 0; ; i++ {
		f, err := os.Create(filepath.Join(dir, fmt.Sprint(i)))
		if err != nil {
			return
		}
		f.Close()
	}
}

// Empty takes away what Fill and FillFiles made.
func (d *SmallDisk) Empty() {
	d.t.Helper()
	for _, name := range []string{"filler", "fillers"} {
		if err := os.RemoveAll(filepath.Join(d.Dir, name)); err != nil {
			d.t.Fatal(err)
		}
	}
}

// ReadOnly makes the disk read-only, or writable again.
func (d *SmallDisk) ReadOnly(on bool) {
	d.t.Helper()
	flags := uintptr(syscall.MS_REMOUNT)
	if on {
		flags |= syscall.MS_RDONLY
	}
	if err := syscall.Mount("tmpfs", d.Dir, "tmpfs", flags, ""); err != nil {
		d.t.Fatal(err)
	}
}

// Away unmounts the disk, as far as those who have no file of it open are concerned.
func (d *SmallDisk) Away() {
	d.t.Helper()
	if err := syscall.Unmount(d.Dir, syscall.MNT_DETACH); err != nil {
		d.t.Fatal(err)
	}
}
