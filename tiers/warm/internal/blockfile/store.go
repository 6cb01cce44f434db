// Package blockfile keeps the blocks of the warm tier in files of a fixed size, the segments. A block
// is written with pwrite from the caller's memory and read with pread into it: nothing is mapped, so
// the memory of the process does not grow with the data. Segments are written once, front to back, and
// removed whole. Where each block is stands in an index in memory (about 40 bytes a block), which is
// read from the ends of the segments when the store is opened.
//
// A returned block is the one that was stored under its ID. Anything else is a miss: after a crash, on
// a damaged disk, or when a file of another store gets into the directory. Nothing is synced, because
// all of it can be fetched again. The store does not bound itself: its owner asks before it writes, and
// calls Sweep, which evicts, and Compact, which frees space.
package blockfile

import (
	"errors"
	"fmt"
	"math"
	"os"
	"sync/atomic"

	"golang.org/x/sync/singleflight"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// Options are the options of a store.
type Options struct {
	// Dir is the directory of the segments. It is created if it does not exist.
	Dir string
	// Store identifies the store. Segments that were written under another one are removed.
	Store [16]byte
	// SegmentBytes is the size at which a segment takes no more records. It is exceeded by less than
	// the size of the records that are being written at that moment.
	SegmentBytes int64
	// LeastBytes is what a block counts at least for Sweep, because it takes memory however small it is.
	LeastBytes int64
	// Damaged, if set, is called with a block that Compact dropped because it could not be read.
	Damaged func(ID, error)
}

const (
	// ErrAbsent: the store does not have the block.
	ErrAbsent = akigw.Error("the block is not stored")

	errClosed    = akigw.Error("the store of blocks is closed")
	errExhausted = akigw.Error("the store of blocks has used all numbers of segments")
	errBlock     = akigw.Error("this is not a block that a segment can hold")

	// maxN is the highest number of a block.
	maxN = math.MaxUint32
)

// Store is a directory of segments. Its methods are safe for concurrent use, except that Seal, Sweep and
// Compact are for one goroutine at a time, and Close is called when nothing else is running.
type Store struct {
	options Options
	ring    ring
	write   atomic.Uint64 // the last write number
	table

	fresh  appender // of blocks that are put
	copies appender // of blocks that are moved
	hand   hand     // for the goroutine of Sweep only
}

// appender is where records are added.
type appender struct {
	active   *segment // nil for none; guarded by Store.mu
	creating singleflight.Group
}

// Put stores a block. It does not retain payload. encoding is for the caller: it comes back with the
// payload.
func (s *Store) Put(id ID, encoding byte, payload []byte) error {
	if id.N < 0 || id.N > maxN || len(payload) > maxPayload {
		return errBlock
	}
	r := record{ID: id, kind: blockRecord, encoding: encoding, length: uint32(len(payload)), sum: codec.Checksum(payload), write: s.write.Add(1)}
	return s.append(&s.fresh, &r, payload, func(seg *segment) { s.addLocked(seg, &r) })
}

// append writes a record to a segment. Then it calls publishLocked, with s.mu locked. A segment that
// could not be written takes no more records.
func (s *Store) append(to *appender, r *record, payload []byte, publishLocked func(*segment)) error {
	seg, err := s.claim(to, r)
	if err != nil {
		return err
	}
	err = seg.store(s.ring, r, payload)
	s.mu.Lock()
	defer s.mu.Unlock()
	seg.writers--
	if err != nil {
		seg.full = true
		return err
	}
	seg.records = append(seg.records, *r)
	publishLocked(seg)
	return nil
}

// claim finds a place for a record, in a new segment if necessary.
func (s *Store) claim(to *appender, r *record) (*segment, error) {
	for {
		if seg := s.tryClaim(to, r); seg != nil {
			return seg, nil
		}
		_, err, _ := to.creating.Do("", func() (any, error) { return nil, s.begin(to) })
		if err != nil {
			return nil, err
		}
	}
}

// tryClaim finds a place for a record in the segment that is being written, nil if there is none.
func (s *Store) tryClaim(to *appender, r *record) *segment {
	s.mu.Lock()
	defer s.mu.Unlock()
	seg := to.active
	if seg == nil || seg.full || s.closed {
		return nil
	}
	r.place = uint32(seg.end / headBytes)
	seg.end += r.size()
	seg.writers++
	seg.full = seg.end >= s.options.SegmentBytes || len(seg.records)+seg.writers >= maxRecords
	return seg
}

// begin creates a segment, unless the one that is being written takes more records.
func (s *Store) begin(to *appender) error {
	number, err := s.nextNumber(to)
	if number == 0 || err != nil {
		return err
	}
	seg, err := createSegment(s.options.Dir, s.ring, number, s.write.Load())
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.segments[number], to.active = seg, seg
	return nil
}

// nextNumber returns the number of a new segment, 0 if none is needed.
func (s *Store) nextNumber(to *appender) (uint32, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return 0, errClosed
	case to.active != nil && !to.active.full:
		return 0, nil
	case s.last == math.MaxUint32:
		return 0, errExhausted
	}
	s.last++
	return s.last, nil
}

