//go:build !race

package access

// iterations slows down guessing of a weak root secret.
const iterations = 600_000
