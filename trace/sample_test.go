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
// tiers of other sizes would hit is predicted about as by the whole trace.
func TestSampleIsLikeTheWhole(t *testing.T) {
	const objects, reads, most = 20_000, 200_000, 1 << 17
	random := testkit.Random(t)
	z := zipf.New(objects, 0.8)
	whole, sample := NewSample(0), NewSample(most)
	for range reads {
		a := read(fmt.Sprint("bucket-", random.IntN(2)), z.Draw(random), akigw.Cold)
		whole.Add(a)
		sample.Add(a)
	}
	all, some := whole.Trace(0), sample.Trace(0)
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
	for _, share := range []int64{64, 16, 4, 1} {
		size := all.Bytes / share
		for name, of := range map[string]func(Result) int{"hot": func(r Result) int { return r.Hot }, "local": func(r Result) int { return r.Hot + r.Warm }} {
			want, got := all.Predict(size/2, size, 0.5), some.Predict(size/2, size, 0.5)
			exact, estimated := float64(of(want.Total))/float64(want.Total.Reads), float64(of(got.Total))/float64(got.Total.Reads)
			t.Logf("1/%d of the data, %s: %.3f, estimated %.3f", share, name, exact, estimated)
			if math.Abs(exact-estimated) > 0.05 {
				t.Errorf("1/%d of the data, %s: %.3f, estimated %.3f", share, name, exact, estimated)
			}
			if len(got.Buckets) != 2 {
				t.Errorf("%d buckets", len(got.Buckets))
			}
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
