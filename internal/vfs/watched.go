package vfs

import "github.com/akidb/akigw"

// Watched returns fs with a hook: before is called ahead of each operation. If it returns an error, the
// operation is not carried out or, for a write, only in part. It is not called for locks and closes.
func Watched(fs FS, before akigw.DiskFault) FS { return &watched{fs, before} }

type watched struct {
	FS
	before akigw.DiskFault
}

// refused calls before for an operation without data.
func (w *watched) refused(op akigw.DiskOp, name string) error {
	_, err := w.before(op, name, 0)
	return err
}

// MkdirAll implements FS.
func (w *watched) MkdirAll(dir string) error {
	if err := w.refused(akigw.DiskMkdir, dir); err != nil {
		return err
	}
	return w.FS.MkdirAll(dir)
}

// Create implements FS.
func (w *watched) Create(name string) (File, error) {
	return w.file(akigw.DiskCreate, name, w.FS.Create)
}

// Open implements FS.
func (w *watched) Open(name string) (File, error) { return w.file(akigw.DiskOpen, name, w.FS.Open) }

func (w *watched) file(op akigw.DiskOp, name string, open func(string) (File, error)) (File, error) {
	if err := w.refused(op, name); err != nil {
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	return &watchedFile{f, w, name}, nil
}

// Size implements FS. For before it counts as an Open.
func (w *watched) Size(name string) (int64, error) {
	if err := w.refused(akigw.DiskOpen, name); err != nil {
		return 0, err
	}
	return w.FS.Size(name)
}

// Rename implements FS.
func (w *watched) Rename(from, to string) error {
	if err := w.refused(akigw.DiskRename, from); err != nil {
		return err
	}
	return w.FS.Rename(from, to)
}

// Remove implements FS.
func (w *watched) Remove(name string) error {
	if err := w.refused(akigw.DiskRemove, name); err != nil {
		return err
	}
	return w.FS.Remove(name)
}

// List implements FS.
func (w *watched) List(dir string) ([]string, error) {
	if err := w.refused(akigw.DiskList, dir); err != nil {
		return nil, err
	}
	return w.FS.List(dir)
}

// SyncDir implements FS.
func (w *watched) SyncDir(dir string) error {
	if err := w.refused(akigw.DiskSyncDir, dir); err != nil {
		return err
	}
	return w.FS.SyncDir(dir)
}

type watchedFile struct {
	File
	fs   *watched
	name string
}

// Write implements io.Writer.
func (f *watchedFile) Write(p []byte) (int, error) {
	n, failure := f.fs.before(akigw.DiskWrite, f.name, len(p))
	if failure == nil {
		return f.File.Write(p)
	}
	if n > 0 {
		if done, err := f.File.Write(p[:n]); err != nil {
			return done, err
		}
	}
	return n, failure
}

// ReadAt implements io.ReaderAt.
func (f *watchedFile) ReadAt(p []byte, at int64) (int, error) {
	if err := f.fs.refused(akigw.DiskRead, f.name); err != nil {
		return 0, err
	}
	return f.File.ReadAt(p, at)
}

// Sync implements File.
func (f *watchedFile) Sync() error {
	if err := f.fs.refused(akigw.DiskSync, f.name); err != nil {
		return err
	}
	return f.File.Sync()
}

// Reserve implements FS.
func (w *watched) Reserve(name string, size int64) (File, error) {
	return w.file(akigw.DiskCreate, name, func(name string) (File, error) { return w.FS.Reserve(name, size) })
}
