package vfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
)

// Replace makes a file, for this user alone, what it is to be, or leaves it as it was: it is
// written beside, synced, renamed, and its directory synced.
func Replace(path string, data []byte) error {
	temporary := path + ".new"
	f, err := os.OpenFile(temporary, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = Rename(temporary, path)
	}
	if err != nil {
		return errors.Join(err, Remove(temporary))
	}
	return nil
}

// Rename gives a file of a directory another name in it.
func Rename(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return SyncDir(filepath.Dir(to))
}

// Remove removes a file, if it is there.
func Remove(path string) error {
	if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// SyncDir makes the names in a directory
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
