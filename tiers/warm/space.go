package warm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/tiers/warm/policy"
)

// space decides whether a write still fits: into the quota, measured by the blocks that the files
// occupy, and onto the disk, which must never fill up under Badger's memory maps, because that
// causes a SIGBUS.
type space struct {
	dir      string
	quota    int64
	headroom int64
	used     atomic.Int64 // allocated bytes at the last measurement
	since    atomic.Int64 // bytes written since then
	free     atomic.Int64 // bytes free on the disk at the last measurement
	ballast  ballast
	fault    func() error // called before free space is measured
	blocks   func() int64 // bytes allocated to the segments of blocks
}

// init takes the first measurement. fileSize is the size of a value log file: one more may exist
// while another is being rewritten.
func (s *space) init(dir string, quota, fileSize int64) {
	s.dir, s.quota = dir, quota
	s.headroom = 4 * fileSize
	s.ballast.path, s.ballast.size = filepath.Join(dir, ballastFile), min(quota/64, mostBallast)
	s.measure()
}

// limit is the space that writes may fill; the rest is for files being rewritten.
func (s *space) limit() int64 { return policy.Quota(s.quota).Limit() }

// reserve takes n bytes of the quota for a write, and reports whether they fit, by the current free
// space.
func (s *space) reserve(n int64) bool {
	if !s.claim(n) {
		return false
	}
	if s.look()-n < s.headroom {
		s.since.Add(-n)
		return false
	}
	return true
}

// claim is reserve by the last measurement.
func (s *space) claim(n int64) bool {
	since := s.since.Add(n)
	if s.used.Load()+since > s.limit() || s.free.Load()-since < s.headroom {
		s.since.Add(-n)
		return false
	}
	return true
}

// look measures the free space: other programs may have filled the disk since the last measurement.
func (s *space) look() int64 {
	var stat syscall.Statfs_t
	if err := errors.Join(s.fault(), syscall.Statfs(s.dir, &stat)); err != nil || stat.Flags&readOnly != 0 {
		return 0 // unknown counts as none
	}
	total := int64(stat.Blocks) * int64(stat.Bsize)
	free := int64(stat.Bavail)*int64(stat.Bsize) - min(total/20, 1<<30)
	if free < s.headroom {
		s.ballast.release()
		s.free.Store(free)
	}
	return free
}

const ballastFile = "BALLAST"

// ballast is a file that reserves space, to be released when other programs fill the disk: then
// Badger can still write what it has to write by itself, and its memory maps stay valid.
type ballast struct {
	path string
	size int64
	held atomic.Bool
}

// mostBallast is more than Badger writes by itself while nothing is stored and no value log file is
// rewritten: memtables and tables.
const mostBallast = 16 << 20

// hold reserves the space. It is best effort.
func (b *ballast) hold() {
	if b.held.Load() {
		return
	}
	f, err := os.OpenFile(b.path, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return
	}
	defer f.Close()
	b.held.Store(allocate(f, b.size) == nil)
}

// taken is the space that the ballast occupies, in bytes.
func (b *ballast) taken() int64 {
	if b.held.Load() {
		return b.size
	}
	return 0
}

// release frees the space.
func (b *ballast) release() {
	if b.held.Swap(false) {
		_ = os.Truncate(b.path, 0) // if it fails, the space stays reserved
	}
}

// problem says why writes do not fit, "" if they do.
func (s *space) problem() string {
	used := s.used.Load() + s.since.Load()
	switch free := s.free.Load() - s.since.Load(); {
	case free < s.headroom:
		return fmt.Sprintf("the disk is almost full: %d more bytes must be free for %s; free some space or lower cache.warm_bytes", s.headroom-free, s.dir)
	case used > s.limit():
		return "the tier is full, and space is being freed"
	}
	return ""
}

// measure counts allocated blocks, not file sizes: Badger's files are sparse.
func (s *space) measure() {
	before := s.since.Load()
	s.used.Store(size.OnDisk(s.dir, filepath.Join(s.dir, blocksDir)) + s.blocks() - s.ballast.taken()) // the ballast holds no values
	s.since.Add(-before)
	free := s.look()
	s.free.Store(free)
	if free > 3*s.headroom {
		s.ballast.hold()
	}
}

// total is the disk space that the tier occupies, in bytes: as measured, plus what was written
// since.
func (s *space) total() int64 { return s.used.Load() + s.since.Load() }

// full reports whether more than a number of tenths of the limit are taken.
func (s *space) full(tenths int64) bool {
	return s.total() > s.limit()/10*tenths || s.free.Load() < 2*s.headroom
}

// pinnable is how many bytes pins can take: three quarters of the limit.
func (s *space) pinnable() int64 { return s.limit() / 4 * 3 }
