package testkit

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// SmallDisk is a small disk that a test can fill. Only root can mount one.
type SmallDisk struct {
	t   testing.TB
	Dir string // where it is mounted
}

// NewSmallExt4 is like NewSmallDisk, but mounts a file with an ext4 file system, whose blocks and
// metadata are like those of most disks. size is the size of the file in bytes.
func NewSmallExt4(t testing.TB, size int64, files int) *SmallDisk {
	t.Helper()
	if _, err := exec.LookPath("mkfs.ext4"); err != nil {
		t.Skipf("mkfs.ext4 is not installed")
	}
	d := &SmallDisk{t, filepath.Join(t.TempDir(), "disk")}
	image := d.Dir + ".image"
	if err := errors.Join(os.Mkdir(d.Dir, 0o700), os.WriteFile(image, nil, 0o600), os.Truncate(image, size)); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("mkfs.ext4", "-q", "-F", "-m", "0", "-N", fmt.Sprint(max(files, 100)), image).CombinedOutput(); err != nil {
		t.Fatalf("mkfs.ext4: %v: %s", err, out)
	}
	if out, err := exec.Command("mount", "-o", "loop,errors=remount-ro", image, d.Dir).CombinedOutput(); err != nil {
		t.Skipf("a small disk cannot be mounted (this requires root and a loop device): %v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("umount", "-l", d.Dir).CombinedOutput(); err != nil {
			t.Errorf("umount: %v: %s", err, out)
		}
	})
	return d
}

// Break makes ext4 detect damage: from then on the disk is read-only, also for open files.
func (d *SmallDisk) Break() {
	d.t.Helper()
	source, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.Dir).Output()
	if err != nil {
		d.t.Skipf("findmnt: %v", err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(source))), "trigger_fs_error")
	if err := os.WriteFile(trigger, []byte("a test\n"), 0o200); err != nil {
		d.t.Skipf("the disk cannot be broken: %v", err)
	}
}

// NewSmallDisk mounts a disk with the given number of bytes and files; 0 means no limit of files. It
// skips the test if it may not mount.
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
		t.Skipf("a small disk cannot be mounted (this requires root): %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(d.Dir, syscall.MNT_DETACH) }) // the test may have unmounted it
	return d
}

// Free returns the number of free bytes.
func (d *SmallDisk) Free() int64 {
	d.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.Dir, &st); err != nil {
		d.t.Fatal(err)
	}
	return int64(st.Bavail) * st.Bsize
}

// Fill leaves only the given number of bytes free. It writes a file that Empty removes.
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
	// The file system itself needs some of the free space for metadata.
	for at, n := info.Size(), d.Free()-but; n >= 4<<10; n = min(n, d.Free()-but) {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, n); {
		case err == nil:
			at += n
		case errors.Is(err, syscall.ENOSPC):
			n /= 2
		default:
			d.t.Fatal(err)
		}
	}
}

// FillFiles creates files until no more can be created.
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

// Empty removes the files of Fill and FillFiles.
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

// Away unmounts the disk lazily: open files stay usable.
func (d *SmallDisk) Away() {
	d.t.Helper()
	if err := syscall.Unmount(d.Dir, syscall.MNT_DETACH); err != nil {
		d.t.Fatal(err)
	}
}
