package tiers

import (
	"cmp"
	"container/heap"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// mostHottest bounds how many objects are fetched again after a restore.
const mostHottest = 100_000

// Restored is what a restore brought back.
type Restored struct {
	Objects int
	// Known were in the catalog already: what is known here is newer.
	Known   int
	hottest []heated
}

// Restore puts objects into an empty catalog, or beside what is known: which there are and
// how they are used, without their bytes. All of it is validated before it is served. rows
// calls yield with each object until it returns false.
func (s *Store) Restore(ctx context.Context, rows func(yield func(akigw.CatalogEntry) bool) error) (r Restored, err error) {
	if s.warm == nil {
		return r, fmt.Errorf("%w: the catalog is on disk, and the warm tier is switched off (cache.warm_bytes)", ErrTierOff)
	}
	empty := true
	if err := s.catalog(akigw.Pattern{}, "", func(known) bool { empty = false; return false }); err != nil {
		return r, err
	}
	queue := make(chan warm.Imported, 1024)
	done := make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := s.warm.Import(func() (warm.Imported, bool) {
			i, ok := <-queue
			return i, ok
		})
		cancel() // of rows, if it could not go on
		done <- err
	}()
	var hottest hottest
	err = rows(func(c akigw.CatalogEntry) bool {
		if !empty && s.warm.HasEntry(c.Key) {
			r.Known++
			return ctx.Err() == nil
		}
		select {
		case queue <- s.imported(&c):
			r.Objects++
			hottest.offer(&c)
			return true
		case <-ctx.Done():
			return false
		}
	})
	close(queue)
	if failed := <-done; failed != nil {
		err = failed
	}
	r.hottest = hottest.sorted()
	return r, err
}

// imported makes the records of an object of another gateway, or of another time. Its run
// is none of ours, so that nothing of it is trusted.
func (s *Store) imported(c *akigw.CatalogEntry) warm.Imported {
	settings := s.settings(c.Key)
	e := &entry{Object: c.Object, object: objectNumber(c.Key), block: settings.Block, origin: s.upstream.Origin(c.Key.Bucket)}
	e.Generation = s.fence.generation()
	e.blocks = e.Generation
	sum := summaryOf(e)
	sum.contentType = c.ContentType
	i := warm.Imported{Key: c.Key, Record: appendEntry(nil, e), Summary: sum.append(nil)}
	if !c.LastAccess.IsZero() {
		u := usage{last: c.LastAccess.Unix(), total: c.Accesses}
		if length := int64(settings.AccessWindow / time.Second); length > 0 {
			u.window, u.now = u.last/length, c.Recent
		}
		i.Accesses = appendUsage(nil, u)
	}
	return i
}

// heated is an object that was used before a restore.
type heated struct {
	key    akigw.Key
	size   int64
	etag   string
	hot    bool // it was in memory
	recent uint32
	total  uint64
	last   int64
}

// hotter orders objects by how they were used.
func hotter(a, b heated) int {
	weight := func(hot bool) int {
		if hot {
			return 1
		}
		return 0
	}
	return cmp.Or(cmp.Compare(weight(b.hot), weight(a.hot)), cmp.Compare(b.recent, a.recent), cmp.Compare(b.total, a.total), cmp.Compare(b.last, a.last))
}

// hottest are the hottest of many, in constant memory: the coolest of them is first.
type hottest []heated

// Len implements heap.Interface.
func (h *hottest) Len() int { return len(*h) }

// Less implements heap.Interface.
func (h *hottest) Less(i, j int) bool { return hotter((*h)[i], (*h)[j]) > 0 }

// Swap implements heap.Interface.
func (h *hottest) Swap(i, j int) { (*h)[i], (*h)[j] = (*h)[j], (*h)[i] }

// Push implements heap.Interface.
func (h *hottest) Push(x any) { *h = append(*h, x.(heated)) }

// Pop implements heap.Interface.
func (h *hottest) Pop() any {
	last := (*h)[len(*h)-1]
	*h = (*h)[:len(*h)-1]
	return last
}

// offer takes an object whose bytes were here, if it is among the hottest.
func (h *hottest) offer(c *akigw.CatalogEntry) {
	if c.HotBytes+c.WarmBytes == 0 {
		return
	}
	o := heated{c.Key, c.Size, c.ETag, c.Tier == akigw.Hot, c.Recent, c.Accesses, c.LastAccess.Unix()}
	if len(*h) < mostHottest {
		heap.Push(h, o)
	} else if hotter(o, (*h)[0]) < 0 {
		(*h)[0] = o
		heap.Fix(h, 0)
	}
}

func (h *hottest) sorted() []heated {
	slices.SortFunc(*h, hotter)
	return *h
}

// Refetch brings in the hottest objects of a restore, the hottest first, at so many bytes a
// second, until the tiers are as full as they are without making room.
func (s *Store) Refetch(ctx context.Context, r Restored, bytesPerSecond int64, tell func(PrefetchProgress)) error {
	f := newPrefetching(ctx, s, Prefetch{Rate: bytesPerSecond}, tell)
	room, memory := s.warm.Room(), int64(s.config.HotBytes)/10*9
	var err error
	for _, o := range r.hottest {
		if room -= o.size; room < 0 {
			break
		}
		hot := o.hot && memory >= o.size
		if hot {
			memory -= o.size
		}
		if err = f.add(o.key, o.size, o.etag, hot); err != nil {
			break
		}
	}
	return f.end(err)
}
