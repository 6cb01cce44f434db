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

// hotRoom is how many bytes the memory tier can hold that are not pinned.
func (s *Store) hotRoom() int64 { return int64(s.config.HotBytes)/16*15 - s.hot.Pinned() }

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

// toWarm has all of an object on disk.
func (s *Store) toWarm(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	settings := s.settings(key)
	if s.warm == nil || !settings.Disk {
		return false, 0, fmt.Errorf("%w: %s cannot be on disk (cache.warm_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	if err := s.Drain(ctx, key); err != nil {
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

// notKept says why an object that was brought in is not there.
func (s *Store) notKept(e *entry, where string) error {
	if now := s.peek(e.Key); now != nil && now.blocks != e.blocks || !s.fence.alive(e.Key, e.Generation) {
		return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	return fmt.Errorf("%w %s for %s", ErrNoRoom, where, e.Key)
}

// small reports whether an object is one entry, with its bytes.
func (s *Store) small(e *entry) bool { return e.inline(int64(s.config.SmallBytes)) }

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

// putOnDisk keeps a block on disk, however seldom it was asked for.
func (s *Store) putOnDisk(settings *rules.Settings, e *entry, n int64, data []byte) error {
	run := e.warmRun()
	run.Handling = handling(settings)
	run.Wanted = true
	if !s.warm.HasBlock(run, n) {
		s.warm.PutBlock(run, n, data)
	}
	if !s.warm.HasBlock(run, n) {
		return fmt.Errorf("%w on disk for %s", ErrNoRoom, e.Key)
	}
	return nil
}

// publishWanted publishes an entry however seldom it was asked for. The caller has entered
// the fence before it learned of it. The error is ErrChanged if a write has overtaken it.
func (s *Store) publishWanted(e *entry) error {
	own, how := *e, handling(s.settings(e.Key))
	if now := s.peek(e.Key); now != nil {
		if now.blocks != e.blocks {
			return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
		}
		own.Generation = max(own.Generation, now.Generation)
	}
	how.Wanted = true
	s.publishAs(&own, how)
	if !s.fence.alive(e.Key, own.Generation) {
		return fmt.Errorf("%w: %s", akigw.ErrChanged, e.Key)
	}
	return nil
}

// onDisk reports whether all of an object is on disk.
func (s *Store) onDisk(e *entry) bool {
	if !s.warm.HasEntry(e.Key) {
		return false
	}
	if s.small(e) {
		on := s.summaryOnDisk(e.Key)
		return on != nil && on.blocks == e.blocks && (on.held || e.Size == 0)
	}
	for n := range e.blocksUpTo(e.Size) {
		if !s.warm.HasBlock(e.warmRun(), n) {
			return false
		}
	}
	return true
}

// inMemory reports whether all of an object is in memory.
func (s *Store) inMemory(e *entry) bool {
	if s.small(e) {
		v, ok := s.hot.Peek(hotKey{key: e.Key})
		return ok && v.entry.blocks == e.blocks && v.entry.body != nil
	}
	for n := range e.blocksUpTo(e.Size) {
		if !s.hot.Has(hotKey{blocks: e.blocks, n: n}) {
			return false
		}
	}
	return true
}

// toHot has all of an object in memory.
func (s *Store) toHot(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	settings := s.settings(key)
	if s.config.HotBytes == 0 || !settings.Memory {
		return false, 0, fmt.Errorf("%w: %s cannot be in memory (cache.hot_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	if err := s.Drain(ctx, key); err != nil {
		return false, 0, err
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	var before uint64 // the run that was in memory
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
	if e.Size > s.hotRoom() {
		return false, 0, fmt.Errorf("%w: %s has %d bytes, and memory can hold %d", ErrNoRoom, key, e.Size, s.hotRoom())
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
		s.leaveHot(key)
	}
	return err == nil, e.Size, err
}

// keepInMemory keeps a value of an object's run of blocks in memory, pinned if its settings say so.
func (s *Store) keepInMemory(object akigw.Key, settings *rules.Settings, run uint64, key hotKey, value hotValue) {
	if !settings.PinHot || !s.hot.Pin(run, key, value) {
		s.hot.Keep(key, value)
		return
	}
	if !s.settings(object).PinHot { // it was unpinned meanwhile, which released what was pinned by then
		s.hot.Release(run, true)
	}
}

// takeBack undoes a promotion.
func (s *Store) takeBack(key akigw.Key, wasOnDisk bool) {
	s.leaveHot(key)
	if !wasOnDisk {
		_, _, _ = s.outOfBoth(context.Background(), key) // it has no error
	}
}
