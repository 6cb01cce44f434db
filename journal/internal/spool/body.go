package spool

import (
	"errors"
	"io"
	"slices"
)

// Body is a stretch of the body of an entry. Each byte that it returns was compared
// with its checksum. It can be read again from any place, stays readable after the
// entry has left, and is for one goroutine, which must close it.
type Body struct {
	spool     *Spool
	openFile  func(p Piece, named string) (*File, error)
	from, end int64 // in the whole body
	at        int64
	named     string

	files   []Piece // nil for an inline body
	current int     // of files, that is open
	open    *File   // nil for none

	block []byte // verified, from offset start on
	start int64
}

// NewInline returns a stretch of a body that is in memory, verified.
func NewInline(body []byte, from, length int64) *Body {
	return &Body{from: from, end: from + length, at: from, block: body}
}

// NewBody returns a stretch of the body of named that is in files, which were acquired from s.
// open opens one of them. Something of the stretch is read, so that a body is found damaged before
// anything is promised.
func NewBody(s *Spool, files []Piece, from, length int64, named string, open func(p Piece, named string) (*File, error)) (*Body, error) {
	b := &Body{spool: s, openFile: open, from: from, end: from + length, at: from, named: named, files: files}
	if _, err := b.chunk(); err != nil && err != io.EOF {
		return nil, errors.Join(err, b.Close())
	}
	return b, nil
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
		b.spool.Release(files...)
	}
	return err
}

// chunk returns verified bytes from the present offset on, io.EOF at the end.
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
