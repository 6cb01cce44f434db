package placement

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// Prefetch says how a prefetch brings objects in.
type Prefetch struct {
	// Hot brings them into memory, otherwise to disk.
	Hot bool
	// Rate is the limit in bytes per second, 0 for none.
	Rate int64
	// After is the key after which to begin, "" for the first.
	After string
}

// PrefetchProgress is the progress of a prefetch.
type PrefetchProgress struct {
	Listed  int   `json:"listed"`
	Fetched int   `json:"fetched"`
	Bytes   int64 `json:"bytes"`   // of the fetched objects
	Already int   `json:"already"` // were cached already
	Failed  int   `json:"failed"`
	// Failure is why the last of those failed.
	Failure string `json:"failure,omitempty"`
	// After is the key up to which everything is done: another prefetch could continue there.
	After string `json:"after"`
	Done  bool   `json:"done"`
}

const (
	// prefetchers is how many objects a prefetch brings in concurrently.
	prefetchers = 4
	// progressEvery is how often it reports its progress.
	progressEvery = 200 * time.Millisecond
)

// Prefetch brings in the objects of a bucket whose keys have a prefix, in key order. It skips
// cached objects, so that it can be repeated. tell is called with the progress now and then, and at
// the end. The prefetch ends with tiers.ErrNoRoom when the tier cannot hold more; with
// tiers.ErrTierOff if there is no such tier.
func (p *Placement) Prefetch(ctx context.Context, what akigw.Pattern, how Prefetch, tell func(PrefetchProgress)) error {
	if !how.Hot && !p.store.HasDisk() || how.Hot && p.store.Usage().HotQuota == 0 {
		return tiers.ErrTierOff
	}
	f := newPrefetching(ctx, p.mover, how, tell)
	tier := akigw.Warm
	if how.Hot {
		tier = akigw.Hot
	}
	err := cold.List(f.ctx, p.mover.upstream, what.Bucket, what.Prefix, how.After, func(o cold.Listed) error {
		return f.add(akigw.Key{Bucket: what.Bucket, Name: o.Key}, o.Size, o.ETag, tier)
	})
	return f.end(err)
}

// prefetching is a running prefetch.
type prefetching struct {
	mover *mover
	tell  func(PrefetchProgress)
	rate  *rate.Limiter // nil: no limit
	ctx   context.Context
	work  *errgroup.Group

	mu       sync.Mutex
	progress PrefetchProgress // guarded by mu
	open     []string         // unfinished keys, in order; guarded by mu
	last     string           // last key that was listed; guarded by mu
	told     time.Time        // time of the last report; guarded by mu
}

func newPrefetching(ctx context.Context, m *mover, how Prefetch, tell func(PrefetchProgress)) *prefetching {
	work, ctx := errgroup.WithContext(ctx)
	work.SetLimit(prefetchers)
	p := &prefetching{mover: m, tell: tell, ctx: ctx, work: work, told: time.Now()}
	p.progress.After = how.After
	if how.Rate > 0 {
		p.rate = rate.NewLimiter(rate.Limit(how.Rate), int(min(how.Rate, 1<<30)))
	}
	return p
}

// add brings an object into a tier when a slot is free.
func (p *prefetching) add(key akigw.Key, size int64, etag string, tier akigw.Outcome) error {
	p.mu.Lock()
	p.progress.Listed++
	p.open, p.last = append(p.open, key.Name), key.Name
	p.mu.Unlock()
	if known, whole := p.mover.store.Whole(key, tier); whole && strings.Trim(known, `"`) == strings.Trim(etag, `"`) {
		p.done(key, false, 0, nil)
		return p.ctx.Err()
	}
	for left := size; p.rate != nil && left > 0; left -= int64(p.rate.Burst()) {
		if err := p.rate.WaitN(p.ctx, int(min(left, int64(p.rate.Burst())))); err != nil {
			return err
		}
	}
	p.work.Go(func() error {
		moved, bytes, err := p.mover.promote(p.ctx, key, tier)
		if p.ctx.Err() != nil {
			return p.ctx.Err()
		}
		p.done(key, moved, bytes, err)
		if errors.Is(err, tiers.ErrNoRoom) {
			return err
		}
		return nil
	})
	return p.ctx.Err()
}

// done counts an object, and reports the progress.
func (p *prefetching) done(key akigw.Key, moved bool, bytes int64, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case err != nil:
		p.progress.Failed++
		p.progress.Failure = err.Error()
	case moved:
		p.progress.Fetched++
		p.progress.Bytes += bytes
	default:
		p.progress.Already++
	}
	for i, name := range p.open {
		if name == key.Name {
			p.open = append(p.open[:i], p.open[i+1:]...)
			if i == 0 && !errors.Is(err, tiers.ErrNoRoom) {
				p.progress.After = key.Name
			}
			if len(p.open) == 0 && err == nil {
				p.progress.After = p.last
			}
			break
		}
	}
	if time.Since(p.told) >= progressEvery {
		p.told = time.Now()
		p.tell(p.progress)
	}
}

// end waits for the running fetches.
func (p *prefetching) end(err error) error {
	first := p.work.Wait()
	if first != nil && !errors.Is(first, context.Canceled) {
		err = first
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.progress.Done = err == nil
	p.tell(p.progress)
	return err
}
