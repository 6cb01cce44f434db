package tiers

import (
	"context"
	"fmt"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Import adds objects to the catalog, without their bytes: fill calls put with each object and its
// access record (see PutAccesses; nil for none). Objects that are already known stay as they are;
// put returns false for them, and an error if the import cannot continue. Each imported object is
// validated before it is served.
//
// Import must be called before Run, reads and writes. The error is ErrTierOff without a warm tier.
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
		cancel() // the error of put if it could not continue
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

// imported returns the records of an object from another gateway or an earlier time. Their epoch is
// not this one, so nothing in them is trusted.
func (d directory) imported(o *akigw.CatalogEntry, accesses []byte) warm.Imported {
	e := &entry{Object: o.Object, object: objectNumber(o.Key), block: d.settings(o.Key).Block, origin: d.origins.Origin(o.Key.Bucket)}
	e.Generation = d.fence.generation()
	e.extent = e.Generation
	sum := summaryOf(e)
	sum.ContentType = o.ContentType
	return warm.Imported{Key: o.Key, Record: appendEntry(nil, e), Summary: sum.append(nil), Accesses: accesses}
}
