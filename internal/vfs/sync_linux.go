package vfs

import (
	"os"
	"syscall"
)

// datasync makes a file's bytes and length durable; its times may be lost.
func datasync(f *os.File) error {
	for {
		err := syscall.Fdatasync(int(f.Fd()))
		if err != syscall.EINTR {
			return os.NewSyscallError("fdatasync", err)
		}
	}
}
