package gateway

import (
	"context"
	"errors"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// objectSizes gives quotas the sizes of objects (limits.Objects).
type objectSizes struct {
	Store  *tiers.Store
	Writes *writeback.WriteBack
}

// BytesOf returns the bytes of the objects of a bucket, 0 if there is no such bucket.
func (g objectSizes) BytesOf(ctx context.Context, bucket string) (int64, error) {
	n, err := g.Store.BytesOf(ctx, bucket)
	var refused *cold.ResponseError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return n, nil
	}
	return n + g.Writes.Overlay.Bytes(bucket), err
}

// SizeOf returns the size of an object if it is known, else 0.
func (g objectSizes) SizeOf(key akigw.Key) int64 {
	if n, pending := g.Writes.Overlay.Size(key); pending {
		return n
	}
	return g.Store.SizeOf(key)
}

// SizeOfSource returns the size of the source of a copy. It returns 0 for a source that is not
// cached, whose size the next count of the quota finds, and for one that does not exist, whose copy
// is refused anyway.
func (g objectSizes) SizeOfSource(ctx context.Context, key akigw.Key) (int64, error) {
	reader, err := g.Store.Head(ctx, key, akigw.RangeSpec{}, akigw.Conditions{})
	var refused *cold.ResponseError
	switch {
	case errors.Is(err, tiers.ErrUncacheable), errors.As(err, &refused), errors.Is(err, akigw.ErrNoSuchKey):
		return 0, nil
	case err != nil:
		return 0, err
	}
	defer reader.Close()
	return reader.Object.Size, nil
}
