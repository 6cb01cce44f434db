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
// 1, fill the tiers and are not counted.
func (t *Trace) Replay(policy string, hotBytes, warmBytes int64, warmUp float64) (result Result, err error) {
	s, err := newSimulation(policy, t.steps, hotBytes, warmBytes)
	if err != nil {
		return result, err
	}
	skip := int(warmUp * float64(len(t.accesses)))
	for i, a := range t.accesses {
		end := len(t.steps)
		if i+1 < len(t.accesses) {
			end = t.accesses[i+1].step
		}
		outcome, bytes, requests := s.access(a.step, end)
		if !a.write && i >= skip {
			result.count(outcome, a.length)
			result.UpstreamBytes += bytes
			result.UpstreamReads += requests
		}
	}
	return result, nil
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
