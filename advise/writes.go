package advise

import (
	"fmt"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
)

const (
	// leastWrites is how many writes the advice on a bucket's writes needs.
	leastWrites = 200
	// slowWrite is the mean time of a write through, in milliseconds, from which write-back is worth
	// it.
	slowWrite = 5
	// mostlySmall is the share of small writes from which packs are proposed.
	mostlySmall = 0.5
	// perPack is how many objects a pack is assumed to hold: a fraction of what it can.
	perPack = 10
)

// writes proposes to write a bucket back, and to pack its small objects.
func (m *model) writes(b *Bucket, s *bucketStats) *Proposal {
	now := m.known[b.Name]
	through := m.facts.Latency["upstream"]
	packs := !now.Packs && share(s.smallWrites, s.writes) >= mostlySmall
	switch {
	case now.Write == "" || b.Writes < leastWrites || now.Shadow: // shadow mode refuses write-back
		return nil
	case now.Write == "back" && !packs:
		return nil
	case now.Write == "through" && (through.Requests < leastMeasured || through.Mean < slowWrite):
		return nil
	}
	mean := size.Human(s.written / int64(max(s.writes, 1)))
	p := &Proposal{Kind: "write", TOML: writeTOML(b.Name, now.Write, packs)}
	p.Why = fmt.Sprintf("%d writes of %s on average in %s, %.0f%% of them of at most %s.", b.Writes, mean, span(m.summary.Seconds), 100*share(s.smallWrites, s.writes), size.Human(small))
	if now.Write == "through" {
		p.Why += fmt.Sprintf(" A PUT through to the upstream takes %.1f ms.", through.Mean)
		if l := m.facts.Latency["journal"]; l.Requests >= leastMeasured {
			p.Expect.Latency = &l.Mean
			p.Why += fmt.Sprintf(" The journal acknowledges one in %.1f ms.", l.Mean)
		} else {
			p.Why += " The journal acknowledges one when its disk has it; this gateway has not written back enough to say how long that takes."
		}
	}
	uploads := float64(b.Writes)
	price := func(uploads float64) float64 {
		return m.month * (1 - warmUp) * m.facts.Prices.Price(cost.Counts{Writes: uint64(uploads)})
	}
	p.Why += fmt.Sprintf(" Uploads cost %.2f %s in 30 days now.", price(uploads), m.facts.Prices.Currency)
	if packs {
		uploads -= float64(s.scale(s.smallWrites)) * (1 - 1./perPack)
		p.Why += fmt.Sprintf(" A pack uploads many small objects with one request; the cost assumes %d.", perPack)
	}
	costs := price(uploads)
	p.Expect.Cost = &costs
	p.Caution = lostDisk
	if packs {
		p.Caution += " " + lostPacks
	}
	return p
}

// What a lost disk loses, with write-back and with packs.
const (
	lostDisk  = "Until it is uploaded, an acknowledged write is on the gateway's disk alone: if that disk is lost, so are all pending writes. write_back.second_dir keeps a copy of them on a second disk."
	lostPacks = "Where each packed object is, only the journal knows: if its disk is lost, packed objects cannot be found, though they are upstream."
)
