package spool

import (
	"encoding/binary"
	"errors"
	"path/filepath"

	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// DraftSuffix ends the name of a file until it is complete.
const DraftSuffix = ".draft"

// Draft is a body that is being received. It is for one goroutine, which must end it with Commit or
// Discard.
type Draft struct {
	spool   *Spool
	small   []byte // the body while it may still be inline
	spooled bool   // it must not be inline
	size    int64

	number uint64   // of the spool file
	file   vfs.File // nil while the body may still be inline
	sums   []byte
	check  uint32 // CRC32C of sums, once it is finished
	block  uint32 // CRC32C of the current block
	filled int    // bytes in the current block
}

// Receive starts a body of about size bytes, -1 if the size is unknown.
func (s *Spool) Receive(size int64) *Draft {
	d := &Draft{spool: s}
	if size >= 0 && size <= int64(s.Inline) {
		d.small = make([]byte, 0, size)
	}
	return d
}

// ReceiveSpooled starts a body that is stored in a file, however small it is.
func (s *Spool) ReceiveSpooled() *Draft { return &Draft{spool: s, spooled: true} }

// Size is the number of bytes written so far.
func (d *Draft) Size() int64 { return d.size }

// Write implements io.Writer. It does not keep p.
func (d *Draft) Write(p []byte) (int, error) {
	if d.file == nil && !d.spooled && d.size+int64(len(p)) <= int64(d.spool.Inline) {
		d.small = append(d.small, p...)
		d.size += int64(len(p))
		return len(p), nil
	}
	if d.file == nil {
		if err := d.spill(); err != nil {
			return 0, err
		}
	}
	n, err := d.append(p)
	d.size += int64(n)
	return n, err
}

// spill moves a body that has become too large for a record to a spool file.
func (d *Draft) spill() (err error) {
	d.number = d.spool.last.Add(1)
	if d.file, err = d.spool.FS.Create(d.draftName()); err != nil {
		return d.spool.Failed(err)
	}
	failpoint.Here("spool.afterCreate")
	_, err = d.append(d.small)
	d.small = nil
	return err
}

func (d *Draft) draftName() string { return d.spool.Name(d.number) + DraftSuffix }

func (d *Draft) append(p []byte) (int, error) {
	n, err := d.file.Write(p)
	for rest := p[:n]; len(rest) > 0; {
		k := min(len(rest), Block-d.filled)
		d.block = codec.UpdateChecksum(d.block, rest[:k])
		d.filled += k
		if d.filled == Block {
			d.closeBlock()
		}
		rest = rest[k:]
	}
	if err != nil {
		return n, d.spool.Failed(err)
	}
	failpoint.Here("spool.midWrite")
	return n, nil
}

func (d *Draft) closeBlock() {
	d.sums = binary.LittleEndian.AppendUint32(d.sums, d.block)
	d.block, d.filled = 0, 0
}

// Discard drops a body that will not be committed. It does nothing after Commit.
func (d *Draft) Discard() {
	d.small = nil
	if d.file != nil {
		d.file.Close()
		d.file = nil
		_ = d.spool.FS.Remove(d.draftName()) // the next start removes a leftover
	}
}

// Finished is a complete body.
type Finished struct {
	Inline []byte // the body, if it is small enough for its record
	Number uint64 // otherwise the number of its file, which is durable
	Check  uint32 // CRC32C of the table of the file
}

// Finish makes a spooled body durable under its final name.
func (d *Draft) Finish() (f Finished, err error) {
	if d.file == nil && d.spooled {
		err = d.spill()
	}
	if err == nil && d.file != nil {
		err = d.finish()
	}
	return Finished{d.small, d.number, d.check}, err
}

func (d *Draft) finish() error {
	if d.filled > 0 {
		d.closeBlock()
	}
	d.check = codec.Checksum(d.sums)
	fs, name := d.spool.FS, d.spool.Name(d.number)
	_, err := d.file.Write(appendFoot(d.sums, d.size))
	failpoint.Here("spool.afterWrite")
	if err == nil {
		err = d.file.Sync()
	}
	failpoint.Here("spool.afterSync")
	if err == nil {
		err = fs.Rename(d.draftName(), name)
	}
	failpoint.Here("spool.afterRename")
	if err == nil {
		err = errors.Join(d.file.Close(), fs.SyncDir(filepath.Dir(name)))
		d.file = nil
	}
	failpoint.Here("spool.afterDirSync")
	if err != nil {
		_ = fs.Remove(name) // it may have been renamed; the next start removes a leftover
		return d.spool.Failed(err)
	}
	return nil
}
