package advise

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/trace"
)

// observeMany observes reads of many objects, more than are kept.
func observeMany(reads, objects int, skew float64) *Observation {
	o, random, z := NewObservation(), rand.New(rand.NewPCG(1, 1)), zipf.New(objects, skew)
	for n := range reads {
		key := z.Draw(random)
		o.Add(&trace.Access{At: int64(n), Bucket: "bucket", Key: fmt.Sprintf("some/prefix/and/name/%08d", key), Version: `"d41d8cd98f00b204e9800998ecf8427e"`, Size: 60 << 10, Block: 256 << 10, Length: 60 << 10, Outcome: akigw.Cold})
	}
	return o
}

// BenchmarkObservation is what a long trace costs: time for each access, and the memory that a trace
// takes that is as long as is kept.
func BenchmarkObservation(b *testing.B) {
	for _, skew := range []float64{0.1, 0.9} {
		b.Run(fmt.Sprint("skew ", skew), func(b *testing.B) {
			const reads = 2_000_000
			var before, after runtime.MemStats
			for b.Loop() {
				runtime.GC()
				runtime.ReadMemStats(&before)
				o := observeMany(reads, 1_000_000, skew)
				runtime.GC()
				runtime.ReadMemStats(&after)
				b.ReportMetric(float64(int64(after.HeapAlloc)-int64(before.HeapAlloc))/(1<<20), "MiB")
				kept := o.sample.Trace(0).Kept()
				b.ReportMetric(float64(kept), "kept")
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/reads, "ns/access")
		})
	}
}

// BenchmarkNew is the time of an advice from a trace that is as long as is kept.
func BenchmarkNew(b *testing.B) {
	seen := observeMany(mostBlocks, 100_000, 0.9).End(0)
	f := facts(64<<20, 1<<30)
	for b.Loop() {
		if r := New(f, seen); r.Sizes == nil {
			b.Fatal("no sizes")
		}
	}
}
