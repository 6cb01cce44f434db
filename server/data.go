package server

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/akidb/akigw/internal/vfs"
)

// makeData creates the data directory, accessible to this user only.
func makeData(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err == nil && info.Mode()&(os.ModeSticky|0o002) != 0 {
		return fmt.Errorf("data directory %s can be written by others; give akigw a directory of its own with --data", dir)
	}
	if err == nil && info.Mode().Perm() != 0o700 {
		if err = os.Chmod(dir, 0o700); errors.Is(err, syscall.EROFS) {
			err = nil // nothing is written there
		}
	}
	if err != nil {
		return fmt.Errorf("data directory: %w", err)
	}
	return nil
}

// lockData creates the data directory and locks it for this process until release is called.
func lockData(dir string) (release func() error, err error) {
	if err := makeData(dir); err != nil {
		return nil, err
	}
	f, err := vfs.Lock(filepath.Join(dir, "lock"))
	switch {
	case errors.Is(err, syscall.EWOULDBLOCK):
		return nil, fmt.Errorf("data directory %s is in use by another akigw; stop it, or give this one another --data", dir)
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("data directory: %w; akigw runs as user %d, which must own the directory: chown -R %d %s", err, os.Getuid(), os.Getuid(), dir)
	case err != nil:
		return nil, fmt.Errorf("data directory: %w", err)
	}
	return f.Close, nil
}

// gatewayID returns the ID of this gateway in snapshots. It is created once and stored in a file. If it
// cannot be stored, it is valid for this epoch only.
func gatewayID(path string, log *slog.Logger) string {
	raw, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(raw)); err == nil && id != "" {
		return id
	}
	id := "gw-" + strings.ToLower(rand.Text()[:12])
	if err == nil || errors.Is(err, os.ErrNotExist) {
		err = vfs.Replace(vfs.Disk{}, path, []byte(id))
	}
	if err != nil {
		log.Warn("the gateway's ID for snapshots could not be written; the gateway will have another ID after a restart", "file", path, "error", err)
	}
	return id
}
