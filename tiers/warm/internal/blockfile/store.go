// Package blockfile keeps the blocks of the warm tier in files of a fixed size, the segments. A block
// is written with pwrite from the caller's memory and read with pread into it: nothing is mapped, so
// the memory of the process does not grow with the data. Segments are written once, front to back, and
// removed whole. Where each block is stands in an index in memory (about 35 bytes a block), which is
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
	"sync"
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
	stats   stats

	mu       sync.RWMutex
	index    index               // guarded by mu
	segments map[uint32]*segment // by number; guarded by mu
	freed    map[uint64]freeing  // by extent; guarded by mu
	last     uint32              // the highest number of a segment; guarded by mu
	closed   bool                // guarded by mu
	fresh    appender            // of blocks that are put
	copies   appender            // of blocks that are moved
	hand     uint32              // the segment that Sweep passed last; for its goroutine only
}

// stats counts what was written.
type stats struct{ written, copied atomic.Int64 }

// appender is where records are added.
type appender struct {
	active   *segment // nil for none; guarded by Store.mu
	creating singleflight.Group
}

// freeing is an extent that was freed: records of its blocks with lower write numbers are dead. It is
// known for as long as segments hold some of them.
type freeing struct {
	write uint64
	left  int // how many of them there are
}

// Put stores a block. It does not retain payload. encoding is for the caller: it comes back with the
// payload.
func (s *Store) Put(id ID, encoding byte, payload []byte) error {
	if id.N < 0 || id.N > maxN || len(payload) > maxPayload {
		return errBlock
	}
	r := record{ID: id, kind: blockRecord, encoding: encoding, length: uint32(len(payload)), sum: codec.Checksum(payload), write: s.write.Add(1)}
	err := s.append(&s.fresh, &r, payload, func(seg *segment) { s.addLocked(seg, &r) })
	if err == nil {
		s.stats.written.Add(r.size())
	}
	return err
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

// addLocked adds a record of a block to the index, unless its extent was freed while it was written.
func (s *Store) addLocked(seg *segment, r *record) {
	if s.deadLocked(r) {
		return
	}
	i := itemOf(seg, r)
	if old, replaced := s.index.set(i); replaced {
		s.segments[old.segment].live -= old.size()
	}
	seg.live += i.size()
}

// dropLocked removes an item from the index, if it is still the one of its block.
func (s *Store) dropLocked(i item) bool {
	if now, ok := s.index.get(i); !ok || now != i {
		return false
	}
	s.index.remove(i)
	s.segments[i.segment].live -= i.size()
	return true
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

// find returns the place of a block, and nil for a block that the store does not have.
func (s *Store) find(id ID) (item, *segment) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.index.get(item{extent: id.Extent, n: uint32(id.N)})
	if !ok || id.N < 0 || id.N > maxN {
		return item{}, nil
	}
	return i, s.segments[i.segment]
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

// drop removes an item from the index, if it is still the one of its block.
func (s *Store) drop(i item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dropLocked(i)
}

// Has reports whether the store has a block, without reading it. Only Get knows whether it is intact,
// and whether it is of the ID's object.
func (s *Store) Has(id ID) bool {
	_, seg := s.find(id)
	return seg != nil
}

// Count returns how many blocks of an extent the store has.
func (s *Store) Count(extent uint64) (n int64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.index.ofExtent(extent, func(item) { n++ })
	return n
}

// Free removes the blocks of an extent, and returns how many there were. They stay removed when the
// store is opened again. An error means that this could not be recorded.
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

// Extents calls yield with each extent, by ascending number, and how many of its blocks the store has,
// until yield returns false.
func (s *Store) Extents(yield func(extent uint64, blocks int64) bool) {
	for next := uint64(0); ; {
		counts := s.extentsFrom(next)
		for _, c := range counts {
			if !yield(c.extent, c.blocks) || c.extent == math.MaxUint64 {
				return
			}
			next = c.extent + 1
		}
		if len(counts) == 0 {
			return
		}
	}
}

// count is how many blocks of an extent there are.
type count struct {
	extent uint64
	blocks int64
}

// extentBatch is how many extents are counted without releasing the lock.
const extentBatch = 1024

// extentsFrom counts the blocks of the next extents from a number on.
func (s *Store) extentsFrom(extent uint64) (counts []count) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	s.index.from(item{extent: extent}, func(i item) bool {
		if n := len(counts); n == 0 || counts[n-1].extent != i.extent {
			if n == extentBatch {
				return false
			}
			counts = append(counts, count{extent: i.extent})
		}
		counts[len(counts)-1].blocks++
		return true
	})
	return counts
}

// Newest is the highest number of an extent that the store has blocks of, 0 for none.
func (s *Store) Newest() uint64 {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.index.newest()
}

// Stats describes a store.
type Stats struct {
	Segments, Blocks int
	// Live is the size of the records of all blocks in bytes, Size that of all segments.
	Live, Size int64
	// Written is how many bytes Put has written since the store was opened, Copied how many Compact has.
	Written, Copied int64
}

// Stats returns the current state.
func (s *Store) Stats() Stats {
	s.mu.RLock()
	defer s.mu.RUnlock()
	st := Stats{Segments: len(s.segments), Blocks: s.index.len(), Written: s.stats.written.Load(), Copied: s.stats.copied.Load()}
	for _, seg := range s.segments {
		st.Live += seg.live
		st.Size += seg.end
	}
	return st
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
