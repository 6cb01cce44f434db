package logtail

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
)

// TestFollow: a follower gets the end of the log, in order, and then each new line.
func TestFollow(t *testing.T) {
	var to bytes.Buffer
	tail := New(&to)
	for n := range kept + 7 {
		fmt.Fprintf(tail, "line %d\n", n)
	}
	if want := fmt.Sprintf("line %d\n", kept+6); !bytes.HasSuffix(to.Bytes(), []byte(want)) {
		t.Errorf("the log itself ends in %q", to.Bytes()[to.Len()-20:])
	}
	n := 7
	var writes sync.WaitGroup
	tail.Follow(context.Background(), func(line []byte) bool {
		if string(line) != fmt.Sprint("line ", n) {
			t.Errorf("line %d is %q", n, line)
		}
		if n++; n == kept+7 {
			writes.Go(func() { fmt.Fprintf(tail, "line %d\n", kept+7) })
		}
		return n < kept+8
	})
	writes.Wait()
	if n != kept+8 || len(tail.followers) != 0 {
		t.Errorf("%d lines, %d followers", n, len(tail.followers))
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	tail.Follow(ctx, func([]byte) bool { return true })
	for range waiting + 10 { // a slow follower does not block the log
		tail.followers[make(chan []byte)] = true
		fmt.Fprintln(tail, "x")
		clear(tail.followers)
	}
}
