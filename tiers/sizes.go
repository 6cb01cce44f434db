package tiers

import (
	"context"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
)

// BytesOf returns the size in bytes of all objects of a bucket together, upstream and pending.
func (s *Store) BytesOf(ctx context.Context, bucket string) (sum int64, err error) {
	err = s.list(ctx, bucket, "", "", func(o listed) error {
		sum += o.Size
		return nil
	})
	if s.back != nil {
		s.back.journal.Ascend(bucket, "", func(e *journal.Entry) bool {
			sum += e.Size
			return true
		})
	}
	return sum, err
}

// SizeOf returns the size in bytes of the object that a key holds, 0 if that is not known.
func (s *Store) SizeOf(key akigw.Key) int64 {
	if s.back != nil {
		if e := s.back.journal.Last(key.Current()); e != nil {
			return e.Size // 0 for a deletion
		}
	}
	if e := s.peekHot(key); e != nil {
		return e.Size
	}
	if known := s.peekSummary(key); known != nil {
		return known.Size
	}
	return 0
}
