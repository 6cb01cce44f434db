package blockfile

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"syscall"

	"golang.org/x/sync/errgroup"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw"
)

// Open opens or creates a store. Segments of other stores, and those that cannot be read or whose head is
// damaged, are removed. An error means that the directory cannot be used.
func Open(o Options) (*Store, error) {
	s := &Store{options: o, ring: newRing(o.Store), table: newTable()}
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, err
	}
	loads, err := s.openAll()
	if err == nil {
		err = s.discard(loads)
	}
	if err != nil {
		for _, l := range loads {
			if l.seg != nil {
				_ = l.seg.file.Close() // nothing was written to it
			}
		}
		return nil, err
	}
	s.enter(loads)
	return s, nil
}

// load is a segment that was found in the directory.
type load struct {
	number  uint32
	seg     *segment // nil if it cannot be used
	records []record
	first   uint64
}

// openAll opens the segments in the directory, by ascending number.
func (s *Store) openAll() (loads []load, err error) {
	files, err := os.ReadDir(s.options.Dir)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if n, ok := numberOf(f.Name()); ok {
			loads = append(loads, load{number: n})
		}
	}
	var group errgroup.Group
	group.SetLimit(4 * runtime.GOMAXPROCS(0)) // most of the time they wait for the disk
	for i := range loads {
		l := &loads[i]
		group.Go(func() (err error) {
			l.seg, l.records, l.first, err = openSegment(s.options.Dir, s.ring, l.number)
			slices.SortFunc(l.records, func(a, b record) int {
				return cmp.Or(cmp.Compare(a.Extent, b.Extent), cmp.Compare(a.N, b.N))
			})
			if errors.Is(err, akigw.ErrChecksum) || errors.Is(err, syscall.EIO) {
				return nil
			}
			return err
		})
	}
	return loads, group.Wait()
}

// discard removes the files that cannot be used.
func (s *Store) discard(loads []load) error {
	for _, l := range loads {
		if l.seg != nil {
			continue
		}
		if err := os.Remove(path(s.options.Dir, l.number)); err != nil {
			return fmt.Errorf("removing a damaged segment: %w", err)
		}
	}
	return nil
}

// enter builds the index.
func (s *Store) enter(loads []load) {
	last := uint64(0)
	for _, l := range loads {
		s.last = max(s.last, l.number)
		if l.seg == nil {
			continue
		}
		s.segments[l.number] = l.seg
		last = max(last, l.first)
		for _, r := range l.records {
			last = max(last, r.write)
			if r.kind == freeRecord {
				s.freed[r.Extent] = freeing{write: max(r.write, s.freed[r.Extent].write)}
			}
		}
	}
	s.write.Store(last)
	for _, l := range loads {
		s.enterRecords(l.seg, l.records)
	}
	for extent, f := range s.freed {
		if f.left == 0 {
			delete(s.freed, extent)
		}
	}
}

// enterRecords adds the blocks of a segment, in their order, to the index. Of two records of a block either
// will do, because an extent has one version of its bytes. Segments come in the order in which they were
// written, and neighbours in the index were mostly written together, so each block is near the one before.
func (s *Store) enterRecords(seg *segment, records []record) {
	var near btree.PathHint
	for i := range records {
		r := &records[i]
		if r.kind != blockRecord || s.deadLocked(r) {
			continue
		}
		i := itemOf(seg, r)
		if old, replaced := s.index.tree.SetHint(i, &near); replaced {
			s.segments[old.segment].live -= old.size()
		}
		seg.live += i.size()
	}
}
