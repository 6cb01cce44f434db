package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"strconv"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
)

// A spool file is a body that is too large for a record: its bytes, a CRC32C of
// each spoolBlock of them, and a foot of spoolFoot bytes: magic (4), CRC32C of
// the table (4), length of the body (8).
const (
	spoolBlock = 64 << 10
	spoolFoot  = 16
)

var spoolMagic = []byte("\xa5jb\n")

func (j *Journal) spoolName(n uint64) string {
	return filepath.Join(j.config.Dir, spoolDir, strconv.FormatUint(n, 16)+".body")
}

// Draft is a body on its way into the journal. It is for one goroutine, which
// must end it with Commit or Discard.
type Draft struct {
	journal *Journal
	small   []byte // while it may be inline
	size    int64

	number uint64 // of the spool file
	file   File   // nil while it may be inline
	sums   []byte
	block  uint32 // CRC of the block that is being written
	filled int    // its bytes so far
}

// Receive starts a body of about size bytes, -1 if nobody knows.
func (j *Journal) Receive(size int64) *Draft {
	d := &Draft{journal: j}
	if size >= 0 && size <= int64(j.config.InlineBytes) {
		d.small = make([]byte, 0, size)
	}
	return d
}

// Size is how many bytes were written so far.
func (d *Draft) Size() int64 { return d.size }

