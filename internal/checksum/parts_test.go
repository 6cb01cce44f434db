package checksum

import (
	"encoding/base64"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestOfParts: the full-object checksum equals that of all bytes, and the composite one that of
// the parts' checksums.
func TestOfParts(t *testing.T) {
	random := testkit.Random(t)
	for _, a := range Algorithms {
		for _, how := range a.Types() {
			var whole, sums []byte
			var parts []Part
			for range 1 + random.IntN(5) {
				body := testkit.Bytes(random.Uint64(), random.IntN(100_000))
				h := a.New()
				h.Write(body)
				whole, sums = append(whole, body...), h.Sum(sums)
				parts = append(parts, Part{base64.StdEncoding.EncodeToString(h.Sum(nil)), int64(len(body))})
			}
			got, err := a.OfParts(how, parts)
			of := whole
			if how == Composite {
				of = sums
			}
			h := a.New()
			h.Write(of)
			want := base64.StdEncoding.EncodeToString(h.Sum(nil))
			value, count, composite := strings.Cut(got, "-")
			if err != nil || value != want || composite != (how == Composite) || composite && count != string(rune('0'+len(parts))) {
				t.Errorf("%s %s of %d parts: %s, want %s, %v", a.Name, how, len(parts), got, want, err)
			}
		}
	}
	if a, _ := ByHeader("x-amz-checksum-xxhash3"); len(a.Types()) > 0 {
		t.Error("nobody says how these become one")
	}
}
