//go:build failpoints

// Package failpoint ends the process at named points, so that tests can see what a crash leaves
// behind at that point.
package failpoint

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
)

var (
	name  string
	after int64
	seen  atomic.Int64
)

// AKIGW_FAILPOINT is "NAME:N": die when NAME is reached for the N-th time.
func init() {
	point, n, ok := strings.Cut(os.Getenv("AKIGW_FAILPOINT"), ":")
	if !ok {
		return
	}
	name = point
	after, _ = strconv.ParseInt(n, 10, 64)
	fmt.Fprintln(os.Stderr, "failpoints are built in: this process dies at", point)
}

// Here marks a point: the process is killed there, as by "kill -9", if AKIGW_FAILPOINT names it.
func Here(point string) {
	if point == name && seen.Add(1) == after {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // it does not return
		select {}
	}
}
