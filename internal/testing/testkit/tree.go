package testkit

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// EachFile calls visit with the path of each file below a directory, and its name relative to that.
func EachFile(t testing.TB, dir string, visit func(name, path string) error) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		return visit(name, path)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// ReadTree returns the contents of all files below a directory, by their names relative to it.
func ReadTree(t testing.TB, dir string) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	EachFile(t, dir, func(name, path string) (err error) {
		files[name], err = os.ReadFile(path)
		return err
	})
	return files
}
