package advise

import (
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/akidb/akigw/internal/size"
)

const (
	// mostPins is how many objects are proposed to be pinned. More are a matter of sizes.
	mostPins = 16
	// popular is the share of a bucket's reads that an object must have, and together that all must
	// have.
	popular, popularTogether = 0.01, 0.2
	// leastMissing is the share of the reads of these objects that went to the upstream for a version
	// that had been read before, from which a pin helps. What is read often is usually kept without one,
	// and of what is replaced often, each version has to be fetched.
	leastMissing = 0.01
	// pinnedShare is the inverse share of the disk tier that proposed pins may take.
	pinnedShare = 4
)

// pins proposes to pin the few objects of a bucket that take a large share of its reads, if the tiers
// do not keep them anyway.
func (m *model) pins(b *Bucket, _ *bucketStats) *Proposal {
	if b.Reads < leastReads || m.facts.Disk.Quota == 0 {
		return nil
	}
	var keys []string
	reads, missed, bytes := 0, 0, int64(0)
	for _, p := range m.seen.popular {
		if p.bucket != b.Name || share(p.reads, b.Reads) < popular || strings.ContainsAny(p.key, "*?") || !utf8.ValidString(p.key) { // a rule cannot name it alone
			continue
		}
		if len(keys) == mostPins || bytes+p.size > m.facts.Disk.Quota/pinnedShare {
			break
		}
		keys = append(keys, p.key)
		reads, missed, bytes = reads+p.reads, missed+p.again, bytes+p.size
	}
	if share(reads, b.Reads) < popularTogether || share(missed, reads) < leastMissing {
		return nil
	}
	r := m.now.Buckets[b.Name]
	saved := min(int(float64(missed)*float64(r.Reads)/float64(b.Reads)), r.Cold)
	r.UpstreamReads, r.UpstreamBytes = r.UpstreamReads-saved, max(r.UpstreamBytes-int64(saved)*bytes/int64(len(keys)), 0)
	r.Cold, r.Warm = r.Cold-saved, r.Warm+saved
	return &Proposal{
		Kind: "pin", Expect: m.expect(r, m.validations(b.Name)), TOML: pinsTOML(b.Name, keys),
		Why:     fmt.Sprintf("%d objects with %s take %.0f%% of the bucket's reads, and %d of these reads went to the upstream for a version that had been read before.", len(keys), size.Human(bytes), 100*share(reads, b.Reads), missed),
		Caution: "Pinned objects are never evicted from disk, also when nobody reads them any more.",
	}
}