// Write implements io.Writer. It does not keep p.
func (d *Draft) Write(p []byte) (int, error) {
	if d.file == nil && d.size+int64(len(p)) <= int64(d.journal.config.InlineBytes) {
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

// spill moves a body that turned out to be large to a spool file.
func (d *Draft) spill() (err error) {
	j := d.journal
	d.number = j.spools.Add(1)
	if d.file, err = j.config.FS.Create(d.draftName()); err != nil {
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	failpoint.Here("spool.afterCreate")
	_, err = d.append(d.small)
	d.small = nil
	return err
}

func (d *Draft) draftName() string { return d.journal.spoolName(d.number) + draftSuffix }

func (d *Draft) append(p []byte) (int, error) {
	n, err := d.file.Write(p)
	for rest := p[:n]; len(rest) > 0; {
		k := min(len(rest), spoolBlock-d.filled)
		d.block = crc32.Update(d.block, castagnoli, rest[:k])
		d.filled += k
		if d.filled == spoolBlock {
			d.closeBlock()
		}
		rest = rest[k:]
	}
	if err != nil {
		return n, fmt.Errorf("%w: %w", ErrSpool, err)
	}
	failpoint.Here("spool.midWrite")
	return n, nil
}

func (d *Draft) closeBlock() {
	d.sums = binary.LittleEndian.AppendUint32(d.sums, d.block)
	d.block, d.filled = 0, 0
}

// Discard drops a body that is not going to be committed. After Commit it does
// nothing.
func (d *Draft) Discard() {
	d.small = nil
	if d.file != nil {
		d.file.Close()
		d.file = nil
		_ = d.journal.config.FS.Remove(d.draftName()) // what stays is removed by the next start
	}
}

// finish makes a spooled body durable under its name.
func (d *Draft) finish() error {
	if d.filled > 0 {
		d.closeBlock()
	}
	foot := append([]byte(nil), spoolMagic...)
	foot = binary.LittleEndian.AppendUint32(foot, crc32.Checksum(d.sums, castagnoli))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(d.size))
	fs, name := d.journal.config.FS, d.journal.spoolName(d.number)
	_, err := d.file.Write(append(d.sums, foot...))
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
		return fmt.Errorf("%w: %w", ErrSpool, err)
	}
	return nil
}

// Body is the body of an entry. Each byte that it returns was compared with its
// checksum. It must be closed; it stays readable after the entry has gone. All
// methods may be called from any goroutine.
type Body struct {
	size  int64
	data  []byte // an inline one
	file  File   // a spooled one
	sums  []byte
	named string // what it belongs to, for errors
}

// openSpool opens a spool file and checks that it is whole.
func (j *Journal) openSpool(n uint64, size int64, named string) (*Body, error) {
	f, err := j.config.FS.Open(j.spoolName(n))
	if err != nil {
		return nil, fmt.Errorf("body of %s: %w", named, err)
	}
	b := &Body{size: size, file: f, named: named}
	if err := b.readFoot(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func (b *Body) readFoot() error {
	blocks := (b.size + spoolBlock - 1) / spoolBlock
	length, err := b.file.Size()
	if err != nil {
		return fmt.Errorf("body of %s: %w", b.named, err)
	}
	if length != b.size+4*blocks+spoolFoot {
		return b.damaged("its file has %d bytes", length)
	}
	tail := make([]byte, 4*blocks+spoolFoot)
	if _, err := b.file.ReadAt(tail, b.size); err != nil && err != io.EOF {
		return fmt.Errorf("body of %s: %w", b.named, err)
	}
	sums, foot := tail[:4*blocks], tail[4*blocks:]
	if !bytes.Equal(foot[:4], spoolMagic) || binary.LittleEndian.Uint32(foot[4:]) != crc32.Checksum(sums, castagnoli) || int64(binary.LittleEndian.Uint64(foot[8:])) != b.size {
		return b.damaged("its file has no valid foot")
	}
	b.sums = sums
	return nil
}

func (b *Body) damaged(format string, args ...any) error {
	return fmt.Errorf("%w: body of %s: %s", akigw.ErrChecksum, b.named, fmt.Sprintf(format, args...))
}

// Size is the length of the body in bytes.
func (b *Body) Size() int64 { return b.size }

// Close releases the body.
func (b *Body) Close() error {
	if b.file == nil {
		return nil
	}
	return b.file.Close()
}

// ReadAt implements io.ReaderAt. The error wraps akigw.ErrChecksum if the bytes
// are not those that were written.
func (b *Body) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) && at < b.size {
		block, err := b.block(at / spoolBlock)
		if err != nil {
			return n, err
		}
		k := copy(p[n:], block[at%spoolBlock:])
		n += k
		at += int64(k)
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Next returns bytes from an offset on, up to end at the most. They are shared and
// must not be changed; they stay valid.
func (b *Body) Next(at, end int64) ([]byte, error) {
	if b.file == nil {
		return b.data[at:end], nil
	}
	block, err := b.block(at / spoolBlock)
	if err != nil {
		return nil, err
	}
	from := at % spoolBlock
	return block[from:min(int64(len(block)), from+end-at)], nil
}

// block returns a block of the body, verified.
func (b *Body) block(i int64) ([]byte, error) {
	from, to := i*spoolBlock, min((i+1)*spoolBlock, b.size)
	if b.file == nil {
		return b.data[from:to], nil // verified as a whole
	}
	block := make([]byte, to-from)
	if n, err := b.file.ReadAt(block, from); n < len(block) {
		return nil, fmt.Errorf("body of %s: %w", b.named, err)
	}
	if crc32.Checksum(block, castagnoli) != binary.LittleEndian.Uint32(b.sums[4*i:]) {
		return nil, b.damaged("bytes %d to %d", from, to)
	}
	return block, nil
}

// Section reads length bytes from an offset on. It can be read again from any
// place, and is for one goroutine.
func (b *Body) Section(from, length int64) io.ReadSeeker {
	return &section{body: b, from: from, end: min(from+length, b.size), at: from, current: -1}
}

// section keeps the block that it is in.
type section struct {
	body          *Body
	from, end, at int64
	current       int64
	block         []byte
}

// Read implements io.Reader.
func (s *section) Read(p []byte) (int, error) {
	if s.at >= s.end {
		return 0, io.EOF
	}
	if i := s.at / spoolBlock; i != s.current {
		block, err := s.body.block(i)
		if err != nil {
			return 0, err
		}
		s.block, s.current = block, i
	}
	n := copy(p[:min(int64(len(p)), s.end-s.at)], s.block[s.at%spoolBlock:])
	s.at += int64(n)
	return n, nil
}

// Seek implements io.Seeker.
func (s *section) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		offset += s.from
	case io.SeekCurrent:
		offset += s.at
	case io.SeekEnd:
		offset += s.end
	}
	if offset < s.from {
		return 0, errors.New("seek before the start")
	}
	s.at = offset
	return offset - s.from, nil
}
