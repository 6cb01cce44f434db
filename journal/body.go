package journal

import (
	"errors"
	"fmt"

	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/journal/internal/spool"
)

// bodyOpener opens the bodies of entries, wherever they are stored.
type bodyOpener struct {
	table  *table
	log    *wal
	spool  *spool.Spool
	repair *repairer // nil without a second directory
}

// open opens length bytes of the body of an entry, starting at offset from. It takes no lock that a
// commit holds, and holds none across I/O.
func (s *bodyOpener) open(e *Entry, from, length int64) (*spool.Body, error) {
	for {
		it := s.table.item(e)
		switch {
		case it == nil || it.kind == kindTranslate:
			return nil, ErrGone
		case it.pack != 0:
			return nil, ErrPacked
		}
		if it.inline() {
			in := s.log.acquire(it.segment)
			if in == nil {
				continue // it was rewritten, and its old segment was removed
			}
			defer s.log.release(in)
			body := make([]byte, e.Size)
			if err := s.readInline(in, body, it.at, it.sum); err != nil {
				return nil, fmt.Errorf("body of %s: %w", it.named(), err)
			}
			return spool.NewInline(body, from, length), nil
		}
		files := it.pieces()
		s.spool.Acquire(files...)
		if s.table.item(e) != it { // it may have left before its files were acquired
			s.spool.Release(files...)
			continue
		}
		return spool.NewBody(s.spool, files, from, length, it.named(), s.openFile)
	}
}

// readInline reads an inline body from its segment and verifies it.
func (s *bodyOpener) readInline(in *segment, p []byte, at int64, sum uint32) error {
	damaged, err := spool.ReadIntact(in.file, p, at, func(b []byte) bool { return codec.Checksum(b) == sum })
	if damaged {
		s.repair.queueSegment(in)
	}
	return err
}

// openFile opens a spool file and checks that its checksum table is intact and matches its record.
func (s *bodyOpener) openFile(p spool.Piece, named string) (*spool.File, error) {
	damaged := func() { s.repair.queueBody(p, named) }
	f, err := s.spool.OpenFile(p, named, damaged)
	if err == nil || s.repair == nil {
		return f, err
	}
	switch repair := s.repair.body(p, named); { // no copy had an intact table
	case errors.Is(repair, errNotRepaired): // another goroutine may be repairing it right now
		s.repair.await(p.Number)
	case repair != nil:
		return nil, err
	}
	return s.spool.OpenFile(p, named, damaged)
}
