// Package crashfs is a file system in memory that loses data that was not made durable. It implements
// vfs.FS, and [FS.Crash] returns the file system that a crash at this moment could leave behind: a
// copy on which the program under test starts again. It is for tests; product code never imports it.
//
// The rules:
//
//   - The bytes of a file are durable once File.Sync has returned. What was written after that is
//     kept or lost in pieces of a sector or a page, each on its own: the file may be shorter, have
//     zeros in the middle, or end in a torn piece.
//   - A name is durable once SyncDir of its directory has returned. What was created, renamed and
//     removed there after that is kept or lost, each change on its own; the changes that are kept
//     take effect in their order. This holds for the names of directories as well: if one is lost,
//     so is everything in it.
//   - A rename that is kept may leave the old name in place, too. The old name never goes without
//     the new one, unless the directory of the old name was synced and that of the new one was not.
//   - SyncDir says nothing about bytes, and Sync nothing about names: a durable name may lead to an
//     empty file.
//
// Every real file system promises more than that, but each promises something else. Errors are injected
// by [Steps], [Limited] and vfs.Watched.
package crashfs

import (
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/akidb/akigw/internal/vfs"
)

// FS is a file system in memory. Names are slash-separated paths from its root; a leading slash
// makes no difference. Its methods are safe for concurrent use, and as atomic as those of a disk.
type FS struct {
	mu      sync.RWMutex
	root    *node
	made    uint64         // nodes created so far; guarded by mu
	pending []*change      // changes of names that are not durable yet, in order; guarded by mu
	locked  map[*node]bool // guarded by mu
}

var _ vfs.FS = (*FS)(nil)

// node is a file or a directory. All of it is guarded by FS.mu.
type node struct {
	id uint64

	data   []byte // of a file; append-only, so that clones can share it
	synced int    // number of durable bytes of data

	names, durable map[string]*node // of a directory; nil for a file
}

// isDir reports whether the node is a directory.
func (n *node) isDir() bool { return n.names != nil }

// change is a change of one name since its directory was synced.
type change struct {
	dir  *node
	name string
	node *node // new target of the name; nil: the name was removed

	with    *change // if this is the removal of the old name in a rename: the change of the new name
	durable bool    // its directory was synced
	kept    bool    // by the crash that is being computed
}

// New returns an empty file system.
func New() *FS {
	return &FS{root: &node{names: map[string]*node{}, durable: map[string]*node{}}, locked: map[*node]bool{}}
}

