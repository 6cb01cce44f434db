// Package spool stores bodies that are too large for a journal record in files of their own, with a
// checksum for each block. It writes them, reads them verified, from one copy or two, and removes
// files that are no longer needed once no reader has them open. It does not decide which bodies are
// needed: the journal does.
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

// Spool is a directory of large bodies, one file each. It counts the readers of each file, and
// removes a file when it is no longer needed and has no readers.
type Spool struct {
	Options

	last atomic.Uint64 // highest file number in use

	mu       sync.Mutex
	readers  map[uint64]int // by file number; guarded by mu
	released []uint64       // files to remove when they have no readers; guarded by mu
}

// Options configure a Spool.
type Options struct {
	FS  vfs.FS
	Dir string
	// Inline is the size in bytes of the largest body that is stored in its record.
	Inline int
	// Failed returns the error to report for a body that could not be written.
	Failed func(error) error
	// Poke schedules a call of Clear.
	Poke func()
}

// New returns a Spool over a directory.
func New(o Options) *Spool { return &Spool{Options: o, readers: map[uint64]int{}} }

// Name returns the path of a file.
func (s *Spool) Name(n uint64) string { return filepath.Join(s.Dir, Base(n)) }

// Base returns the base name of a file.
func Base(n uint64) string { return strconv.FormatUint(n, 16) + ".body" }

// SetLast sets the highest file number in use.
func (s *Spool) SetLast(n uint64) { s.last.Store(n) }

// Last returns the highest file number in use.
func (s *Spool) Last() uint64 { return s.last.Load() }

// Acquire keeps files from being removed until Release.
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

// Discard marks files for removal once they have no readers. The records that say so must be
// durable, or the records of the files must not have been written.
func (s *Spool) Discard(files []uint64) {
	if len(files) == 0 {
		return
	}
	s.mu.Lock()
	s.released = append(s.released, files...)
	s.mu.Unlock()
	s.Poke()
}

// Clear removes the discarded files that have no readers.
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
		_ = s.FS.Remove(s.Name(n)) // the next start removes a leftover
		failpoint.Here("spool.afterDelete")
	}
}
