package writeback

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"sync"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestMD5: all sums are right, shared or not, and some are shared.
func TestMD5(t *testing.T) {
	var h hashers
	defer h.close()
	var wait sync.WaitGroup
	var started sync.WaitGroup
	started.Add(20)
	for i := range 20 {
		wait.Go(func() {
			body := testkit.Bytes(uint64(i)+1, sharedBytes+i*100_003)
			for round := range 3 {
				sum, end := h.start(int64(len(body)))
				if round == 0 { // all run at once
					started.Done()
					started.Wait()
				}
				for rest := body; len(rest) > 0; {
					n := min(len(rest), 64<<10)
					sum.Write(rest[:n])
					rest = rest[n:]
				}
				if want := md5.Sum(body); !bytes.Equal(sum.Sum(nil), want[:]) {
					t.Errorf("sum of %d bytes: %x, want %x", len(body), sum.Sum(nil), want)
				}
				end()
			}
		})
	}
	wait.Wait()
	if h.server == nil || h.running.Load() != 0 {
		t.Errorf("shared: %t, %d in progress", h.server != nil, h.running.Load())
	}
	if sum, end := h.start(10); fmt.Sprintf("%x", sum.Sum(nil)) != "d41d8cd98f00b204e9800998ecf8427e" {
		t.Error("the sum of nothing")
	} else {
		end()
	}
}

// BenchmarkMD5 compares sums of 8 MiB, computed separately and shared, by the number of concurrent
// streams.
func BenchmarkMD5(b *testing.B) {
	chunk := make([]byte, 64<<10)
	for _, streams := range []int{1, 4, 6, 8, 10} {
		for _, shared := range []bool{false, true} {
			b.Run(fmt.Sprintf("streams=%d/shared=%t", streams, shared), func(b *testing.B) {
				var h hashers
				defer h.close()
				if shared {
					h.running.Store(sharedStreams)
				} else {
					h.running.Store(-1000)
				}
				b.SetBytes(int64(streams) * 8 << 20)
				for b.Loop() {
					var wait sync.WaitGroup
					for range streams {
						wait.Go(func() {
							sum, end := h.start(8 << 20)
							defer end()
							for range 128 {
								sum.Write(chunk)
							}
							sum.Sum(nil)
						})
					}
					wait.Wait()
				}
			})
		}
	}
}
