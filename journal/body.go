package journal

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// bodyOpener opens the bodies of entries, wherever they are.
type bodyOpener struct {
	table  *table
	log    *wal
	spool  *spool
	repair *repairer // nil without a second directory
}

// open opens length bytes of the body of an entry from an offset on. It takes none of the locks
// that a commit holds, and none across I/O.
func (s *bodyOpener) open(e *Entry, from, length int64) (*Body, error) {
	for {
		it := s.table.item(e)
		switch {
		case it == nil || it.kind == kindTranslate:
			return nil, ErrGone
		case it.pack != 0:
			return nil, ErrPacked
		}
		b := &Body{bodies: s, from: from, end: from + length, at: from, named: e.Key.String()}
		if it.inline() {
			in := s.log.acquire(it.segment)
			if in == nil {
				continue // it was rewritten, and its old segment removed
			}
			defer s.log.release(in)
			b.block = make([]byte, e.Size)
			if err := s.readInline(in, b.block, it.at, it.sum); err != nil {
				return nil, fmt.Errorf("body of %s: %w", e.Key, err)
			}
			return b, nil
		}
		b.files = it.pieces()
		s.spool.acquire(b.files...)
		if s.table.item(e) != it { // it may have left before its files were kept
			s.spool.release(b.files...)
			continue
		}
		if _, err := b.chunk(); err != nil && err != io.EOF { // it is found damaged before anything is promised
			return nil, errors.Join(err, b.Close())
		}
		return b, nil
	}
}

// readInline reads an inline body from its segment, verified.
func (s *bodyOpener) readInline(in *segment, p []byte, at int64, sum uint32) error {
	damaged, err := readIntact(in.file, p, at, func(b []byte) bool { return crc32.Checksum(b, castagnoli) == sum })
	if damaged {
		s.repair.queueSegment(in)
	}
	return err
}

// openFile opens a spool file and checks that its table is whole, and the one that its record
// says.
func (s *bodyOpener) openFile(p piece, named string) (*spoolFile, error) {
	f, err := s.openTable(p, named)
	if err == nil || s.repair == nil {
		return f, err
	}
	switch repair := s.repair.body(p, named); { // no copy had a whole one
	case errors.Is(repair, errNotRepaired): // then another goroutine may have it whole in a moment
		s.repair.await(p.spool)
	case repair != nil:
		return nil, err
	}
	return s.openTable(p, named)
}

func (s *bodyOpener) openTable(p piece, named string) (*spoolFile, error) {
	f, err := s.spool.fs.Open(s.spool.name(p.spool))
	if err != nil {
		return nil, fmt.Errorf("body of %s: %w", named, err)
	}
	open := &spoolFile{piece: p, file: f, named: named, damaged: func() { s.repair.queueBody(p, named) }}
	damaged := !isWhole(f)
	for _, one := range copies(f) {
		sums, tableErr := p.readTable(one)
		if tableErr == nil {
			open.sums = sums
			break
		}
		damaged, err = true, errors.Join(err, tableErr)
	}
	if open.sums == nil {
		return nil, errors.Join(fmt.Errorf("body of %s: %w", named, err), f.Close())
	}
	if damaged {
		open.damaged()
	}
	return open, nil
}

// Body is a stretch of the body of an entry. Each byte that it returns was compared
// with its checksum. It can be read again from any place, stays readable after the
// entry has gone, and is for one goroutine, which must close it.
type Body struct {
	bodies    *bodyOpener
	from, end int64 // in the whole body
	at        int64
	named     string

	files   []piece    // nil for an inline body
	current int        // of files, that is open
	open    *spoolFile // nil for none

	block []byte // verified, from offset start on
	start int64
}

// Size is the length of the stretch in bytes.
func (b *Body) Size() int64 { return b.end - b.from }

// Close releases the body.
func (b *Body) Close() (err error) {
	if b.open != nil {
		err = b.open.Close()
		b.open = nil
	}
	files := b.files
	if b.files = nil; files != nil {
		b.bodies.spool.release(files...)
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
			f, err := b.bodies.openFile(p, b.named)
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
