package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Learn finds out what a key holds, from the catalog or from the upstream, and counts no access.
// Errors: akigw.ErrNoSuchKey, ErrTierOff for an object that a rule keeps out of the cache, and
// those of Get.
func (s *Store) Learn(ctx context.Context, key akigw.Key) (*akigw.Object, error) {
	e, err := s.learn(ctx, key)
	if err != nil {
		return nil, err
	}
	return &e.Object, nil
}

// Confirm asks the upstream for the object of a key, so that it is known to answer. Errors are
// those of Learn.
func (s *Store) Confirm(ctx context.Context, key akigw.Key) error {
	e, _ := s.lookup(key)
	if e == nil {
		_, err := s.learn(ctx, key)
		return err
	}
	_, err := s.validate(ctx, e)
	return err
}

// learn finds out what a key holds, without an access being counted.
func (s *Store) learn(ctx context.Context, key akigw.Key) (*entry, error) {
	settings := s.settings(key)
	if !settings.Cached() {
		return nil, fmt.Errorf("%w: a rule says that it is never cached", ErrTierOff)
	}
	e, _, err := s.current(ctx, key, settings, akigw.Conditions{})
	if e == nil && err == nil {
		e, err = s.ask(ctx, key, nil)
	}
	if err == nil && !settings.CachedSize(e.Size) {
		err = fmt.Errorf("%w: a rule says that objects of its size are not cached", ErrTierOff)
	}
	return e, absentOr(key, err)
}

// absentOr is ErrNoSuchKey for an upstream that has no such object, else err.
func absentOr(key akigw.Key, err error) error {
	var refused *cold.ResponseError
	if errors.As(err, &refused) && refused.Status == http.StatusNotFound {
		return fmt.Errorf("%w: %s", akigw.ErrNoSuchKey, key)
	}
	return err
}

// opened begins to read an object for a move: no access is counted. What is not known is
// learned from the answer that brings it.
func (s *Store) opened(ctx context.Context, key akigw.Key, settings *rules.Settings) (*Reader, error) {
	e, outcome, f, err := s.find(ctx, key, settings, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		return nil, absentOr(key, err)
	}
	return &Reader{Object: &e.Object, Range: akigw.Range{Length: e.Size}, Outcome: outcome, Hold: mostHeld, store: s, entry: e, fill: f, left: 3}, nil
}

// bring reads all blocks of an object, and has each kept.
func (r *Reader) bring(ctx context.Context, keep func(n int64, data []byte) error) error {
	for n := int64(0); n < r.entry.blocksUpTo(r.entry.Size); n++ {
		data, err := r.block(ctx, n)
		if err == nil {
			err = keep(n, data)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// ToDisk brings all of an object onto disk, from memory or from the upstream. What is pending of
// the key has to be upstream: the store knows nothing of it. moved is false if all of it was there
// already; bytes is its size. Errors: ErrTierOff, ErrNoRoom, akigw.ErrChanged, those of Get.
func (s *Store) ToDisk(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	settings := s.settings(key)
	if err := s.admits(akigw.Warm, key, settings); err != nil {
		return false, 0, err
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	r, err := s.opened(ctx, key, settings)
	if err != nil {
		return false, 0, err
	}
	defer r.Close()
	e := r.entry
	if r.fill == nil && s.onDisk(e) {
		return false, e.Size, nil
	}
	if e.Size > s.warm.MostHeld() {
		return false, 0, fmt.Errorf("%w: %s has %d bytes, and the warm tier can hold %d", ErrNoRoom, key, e.Size, s.warm.MostHeld())
	}
	if s.small(e) {
		e, err = r.whole(ctx)
	} else {
		err = r.bring(ctx, func(n int64, data []byte) error { return s.putOnDisk(settings, e, n, data) })
	}
	if err == nil && !s.onDisk(e) {
		err = s.publishWanted(e)
	}
	if err == nil && !s.onDisk(e) {
		err = s.notKept(e, "on disk")
	}
	return err == nil, e.Size, err
}

// whole is the entry of a small object with its bytes.
func (r *Reader) whole(ctx context.Context) (*entry, error) {
	if r.entry.body != nil {
		return r.entry, nil
	}
	e := *r.entry
	e.body = make([]byte, 0, e.Size)
	err := r.bring(ctx, func(_ int64, data []byte) error {
		e.body = append(e.body, data...)
		return nil
	})
	return &e, err
}

// ToMemory brings all of an object into memory. Otherwise it is like ToDisk. If it fails, nothing
// of the object stays in memory.
func (s *Store) ToMemory(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	settings := s.settings(key)
	if err := s.admits(akigw.Hot, key, settings); err != nil {
		return false, 0, err
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	var before uint64 // the extent that was in memory
	if e := s.peek(key); e != nil && s.inMemory(e) {
		before = e.blocks
	}
	r, err := s.opened(ctx, key, settings)
	if err != nil {
		return false, 0, err
	}
	defer r.Close()
	e := r.entry
	if e.blocks == before && !settings.PinHot {
		return false, e.Size, nil
	}
	if room := s.Room().Memory; e.Size > room {
		return false, 0, fmt.Errorf("%w: %s has %d bytes, and memory can hold %d", ErrNoRoom, key, e.Size, room)
	}
	if s.small(e) {
		if e, err = r.whole(ctx); err == nil {
			err = s.publishWanted(e)
		}
	} else {
		err = r.bring(ctx, func(n int64, data []byte) error {
			s.keepInMemory(key, settings, e.blocks, hotKey{blocks: e.blocks, n: n}, hotValue{block: data})
			return nil
		})
	}
	if err == nil && !s.inMemory(e) {
		err = s.notKept(e, "in memory")
	}
	if err != nil {
		s.LeaveMemory(key)
	}
	return err == nil, e.Size, err
}
