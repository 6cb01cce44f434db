// Package watch notices that a file was replaced or changed.
package watch

import (
	"context"
	"os"
	"time"
)

// Interval is how often Poll looks.
const Interval = time.Second

// Poll calls look every Interval, until ctx ends.
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

// Changed reports whether path is another file than it was when seen was taken
// of it; nil says that there was none.
func Changed(path string, seen os.FileInfo) bool {
	info, err := os.Stat(path)
	if err != nil || seen == nil {
		return (err == nil) != (seen != nil)
	}
	return !os.SameFile(info, seen) || !info.ModTime().Equal(seen.ModTime()) || info.Size() != seen.Size()
}
