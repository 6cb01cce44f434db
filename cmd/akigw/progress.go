package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// patience is how long an operation runs before a progress line is shown.
const patience = time.Second

// busy shows on standard error what is being done and for how long, until the returned function is
// called. It prints nothing if standard error is not a terminal.
func busy(what string) (done func()) {
	if !terminal(os.Stderr) {
		return func() {}
	}
	return tell(os.Stderr, patience, func(since time.Duration) string { return fmt.Sprintf("%s, %.0f s", what, since.Seconds()) })
}

// tell rewrites a line at each interval until done is called, and then erases it.
func tell(to io.Writer, every time.Duration, line func(since time.Duration) string) (done func()) {
	stop := make(chan struct{})
	var ended sync.WaitGroup
	ended.Go(func() {
		began, shown := time.Now(), false
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				fmt.Fprintf(to, "\r\x1b[K%s", line(time.Since(began)))
				shown = true
			case <-stop:
				if shown {
					fmt.Fprint(to, "\r\x1b[K")
				}
				return
			}
		}
	})
	return func() {
		close(stop)
		ended.Wait()
	}
}

// terminal reports whether f is a terminal.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