// Get reads a block. into returns memory for a payload of a length in bytes, nil for new memory; it may
// be called more than once. The error is ErrAbsent for a block that the store does not have. Any other
// error means that the block was damaged; the store has dropped it.
func (s *Store) Get(id ID, into func(encoding byte, length int) []byte) (encoding byte, payload []byte, err error) {
	for last := (item{}); ; {
		i, seg := s.find(id)
		if seg == nil {
			return 0, nil, ErrAbsent
		}
		r, payload, err := s.read(seg, i, into)
		switch {
		case err == nil && r.Object != id.Object:
			return 0, nil, ErrAbsent
		case err == nil:
			return r.encoding, payload, nil
		case !errors.Is(err, os.ErrClosed) || i == last: // otherwise it was moved meanwhile
			s.drop(i)
			return 0, nil, fmt.Errorf("%s at %d: %w", seg.file.Name(), int64(i.place)*headBytes, err)
		}
		last = i
	}
}

// read reads the record at the place of an item, and checks that it is the item's.
func (s *Store) read(seg *segment, i item, into func(encoding byte, length int) []byte) (r record, payload []byte, err error) {
	var head [headBytes]byte
	if _, err = seg.file.ReadAt(head[:], int64(i.place)*headBytes); err != nil {
		return r, nil, err
	}
	r, ok := s.ring.record(head[:], seg.number, i.place, math.MaxInt64)
	if !ok || itemOf(seg, &r) != i {
		return r, nil, akigw.ErrChecksum
	}
	length := int(r.length)
	if payload = into(r.encoding, length); cap(payload) < length {
		payload = make([]byte, length)
	}
	payload = payload[:length]
	if _, err = seg.file.ReadAt(payload, r.offset()+headBytes); err != nil {
		return r, nil, err
	}
	if codec.Checksum(payload) != r.sum {
		return r, nil, akigw.ErrChecksum
	}
	return r, payload, nil
}

// Drop removes a block that its owner found damaged. When the store is opened again it may be back.
func (s *Store) Drop(id ID) {
	if i, seg := s.find(id); seg != nil {
		s.drop(i)
	}
}

// Free removes the blocks of an extent, and returns how many there were. They stay removed when the store is
// opened again, but for a block that has several records, because it was put more than once, evicted, or moved:
// one of them may outlive the record of the end, and the block may be back, as an evicted one may. An error
// means that the end could not be recorded.
func (s *Store) Free(extent uint64) (n int, err error) {
	write := s.bury(extent, &n)
	if n == 0 {
		return 0, nil
	}
	r := record{ID: ID{Extent: extent}, kind: freeRecord, write: write}
	return n, s.append(&s.fresh, &r, nil, func(*segment) {})
}

// bury removes the blocks of an extent from the index. It returns the write number of their end, and in
// n how many there were.
func (s *Store) bury(extent uint64, n *int) (write uint64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var items []item
	s.index.ofExtent(extent, func(i item) { items = append(items, i) })
	for _, i := range items {
		s.dropLocked(i)
	}
	*n = len(items)
	if *n == 0 {
		return 0
	}
	f := freeing{s.write.Add(1), s.freed[extent].left + *n}
	s.freed[extent] = f
	return f.write
}

// Disk is how many bytes of the disk the segments occupy.
func (s *Store) Disk() int64 {
	bytes, growing := s.knownDisk()
	for _, seg := range growing {
		if info, err := seg.file.Stat(); err == nil { // otherwise it was removed meanwhile
			bytes += onDisk(info)
		}
	}
	return bytes
}

// Close writes the footers of the segments that have none, and closes the files.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	for _, a := range []*appender{&s.fresh, &s.copies} {
		if a.active != nil {
			a.active.full = true
		}
	}
	s.mu.Unlock()
	return errors.Join(s.Seal(), s.Abandon())
}

// Abandon closes the files without writing to them, as the end of the process would.
func (s *Store) Abandon() (err error) {
	s.mu.Lock()
	segments := s.segments
	s.closed, s.segments, s.index, s.freed = true, map[uint32]*segment{}, newIndex(), map[uint64]freeing{}
	s.fresh.active, s.copies.active = nil, nil
	s.mu.Unlock()
	for _, seg := range segments {
		err = errors.Join(err, seg.file.Close())
	}
	return err
}
