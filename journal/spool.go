package journal

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
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

func (j *Journal) spoolName(n uint64) string {
	return filepath.Join(j.config.Dir, spoolDir, spoolBase(n))
}

// Draft is a body on its way into the journal. It is for one goroutine, which
// must end it with Commit or Discard.
type Draft struct {
	journal *Journal
	small   []byte // while it may be inline
	spooled bool   // it may not be
	size    int64

	number uint64   // of the spool file
	file   vfs.File // nil while it may be inline
	sums   []byte
	check  uint32 // CRC32C of sums, when it is finished
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
	if d.file == nil && !d.spooled && d.size+int64(len(p)) <= int64(d.journal.config.InlineBytes) {
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
		return j.spoolFailed(err)
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
		return n, d.journal.spoolFailed(err)
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
	d.check = crc32.Checksum(d.sums, castagnoli)
	fs, name := d.journal.config.FS, d.journal.spoolName(d.number)
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
		_ = fs.Remove(name) // it may have been renamed; what stays is removed by the next start
		return d.journal.spoolFailed(err)
	}
	return nil
}

// appendFoot appends what is behind the table of a body of size bytes.
func appendFoot(sums []byte, size int64) []byte {
	foot := append([]byte(nil), spoolMagic...)
	foot = binary.LittleEndian.AppendUint32(foot, crc32.Checksum(sums, castagnoli))
	foot = binary.LittleEndian.AppendUint64(foot, uint64(size))
	return append(sums, foot...)
}

// spoolFile is an open spool file.
type spoolFile struct {
	piece
	file  vfs.File
	sums  []byte
	named string // what it belongs to, for errors
	mend  func() // called for a copy of it that is damaged or missing
}

// openSpool opens a spool file and checks that its table is whole, and the one that its record
// says.
func (j *Journal) openSpool(p piece, named string) (*spoolFile, error) {
	s, err := j.openTable(p, named)
	if err == nil || j.mirror == nil {
		return s, err
	}
	switch repair := j.repairBody(p, named); { // no copy had a whole one
	case errors.Is(repair, errMending): // then somebody else may have it whole in a moment
		j.awaitMending(p.spool)
	case repair != nil:
		return nil, err
	}
	return j.openTable(p, named)
}

