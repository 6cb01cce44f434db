package crashfs

import (
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
)

// Steps numbers the calls that modify a file system, and calls a function before each: to simulate a
// crash at that moment, or to make the call fail.
type Steps struct {
	vfs.FS
	mu   sync.Mutex
	n    int                            // guarded by mu
	step func(n int, call string) error // called with mu
}

// NewSteps returns a file system that passes all calls on to fs and counts them.
func NewSteps(fs vfs.FS) *Steps {
	s := &Steps{}
	s.FS = vfs.Watched(fs, s.before)
	return s
}

// Before sets the function that is called before each modifying call, one at a time. n counts the calls
// from 1 on, and call is an akigw.DiskOp and a name, such as "write /dir/file". If step returns an
// error, the call fails with it; a write writes half of its data first, as on a full disk. nil removes
// the function. Before waits for a step under way.
func (s *Steps) Before(step func(n int, call string) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.step = step
}

func (s *Steps) before(op akigw.DiskOp, name string, size int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if op == akigw.DiskOpen || op == akigw.DiskRead || op == akigw.DiskList {
		return size, nil
	}
	s.n++
	if s.step == nil {
		return size, nil
	}
	return size / 2, s.step(s.n, string(op)+" "+name)
}

// Counting counts the syncs of files that were created.
type Counting struct {
	vfs.FS
	Syncs atomic.Int64
}

// Create implements vfs.FS.
func (c *Counting) Create(name string) (vfs.File, error) {
	f, err := c.FS.Create(name)
	if err != nil {
		return nil, err
	}
	return countingFile{f, c}, nil
}

type countingFile struct {
	vfs.File
	fs *Counting
}

// Sync implements vfs.File.
func (f countingFile) Sync() error {
	f.fs.Syncs.Add(1)
	return f.File.Sync()
}

// Limited is a file system with limited space, in total or for one directory. It counts written bytes,
// not the blocks that a disk would use, and reserved space.
type Limited struct {
	vfs.FS
	under string // prefix of the paths in the directory

	mu    sync.Mutex
	free  int64            // bytes; guarded by mu
	files int              // number of files that can still be created; guarded by mu
	taken map[string]*room // by name; guarded by mu
}

// room is the space that a file takes, and how much of it is reserved and not written yet. It is
// guarded by Limited.mu.
type room struct{ bytes, spare int64 }

// NewLimited returns a file system with free bytes of space for files whose paths begin with under, and
// for a thousand of them. Other files are not counted.
func NewLimited(fs vfs.FS, under string, free int64) *Limited {
	return &Limited{FS: fs, under: under, free: free, files: 1000, taken: map[string]*room{}}
}

// Set sets the free space in bytes and the number of files that can still be created.
func (l *Limited) Set(free int64, files int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.free, l.files = free, files
}

// counts reports whether the space of a file is counted.
func (l *Limited) counts(name string) bool { return strings.HasPrefix(name, l.under) }

// newRoomLocked returns the room of a new or truncated file.
func (l *Limited) newRoomLocked(name string) (*room, error) {
	if r := l.taken[name]; r != nil {
		l.free += r.bytes
	} else if l.files == 0 {
		return nil, syscall.ENOSPC
	} else {
		l.files--
	}
	l.taken[name] = &room{}
	return l.taken[name], nil
}

// Create implements vfs.FS.
func (l *Limited) Create(name string) (vfs.File, error) {
	return l.open(name, l.FS.Create, l.newRoomLocked)
}

// open opens a file that takes the room that roomLocked returns, if its room is counted.
func (l *Limited) open(name string, open func(name string) (vfs.File, error), roomLocked func(name string) (*room, error)) (vfs.File, error) {
	if !l.counts(name) {
		return open(name)
	}
	l.mu.Lock()
	r, err := roomLocked(name)
	l.mu.Unlock()
	if err != nil {
		return nil, err
	}
	f, err := open(name)
	return &limitedFile{f, l, r}, err
}

// Reserve implements vfs.FS.
func (l *Limited) Reserve(name string, size int64) (vfs.File, error) {
	return l.open(name,
		func(name string) (vfs.File, error) { return l.FS.Reserve(name, size) },
		func(name string) (*room, error) { return l.reserveLocked(name, size) })
}

// reserveLocked takes space for a file unless the file has it already.
func (l *Limited) reserveLocked(name string, size int64) (*room, error) {
	if r := l.taken[name]; r != nil && r.spare >= size {
		return r, nil
	}
	r, err := l.newRoomLocked(name)
	if err != nil {
		return nil, err
	}
	if l.free < size {
		l.files++
		delete(l.taken, name)
		return nil, syscall.ENOSPC
	}
	l.free -= size
	*r = room{size, size}
	return r, nil
}

// Rename implements vfs.FS.
func (l *Limited) Rename(from, to string) error {
	if err := l.FS.Rename(from, to); err != nil {
		return err
	}
	if !l.counts(to) {
		return nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freeLocked(to)
	l.taken[to] = l.taken[from]
	delete(l.taken, from)
	return nil
}

// Remove implements vfs.FS.
func (l *Limited) Remove(name string) error {
	if err := l.FS.Remove(name); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freeLocked(name)
	return nil
}

// freeLocked releases the space of a file.
func (l *Limited) freeLocked(name string) {
	if r := l.taken[name]; r != nil {
		l.free += r.bytes
		l.files++
		delete(l.taken, name)
	}
}

type limitedFile struct {
	vfs.File
	fs   *Limited
	room *room
}

// Write writes as much as there is space for.
func (f *limitedFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	n := min(int64(len(p)), f.room.spare+max(0, f.fs.free))
	spare := min(n, f.room.spare)
	f.room.spare -= spare
	f.fs.free -= n - spare
	f.room.bytes += n - spare
	f.fs.mu.Unlock()
	done, err := f.File.Write(p[:n])
	if err == nil && n < int64(len(p)) {
		err = syscall.ENOSPC
	}
	return done, err
}
