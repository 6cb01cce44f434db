package compare

import (
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/redact"
	"github.com/akidb/akigw/rules"
)

// maxListed is how many differences are kept, of each kind: the newest.
const maxListed = 1000

// Difference is an answer from the cache that differs from the upstream's.
type Difference struct {
	// At is when the request arrived.
	At        time.Time `json:"at"`
	RequestID string    `json:"request_id"`
	Method    string    `json:"method"`
	Bucket    string    `json:"bucket"`
	Key       string    `json:"key"`
	Version   string    `json:"version,omitempty"`
	Range     string    `json:"range,omitempty"`
	// Freshness is the mode of the key, and Age the seconds since the upstream had last confirmed the object.
	Freshness rules.Freshness `json:"freshness"`
	Age       float64         `json:"age_seconds"`
	// Tier is where the answer came from: hot, warm or stale.
	Tier akigw.Outcome `json:"tier"`
	// Differs has "status", "body" and names of headers.
	Differs []string `json:"differs"`
	// Client and Upstream are the two answers; secrets in headers are hidden.
	Client   Answer `json:"client"`
	Upstream Answer `json:"upstream"`
}

// name returns the object as the log names it.
func (d *Difference) name() string {
	return akigw.Key{Bucket: d.Bucket, Name: d.Key, Version: d.Version}.String()
}

// difference describes a difference.
func (s *Sample) difference(what []string, theirs *Answer) Difference {
	mine, upstream := s.Answer, *theirs
	mine.Header, upstream.Header = redact.Header(mine.Header), redact.Header(upstream.Header)
	return Difference{
		At: s.At, RequestID: s.RequestID, Method: s.Method, Bucket: s.Key.Bucket, Key: s.Key.Name, Version: s.Key.Version, Range: s.Range,
		Freshness: s.Settings.Freshness, Age: s.Age.Seconds(), Tier: s.Tier, Differs: what, Client: mine, Upstream: upstream,
	}
}

// appendBounded appends a difference to a list, which loses its oldest ones.
func appendBounded(list []Difference, d Difference) []Difference {
	if len(list) == maxListed {
		list = slices.Delete(list, 0, 1)
	}
	return append(list, d)
}

// Report is what comparisons have found since the gateway started.
type Report struct {
	Since time.Time `json:"since"`
	// Compared counts answers by result, and Skipped the chosen ones that were not compared, by reason.
	Compared map[Result]uint64 `json:"compared"`
	Skipped  map[Reason]uint64 `json:"skipped"`
	// Queued is how many answers wait to be compared.
	Queued int `json:"queued"`
	// Differences are the last 1,000 differences that no freshness mode allows, newest first, and Allowed
	// the last 1,000 that one does.
	Differences []Difference `json:"differences"`
	Allowed     []Difference `json:"allowed"`
}

// Report returns what was found.
func (c *Comparer) Report() Report {
	r := Report{Compared: map[Result]uint64{}, Skipped: map[Reason]uint64{}, Queued: len(c.queue)}
	for result, n := range c.counters.compared {
		r.Compared[result] = n.Get()
	}
	for reason, n := range c.counters.skipped {
		r.Skipped[reason] = n.Get()
	}
	c.mu.Lock()
	r.Since, r.Differences, r.Allowed = c.since, slices.Clone(c.found), slices.Clone(c.allowed)
	c.mu.Unlock()
	slices.Reverse(r.Differences)
	slices.Reverse(r.Allowed)
	return r
}
