package placement

import (
	"context"
	"time"

	"github.com/akidb/akigw"
)

// Restored is the result of a restore.
type Restored struct {
	Objects int
	// Known is how many objects were in the catalog already, with newer information.
	Known   int
	hottest []heated
}

// Restore adds objects to the catalog, usually an empty one: their description and usage, without
// their bytes. Known objects stay as they are. Each restored object is validated before it is
// served. rows calls yield with each object until yield returns false. Restore must be called
// before Run, reads and writes. The error is tiers.ErrTierOff without a warm tier.
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

// accessesOf returns the access record for an object of a snapshot, nil if its usage is not known.
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

// Refetch brings in the hottest objects of a restore, the hottest first, at bytesPerSecond (0: no
// limit), until the tiers hold as much as they can without evicting.
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
