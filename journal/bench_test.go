package journal

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
)

// pendingJournal is a journal in memory with n pending entries.
func pendingJournal(b *testing.B, n int) *Journal {
	j := open(b, testConfig(crashfs.New(), "/j"))
	b.Cleanup(func() { j.Close() })
	keys := make([]akigw.Key, n)
	for i := range keys {
		keys[i] = key(fmt.Sprint("pending", i))
	}
	for i := 0; i < n; i += 1000 {
		if err := j.Delete(b.Context(), keys[i:min(n, i+1000)], time.Now()); err != nil {
			b.Fatal(err)
		}
	}
	return j
}

// BenchmarkLookup measures the look-up of a key while others are committed, a thousand at a time.
func BenchmarkLookup(b *testing.B) {
	j := pendingJournal(b, 10_000)
	stop := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		keys := make([]akigw.Key, 1000)
		for i := range keys {
			keys[i] = key(fmt.Sprint("other", i))
		}
		for {
			select {
			case <-stop:
				return
			default:
				if err := j.Delete(b.Context(), keys, time.Now()); err != nil {
					b.Error(err)
					return
				}
			}
		}
	})
	k := key("pending5000")
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if j.Last(k) == nil {
				b.Error("the entry is missing")
				return
			}
		}
	})
	b.StopTimer()
	close(stop)
	writer.Wait()
}

// BenchmarkCommit measures acknowledging a deletion while many entries are pending, on a disk that
// costs nothing.
func BenchmarkCommit(b *testing.B) {
	j := pendingJournal(b, 10_000)
	keys := make([]akigw.Key, 1)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		keys[0] = key(fmt.Sprint("pending", i%10_000))
		if err := j.Delete(b.Context(), keys, time.Now()); err != nil {
			b.Fatal(err)
		}
	}
}
