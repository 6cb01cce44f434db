package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// A spool file is a body that is too large for a record: its bytes, a CRC32C of
// each spoolBlock of them, and a foot of spoolFoot bytes: magic (4), CRC32C of
// the table (4), length of the body (8).
const (
	spoolBlock = 64 << 10
	spoolFoot  = 16
)

var spoolMagic = []byte("\xa5jb\n")

// piece is a spool file with a part of a body.
type piece struct {
	spool      uint64
	entry      uint64 // number of the entry, or of the part of an upload
	from, size int64
	check      uint32 // checksum of its table, if that is known
	known      bool
}

// length is that of its file.
func (p piece) length() int64 { return p.size + 4*p.blocks() + spoolFoot }

func (p piece) blocks() int64 { return (p.size + spoolBlock - 1) / spoolBlock }

// block returns where a block of it begins and ends.
func (p piece) block(i int64) (from, to int64) {
	return i * spoolBlock, min((i+1)*spoolBlock, p.size)
}

// appendFoot appends what is behind the table of a body of size bytes.
func appendFoot(sums []byte, size int64) []byte {
	foot := append([]byte(nil), spoolMagic...)
	foot = binary.LittleEndian.AppendUint32(foot, crc32.Checksum(sums, castagnoli))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(size))
	return append(sums, foot...)
}

// readTable reads the checksums of the blocks from a copy of the file. The error wraps
// akigw.ErrChecksum if they are damaged, or another file's.
func (p piece) readTable(f vfs.File) ([]byte, error) {
	length, err := f.Size()
	if err != nil {
		return nil, err
	}
	if length != p.length() {
		return nil, fmt.Errorf("%w: its file has %d bytes and not %d", akigw.ErrChecksum, length, p.length())
	}
	tail := make([]byte, length-p.size)
	if n, err := f.ReadAt(tail, p.size); n < len(tail) {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	sums := tail[:4*p.blocks()]
	if !bytes.Equal(tail, appendFoot(slices.Clone(sums), p.size)) {
		return nil, fmt.Errorf("%w: its file has no valid foot", akigw.ErrChecksum)
	}
	if p.known && p.check != crc32.Checksum(sums, castagnoli) {
		return nil, fmt.Errorf("%w: its file is that of another body", akigw.ErrChecksum)
	}
	return sums, nil
}

// isIntact reads a copy of the file. It is true if the body in it is as it should be, or if pace,
// which is called before so many bytes are read, returns an error.
func (p piece) isIntact(f vfs.File, pace func(int) error) bool {
	sums, err := p.readTable(f)
	if err != nil {
		return false
	}
	block := make([]byte, spoolBlock)
	for i := range p.blocks() {
		from, to := p.block(i)
		if pace(int(to-from)) != nil {
			return true // nobody wants to know any more
		}
		if n, _ := f.ReadAt(block[:to-from], from); int64(n) < to-from || !fits(block[:n], sums, i) {
			return false
		}
	}
	return true
}

// spoolFile is an open spool file.
type spoolFile struct {
	piece
	file    vfs.File
	sums    []byte
	named   string // what it belongs to, for errors
	damaged func() // called for a copy of it that is damaged or missing
}

// block returns a block of the body, verified.
func (s *spoolFile) block(i int64) ([]byte, error) {
	from, to := s.piece.block(i)
	block := make([]byte, to-from)
	damaged, err := readIntact(s.file, block, from, func(b []byte) bool { return fits(b, s.sums, i) })
	if damaged {
		s.damaged()
	}
	if err != nil {
		return nil, fmt.Errorf("body of %s: bytes %d to %d: %w", s.named, from, to, err)
	}
	return block, nil
}

func damaged(named, format string, args ...any) error {
	return fmt.Errorf("%w: body of %s: %s", akigw.ErrChecksum, named, fmt.Sprintf(format, args...))
}

// fits reports whether a block has the checksum that a table says.
func fits(block, sums []byte, i int64) bool {
	return crc32.Checksum(block, castagnoli) == binary.LittleEndian.Uint32(sums[4*i:])
}

// Close closes the file.
func (s *spoolFile) Close() error { return s.file.Close() }
