package tiers

import (
	"context"
	"fmt"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// keepOnDisk makes sure that what memory has of an object is on disk, too.
func (s *Store) keepOnDisk(_ context.Context, key akigw.Key) error {
	settings := s.settings(key)
	if settings.PinHot {
		return fmt.Errorf("%s is %w in memory", key, ErrPinned)
	}
	if s.warm == nil || !settings.Disk {
		return fmt.Errorf("%w: %s cannot be on disk (cache.warm_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	e := s.peek(key)
	if e == nil {
		return nil
	}
	if s.small(e) {
		if e.body == nil || s.onDisk(e) {
			return nil
		}
		err := s.publishWanted(e)
		if err == nil && !s.onDisk(e) {
			err = s.notKept(e, "on disk")
		}
		return err
	}
	for n := range e.blocksUpTo(e.Size) {
		v, ok := s.hot.Peek(hotKey{blocks: e.blocks, n: n})
		if !ok {
			continue
		}
		if err := s.putOnDisk(settings, e, n, v.block); err != nil {
			return err
		}
	}
	if !s.warm.HasEntry(key) {
		return s.publishWanted(e)
	}
	return nil
}

// leaveHot takes an object out of memory.
func (s *Store) leaveHot(key akigw.Key) {
	if e := s.peek(key); e != nil {
		s.dropFromHot(e)
	}
}

// dropFromHot returns how many bytes there were.
func (s *Store) dropFromHot(e *entry) (bytes int64) {
	if v, ok := s.hot.Peek(hotKey{key: e.Key}); ok && v.entry.body != nil {
		bytes += e.Size
	}
	s.hot.Drop(hotKey{key: e.Key})
	if s.small(e) {
		return bytes
	}
	for n := range e.blocksUpTo(e.Size) {
		if key := (hotKey{blocks: e.blocks, n: n}); s.hot.Has(key) {
			s.hot.Drop(key)
			bytes += e.blockLen(n)
		}
	}
	return bytes
}

// outOfHot takes an object out of memory.
func (s *Store) outOfHot(_ context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	e := s.peek(key)
	if e == nil {
		return false, 0, nil
	}
	bytes = s.dropFromHot(e)
	return bytes > 0, bytes, nil
}

// drained has what is pending of a key go upstream, if it is not pinned.
func (s *Store) drained(ctx context.Context, key akigw.Key) error {
	if settings := s.settings(key); settings.Pin || settings.PinHot {
		return fmt.Errorf("%s is %w", key, ErrPinned)
	}
	return s.Drain(ctx, key)
}

// demotable makes sure that the upstream has an object, and can be asked for it.
func (s *Store) demotable(ctx context.Context, key akigw.Key) error {
	if err := s.drained(ctx, key); err != nil {
		return err
	}
	e, _ := s.lookup(key)
	if e == nil {
		_, err := s.learn(ctx, key)
		return err
	}
	_, err := s.validate(ctx, e)
	return err
}

// reachable asks whether the upstream answers for a bucket (HeadBucket).
func (s *Store) reachable(ctx context.Context, bucket string) error {
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "HeadBucket", Method: http.MethodHead, Key: akigw.Key{Bucket: bucket}, Header: http.Header{}})
	if err != nil {
		return err
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%w: HeadBucket of %s was answered with %s", akigw.ErrUpstreamUnavailable, bucket, resp.Status)
	}
	return nil
}

// outOfBoth takes the bytes of an object out of memory and off the disk. What is known of
// it stays.
func (s *Store) outOfBoth(_ context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	s.fence.enter(key)
	defer s.fence.leave(key)
	e := s.peek(key)
	if e == nil {
		return false, 0, nil
	}
	bytes = s.dropFromHot(e)
	if s.warm == nil {
		return bytes > 0, bytes, nil
	}
	held := s.warm.DropBlocks(e.blocks) > 0
	if record, ok := s.warm.PeekEntry(key); ok {
		if on, err := decodeEntry(record); err == nil && on.body != nil && e.Size > 0 {
			held = true
			on.body = nil
			s.publish(on)
		}
	}
	if held {
		bytes = e.Size
	}
	return bytes > 0, bytes, nil
}
