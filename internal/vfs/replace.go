package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// Replace makes data the content of a file, for this user alone, or leaves the file as it was: a crash
// at any moment leaves the old content or the new one, whole. The new content is written under another
// name, with ".new" added, and synced; then it takes the name, and the directory is synced. When
// Replace returns nil, the new content is durable. If the sync of the directory fails, the file has
// the new content, and a crash may undo that.
func Replace(fs FS, path string, data []byte) error {
	temporary := path + ".new"
	f, err := fs.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = Rename(fs, temporary, path)
	}
	if err != nil {
		return errors.Join(err, Remove(fs, temporary))
	}
	return nil
}

// Rename gives a file another name and makes that durable. It syncs the directory of the new name only.
func Rename(fs FS, from, to string) error {
	if err := fs.Rename(from, to); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(to))
}

// Remove removes a file, if it is there. A crash may bring it back until its directory is synced.
func Remove(fsys FS, path string) error {
	if err := fsys.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile reads a whole file. The error of one that is not there is os.ErrNotExist.
func ReadFile(fs FS, name string) (data []byte, err error) {
	f, err := fs.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if data, err = ReadAll(f); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return data, nil
}

// ReadAll returns the contents of an open file. The caller owns them.
func ReadAll(f File) ([]byte, error) {
	size, err := f.Size()
	if err != nil {
		return nil, err
	}
	data := make([]byte, size)
	if n, err := f.ReadAt(data, 0); n < len(data) {
		return nil, cmp.Or(err, io.ErrUnexpectedEOF)
	}
	return data, nil
}
