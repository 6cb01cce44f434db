//go:build !failpoints

// Package failpoint kills the process at named points, so that tests can see what a crash at that
// point leaves behind. Without the build tag "failpoints" it does nothing: Here compiles to no code.
package failpoint

// Here marks the point called name.
func Here(string) {}
