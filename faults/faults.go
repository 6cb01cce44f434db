// Package faults injects faults into requests to an upstream and into uses of the disk, by a plan:
// for tests, and to rehearse outages. A plan says which requests and which uses of the disk it
// applies to, what happens to them, and when. With the same seed and the same requests in the same
// order it does the same again.
//
// It does nothing unless a plan is set, and affects only the requests that the plan names. It
// recognises S3 requests by their method and target, and knows nothing else about the gateway.
package faults

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/glob"
)

// Layer holds the plan in force, for any number of transports and disks. The zero value injects
// nothing. All methods may be called from any goroutine.
type Layer struct {
	// Metrics receives the metrics; nil discards them. It must not change after the first use.
	Metrics *metrics.Set

	state atomic.Pointer[state]
}

// state is a plan in force.
type state struct {
	plan  Plan
	since time.Time
	lines []*line
	over  chan struct{} // closed when the plan is no longer in force
}

// line is a fault of a plan in force.
type line struct {
	Fault
	ops  []string
	disk bool            // its effect is on disks
	over <-chan struct{} // closed when the plan is no longer in force
	hits *metrics.Counter

	mu   sync.Mutex
	rng  *rand.Rand // guarded by mu
	met  int        // requests that matched; guarded by mu
	done int        // of those, how many it hit; guarded by mu
}

// Set puts a plan in force, and ends any other as Clear does.
func (l *Layer) Set(p Plan) error {
	if err := p.Check(); err != nil {
		return err
	}
	set := cmp.Or(l.Metrics, metrics.NewSet())
	st := &state{plan: p, since: time.Now(), over: make(chan struct{})}
	for i, f := range p.Faults {
		st.lines = append(st.lines, &line{
			Fault: f, ops: strings.Split(f.Op, ","), disk: slices.Contains(DiskEffects(), f.Effect), over: st.over, rng: rand.New(rand.NewPCG(p.Seed, uint64(i))),
			hits: set.GetOrCreateCounter(fmt.Sprintf("akigw_faults_hits_total{effect=%q}", f.Effect)),
		})
	}
	l.replace(st)
	return nil
}

// Clear ends the plan in force. Requests that hang because of it fail with a broken connection.
func (l *Layer) Clear() { l.replace(nil) }

// replace puts a plan in force, nil for none, and ends the previous one.
func (l *Layer) replace(next *state) {
	if before := l.state.Swap(next); before != nil {
		close(before.over)
	}
}

// Report is the plan in force and what it has done so far.
type Report struct {
	Plan
	Since time.Time `json:"since"`
	// Met and Hits are, by fault, how many requests or uses of a disk matched and how many were
	// hit.
	Met  []int `json:"met"`
	Hits []int `json:"hits"`
}

// Report returns the plan in force, nil if there is none.
func (l *Layer) Report() *Report {
	st := l.state.Load()
	if st == nil {
		return nil
	}
	r := &Report{Plan: st.plan, Since: st.since}
	for _, f := range st.lines {
		f.mu.Lock()
		r.Met, r.Hits = append(r.Met, f.met), append(r.Hits, f.done)
		f.mu.Unlock()
	}
	return r
}

// use is a request to an upstream, or an operation on a disk.
type use struct {
	tier            string
	op, bucket, key string
	read            bool
}

// applies reports whether a fault applies to a use, and returns a random number for the details of the
// effect.
func (f *line) applies(u use, since time.Duration) (bool, uint64) {
	if !f.meets(u) {
		return false, 0
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.met++
	chance, how := f.rng.Float64(), f.rng.Uint64() // drawn each time, so that one decision does not shift the others
	seconds := since.Seconds()
	switch {
	case seconds < f.After, f.Until > 0 && seconds >= f.Until,
		f.Nth > 0 && f.met != f.Nth, f.met <= f.Skip, f.First > 0 && f.met > f.Skip+f.First,
		f.Probability > 0 && chance >= f.Probability:
		return false, 0
	}
	f.done++
	f.hits.Inc()
	return true, how
}

func (f *line) meets(u use) bool {
	match := func(pattern, text string) bool { return pattern == "" || glob.Match(pattern, text) }
	if f.Tier != "" && f.Tier != u.tier || f.Direction != "" && (f.Direction == Read) != u.read || f.disk != (u.tier != Cold) {
		return false
	}
	return match(f.Bucket, u.bucket) && match(f.Key, u.key) && slices.ContainsFunc(f.ops, func(o string) bool { return match(strings.TrimSpace(o), u.op) })
}

// fault marks an error that was injected.
func fault(err error) error { return fmt.Errorf("fault: %w", err) }
