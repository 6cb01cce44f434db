// Package watch detects when a file is replaced or modified.
package watch

import (
	"context"
	"os"
	"time"
)

// Interval is how often Poll polls.
const Interval = time.Second

// Poll calls look every Interval until ctx ends.
func Poll(ctx context.Context, look func()) {
	tick := time.NewTicker(Interval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			look()
		}
	}
}

// Changed reports whether the file at path has changed since seen was read with os.Stat. seen is nil if
// there was no file.
func Changed(path string, seen os.FileInfo) bool {
	info, err := os.Stat(path)
	if err != nil || seen == nil {
		return (err == nil) != (seen != nil)
	}
	return !os.SameFile(info, seen) || !info.ModTime().Equal(seen.ModTime()) || info.Size() != seen.Size()
}
