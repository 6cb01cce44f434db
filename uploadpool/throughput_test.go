package uploadpool

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// throttled is an upstream in memory that takes 5 ms for each response, and answers 503 above a
// limit of requests per second.
type throttled struct {
	*s3mem.Memory
	limit    *rate.Limiter
	requests atomic.Int64
	refused  atomic.Int64
}

const (
	answerAfter = 5 * time.Millisecond
	throttleAt  = 2000 // requests a second
)

// Do implements Upstream.
func (u *throttled) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	time.Sleep(answerAfter)
	u.requests.Add(1)
	if !u.limit.Allow() {
		u.refused.Add(1)
		return respond(503, "SlowDown")
	}
	return u.Memory.Do(ctx, r)
}

// Owner implements Upstream.
func (*throttled) Owner(string) string { return "default" }

// uploads flushes n small objects from a journal and returns how many per second that was.
func uploads(b *testing.B, n int, parallel, batch bool) (perSecond float64, u *throttled) {
	j, err := journal.Open(journal.Config{Dir: b.TempDir(), FS: vfs.Disk{}, Log: slog.New(slog.DiscardHandler), InlineBytes: 64 << 10, SegmentBytes: 64 << 20, SyncTimeout: time.Minute})
	if err != nil {
		b.Fatal(err)
	}
	defer j.Close()
	body := string(testkit.Bytes(1, 1024))
	var writers sync.WaitGroup
	for w := range 64 {
		writers.Go(func() {
			for i := w; i < n; i += 64 {
				d := j.Receive(int64(len(body)))
				_, err := d.Write([]byte(body))
				if err == nil {
					err = j.Commit(context.Background(), d, journal.Entry{Key: key(fmt.Sprint(i)), ETag: etag(body), Modified: time.Now()})
				}
				if err != nil {
					b.Error(err)
				}
			}
		})
	}
	writers.Wait()
	u = &throttled{Memory: s3mem.New(), limit: rate.NewLimiter(throttleAt, throttleAt/10)}
	p := New(Config{
		Parallel: ParallelConfig{Enabled: parallel, Concurrency: 10, MaxRetries: 3, BackoffBaseMs: 100, MaxAgeSecs: 3600, ConfirmAfterMs: 5000},
		Batch:    BatchConfig{Enabled: batch, BatchSize: 10, FlushIntervalSecs: 1, MaxPacked: 1_000_000},
		Journal:  j, Upstream: u, Log: slog.New(slog.DiscardHandler), Begin: func(akigw.Key) Change { return noChange{} },
		Packs: func(akigw.Key, int64) bool { return true },
	})
	p.queue.known = 0 // nothing of it was tried before
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	started := time.Now()
	go func() {
		defer close(done)
		_ = p.Run(ctx)
	}()
	for j.Stats().Pending > 0 {
		if time.Since(started) > 2*time.Minute {
			b.Fatalf("%+v", j.Stats())
		}
		time.Sleep(time.Millisecond)
	}
	perSecond = float64(n) / time.Since(started).Seconds()
	cancel()
	<-done
	if st := j.Stats(); batch != (st.Packed > 0) || st.Dead > 0 {
		b.Errorf("%+v", st)
	}
	return perSecond, u
}

// BenchmarkUpload compares ways to upload small objects to an upstream that takes 5 ms for each
// response and throttles: one after the other, ten in a pack, ten at a time, and both.
func BenchmarkUpload(b *testing.B) {
	var sequential, batch, parallel, both, refused float64
	rounds := 0.0
	for b.Loop() {
		rounds++
		for _, m := range []struct {
			n               int
			parallel, batch bool
			sum             *float64
		}{{200, false, false, &sequential}, {2000, false, true, &batch}, {4000, true, false, &parallel}, {20_000, true, true, &both}} {
			perSecond, u := uploads(b, m.n, m.parallel, m.batch)
			*m.sum += perSecond
			refused += float64(u.refused.Load()) / float64(u.requests.Load())
		}
	}
	b.ReportMetric(sequential/rounds, "sequential-ops/s")
	b.ReportMetric(batch/sequential, "batch-x")
	b.ReportMetric(parallel/sequential, "parallel-x")
	b.ReportMetric(both/sequential, "both-x")
	b.ReportMetric(refused/rounds/4, "refused-share")
	b.ReportMetric(0, "ns/op")
}
