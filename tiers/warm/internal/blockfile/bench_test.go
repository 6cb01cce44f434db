package blockfile

import (
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// BenchmarkOpen opens a store of a million blocks in 4,000 segments, as many as 256 GiB have: those of 16
// objects at a time, one after the other, as 16 clients write them.
func BenchmarkOpen(b *testing.B) {
	const blocks, perSegment = 1 << 20, 256
	dir := b.TempDir()
	s := open(b, dir, perSegment*Size(1))
	for n := range int64(blocks) {
		put(b, s, ID{Extent: 1<<40 + uint64(n>>12<<4+n&15), N: n >> 4 & 255}, []byte{1})
		if n%(1<<16) == 0 {
			if err := s.Seal(); err != nil {
				b.Fatal(err)
			}
		}
	}
	end(b, s, true)
	var before, after runtime.MemStats
	var cpu time.Duration
	for b.Loop() {
		b.StopTimer()
		runtime.GC()
		runtime.ReadMemStats(&before)
		began := usedCPU(b)
		b.StartTimer()
		s = open(b, dir, perSegment*Size(1))
		b.StopTimer()
		cpu += usedCPU(b) - began
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(s.Stats().Blocks), "heap-B/block")
		end(b, s, false)
		b.StartTimer()
	}
	b.ReportMetric(float64(cpu.Milliseconds())/float64(b.N), "cpu-ms/op")
}

// usedCPU is the processor time of this process.
func usedCPU(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPut and BenchmarkGet write and read blocks of 256 KiB.
func BenchmarkPut(b *testing.B) {
	s := open(b, b.TempDir(), 64<<20)
	defer end(b, s, true)
	payload := testkit.Bytes(1, 256<<10)
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		put(b, s, ID{Extent: 1, N: n % 1024}, payload)
		if n%2048 == 0 {
			compact(b, s, 0.9)
		}
	}
}

func BenchmarkGet(b *testing.B) {
	s := open(b, b.TempDir(), 64<<20)
	defer end(b, s, true)
	payload := testkit.Bytes(1, 256<<10)
	for n := range int64(64) {
		put(b, s, ID{Extent: 1, N: n}, payload)
	}
	buffer := make([]byte, len(payload))
	b.SetBytes(int64(len(payload)))
	b.ReportAllocs()
	for n := int64(0); b.Loop(); n++ {
		if _, _, err := s.Get(ID{Extent: 1, N: n % 64}, func(byte, int) []byte { return buffer }); err != nil {
			b.Fatal(err)
		}
	}
}
