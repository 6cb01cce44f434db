package warm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"

	"github.com/dgraph-io/badger/v4/options"
	"github.com/dgraph-io/badger/v4/table"
	"github.com/dgraph-io/ristretto/v2/z"
	"golang.org/x/sync/errgroup"
)

// Badger ends the whole process when a table file is damaged: it panics on a
// goroutine of its own, which nothing can recover, or exits if it is the end of
// the file. So the lengths there are checked here, and then the blocks by its own
// code on a goroutine of this package, before Badger opens the directory.
//
// A table ends with its index, the index's length, a checksum and the
// checksum's length, each length 4 bytes, big endian.

// verifyTables returns an error if opening dir would crash Badger.
func verifyTables(dir string) error {
	tables, err := filepath.Glob(filepath.Join(dir, "*.sst"))
	if err != nil {
		return err
	}
	var group errgroup.Group
	group.SetLimit(runtime.GOMAXPROCS(0))
	for _, path := range tables {
		group.Go(func() error {
			if err := verifyEnd(path); err != nil {
				return err
			}
			return verifyBlocks(path)
		})
	}
	return group.Wait()
}

// verifyBlocks reads the index and every block of a table and compares them with their checksums.
func verifyBlocks(path string) (err error) {
	file, err := z.OpenMmapFile(path, os.O_RDWR, 0) // as Badger opens it: it truncates tables that are no longer needed
	if err != nil {
		return err
	}
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // a block may be unreadable
	defer func() {
		if r := recover(); r != nil {
			err = errors.Join(fmt.Errorf("%s is damaged: %v", path, r), file.Close(-1))
		}
	}()
	t, err := table.OpenTable(file, table.Options{ChkMode: options.OnTableAndBlockRead, Compression: options.None})
	if err != nil {
		return err
	}
	return t.Close(-1)
}

// verifyEnd checks the lengths at the end of a table.
func verifyEnd(path string) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	end, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	for _, part := range []string{"checksum", "index"} {
		var raw [4]byte
		if _, err := f.ReadAt(raw[:], end-4); err != nil || end < 4 {
			return fmt.Errorf("%s is too short to be a table", path)
		}
		n := int64(binary.BigEndian.Uint32(raw[:]))
		if n == 0 || n > end-4 {
			return fmt.Errorf("%s has a damaged %s length", path, part)
		}
		end -= 4 + n
	}
	return nil
}
