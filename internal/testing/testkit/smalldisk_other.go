//go:build !linux

package testkit

import "testing"

// SmallDisk is a disk that can be filled.
type SmallDisk struct{ Dir string }

// NewSmallDisk skips the test: only on Linux there is one.
func NewSmallDisk(t testing.TB, _ int64, _ int) *SmallDisk {
	t.Skip("small disks are mounted on Linux only")
	return nil
}

// NewSmallExt4 skips the test, too.
func NewSmallExt4(t testing.TB, size int64, files int) *SmallDisk {
	return NewSmallDisk(t, size, files)
}

// Break has the disk find itself damaged.
func (*SmallDisk) Break() {}

// Free is how many bytes are free.
func (*SmallDisk) Free() int64 { return 0 }

// Fill takes all room but so many bytes.
func (*SmallDisk) Fill(int64) {}

// FillFiles makes files until there can be no more.
func (*SmallDisk) FillFiles() {}

// Empty takes away what Fill and FillFiles made.
func (*SmallDisk) Empty() {}

// ReadOnly makes the disk read-only, or writable again.
func (*SmallDisk) ReadOnly(bool) {}

// Away unmounts the disk.
func (*SmallDisk) Away() {}
