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
	if err == nil && info.Size() > 0 { // a crash left a segment its old name
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

// Allocated reports whether an empty file has size bytes of the disk.
func Allocated(info os.FileInfo, size int64) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Size() == 0 && st.Blocks*512 >= size
}

// unspared is up to how many bytes a file may be reserved on a disk that has no more.
const unspared = 4 << 10

// allocateSpared is allocate that leaves others as much as it takes: who writes to a memory
// map dies when there is no room even for a moment. The room of a side file has just been let go
// of.
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
