package placement

import (
	"context"
	"fmt"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// mover moves single objects, on behalf of an operator, the worker or a prefetch.
type mover struct {
	store    *tiers.Store
	writes   Writes
	upstream tiers.Upstream
	counters *counters
	underway moves
}

// promote copies all of an object into a tier, Hot or Warm.
func (m *mover) promote(ctx context.Context, key akigw.Key, tier akigw.Outcome) (moved bool, bytes int64, err error) {
	if err := m.store.Admits(tier, key); err != nil {
		return false, 0, err
	}
	if err := m.writes.Drain(ctx, key); err != nil {
		return false, 0, err
	}
	if tier == akigw.Hot {
		return m.store.ToMemory(ctx, key)
	}
	return m.store.ToDisk(ctx, key)
}

// toMemory and toDisk are promote as a step of a move.
func (m *mover) toMemory(ctx context.Context, key akigw.Key) (bool, int64, error) {
	return m.promote(ctx, key, akigw.Hot)
}

func (m *mover) toDisk(ctx context.Context, key akigw.Key) (bool, int64, error) {
	return m.promote(ctx, key, akigw.Warm)
}

// takeBack undoes a promotion.
func (m *mover) takeBack(key akigw.Key, wasOnDisk bool) {
	m.store.LeaveMemory(key)
	if !wasOnDisk {
		m.store.Leave(key)
	}
}

// keepOnDisk ensures that an object loses nothing when it leaves memory.
func (m *mover) keepOnDisk(_ context.Context, key akigw.Key) error {
	if m.store.Settings(key).PinHot {
		return fmt.Errorf("%s is %w in memory", key, ErrPinned)
	}
	return m.store.KeepOnDisk(key)
}

// leaveMemory removes an object from memory.
func (m *mover) leaveMemory(_ context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	bytes = m.store.LeaveMemory(key)
	return bytes > 0, bytes, nil
}

// leave removes an object from memory and disk.
func (m *mover) leave(_ context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	bytes = m.store.Leave(key)
	return bytes > 0, bytes, nil
}

// drained ensures that a key has no pending write, unless it is pinned.
func (m *mover) drained(ctx context.Context, key akigw.Key) error {
	if settings := m.store.Settings(key); settings.Pin || settings.PinHot {
		return fmt.Errorf("%s is %w", key, ErrPinned)
	}
	return m.writes.Drain(ctx, key)
}

// demotable ensures that the upstream has an object, and responds.
func (m *mover) demotable(ctx context.Context, key akigw.Key) error {
	if err := m.drained(ctx, key); err != nil {
		return err
	}
	return m.store.Confirm(ctx, key)
}

// reachable checks whether the upstream responds for a bucket (HeadBucket).
func (m *mover) reachable(ctx context.Context, bucket string) error {
	resp, err := m.upstream.Do(ctx, &cold.Request{Op: "HeadBucket", Method: http.MethodHead, Key: akigw.Key{Bucket: bucket}, Header: http.Header{}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: the response to HeadBucket of %s was %s", akigw.ErrUpstreamUnavailable, bucket, resp.Status)
	}
	return nil
}
