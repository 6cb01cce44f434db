package vfs

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
)

// Replace atomically replaces the content of a file, which is accessible to this user only: a crash at
// any moment leaves either the old content or the new one. Replace writes the new content to a file with
// ".new" added to the name, syncs it, renames it, and syncs the directory. When Replace returns nil, the
// new content is durable. If the sync of the directory fails, the file has the new content, but a crash
// may undo that.
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

// Rename renames a file and makes that durable. It syncs only the directory of the new name.
func Rename(fs FS, from, to string) error {
	if err := fs.Rename(from, to); err != nil {
		return err
	}
	return fs.SyncDir(filepath.Dir(to))
}

// Remove removes a file if it exists. Until its directory is synced, a crash may bring it back.
func Remove(fsys FS, path string) error {
	if err := fsys.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// ReadFile reads a whole file. The error is os.ErrNotExist if there is none.
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
