package warm

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/size"
)

// BenchmarkPutBlock stores blocks of 256 KiB: in a tier that has room for all, and in one of 512 MiB
// whose background work frees space at the same time. faults/op are minor page faults, cpu-ns/op the
// processor time of the whole process, amplification the bytes written to files in proportion to the
// bytes stored, and refused/op what was not stored because space was not freed fast enough.
func BenchmarkPutBlock(b *testing.B) {
	for _, of := range []struct {
		name  string
		quota int64
		run   bool
	}{{"room", 64 << 30, false}, {"churn", 512 << 20, true}} {
		b.Run(of.name, func(b *testing.B) {
			tier := open(b, filepath.Join(b.TempDir(), "warm"), of.quota, "1")
			defer closeTier(b, tier)
			ctx, stop := context.WithCancel(b.Context())
			done := make(chan error, 1)
			if of.run {
				go func() { done <- tier.Run(ctx) }()
			} else {
				done <- nil
			}
			data := random(1, 256<<10)
			b.SetBytes(int64(len(data)))
			b.ReportAllocs()
			began, written, refused := usage(b), writtenBytes(b), tier.counters.refused.Get()
			for n := int64(0); b.Loop(); n++ {
				run := Run{ID: uint64(n / 16), Object: uint64(n / 16), Handling: Handling{Wanted: true}}
				for before := tier.counters.refused.Get(); ; before = tier.counters.refused.Get() {
					tier.PutBlock(run, n%16, data)
					if tier.counters.refused.Get() == before {
						break
					}
					time.Sleep(time.Millisecond)
				}
			}
			ended := usage(b)
			b.ReportMetric(float64(ended.faults-began.faults)/float64(b.N), "faults/op")
			b.ReportMetric(float64(ended.cpu-began.cpu)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(tier.counters.refused.Get()-refused)/float64(b.N), "refused/op")
			b.ReportMetric(float64(writtenBytes(b)-written)/float64(b.N)/float64(len(data)), "amplification")
			b.ReportMetric(float64(fileMemory(b))/(1<<20), "rssfile-MiB")
			stop()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// used is what a process has used so far.
type used struct {
	cpu    time.Duration
	faults int64 // minor page faults
}

func usage(b *testing.B) used {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return used{time.Duration(u.Utime.Nano() + u.Stime.Nano()), int64(u.Minflt)}
}

// writtenBytes is how many bytes of files this process has made dirty.
func writtenBytes(b *testing.B) int64 { return int64(procSize(b, "/proc/self/io", "write_bytes:")) }

// fileMemory is the size of the files that are mapped and in memory, in bytes.
func fileMemory(b *testing.B) int64 { return int64(procSize(b, "/proc/self/status", "RssFile:")) }

// procSize returns a number of bytes from a file of /proc, 0 where there is none.
func procSize(b *testing.B, file, field string) size.Bytes {
	raw, err := os.ReadFile(file)
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(raw), field)
	line, _, _ := strings.Cut(rest, "\n")
	n, unit, _ := strings.Cut(strings.TrimSpace(line), " ")
	var of size.Bytes
	if unit == "kB" {
		n += "KiB"
	}
	if err := of.UnmarshalText([]byte(n)); err != nil {
		b.Fatal(err)
	}
	return of
}
