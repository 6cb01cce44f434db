package tiers

import (
	"context"
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Import puts objects into the catalog, without their bytes: fill calls put with each, and with
// what PutAccesses would keep beside it (nil for nothing). What is known already stays as it is;
// put returns false for it, and an error if the import cannot go on. Every imported object is
// validated before it is served.
//
// Import must be called before Run, reads and writes. The error is ErrTierOff without a warm
// tier.
func (d directory) Import(ctx context.Context, fill func(put func(o *akigw.CatalogEntry, accesses []byte) (added bool, err error)) error) error {
	if d.warm == nil {
		return fmt.Errorf("%w: the catalog is on disk, and the warm tier is switched off (cache.warm_bytes)", ErrTierOff)
	}
	empty := true
	if err := d.walkObjects(akigw.Pattern{}, func(Known) bool { empty = false; return false }); err != nil {
		return err
	}
	queue, done := make(chan warm.Imported, 1024), make(chan error, 1)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		err := d.warm.Import(func() (warm.Imported, bool) {
			i, ok := <-queue
			return i, ok
		})
		cancel() // of put, if it could not go on
		done <- err
	}()
	err := fill(func(o *akigw.CatalogEntry, accesses []byte) (bool, error) {
		if !empty && d.warm.HasEntry(o.Key) {
			return false, ctx.Err()
		}
		select {
		case queue <- d.imported(o, accesses):
			return true, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	})
	close(queue)
	if failed := <-done; failed != nil {
		err = failed
	}
	return err
}

// imported makes the records of an object of another gateway, or of another time. Its epoch is
// not this one, so that nothing of it is trusted.
func (d directory) imported(o *akigw.CatalogEntry, accesses []byte) warm.Imported {
	e := &entry{Object: o.Object, object: objectNumber(o.Key), block: d.settings(o.Key).Block, origin: d.origins.Origin(o.Key.Bucket)}
	e.Generation = d.fence.generation()
	e.extent = e.Generation
	sum := summaryOf(e)
	sum.ContentType = o.ContentType
	return warm.Imported{Key: o.Key, Record: appendEntry(nil, e), Summary: sum.append(nil), Accesses: accesses}
}
