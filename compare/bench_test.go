package compare

import (
	"testing"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// BenchmarkDigest is what a chosen answer costs the client's request, for each MiB of body.
func BenchmarkDigest(b *testing.B) {
	body := testkit.Bytes(1, 1<<20)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		sum := xxhash.New()
		for rest := body; len(rest) > 0; rest = rest[step:] {
			_, _ = sum.Write(rest[:step])
		}
		if Digest(sum) == "" {
			b.Fatal("no digest")
		}
	}
}
