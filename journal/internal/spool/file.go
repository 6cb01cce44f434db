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

// A spool file holds a body that is too large for a record: its bytes, a table with the CRC32C of
// each Block of them, and a footer: magic (4 bytes), CRC32C of the table (4), length of the body
// (8).
const (
	Block = 64 << 10
	foot  = 16
)

const magic = "\xa5jb\n"

// Piece is a spool file that holds all of a body, or a part of it.
type Piece struct {
	Number uint64 // number of the file
	Entry  uint64 // number of the entry, or of the part of an upload
	From   int64  // offset in the body
	Size   int64  // bytes
	Check  uint32 // CRC32C of its table, if Known
	Known  bool
}

// Length is the length of the file in bytes.
func (p Piece) Length() int64 { return p.Size + 4*p.Blocks() + foot }

// Blocks is the number of blocks.
func (p Piece) Blocks() int64 { return (p.Size + Block - 1) / Block }

// block returns the bounds of block i in the piece.
func (p Piece) block(i int64) (from, to int64) {
	return i * Block, min((i+1)*Block, p.Size)
}

// appendFoot appends the footer of a body of size bytes to its table.
func appendFoot(sums []byte, size int64) []byte {
	tail := []byte(magic)
	tail = binary.LittleEndian.AppendUint32(tail, codec.Checksum(sums))
	tail = binary.LittleEndian.AppendUint64(tail, uint64(size))
	return append(sums, tail...)
}

// ReadTable reads the block checksums from a copy of the file. The error wraps akigw.ErrChecksum if
// they are damaged or belong to another file.
func (p Piece) ReadTable(f vfs.File) ([]byte, error) {
	length, err := f.Size()
	if err != nil {
		return nil, err
	}
	if length != p.Length() {
		return nil, fmt.Errorf("%w: its file has %d bytes instead of %d", akigw.ErrChecksum, length, p.Length())
	}
	tail := make([]byte, length-p.Size)
	if n, err := f.ReadAt(tail, p.Size); n < len(tail) {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	sums := tail[:4*p.Blocks()]
	if !bytes.Equal(tail, appendFoot(slices.Clone(sums), p.Size)) {
		return nil, fmt.Errorf("%w: its file has no valid footer", akigw.ErrChecksum)
	}
	if p.Known && p.Check != codec.Checksum(sums) {
		return nil, fmt.Errorf("%w: its file belongs to another body", akigw.ErrChecksum)
	}
	return sums, nil
}

// IsIntact reads and verifies a copy of the file. It returns true if the body is intact, or if
// pace, which is called with the number of bytes before each read, returns an error.
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
	named   string // the body's owner, for errors
	damaged func() // called for a damaged or missing copy
}

// block returns a verified block of the body.
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

// Damaged returns an error about the body of named. It wraps akigw.ErrChecksum.
func Damaged(named, format string, args ...any) error {
	return fmt.Errorf("%w: body of %s: %s", akigw.ErrChecksum, named, fmt.Sprintf(format, args...))
}

// fits reports whether block i has the checksum in the table.
func fits(block, sums []byte, i int64) bool {
	return codec.Checksum(block) == binary.LittleEndian.Uint32(sums[4*i:])
}

// OpenFile opens a spool file and checks that its checksum table is intact and matches its record.
// named is the body's owner, for errors. damaged is called for a damaged or missing copy.
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
