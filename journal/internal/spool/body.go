package spool

import (
	"errors"
	"io"
	"slices"
)

// Body reads a range of the body of an entry. Every byte that it returns has been verified against
// its checksum. It can seek, stays readable after the entry has left the journal, and is for one
// goroutine, which must close it.
type Body struct {
	spool     *Spool
	openFile  func(p Piece, named string) (*File, error)
	from, end int64 // offsets in the whole body
	at        int64
	named     string

	files   []Piece // nil for an inline body
	current int     // index of the open file in files
	open    *File   // the open file, nil for none

	block []byte // verified, from offset start on
	start int64
}

// NewInline returns a range of a body that is in memory and already verified.
func NewInline(body []byte, from, length int64) *Body {
	return &Body{from: from, end: from + length, at: from, block: body}
}

// NewBody returns a range of a body that is stored in files, which were acquired from s. named is
// the body's owner, for errors. open opens one of the files. NewBody reads the first block of the
// range, so that the caller learns of damage before it promises anything.
func NewBody(s *Spool, files []Piece, from, length int64, named string, open func(p Piece, named string) (*File, error)) (*Body, error) {
	b := &Body{spool: s, openFile: open, from: from, end: from + length, at: from, named: named, files: files}
	if _, err := b.chunk(); err != nil && err != io.EOF {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
}

// Size is the length of the range in bytes.
func (b *Body) Size() int64 { return b.end - b.from }

// Close releases the body.
func (b *Body) Close() (err error) {
	if b.open != nil {
		err = b.open.Close()
		b.open = nil
	}
	files := b.files
	if b.files = nil; files != nil {
		b.spool.Release(files...)
	}
	return err
}

// chunk returns verified bytes from the current offset on, io.EOF at the end.
func (b *Body) chunk() ([]byte, error) {
	if b.at >= b.end {
		return nil, io.EOF
	}
	if b.at < b.start || b.at >= b.start+int64(len(b.block)) {
		i, _ := slices.BinarySearchFunc(b.files, b.at, func(p Piece, at int64) int {
			if p.From+p.Size <= at {
				return -1
			}
			return 1
		})
		p := b.files[i]
		if b.open == nil || b.current != i {
			f, err := b.openFile(p, b.named)
			if err != nil {
				return nil, err
			}
			if b.open != nil {
				_ = b.open.Close() // it was only read
			}
			b.open, b.current = f, i
		}
		n := (b.at - p.From) / Block
		block, err := b.open.block(n)
		if err != nil {
			return nil, err
		}
		b.block, b.start = block, p.From+n*Block
	}
	data := b.block[b.at-b.start:]
	return data[:min(int64(len(data)), b.end-b.at)], nil
}

// Next returns the next bytes, io.EOF at the end. The slice is shared and must not be changed; it
// stays valid.
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
