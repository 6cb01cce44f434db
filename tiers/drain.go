package tiers

import (
	"context"

	"github.com/akidb/akigw"
)

// DrainWith has moves between the tiers flush what is pending of a key first. It goes when
// moves leave this package: they will be given the flusher.
func (s *Store) DrainWith(drain func(ctx context.Context, key akigw.Key) error) { s.drain = drain }

// Drain returns when nothing is pending of a key.
func (s *Store) Drain(ctx context.Context, key akigw.Key) error {
	if s.drain == nil {
		return nil
	}
	return s.drain(ctx, key)
}
