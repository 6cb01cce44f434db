//go:build !linux

package testkit

import "testing"

// SmallDisk is a small disk that a test can fill.
type SmallDisk struct{ Dir string }

// NewSmallDisk skips the test, because small disks exist on Linux only.
func NewSmallDisk(t testing.TB, _ int64, _ int) *SmallDisk {
	t.Skip("small disks are mounted on Linux only")
	return nil
}

// NewSmallExt4 skips the test as well.
func NewSmallExt4(t testing.TB, size int64, files int) *SmallDisk {
	return NewSmallDisk(t, size, files)
}

// Break makes the disk detect damage.
func (*SmallDisk) Break() {}

// Free returns the number of free bytes.
func (*SmallDisk) Free() int64 { return 0 }

// Fill leaves only the given number of bytes free.
func (*SmallDisk) Fill(int64) {}

// FillFiles creates files until no more can be created.
func (*SmallDisk) FillFiles() {}

// Empty removes the files of Fill and FillFiles.
func (*SmallDisk) Empty() {}

// ReadOnly makes the disk read-only, or writable again.
func (*SmallDisk) ReadOnly(bool) {}

// Away unmounts the disk.
func (*SmallDisk) Away() {}