// walkLocked returns the node at a path.
func (fs *FS) walkLocked(op, name string) (*node, error) {
	n := fs.root
	for part := range strings.SplitSeq(name, "/") {
		if part == "" || part == "." {
			continue
		}
		if !n.isDir() {
			return nil, &os.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
		if n = n.names[part]; n == nil {
			return nil, &os.PathError{Op: op, Path: name, Err: os.ErrNotExist}
		}
	}
	return n, nil
}

// parentLocked returns the directory of a path and the name in it.
func (fs *FS) parentLocked(op, name string) (*node, string, error) {
	dir, base := filepath.Split(filepath.Clean("/" + name))
	if base == "" {
		return nil, "", &os.PathError{Op: op, Path: name, Err: os.ErrInvalid}
	}
	n, err := fs.walkLocked(op, dir)
	if err != nil {
		return nil, "", err
	}
	if !n.isDir() {
		return nil, "", &os.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return n, base, nil
}

// setLocked sets a name in a directory to n, or removes the name if n is nil.
func (fs *FS) setLocked(dir *node, name string, n *node, with *change) *change {
	if n == nil {
		delete(dir.names, name)
	} else {
		dir.names[name] = n
	}
	c := &change{dir: dir, name: name, node: n, with: with}
	fs.pending = append(fs.pending, c)
	return c
}

func (fs *FS) newNodeLocked() *node {
	fs.made++
	return &node{id: fs.made}
}

// MkdirAll implements vfs.FS.
func (fs *FS) MkdirAll(dir string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n := fs.root
	for part := range strings.SplitSeq(dir, "/") {
		if part == "" || part == "." {
			continue
		}
		child := n.names[part]
		if child == nil {
			child = fs.newNodeLocked()
			child.names, child.durable = map[string]*node{}, map[string]*node{}
			fs.setLocked(n, part, child, nil)
		}
		if !child.isDir() {
			return &os.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		n = child
	}
	return nil
}

// Create implements vfs.FS. It always creates a new file. Until the directory is synced, a crash may
// bring back an earlier file of that name.
func (fs *FS) Create(name string) (vfs.File, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dir, base, err := fs.parentLocked("create", name)
	if err != nil {
		return nil, err
	}
	if old := dir.names[base]; old != nil && old.isDir() {
		return nil, &os.PathError{Op: "create", Path: name, Err: syscall.EISDIR}
	}
	n := fs.newNodeLocked()
	fs.setLocked(dir, base, n, nil)
	return &file{fs: fs, node: n, name: name, writable: true}, nil
}

// Reserve implements vfs.FS. It always creates a new file, as a caller has to expect. Disk space is not
// counted here; see Limited.
func (fs *FS) Reserve(name string, _ int64) (vfs.File, error) { return fs.Create(name) }

// Open implements vfs.FS.
func (fs *FS) Open(name string) (vfs.File, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.walkLocked("open", name)
	if err != nil {
		return nil, err
	}
	if n.isDir() {
		return nil, &os.PathError{Op: "open", Path: name, Err: syscall.EISDIR}
	}
	return &file{fs: fs, node: n, name: name}, nil
}

// Size implements vfs.FS. The size of a directory is 0.
func (fs *FS) Size(name string) (int64, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.walkLocked("stat", name)
	if err != nil {
		return 0, err
	}
	return int64(len(n.data)), nil
}

// Rename implements vfs.FS.
func (fs *FS) Rename(from, to string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	failed := func(err error) error { return &os.LinkError{Op: "rename", Old: from, New: to, Err: err} }
	fromDir, fromBase, err := fs.parentLocked("rename", from)
	if err != nil {
		return err
	}
	toDir, toBase, err := fs.parentLocked("rename", to)
	if err != nil {
		return err
	}
	n, replaced := fromDir.names[fromBase], toDir.names[toBase]
	switch {
	case n == nil:
		return failed(os.ErrNotExist)
	case n == replaced:
		return nil
	case replaced != nil && (replaced.isDir() || n.isDir()):
		return failed(os.ErrExist)
	}
	added := fs.setLocked(toDir, toBase, n, nil)
	fs.setLocked(fromDir, fromBase, nil, added)
	return nil
}

// Remove implements vfs.FS.
func (fs *FS) Remove(name string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dir, base, err := fs.parentLocked("remove", name)
	if err != nil {
		return err
	}
	n := dir.names[base]
	if n == nil {
		return &os.PathError{Op: "remove", Path: name, Err: os.ErrNotExist}
	}
	if len(n.names) > 0 {
		return &os.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
	}
	fs.setLocked(dir, base, nil, nil)
	return nil
}

// dirLocked returns a directory.
func (fs *FS) dirLocked(op, name string) (*node, error) {
	n, err := fs.walkLocked(op, name)
	if err == nil && !n.isDir() {
		err = &os.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
	}
	return n, err
}

// List implements vfs.FS. The names are sorted.
func (fs *FS) List(dir string) ([]string, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.dirLocked("list", dir)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(n.names)), nil
}

// SyncDir implements vfs.FS. It makes the names in this directory durable, but neither the content of
// the files nor the name of the directory itself.
func (fs *FS) SyncDir(dir string) error {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	n, err := fs.dirLocked("sync", dir)
	if err != nil {
		return err
	}
	fs.pending = slices.DeleteFunc(fs.pending, func(c *change) bool {
		if c.dir != n {
			return false
		}
		c.durable = true
		c.apply(n.durable)
		return true
	})
	return nil
}

// apply applies the change to names.
func (c *change) apply(names map[string]*node) {
	if c.node == nil {
		delete(names, c.name)
	} else {
		names[c.name] = c.node
	}
}

// ID implements vfs.FS.
func (fs *FS) ID(name string) (string, error) {
	fs.mu.RLock()
	defer fs.mu.RUnlock()
	n, err := fs.walkLocked("stat", name)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(n.id), nil
}

// Lock implements vfs.FS. A crash releases it.
func (fs *FS) Lock(name string) (io.Closer, error) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	dir, base, err := fs.parentLocked("lock", name)
	if err != nil {
		return nil, err
	}
	n := dir.names[base]
	if n == nil {
		n = fs.newNodeLocked()
		fs.setLocked(dir, base, n, nil)
	}
	if fs.locked[n] {
		return nil, fmt.Errorf("%s is in use by another process: %w", filepath.Dir(name), syscall.EWOULDBLOCK)
	}
	fs.locked[n] = true
	return &lock{fs: fs, node: n}, nil
}

type lock struct {
	fs     *FS
	node   *node
	closed atomic.Bool
}

// Close releases the lock.
func (l *lock) Close() error {
	if l.closed.Swap(true) {
		return os.ErrClosed
	}
	l.fs.mu.Lock()
	defer l.fs.mu.Unlock()
	delete(l.fs.locked, l.node)
	return nil
}

// file is an open file.
type file struct {
	fs       *FS
	node     *node
	name     string
	writable bool
	closed   atomic.Bool
}

// usable returns an error if the file has been closed.
func (f *file) usable(op string) error {
	if f.closed.Load() {
		return &os.PathError{Op: op, Path: f.name, Err: os.ErrClosed}
	}
	return nil
}

// Write implements io.Writer. It appends.
func (f *file) Write(p []byte) (int, error) {
	if err := f.usable("write"); err != nil {
		return 0, err
	}
	if !f.writable {
		return 0, &os.PathError{Op: "write", Path: f.name, Err: syscall.EBADF}
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.data = append(f.node.data, p...)
	return len(p), nil
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, at int64) (int, error) {
	if err := f.usable("read"); err != nil {
		return 0, err
	}
	if at < 0 {
		return 0, &os.PathError{Op: "read", Path: f.name, Err: os.ErrInvalid}
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	n := 0
	if at < int64(len(f.node.data)) {
		n = copy(p, f.node.data[at:])
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Sync implements vfs.File. It makes the bytes and the length durable, but not the name.
func (f *file) Sync() error {
	if err := f.usable("sync"); err != nil {
		return err
	}
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.node.synced = len(f.node.data)
	return nil
}

// Size implements vfs.File.
func (f *file) Size() (int64, error) {
	if err := f.usable("stat"); err != nil {
		return 0, err
	}
	f.fs.mu.RLock()
	defer f.fs.mu.RUnlock()
	return int64(len(f.node.data)), nil
}

// Close implements io.Closer. It does not make anything durable.
func (f *file) Close() error {
	if f.closed.Swap(true) {
		return &os.PathError{Op: "close", Path: f.name, Err: os.ErrClosed}
	}
	return nil
}
