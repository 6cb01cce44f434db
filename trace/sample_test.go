package trace

import (
	"fmt"
	"math"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
)

// read is a read of a whole object in two blocks.
func read(bucket string, key int, outcome akigw.Outcome) *Access {
	return &Access{At: 1000, Bucket: bucket, Key: fmt.Sprint(key), Version: "1", Size: 2 << 10, Block: 1 << 10, Length: 2 << 10, Outcome: outcome}
}

// TestSampleIsLikeTheWhole: of a trace that is too long, objects are kept whole or not at all, and what
// tiers of other sizes would hit is predicted without a bias. Names decide which objects a sample keeps, so each
// sample has others: with the same names, all samples would be wrong in the same direction.
func TestSampleIsLikeTheWhole(t *testing.T) {
	testkit.WithoutRace(t, "it is about hits, and has one goroutine")
	const objects, reads, most, samples = 20_000, 200_000, 1 << 17, 6
	random := testkit.Random(t)
	z := zipf.New(objects, 0.8)
	whole, parts := NewSample(0), make([]*Sample, samples)
	for i := range parts {
		parts[i] = NewSample(most)
	}
	names := random.Uint64()
	for range reads {
		a := read(fmt.Sprint("bucket-", random.IntN(2)), z.Draw(random), akigw.Cold)
		whole.Add(a)
		key := a.Key
		for i, s := range parts {
			a.Key = fmt.Sprint(names, i, "/", key)
			s.Add(a)
		}
	}
	all, some := whole.Trace(0), make([]*Trace, samples)
	for i, s := range parts {
		some[i] = s.Trace(0)
		checkSample(t, some[i], all, most)
	}
	for _, share := range []int64{64, 16, 4, 1} {
		size := all.Bytes / share
		exact := all.Predict(size/2, size, 0.5).Total
		hot, local := 0.0, 0.0 // mean errors
		for _, s := range some {
			p := s.Predict(size/2, size, 0.5)
			if len(p.Buckets) != 2 {
				t.Errorf("%d buckets", len(p.Buckets))
			}
			hot += (ratio(p.Total.Hot, p.Total.Reads) - ratio(exact.Hot, exact.Reads)) / samples
			local += (ratio(exact.Cold, exact.Reads) - ratio(p.Total.Cold, p.Total.Reads)) / samples
		}
		t.Logf("1/%d of the data: %+.4f hot, %+.4f local", share, hot, local)
		if max(math.Abs(hot), math.Abs(local)) > 0.03 {
			t.Errorf("1/%d of the data: the estimates are off by %+.3f hot and %+.3f local", share, hot, local)
		}
	}
}

func ratio(n, of int) float64 { return float64(n) / float64(of) }

// checkSample checks the parts of a sample that do not need a replay.
func checkSample(t *testing.T, some, all *Trace, most int) {
	t.Helper()
	if all.Rate != 1 || some.Rate >= 0.5 || len(some.steps) > most || len(some.steps) != 2*len(some.accesses) {
		t.Fatalf("%d steps of %d accesses at a rate of %g", len(some.steps), len(some.accesses), some.Rate)
	}
	if some.Recorded != all.Recorded {
		t.Errorf("recorded %+v, want %+v", some.Recorded, all.Recorded)
	}
	for what, of := range map[string][2]float64{"objects": {float64(some.Objects), float64(all.Objects)}, "bytes": {float64(some.Bytes), float64(all.Bytes)}} {
		if math.Abs(of[0]/of[1]-1) > 0.1 {
			t.Errorf("%s: estimated %.0f of %.0f", what, of[0], of[1])
		}
	}
}

// TestPredictLeavesOutWhatCameBefore: the first read in a trace of data that the tiers had already
// tells nothing about other sizes.
func TestPredictLeavesOutWhatCameBefore(t *testing.T) {
	s := NewSample(0)
	for _, a := range []*Access{read("b", 1, akigw.Warm), read("b", 1, akigw.Hot), read("b", 2, akigw.Cold), read("b", 2, akigw.Hot)} {
		s.Add(a)
	}
	p := s.Trace(0).Predict(1<<20, 0, 0)
	if want := (Result{Reads: 3, Hot: 2, Cold: 1, UpstreamBytes: 2 << 10, UpstreamReads: 1, Bytes: 6 << 10}); p.Total != want || p.Unknown != 1 {
		t.Errorf("%+v, %d unknown; want %+v and 1", p.Total, p.Unknown, want)
	}
	if want := (Result{Reads: 3, Hot: 2, Cold: 1, Bytes: 6 << 10}); p.Recorded != want {
		t.Errorf("recorded %+v, want %+v", p.Recorded, want)
	}
	if p.Buckets["b"] != p.Total {
		t.Errorf("by bucket: %+v", p.Buckets)
	}
}

// TestUses: a use says whether it found another version of its object.
func TestUses(t *testing.T) {
	s := NewSample(0)
	first, second := read("b", 1, akigw.Cold), read("b", 1, akigw.Cold)
	second.Version, second.Write = "2", true
	for _, a := range []*Access{first, first, second, second} {
		s.Add(a)
	}
	var replaces []bool
	for u := range s.Trace(0).Uses() {
		replaces = append(replaces, u.Replaces)
	}
	if fmt.Sprint(replaces) != "[false false true false]" {
		t.Error(replaces)
	}
}
