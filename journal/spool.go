package journal

import (
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
)

// spool is the directory of the bodies that are too large for a record, one file each. It knows
// which files are read, and removes those that nothing needs any more when nobody reads them.
type spool struct {
	fs     vfs.FS
	dir    string
	inline int               // bytes of the largest body that is kept in its record
	failed func(error) error // makes the error of a body that could not be written
	id     string            // see FS.ID
	poke   func()            // has clear called, soon

	last atomic.Uint64 // the highest number given to a file

	mu       sync.Mutex
	readers  map[uint64]int // guarded by mu
	released []uint64       // files that only readers need; guarded by mu
}

func newSpool(fs vfs.FS, dir string, inline int) *spool {
	return &spool{fs: fs, dir: dir, inline: inline, readers: map[uint64]int{}}
}

func (s *spool) name(n uint64) string { return filepath.Join(s.dir, spoolBase(n)) }

func spoolBase(n uint64) string { return strconv.FormatUint(n, 16) + ".body" }

// acquire keeps files from being removed until release.
func (s *spool) acquire(files ...piece) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range files {
		s.readers[p.spool]++
	}
}

func (s *spool) release(files ...piece) {
	s.mu.Lock()
	for _, p := range files {
		if s.readers[p.spool]--; s.readers[p.spool] == 0 {
			delete(s.readers, p.spool)
		}
	}
	removable := len(s.released) > 0
	s.mu.Unlock()
	if removable {
		s.poke()
	}
}

// discard has files removed when nobody reads them. The records that say so are durable, or
// those of the files were not written.
func (s *spool) discard(files []uint64) {
	if len(files) == 0 {
		return
	}
	s.mu.Lock()
	s.released = append(s.released, files...)
	s.mu.Unlock()
	s.poke()
}

// clear removes files that are discarded and that nobody reads.
func (s *spool) clear() {
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
		_ = s.fs.Remove(s.name(n)) // what stays is removed by the next start
		failpoint.Here("spool.afterDelete")
	}
}

// displaced returns ErrMoved if the directory is not what is found by its name any more.
func (s *spool) displaced() error { return checkID(s.fs, s.dir, s.id) }
