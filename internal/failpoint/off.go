//go:build !failpoints

// Package failpoint ends the process at named points, so that tests can see what
// a crash leaves behind exactly there. Without the build tag "failpoints" it is
// nothing: Here compiles to no code.
package failpoint

// Here is the place called name.
func Here(string) {}
