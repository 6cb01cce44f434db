package placement

import (
	"context"
	"time"

	"github.com/akidb/akigw"
)

// Restored is what a restore brought back.
type Restored struct {
	Objects int
	// Known is how many were in the catalog already: what is known here is newer.
	Known   int
	hottest []heated
}

// Restore puts objects into an empty catalog, or beside what is known: which there are and how
// they are used, without their bytes. Every one is validated before it is served. rows calls yield
// with each object until yield returns false. Restore must be called before Run, reads and writes.
// The error is tiers.ErrTierOff without a warm tier.
func (p *Placement) Restore(ctx context.Context, rows func(yield func(akigw.CatalogEntry) bool) error) (r Restored, err error) {
	var hottest hottest
	err = p.store.Import(ctx, func(put func(*akigw.CatalogEntry, []byte) (bool, error)) error {
		var stopped error
		err := rows(func(c akigw.CatalogEntry) bool {
			added, err := put(&c, p.accessesOf(&c))
			switch {
			case err != nil:
				stopped = err
			case added:
				r.Objects++
				hottest.offer(&c)
			default:
				r.Known++
			}
			return err == nil
		})
		if err == nil {
			err = stopped
		}
		return err
	})
	r.hottest = hottest.sorted()
	return r, err
}

// accessesOf is the record of how an object of a snapshot was used, nil if that is not known.
func (p *Placement) accessesOf(c *akigw.CatalogEntry) []byte {
	if c.LastAccess.IsZero() {
		return nil
	}
	u := usage{last: c.LastAccess.Unix(), total: c.Accesses}
	if length := int64(p.store.Settings(c.Key).AccessWindow / time.Second); length > 0 {
		u.window, u.now = u.last/length, c.Recent
	}
	return appendUsage(nil, u)
}

// Refetch brings in the hottest objects of a restore, the hottest first, at bytesPerSecond (0: as
// fast as it can), until the tiers hold what they do without evicting.
func (p *Placement) Refetch(ctx context.Context, r Restored, bytesPerSecond int64, tell func(PrefetchProgress)) error {
	f := newPrefetching(ctx, p.mover, Prefetch{Rate: bytesPerSecond}, tell)
	disk, memory := p.store.Room().DiskFree, p.store.Usage().HotQuota/10*9
	var err error
	for _, o := range r.hottest {
		if disk -= o.size; disk < 0 {
			break
		}
		tier := akigw.Warm
		if o.hot && memory >= o.size {
			tier, memory = akigw.Hot, memory-o.size
		}
		if err = f.add(o.key, o.size, o.etag, tier); err != nil {
			break
		}
	}
	return f.end(err)
}
