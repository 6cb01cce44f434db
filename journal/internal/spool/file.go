package spool

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
)

// A spool file is a body that is too large for a record: its bytes, a CRC32C of
// each Block of them, and a foot:  magic (4), CRC32C of
// the table (4), length of the body (8).
const (
	Block = 64 << 10
	foot  = 16
)

const magic = "\xa5jb\n"

// Piece is a spool file with a part of a body, or all of it.
type Piece struct {
	Number uint64 // of the file
	Entry  uint64 // number of the entry, or of the part of an upload
	From   int64  // where it begins in the body
	Size   int64  // bytes
	Check  uint32 // CRC32C of its table, if Known
	Known  bool
}

// Length is that of its file.
func (p Piece) Length() int64 { return p.Size + 4*p.Blocks() + foot }

// Blocks is how many blocks it has.
func (p Piece) Blocks() int64 { return (p.Size + Block - 1) / Block }

// block returns where a block of it begins and ends.
func (p Piece) block(i int64) (from, to int64) {
	return i * Block, min((i+1)*Block, p.Size)
}

// appendFoot appends what is behind the table of a body of size bytes.
func appendFoot(sums []byte, size int64) []byte {
	tail := []byte(magic)
	tail = binary.LittleEndian.AppendUint32(tail, codec.Checksum(sums))
	tail = binary.LittleEndian.AppendUint64(tail, uint64(size))
	return append(sums, tail...)
}

// ReadTable reads the checksums of the blocks from a copy of the file. The error wraps
// akigw.ErrChecksum if they are damaged, or another file's.
func (p Piece) ReadTable(f vfs.File) ([]byte, error) {
	length, err := f.Size()
	if err != nil {
		return nil, err
	}
	if length != p.Length() {
		return nil, fmt.Errorf("%w: its file has %d bytes and not %d", akigw.ErrChecksum, length, p.Length())
	}
	tail := make([]byte, length-p.Size)
	if n, err := f.ReadAt(tail, p.Size); n < len(tail) {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	sums := tail[:4*p.Blocks()]
	if !bytes.Equal(tail, appendFoot(slices.Clone(sums), p.Size)) {
		return nil, fmt.Errorf("%w: its file has no valid foot", akigw.ErrChecksum)
	}
	if p.Known && p.Check != codec.Checksum(sums) {
		return nil, fmt.Errorf("%w: its file is that of another body", akigw.ErrChecksum)
	}
	return sums, nil
}

// IsIntact reads a copy of the file. It is true if the body in it is as it should be, or if pace,
// which is called before so many bytes are read, returns an error.
func (p Piece) IsIntact(f vfs.File, pace func(int) error) bool {
	sums, err := p.ReadTable(f)
	if err != nil {
		return false
	}
	block := make([]byte, Block)
	for i := range p.Blocks() {
		from, to := p.block(i)
		if pace(int(to-from)) != nil {
			return true // the caller is stopping
		}
		if n, _ := f.ReadAt(block[:to-from], from); int64(n) < to-from || !fits(block[:n], sums, i) {
			return false
		}
	}
	return true
}

// File is an open spool file.
type File struct {
	Piece
	file    vfs.File
	sums    []byte
	named   string // what it belongs to, for errors
	damaged func() // called for a copy of it that is damaged or missing
}

// block returns a block of the body, verified.
func (s *File) block(i int64) ([]byte, error) {
	from, to := s.Piece.block(i)
	block := make([]byte, to-from)
	damaged, err := ReadIntact(s.file, block, from, func(b []byte) bool { return fits(b, s.sums, i) })
	if damaged {
		s.damaged()
	}
	if err != nil {
		return nil, fmt.Errorf("body of %s: bytes %d to %d: %w", s.named, from, to, err)
	}
	return block, nil
}

// Damaged is an error of the body of named that wraps akigw.ErrChecksum.
func Damaged(named, format string, args ...any) error {
	return fmt.Errorf("%w: body of %s: %s", akigw.ErrChecksum, named, fmt.Sprintf(format, args...))
}

// fits reports whether a block has the checksum that a table says.
func fits(block, sums []byte, i int64) bool {
	return codec.Checksum(block) == binary.LittleEndian.Uint32(sums[4*i:])
}

// OpenFile opens a spool file and checks that its table is whole, and the one that its record
// says. named is what it belongs to, for errors. damaged is called for a copy of it that is
// damaged or missing.
func (s *Spool) OpenFile(p Piece, named string, damaged func()) (*File, error) {
	f, err := s.FS.Open(s.Name(p.Number))
	if err != nil {
		return nil, fmt.Errorf("body of %s: %w", named, err)
	}
	open := &File{Piece: p, file: f, named: named, damaged: damaged}
	bad := !Whole(f)
	for _, one := range Copies(f) {
		sums, tableErr := p.ReadTable(one)
		if tableErr == nil {
			open.sums = sums
			break
		}
		bad, err = true, errors.Join(err, tableErr)
	}
	if open.sums == nil {
		return nil, errors.Join(fmt.Errorf("body of %s: %w", named, err), f.Close())
	}
	if bad {
		damaged()
	}
	return open, nil
}

// Close closes the file.
func (s *File) Close() error { return s.file.Close() }
