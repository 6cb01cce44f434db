package tiers

import (
	"context"

	"github.com/akidb/akigw"
)

// BytesOf is how many bytes the objects of a bucket have upstream. It lists the bucket.
func (s *Store) BytesOf(ctx context.Context, bucket string) (sum int64, err error) {
	err = s.list(ctx, bucket, "", "", func(o listed) error {
		sum += o.Size
		return nil
	})
	return sum, err
}

// SizeOf is how many bytes the object has that a key holds upstream, as far as the cache knows:
// 0 if it does not.
func (s *Store) SizeOf(key akigw.Key) int64 {
	if e := s.peekHot(key); e != nil {
		return e.Size
	}
	if known := s.peekSummary(key); known != nil {
		return known.Size
	}
	return 0
}
