// Package logtail keeps the last lines of a log, and passes new ones to followers.
package logtail

import (
	"bytes"
	"context"
	"io"
	"sync"
)

const (
	// kept is the number of lines that are kept, and mostLine the length in bytes to which each is
	// truncated.
	kept     = 500
	mostLine = 8 << 10
	// waiting bounds the lines that are queued for a follower. Further lines are dropped for that
	// follower.
	waiting = 1000
)

// Tail is a writer of a log that keeps its last lines. All methods may be called from any
// goroutine.
type Tail struct {
	to io.Writer

	mu        sync.Mutex
	lines     [][]byte // a ring buffer once it is full; guarded by mu, as are the fields below
	next      int
	followers map[chan []byte]bool
}

// New returns a Tail that passes everything on to another writer.
func New(to io.Writer) *Tail { return &Tail{to: to, followers: map[chan []byte]bool{}} }

// Write implements io.Writer: p is one line.
func (t *Tail) Write(p []byte) (int, error) {
	line := bytes.Clone(bytes.TrimSuffix(p, []byte("\n")))
	t.mu.Lock()
	if len(line) <= mostLine {
		if len(t.lines) < kept {
			t.lines = append(t.lines, line)
		} else {
			t.lines[t.next] = line
			t.next = (t.next + 1) % kept
		}
		for f := range t.followers {
			select {
			case f <- line:
			default:
			}
		}
	}
	t.mu.Unlock()
	return t.to.Write(p)
}

// Follow calls yield with the lines that are kept and then with each new line, until ctx ends or
// yield returns false. Lines are shared and must not be changed.
func (t *Tail) Follow(ctx context.Context, yield func(line []byte) bool) {
	follower := make(chan []byte, waiting)
	t.mu.Lock()
	old := append(append([][]byte{}, t.lines[t.next:]...), t.lines[:t.next]...)
	t.followers[follower] = true
	t.mu.Unlock()
	defer func() {
		t.mu.Lock()
		delete(t.followers, follower)
		t.mu.Unlock()
	}()
	for _, line := range old {
		if !yield(line) {
			return
		}
	}
	for {
		select {
		case line := <-follower:
			if !yield(line) {
				return
			}
		case <-ctx.Done():
			return
		}
	}
}
