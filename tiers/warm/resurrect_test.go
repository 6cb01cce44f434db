package warm

import (
	"bytes"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
)

// TestDroppedStaysDropped: dropped entries do not come back while value log files are rewritten and
// tables compacted, however the three overlap.
//
// Scenarios: C16.
func TestDroppedStaysDropped(t *testing.T) {
	tier := open(t, filepath.Join(t.TempDir(), "warm"), MinQuota, "1")
	defer closeTier(t, tier)
	body := bytes.Repeat([]byte("x"), 6000) // in the value log
	k := func(n int) akigw.Key { return akigw.Key{Bucket: "bucket", Name: fmt.Sprint(n)} }
	stop := make(chan struct{})
	var gc sync.WaitGroup
	var rewrites atomic.Int64
	gc.Go(func() {
		for {
			select {
			case <-stop:
				return
			default:
			}
			tier.data.stir()
			if tier.data.gate.rewrite(func() error { return tier.data.db.RunValueLogGC(0.01) }) == nil {
				rewrites.Add(1)
			}
		}
	})
	began, back := time.Now(), 0
	for round := 0; time.Since(began) < 2*time.Second || rewrites.Load() < 5 && time.Since(began) < 30*time.Second; round++ {
		for n := range 300 {
			tier.PutEntry(k(n), body, []byte("summary"), Handling{Wanted: true})
		}
		for n := range 300 {
			if n%3 == round%3 {
				continue
			}
			if err := tier.DropEntry(k(n)); err != nil {
				t.Fatal(err)
			}
		}
		for range 10 {
			time.Sleep(5 * time.Millisecond)
			for n := range 300 {
				if n%3 != round%3 && tier.HasEntry(k(n)) {
					back++
				}
			}
		}
	}
	close(stop)
	gc.Wait()
	t.Logf("%d rewrites, %d dropped entries came back", rewrites.Load(), back)
	if back > 0 {
		t.Errorf("%d dropped entries came back", back)
	}
	if rewrites.Load() < 5 {
		t.Errorf("only %d value log files were rewritten", rewrites.Load())
	}
}
