package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// patience is how long something may take before a person is told that it goes on.
const patience = time.Second

// busy tells a person who looks at standard error what takes so long, and for how long it does,
// until the function that it returns is called. It tells a file nothing.
func busy(what string) (done func()) {
	if !terminal(os.Stderr) {
		return func() {}
	}
	return tell(os.Stderr, patience, func(since time.Duration) string { return fmt.Sprintf("%s, %.0f s", what, since.Seconds()) })
}

// tell writes a line over and over, first after some time, and wipes it out at the end.
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

// terminal reports whether a person looks at f.
func terminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
