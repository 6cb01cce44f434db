// Package spool keeps bodies that are too large for a record of the journal in files of their own,
// with a checksum of each block. It writes them, reads them verified, from one copy or several,
// and removes them when nothing needs them and nobody reads them. It does not know which bodies
// are needed: the journal says so.
package spool

import (
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// Spool is the directory of the bodies that are too large for a record, one file each. It knows
// which files are read, and removes those that nothing needs any more when nobody reads them.
type Spool struct {
	Options

	last atomic.Uint64 // the highest number given to a file

	mu       sync.Mutex
	readers  map[uint64]int // guarded by mu
	released []uint64       // files that only readers need; guarded by mu
}

// Options are what a Spool is made of.
type Options struct {
	FS  vfs.FS
	Dir string
	// Inline is how many bytes the largest body has that is kept in its record.
	Inline int
	// Failed makes the error of a body that could not be written.
	Failed func(error) error
	// Poke has Clear called, soon.
	Poke func()
}

// New makes a Spool over a directory.
func New(o Options) *Spool { return &Spool{Options: o, readers: map[uint64]int{}} }

// Name is the path of a file.
func (s *Spool) Name(n uint64) string { return filepath.Join(s.Dir, Base(n)) }

// Base is the name of a file in its directory.
func Base(n uint64) string { return strconv.FormatUint(n, 16) + ".body" }

// SetLast says which number is the highest that a file has.
func (s *Spool) SetLast(n uint64) { s.last.Store(n) }

// Last is the highest number given to a file.
func (s *Spool) Last() uint64 { return s.last.Load() }

// Acquire keeps files from being removed until release.
func (s *Spool) Acquire(files ...Piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range files {
		s.readers[p.Number]++
	}
}

// Release ends an Acquire.
func (s *Spool) Release(files ...Piece) {
	s.mu.Lock()
	for _, p := range files {
		if s.readers[p.Number]--; s.readers[p.Number] == 0 {
			delete(s.readers, p.Number)
		}
	}
	removable := len(s.released) > 0
	s.mu.Unlock()
	if removable {
		s.Poke()
	}
}

// Discard has files removed when nobody reads them. The records that say so are durable, or
// those of the files were not written.
func (s *Spool) Discard(files []uint64) {
	if len(files) == 0 {
		return
	}
	s.mu.Lock()
	s.released = append(s.released, files...)
	s.mu.Unlock()
	s.Poke()
}

// Clear removes files that are discarded and that nobody reads.
func (s *Spool) Clear() {
	s.mu.Lock()
	var unread []uint64
	s.released = slices.DeleteFunc(s.released, func(n uint64) bool {
		if s.readers[n] > 0 {
			return false
		}
		unread = append(unread, n)
		return true
	})
	s.mu.Unlock()
	for _, n := range unread {
		_ = s.FS.Remove(s.Name(n)) // what stays is removed by the next start
		failpoint.Here("spool.afterDelete")
	}
}
