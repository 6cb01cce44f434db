package main

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// TestTell: a slow operation shows a line each second, which is erased at the end; a fast one shows
// nothing.
func TestTell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		line := func(since time.Duration) string { return fmt.Sprint("working, ", since) }
		tell(&out, time.Second, line)()
		if out.Len() > 0 {
			t.Errorf("%q", out.String())
		}
		done := tell(&out, time.Second, line)
		time.Sleep(2500 * time.Millisecond)
		done()
		if want := "\r\x1b[Kworking, 1s\r\x1b[Kworking, 2s\r\x1b[K"; out.String() != want {
			t.Errorf("%q, want %q", out.String(), want)
		}
	})
}