func (j *Journal) openTable(p piece, named string) (*spoolFile, error) {
	f, err := j.config.FS.Open(j.spoolName(p.spool))
	if err != nil {
		return nil, fmt.Errorf("body of %s: %w", named, err)
	}
	s := &spoolFile{piece: p, file: f, named: named, mend: func() { j.mendBody(p, named) }}
	worn := !isWhole(f)
	for _, one := range copies(f) {
		sums, tableErr := p.readTable(one)
		if tableErr == nil {
			s.sums = sums
			break
		}
		worn, err = true, errors.Join(err, tableErr)
	}
	if s.sums == nil {
		return nil, errors.Join(fmt.Errorf("body of %s: %w", named, err), f.Close())
	}
	if worn {
		s.mend()
	}
	return s, nil
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

// block returns a block of the body, verified.
func (s *spoolFile) block(i int64) ([]byte, error) {
	from, to := s.piece.block(i)
	block := make([]byte, to-from)
	worn, err := readIntact(s.file, block, from, func(b []byte) bool { return fits(b, s.sums, i) })
	if worn {
		s.mend()
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

// Body is a stretch of the body of an entry. Each byte that it returns was compared
// with its checksum. It can be read again from any place, stays readable after the
// entry has gone, and is for one goroutine, which must close it.
type Body struct {
	journal   *Journal
	from, end int64 // in the whole body
	at        int64
	named     string

	files   []piece    // nil for an inline body
	current int        // of files, that is open
	open    *spoolFile // nil for none

	block []byte // verified, from offset start on
	start int64
}

// piece is a spool file with a part of a body.
type piece struct {
	spool      uint64
	entry      uint64 // number of the entry, or of the part of an upload
	from, size int64
	check      uint32 // what its table adds up to, if that is known
	known      bool
}

// length is that of its file.
func (p piece) length() int64 { return p.size + 4*p.blocks() + spoolFoot }

func (p piece) blocks() int64 { return (p.size + spoolBlock - 1) / spoolBlock }

// block returns where a block of it begins and ends.
func (p piece) block(i int64) (from, to int64) {
	return i * spoolBlock, min((i+1)*spoolBlock, p.size)
}

// Body opens length bytes of the body of an entry from an offset on. The error is
// ErrGone if it has left the journal, ErrPacked if it is in a pack, and wraps
// akigw.ErrChecksum if it is damaged.
func (j *Journal) Body(e *Entry, from, length int64) (*Body, error) {
	j.mu.Lock()
	it := j.ids[e.ID]
	if it == nil {
		j.mu.Unlock()
		return nil, ErrGone
	}
	if it.pack != 0 {
		j.mu.Unlock()
		return nil, ErrPacked
	}
	b := &Body{journal: j, from: from, end: from + length, at: from, named: e.Key.String()}
	if len(it.spools) == 0 && e.Size > 0 {
		in, at, sum := it.segment, it.at, it.sum
		in.refs++
		j.mu.Unlock()
		defer j.unref(in)
		b.block = make([]byte, e.Size)
		if err := j.readInline(in, b.block, at, sum); err != nil {
			return nil, fmt.Errorf("body of %s: %w", e.Key, err)
		}
		return b, nil
	}
	b.files = it.pieces()
	for _, p := range b.files {
		j.readers[p.spool]++
	}
	j.mu.Unlock()
	if _, err := b.chunk(); err != nil && err != io.EOF { // it is found damaged before anything is promised
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// pieces are the files of an item's body.
func (it *item) pieces() []piece {
	all, at := make([]piece, len(it.spools)), int64(0)
	for i, n := range it.spools {
		size := it.entry.Size
		if len(it.entry.Parts) > 0 {
			size = it.entry.Parts[i].Size
		}
		all[i] = piece{spool: n, entry: it.entry.ID, from: at, size: size}
		if i < len(it.checks) {
			all[i].check, all[i].known = it.checks[i], true
		}
		at += size
	}
	return all
}

// Size is the length of the stretch in bytes.
func (b *Body) Size() int64 { return b.end - b.from }

// Close releases the body.
func (b *Body) Close() (err error) {
	if b.open != nil {
		err = b.open.Close()
		b.open = nil
	}
	j, files := b.journal, b.files
	if b.files = nil; files == nil {
		return err
	}
	spools := make([]uint64, len(files))
	for i, p := range files {
		spools[i] = p.spool
	}
	j.unread(spools...)
	return err
}

// unread says that nobody reads spool files any more on behalf of whom readers counted them.
func (j *Journal) unread(spools ...uint64) {
	j.mu.Lock()
	for _, n := range spools {
		if j.readers[n]--; j.readers[n] == 0 {
			delete(j.readers, n)
		}
	}
	spent := len(j.spent) > 0
	j.mu.Unlock()
	if spent {
		j.clear()
	}
}

// readInline reads an inline body from its segment, verified.
func (j *Journal) readInline(in *segment, p []byte, at int64, sum uint32) error {
	worn, err := readIntact(in.file, p, at, func(b []byte) bool { return crc32.Checksum(b, castagnoli) == sum })
	if worn {
		j.mendSegment(in)
	}
	return err
}

// chunk returns verified bytes from the present offset on, io.EOF at the end.
func (b *Body) chunk() ([]byte, error) {
	if b.at >= b.end {
		return nil, io.EOF
	}
	if b.at < b.start || b.at >= b.start+int64(len(b.block)) {
		i, _ := slices.BinarySearchFunc(b.files, b.at, func(p piece, at int64) int {
			if p.from+p.size <= at {
				return -1
			}
			return 1
		})
		p := b.files[i]
		if b.open == nil || b.current != i {
			f, err := b.journal.openSpool(p, b.named)
			if err != nil {
				return nil, err
			}
			if b.open != nil {
				_ = b.open.Close() // it was only read
			}
			b.open, b.current = f, i
		}
		n := (b.at - p.from) / spoolBlock
		block, err := b.open.block(n)
		if err != nil {
			return nil, err
		}
		b.block, b.start = block, p.from+n*spoolBlock
	}
	data := b.block[b.at-b.start:]
	return data[:min(int64(len(data)), b.end-b.at)], nil
}

// Next returns the next bytes, io.EOF at the end. They are shared and must not be
// changed; they stay valid.
func (b *Body) Next() ([]byte, error) {
	data, err := b.chunk()
	b.at += int64(len(data))
	return data, err
}

// Read implements io.Reader.
func (b *Body) Read(p []byte) (int, error) {
	data, err := b.chunk()
	n := copy(p, data)
	b.at += int64(n)
	return n, err
}

// Seek implements io.Seeker.
func (b *Body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
		offset += b.from
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.end
	}
	if offset < b.from {
		return 0, errors.New("seek before the start")
	}
	b.at = offset
	return offset - b.from, nil
}
