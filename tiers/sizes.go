package tiers

import (
	"context"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// BytesOf returns the size in bytes of all objects that a bucket has upstream.
func (s *Store) BytesOf(ctx context.Context, bucket string) (sum int64, err error) {
	err = cold.List(ctx, s.upstream, bucket, "", "", func(o cold.Listed) error {
		sum += o.Size
		return nil
	})
	return sum, err
}

// SizeOf returns the size in bytes of the object that a key holds upstream, 0 if the cache does
// not know it.
func (s *Store) SizeOf(key akigw.Key) int64 {
	if e := s.peekHot(key); e != nil {
		return e.Size
	}
	if known := s.peekSummary(key); known != nil {
		return known.Size
	}
	return 0
}
