//go:build failpoints

// Package failpoint kills the process at named points, so that tests can see what a crash at that
// point leaves behind.
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

// AKIGW_FAILPOINT is "NAME:N": the process dies when it reaches NAME for the N-th time.
func init() {
	point, n, ok := strings.Cut(os.Getenv("AKIGW_FAILPOINT"), ":")
	if !ok {
		return
	}
	name = point
	after, _ = strconv.ParseInt(n, 10, 64)
	fmt.Fprintln(os.Stderr, "failpoints are built in: this process dies at", point)
}

// Here marks a point. If AKIGW_FAILPOINT names it, the process kills itself there, as by "kill -9".
func Here(point string) {
	if point == name && seen.Add(1) == after {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL) // does not return
		select {}
	}
}
