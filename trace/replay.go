package trace

import (
	"fmt"

	"github.com/akidb/akigw"
)

// Policies are the policy names that Replay accepts. "akigw" admits and evicts as the memory tier of
// this program does, "optimum" knows the future: no policy can do better with blocks of one size. The
// others are policies of the literature, for comparison.
func Policies() []string {
	return []string{"akigw", "lru", "sieve", "s3-fifo", "arc", "optimum"}
}

// levelOf returns the constructor of a simulated tier, nil for a policy that does not exist.
func levelOf(policy string) func(steps []step, bytes int64) level {
	switch policy {
	case "akigw":
		return newWeighted
	case "lru":
		return newLRU
	case "sieve":
		return newSieve
	case "s3-fifo":
		return newS3FIFO
	case "arc":
		return newARC
	case "optimum":
		return newOptimum
	}
	return nil
}

// simulation is a running replay.
type simulation struct {
	steps        []step
	memory, disk level
	// omniscient means that the disk also sees reads served from memory: a policy that knows the
	// future is not limited to what a disk notices.
	omniscient bool
}

func newSimulation(policy string, steps []step, hotBytes, warmBytes int64) (*simulation, error) {
	tier := levelOf(policy)
	if tier == nil {
		return nil, fmt.Errorf("there is no policy %q; there are %v", policy, Policies())
	}
	s := &simulation{steps: steps, omniscient: policy == "optimum"}
	if s.omniscient { // blocks in memory are not needed on disk as well
		warmBytes += hotBytes
	}
	s.memory, s.disk = tier(steps, hotBytes), tier(steps, warmBytes)
	return s, nil
}

// Replay returns what the result of the reads would have been under a policy (see Policies) with
// tiers of hotBytes and warmBytes that are empty at first. The first warmUp of the accesses, 0 to
// 1, fill the tiers and are not counted. If Rate is below 1, the tiers are scaled down by it, and the
// result is that of the kept accesses.
func (t *Trace) Replay(policy string, hotBytes, warmBytes int64, warmUp float64) (result Result, err error) {
	err = t.replay(policy, hotBytes, warmBytes, warmUp, func(_ *access, outcome akigw.Outcome, length, bytes int64, requests int) {
		result.add(outcome, length, bytes, requests)
	})
	return result, err
}

// add counts a read and what it fetched from the upstream.
func (r *Result) add(outcome akigw.Outcome, length, bytes int64, requests int) {
	r.count(outcome, length)
	r.UpstreamBytes += bytes
	r.UpstreamReads += requests
}

// replay calls count with each read after the warm-up.
func (t *Trace) replay(policy string, hotBytes, warmBytes int64, warmUp float64, count func(a *access, outcome akigw.Outcome, length, bytes int64, requests int)) error {
	scaled := func(bytes int64) int64 { return int64(float64(bytes) * t.Rate) }
	s, err := newSimulation(policy, t.steps, scaled(hotBytes), scaled(warmBytes))
	if err != nil {
		return err
	}
	skip := int(warmUp * float64(len(t.accesses)))
	for i := range t.accesses {
		a, end := &t.accesses[i], len(t.steps)
		if i+1 < len(t.accesses) {
			end = t.accesses[i+1].step
		}
		outcome, bytes, requests := s.access(a.step, end)
		if !a.write && i >= skip {
			count(a, outcome, a.length, bytes, requests)
		}
	}
	return nil
}

// Prediction says what tiers of given sizes would answer.
type Prediction struct {
	Total   Result
	Buckets map[string]Result
	// Recorded is the result of the same reads at the time of recording.
	Recorded Result
	// Unknown is how many reads are not counted, because they are the first of the trace to use data
	// that the tiers already had when it began: a trace cannot tell which sizes keep such data.
	Unknown int
}

// Predict is Replay with this program's policy for choosing the sizes of a running gateway. Numbers
// are those of all accesses after the warm-up, estimated if Rate is below 1: the misses are those of
// the sample, scaled up, because a very popular object may be in the sample or not, but misses once.
func (t *Trace) Predict(hotBytes, warmBytes int64, warmUp float64) Prediction {
	results, recorded, unknown := make([]Result, len(t.buckets)), make([]Result, len(t.buckets)), make([]int, len(t.buckets))
	_ = t.replay("akigw", hotBytes, warmBytes, warmUp, func(a *access, outcome akigw.Outcome, length, bytes int64, requests int) {
		if a.carried {
			unknown[a.bucket]++
			return
		}
		results[a.bucket].add(outcome, length, bytes, requests)
		recorded[a.bucket].count(a.outcome, length)
	}) // the policy exists
	p := Prediction{Buckets: make(map[string]Result, len(t.buckets))}
	for n, b := range t.buckets {
		r, was, u := results[n], recorded[n], unknown[n]
		if t.Rate < 1 {
			u = int(float64(u) / t.Rate)
			reads := max(int((1-warmUp)*float64(b.recorded.Reads))-u, 0)
			r, was = r.scaled(1/t.Rate, reads), was.scaled(1/t.Rate, reads)
		}
		p.Buckets[b.name] = r
		p.Unknown += u
		p.Total.sum(r)
		p.Recorded.sum(was)
	}
	return p
}

// scaled returns a result of so many reads, with the misses of r times a factor. The rest are hits.
func (r Result) scaled(factor float64, reads int) Result {
	times := func(n int) int { return int(factor * float64(n)) }
	cold := min(times(r.Cold), reads)
	warm := min(times(r.Warm), reads-cold)
	return Result{
		Reads: reads, Hot: reads - warm - cold, Warm: warm, Cold: cold, UpstreamReads: times(r.UpstreamReads),
		UpstreamBytes: int64(factor * float64(r.UpstreamBytes)), Bytes: int64(factor * float64(r.Bytes)),
	}
}

// sum adds another result.
func (r *Result) sum(o Result) {
	r.Reads, r.Hot, r.Warm, r.Cold = r.Reads+o.Reads, r.Hot+o.Hot, r.Warm+o.Warm, r.Cold+o.Cold
	r.UpstreamBytes, r.UpstreamReads, r.Bytes = r.UpstreamBytes+o.UpstreamBytes, r.UpstreamReads+o.UpstreamReads, r.Bytes+o.Bytes
}

// access replays the steps from first up to end. It returns the slowest tier that they needed, and
// how much was fetched from the upstream, with how many requests.
func (s *simulation) access(first, end int) (outcome akigw.Outcome, bytes int64, requests int) {
	outcome = akigw.Hot
	fetching := false
	for n := first; n < end; n++ {
		step := s.steps[n]
		if step.replaced { // before the next access
			s.memory.drop(step.block)
			s.disk.drop(step.block)
			continue
		}
		inMemory := !step.noMemory && s.memory.see(n)
		onDisk := (!inMemory || s.omniscient) && !step.noDisk && s.disk.see(n)
		switch {
		case inMemory:
		case onDisk && outcome == akigw.Hot:
			outcome = akigw.Warm
		case !onDisk:
			outcome = akigw.Cold
			bytes += step.bytes
			if !fetching {
				requests++
			}
		}
		fetching = !inMemory && !onDisk
	}
	return outcome, bytes, requests
}
