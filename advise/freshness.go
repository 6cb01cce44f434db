package advise

import (
	"fmt"
	"time"
)

// ttls are the times that are proposed to trust a validation for, in seconds.
func ttls() [8]int64 { return [...]int64{10, 30, 60, 300, 600, 3600, 6 * 3600, 24 * 3600} }

// trusted is the share of the time of a trace that a validation may be trusted for, inverse: nothing
// that was observed for ten hours is trusted for longer than one.
const trusted = 10

// validations returns how many validations the present settings need for the counted reads of a
// bucket, or of all buckets for "".
func (m *model) validations(bucket string) (sum float64) {
	for name, r := range m.now.Buckets {
		if bucket != "" && name != bucket {
			continue
		}
		switch b := m.known[name]; b.Freshness {
		case "strict":
			sum += float64(r.Hot + r.Warm)
		case "ttl":
			sum += m.validationsFor(name, b.TTLSecs)
		}
	}
	return sum
}

// validationsFor returns how many validations the counted reads of a bucket need with a ttl in
// seconds. A read from the upstream and a write confirm the object as well; they are taken for
// validations where the object had not been used within the ttl, which errs on the safe side.
func (m *model) validationsFor(bucket string, ttl int64) float64 {
	confirmed := map[uint64]int64{}
	n := 0
	for _, u := range m.uses[bucket] {
		last, known := confirmed[u.Object]
		stale := known && u.At-last >= 1000*ttl
		if !known || stale || u.Write || u.Replaces {
			confirmed[u.Object] = u.At
		}
		if stale && !u.Write && u.counted {
			n++
		}
	}
	return float64(n) / m.trace.Rate
}

// freshness proposes a longer ttl for a bucket whose objects were never found to have changed.
func (m *model) freshness(b *Bucket, s *bucketStats) *Proposal {
	now := m.known[b.Name]
	if now.Freshness != "strict" && now.Freshness != "ttl" {
		return nil
	}
	v, since := now.Validated, m.facts.Since.Format("2006-01-02 15:04")
	switch {
	case b.Reads < leastReads:
		b.Notes = append(b.Notes, fmt.Sprintf("Too little data for advice on freshness: %d reads, and %d are needed.", b.Reads, leastReads))
		return nil
	case v.Changed > 0:
		b.Notes = append(b.Notes, fmt.Sprintf("%d of %d validations since %s found another object or none: it has to be %s, or have a ttl that readers can live with.", v.Changed, v.Changed+v.Unchanged, since, now.Freshness))
		return nil
	case v.Unchanged == 0:
		b.Notes = append(b.Notes, "No cached object was validated, so nothing is known about changes in the upstream.")
		return nil
	}
	ttl := int64(0)
	for _, one := range ttls() {
		if float64(one)*trusted <= m.summary.Seconds {
			ttl = one
		}
	}
	if ttl == 0 || now.Freshness == "ttl" && ttl <= now.TTLSecs {
		b.Notes = append(b.Notes, fmt.Sprintf("Nothing changed, but the trace covers only %s. A ttl is proposed up to a tenth of that; record for a longer time.", span(m.summary.Seconds)))
		return nil
	}
	return m.longer(b, s, now, ttl)
}

// longer is the proposal of a ttl in seconds.
func (m *model) longer(b *Bucket, s *bucketStats, now Measured, ttl int64) *Proposal {
	r := m.now.Buckets[b.Name]
	before, after := m.validations(b.Name), m.validationsFor(b.Name, ttl)
	if after >= before {
		b.Notes = append(b.Notes, fmt.Sprintf("Nothing changed, but a ttl of %s would save no validations.", span(float64(ttl))))
		return nil
	}
	p := &Proposal{Kind: "freshness", Expect: m.expect(r, after), TOML: freshnessTOML(b.Name, ttl, s.replaced == 0)}
	if l := p.Expect.Latency; l != nil && now.Validated.Mean > 0 {
		*l = max(*l-(before-after)/float64(max(r.Reads, 1))*now.Validated.Mean, 0)
	}
	what := fmt.Sprintf("None of the %d objects was replaced in %s, while they were read %d times", b.Objects, span(m.summary.Seconds), b.Reads)
	if s.replaced > 0 {
		what = fmt.Sprintf("Objects were replaced %d times in %s, but only through this gateway, which notices that at once; %d objects were read %d times", b.Replaced, span(m.summary.Seconds), b.Objects, b.Reads)
	}
	p.Why = fmt.Sprintf("%s. All of the %d validations since %s found the object unchanged. With a ttl of %s, the counted reads would need %.0f validations instead of up to %.0f.",
		what, now.Validated.Unchanged, m.facts.Since.Format("2006-01-02 15:04"), span(float64(ttl)), after, before)
	p.Caution = fmt.Sprintf("A change that is made past this gateway is seen up to %s late. ", span(float64(ttl)))
	if s.replaced == 0 {
		p.Caution += "immutable would save the other validations too, but no observation supports it: you would have to promise that nobody ever replaces these objects, through this gateway or past it."
	} else {
		p.Caution += "exclusive would save the other validations too, but no observation supports it: you would have to promise that nobody ever writes to this bucket past this gateway."
	}
	return p
}

// span formats seconds for people.
func span(seconds float64) string {
	d := time.Duration(seconds * float64(time.Second))
	switch {
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}
