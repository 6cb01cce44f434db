package shadow

import (
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/rules"
)

// Report says what serving from the cache would have saved.
type Report struct {
	Since time.Time `json:"since"` // when counting began
	// HotBytes and WarmBytes are the sizes of the tiers.
	HotBytes  int64  `json:"hot_bytes"`
	WarmBytes int64  `json:"warm_bytes"`
	Currency  string `json:"currency"`
	// Sampled is the share of all keys that is simulated, 1 unless there are too many.
	Sampled float64 `json:"sampled_ratio"`
	Total   Line    `json:"total"`
	Buckets []Line  `json:"buckets"` // largest saving first
}

// Line is the report for one bucket, or the total.
type Line struct {
	Bucket string `json:"bucket"`
	// Requests and Bytes are what passed in shadow mode: requests of clients, and bytes of responses.
	// Cost is what the upstream charges for them.
	Requests uint64  `json:"requests"`
	Bytes    uint64  `json:"bytes"`
	Cost     float64 `json:"cost"`
	// Reads are the requests that a gateway could have answered. Replaced counts objects that were
	// replaced or deleted by others than this gateway, as far as a read has shown it.
	Reads    uint64 `json:"reads"`
	Replaced uint64 `json:"replaced"`
	// Configured is the prediction for the freshness modes in the rules, and Modes for each mode alone.
	Configured Prediction   `json:"configured"`
	Modes      []Prediction `json:"modes"`
	// Best is the mode that saves most among those whose responses would have been current so far.
	Best rules.Freshness `json:"best"`
}

// Prediction is what a gateway would have done.
type Prediction struct {
	Freshness rules.Freshness `json:"freshness,omitempty"` // empty: as configured
	// HitRatio is the share of the reads that memory or disk would have answered, Hot the share that
	// memory alone would have, 0 to 1.
	HitRatio float64 `json:"hit_ratio"`
	Hot      float64 `json:"hot_ratio"`
	// Validations counts hits that a HEAD would have confirmed. Stale counts responses that would have
	// been an older version, or an object that does not exist.
	Validations uint64 `json:"validations"`
	Stale       uint64 `json:"stale"`
	// Requests and Bytes are what the gateway would have asked of the upstream.
	Requests uint64  `json:"requests"`
	Bytes    uint64  `json:"bytes"`
	Cost     float64 `json:"cost"`
	// The rest is the difference to the requests that passed; negative if it is more.
	SavedRequests int64   `json:"saved_requests"`
	SavedBytes    int64   `json:"saved_bytes"`
	Saved         float64 `json:"saved"` // in Report.Currency
}

// Report returns what was counted so far.
func (s *Shadow) Report() Report {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Report{
		Since: s.began.UTC().Truncate(time.Second), HotBytes: int64(s.options.Cache.HotBytes), WarmBytes: int64(s.options.Cache.WarmBytes),
		Currency: s.options.Prices.Currency, Sampled: s.tiers.share(), Buckets: []Line{},
	}
	total := &account{}
	for name, a := range s.accounts {
		if a.clients.Requests() == 0 { // only writes under way
			continue
		}
		r.Buckets = append(r.Buckets, a.line(name, &s.options.Prices))
		total.add(a)
	}
	r.Total = total.line("", &s.options.Prices)
	slices.SortFunc(r.Buckets, func(a, b Line) int {
		if a.Configured.Saved != b.Configured.Saved {
			return map[bool]int{true: -1, false: 1}[a.Configured.Saved > b.Configured.Saved]
		}
		return strings.Compare(a.Bucket, b.Bucket)
	})
	return r
}

// add adds the counts of another account, with what was predicted for its sample as predicted for all
// its reads.
func (a *account) add(other *account) {
	a.clients.Add(other.clients)
	a.always.Add(other.always)
	a.reads += other.reads
	a.replaced += other.replaced
	for i := range a.modes {
		a.modes[i].merge(other.modes[i].scaled(other.reads))
	}
	a.configured.merge(other.configured.scaled(other.reads))
}

// merge adds another tally.
func (t *tally) merge(other tally) {
	t.hot += other.hot
	t.warm += other.warm
	t.cold += other.cold
	t.validated += other.validated
	t.stale += other.stale
	t.upstream.Add(other.upstream)
	t.lists.Add(other.lists)
}

// scaled returns the tally for a number of reads, of which the counted ones are a sample: popular keys
// may or may not be among them, so their number says less than how they are answered.
func (t tally) scaled(reads uint64) tally {
	counted := t.hot + t.warm + t.cold
	if counted == reads || counted == 0 {
		return t
	}
	factor := float64(reads) / float64(counted)
	for _, n := range []*uint64{&t.hot, &t.warm, &t.cold, &t.validated, &t.stale, &t.upstream.Reads, &t.upstream.Writes, &t.upstream.Out} {
		*n = uint64(factor*float64(*n) + 0.5)
	}
	return t
}

// line returns the report for an account.
func (a *account) line(bucket string, prices *cost.Config) Line {
	l := Line{
		Bucket: bucket, Requests: a.clients.Requests(), Bytes: a.clients.Out, Cost: prices.Price(a.clients), Reads: a.reads, Replaced: a.replaced,
		Configured: a.predicted(a.configured, prices),
	}
	best := 0.0
	for i, mode := range rules.Modes() {
		p := a.predicted(a.modes[i], prices)
		p.Freshness = mode
		l.Modes = append(l.Modes, p)
		if p.Stale == 0 && (l.Best == "" || p.Saved > best) {
			l.Best, best = mode, p.Saved
		}
	}
	return l
}

// predicted returns the prediction of a tally.
func (a *account) predicted(t tally, prices *cost.Config) Prediction {
	t = t.scaled(a.reads)
	sent := a.always
	sent.Add(t.upstream)
	sent.Add(t.lists)
	reads := float64(max(t.hot+t.warm+t.cold, 1))
	p := Prediction{
		HitRatio: float64(t.hot+t.warm) / reads, Hot: float64(t.hot) / reads, Validations: t.validated, Stale: t.stale,
		Requests: sent.Requests(), Bytes: sent.Out, Cost: prices.Price(sent),
	}
	p.SavedRequests = int64(a.clients.Requests()) - int64(p.Requests)
	p.SavedBytes = int64(a.clients.Out) - int64(p.Bytes)
	p.Saved = prices.Price(a.clients) - p.Cost
	return p
}
