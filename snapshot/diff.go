package snapshot

import (
	"cmp"
	"context"
	"iter"

	"github.com/akidb/akigw"
)

// Change is a difference between two snapshots in one object.
type Change struct {
	// What is "added", "removed", "changed" (another version) or "moved" (another tier).
	What   string `json:"what"`
	Bucket string `json:"bucket"`
	Key    string `json:"key"`
	// Version is the version id in the key, "" for the current version.
	Version string `json:"version_id,omitempty"`
	From    string `json:"from,omitempty"` // ETag, or tier
	To      string `json:"to,omitempty"`
}

// Diff calls yield with each difference between two snapshots, in the order of bucket and key,
// until yield returns false.
func (s *Store) Diff(ctx context.Context, from, to Info, yield func(Change) bool) error {
	var failure error
	rows := func(i Info) (next func() (akigw.CatalogEntry, bool), stop func()) {
		return iter.Pull(func(yield func(akigw.CatalogEntry) bool) {
			if err := s.Read(ctx, i, yield); err != nil && failure == nil {
				failure = err
			}
		})
	}
	nextA, stopA := rows(from)
	defer stopA()
	nextB, stopB := rows(to)
	defer stopB()
	a, okA := nextA()
	b, okB := nextB()
	for (okA || okB) && failure == nil {
		order := compare(a.Key, b.Key)
		switch {
		case !okB, okA && order < 0:
			if !yield(change("removed", a.Key, a.ETag, "")) {
				return nil
			}
			a, okA = nextA()
		case !okA, order > 0:
			if !yield(change("added", b.Key, "", b.ETag)) {
				return nil
			}
			b, okB = nextB()
		default:
			if a.ETag != b.ETag || a.Size != b.Size {
				if !yield(change("changed", b.Key, a.ETag, b.ETag)) {
					return nil
				}
			} else if a.Tier != b.Tier && !yield(change("moved", b.Key, string(a.Tier), string(b.Tier))) {
				return nil
			}
			a, okA = nextA()
			b, okB = nextB()
		}
	}
	return failure
}

func change(what string, key akigw.Key, from, to string) Change {
	return Change{what, key.Bucket, key.Name, key.Version, from, to}
}

// compare orders rows by bucket, key and version.
func compare(a, b akigw.Key) int {
	return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
}
