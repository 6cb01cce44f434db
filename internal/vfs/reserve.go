package vfs

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

// Reserve implements FS.
func (Disk) Reserve(name string, size int64) (File, error) {
	f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && info.Size() > 0 { // after a crash the name may still refer to a segment
		if err = errors.Join(f.Close(), os.Remove(name)); err != nil {
			return nil, err
		}
		if f, err = os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600); err != nil {
			return nil, err
		}
	}
	if err == nil && !Allocated(info, size) {
		err = allocateSpared(f, size)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(name))
	}
	return diskFile{f}, nil
}

// Allocated reports whether size bytes of the disk are allocated to an empty file.
func Allocated(info os.FileInfo, size int64) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Size() == 0 && st.Blocks*512 >= size
}

// unspared is the size in bytes up to which a reservation may use up the disk.
const unspared = 4 << 10

// allocateSpared is like allocate, but leaves as much free space as it takes. Otherwise the disk could
// be full for a moment, and a process that writes to a memory map would be killed by SIGBUS. Small
// reservations are exempt, because the space of a side file has just been released.
func allocateSpared(f *os.File, size int64) error {
	var st syscall.Statfs_t
	if err := syscall.Fstatfs(int(f.Fd()), &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	if size > unspared && int64(st.Bavail)*int64(st.Bsize) < 2*size {
		return os.NewSyscallError("fallocate", syscall.ENOSPC)
	}
	return allocate(f, size)
}

// ID implements FS.
func (Disk) ID(name string) (string, error) {
	info, err := os.Stat(name)
	if err != nil {
		return "", err
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return "", errors.ErrUnsupported
	}
	return fmt.Sprintf("%d:%d", st.Dev, st.Ino), nil
}
