//go:build race

package access

// iterations is small with the race detector, which makes a derivation take seconds. Such a build is for
// tests; no other one can read its file.
const iterations = 1000
