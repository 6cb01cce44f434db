package uploadpool

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// sweepEvery is the least time between two sweeps.
const sweepEvery = 10 * time.Second

// sweeper removes garbage from the upstream: multipart uploads that will never be completed, and
// packs that hold no object.
type sweeper struct {
	*remote
	journal *journal.Journal
	queue   *queue
	begin   func(key akigw.Key) Change
	work    *sync.WaitGroup
	swept   time.Time // when the last sweep began; guarded by queue.mu
}

// garbage is what can be removed from one upstream.
type garbage struct {
	orphans []journal.Orphan
	packs   []journal.Pack
}

// sweep starts to remove garbage in the background, for each upstream separately. ctx is the
// pool's. It reports whether there is any.
func (s *sweeper) sweep(ctx context.Context) bool {
	orphans, packs := s.journal.Garbage()
	if len(orphans)+len(packs) == 0 {
		return false
	}
	s.queue.mu.Lock()
	defer s.queue.mu.Unlock()
	if time.Since(s.swept) < sweepEvery {
		return true
	}
	s.swept = time.Now()
	for l, g := range s.sortedLocked(orphans, packs) {
		if l.sweeping {
			continue
		}
		l.sweeping = true
		s.work.Go(func() {
			s.remove(ctx, g)
			s.queue.mu.Lock()
			defer s.queue.mu.Unlock()
			l.sweeping = false
		})
	}
	return true
}

// sortedLocked returns the garbage by the lane of the upstream that has it. The caller holds
// queue.mu.
func (s *sweeper) sortedLocked(orphans []journal.Orphan, packs []journal.Pack) map[*lane]*garbage {
	all := map[*lane]*garbage{}
	of := func(bucket string) *garbage {
		l := s.queue.lanes.of(bucket)
		if all[l] == nil {
			all[l] = &garbage{}
		}
		return all[l]
	}
	for _, o := range orphans {
		g := of(o.Key.Bucket)
		g.orphans = append(g.orphans, o)
	}
	for _, k := range packs {
		g := of(k.Key.Bucket)
		g.packs = append(g.packs, k)
	}
	return all
}

// remove removes garbage, until ctx ends.
func (s *sweeper) remove(ctx context.Context, g *garbage) {
	for _, o := range g.orphans {
		if ctx.Err() == nil && s.abort(ctx, o.Key, o.UploadID) {
			_ = s.journal.Uploading(ctx, o.Entry, o.Key, "") // if that fails, it is aborted again later and not found
		}
	}
	for _, k := range g.packs {
		if ctx.Err() == nil {
			s.dropPack(ctx, k)
		}
	}
}

// dropPacks deletes the packs of a bucket that hold no object.
func (s *sweeper) dropPacks(ctx context.Context, bucket string) {
	_, packs := s.journal.Garbage()
	for _, k := range packs {
		if k.Key.Bucket == bucket && ctx.Err() == nil {
			s.dropPack(ctx, k)
		}
	}
}

// dropPack deletes a pack.
func (s *sweeper) dropPack(ctx context.Context, k journal.Pack) {
	change := s.begin(k.Key)
	defer change.End()
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: k.Key, Header: http.Header{}})
	absent := err == nil && resp.StatusCode == http.StatusNotFound
	if r := s.judge(err, resp, false); r.err == nil || absent {
		_ = s.journal.Packs.Removed(ctx, k) // if that fails, it is deleted again later and not found
	}
}

// abandon aborts the upload of an entry that will not be completed.
func (s *sweeper) abandon(ctx context.Context, e *journal.Entry) {
	if id := s.journal.UploadID(e.ID); id != "" && s.abort(ctx, e.Key, id) {
		_ = s.journal.Uploading(ctx, e.ID, e.Key, "") // if that fails, the ID is tried again later and refused
	}
}
