package tiers

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
)

// Action is what an operator can have done with objects.
type Action string

// The actions.
const (
	PromoteToHot  Action = "promote_to_hot"  // into memory, as a whole
	PromoteToWarm Action = "promote_to_warm" // onto disk, as a whole
	DemoteToWarm  Action = "demote_to_warm"  // out of memory; they are on disk then
	DemoteToCold  Action = "demote_to_cold"  // out of both; the upstream has them
	PinObjects    Action = "pin"             // keep them on disk, and in memory if wanted
	UnpinObjects  Action = "unpin"
)

// Actions are all of them.
var Actions = []Action{PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold, PinObjects, UnpinObjects}

// MoveResult says what an action has done.
type MoveResult struct {
	// Moved objects are where they were to go and were not before; for unpin, it counts
	// pins.
	Moved int `json:"moved"`
	// Already is how many were there.
	Already int   `json:"already"`
	Bytes   int64 `json:"bytes"` // of those that moved
}

var (
	// ErrMoving: somebody else is moving the same objects, or some of them.
	ErrMoving = errors.New("another move of these objects is under way; nothing was done")
	// ErrTierOff: the tier does not exist, or may not hold the object.
	ErrTierOff = errors.New("the tier does not take it")
	// ErrAction: there is no such action.
	ErrAction = fmt.Errorf("action must be one of %q", Actions)
)

// moved counts objects by where they went, and who had them moved.
func moved(action Action, by string) *metrics.Counter {
	return metrics.GetOrCreateCounter(fmt.Sprintf("akigw_tiers_moves_total{action=%q,by=%q}", action, by))
}

// moves are those under way. The zero value is ready.
type moves struct {
	mu  sync.Mutex
	all map[*moving]bool // guarded by mu
}

type moving struct {
	what Pattern
	done chan struct{} // closed at the end of a move of the worker, which is short; else nil
}

// begin takes objects for a move. A move of the worker, which takes one object for a
// moment, is waited for, and gives way to any other.
func (m *moves) begin(ctx context.Context, what Pattern, worker bool) (end func(), err error) {
	mine := &moving{what: what}
	if worker {
		mine.done = make(chan struct{})
	}
	for {
		other := m.add(mine)
		switch {
		case other == nil:
			return func() { m.remove(mine) }, nil
		case worker || other.done == nil:
			return nil, ErrMoving
		}
		select {
		case <-other.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// add adds a move, unless one is under way that has objects in common with it: then it
// returns that one.
func (m *moves) add(mine *moving) *moving {
	m.mu.Lock()
	defer m.mu.Unlock()
	for other := range m.all {
		if other.what.holds(mine.what) || mine.what.holds(other.what) {
			return other
		}
	}
	if m.all == nil {
		m.all = make(map[*moving]bool)
	}
	m.all[mine] = true
	return nil
}

func (m *moves) remove(mine *moving) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.all, mine)
	if mine.done != nil {
		close(mine.done)
	}
}

// holds reports whether all that other names is named by p.
func (p Pattern) holds(other Pattern) bool {
	return p.Bucket == other.Bucket && (p.Exactly && other.Exactly && p.Prefix == other.Prefix || !p.Exactly && strings.HasPrefix(other.Prefix, p.Prefix))
}

// key is the key of a pattern that names one.
func (p Pattern) key() akigw.Key { return akigw.Key{Bucket: p.Bucket, Name: p.Prefix} }

// exactly names one key.
func exactly(key akigw.Key) Pattern {
	return Pattern{Bucket: key.Bucket, Prefix: key.Name, Exactly: true}
}

// promotion is the action that a pin begins with.
func promotion(hot bool) Action {
	if hot {
		return PromoteToHot
	}
	return PromoteToWarm
}

// Move does with objects what an operator wants: with one key, whatever is known of it, or
// with all that is known with a prefix. hot is for pins: they keep objects in memory, too.
//
// All of it is done, or nothing that matters: what fails half-way is taken back. Errors:
// ErrMoving, ErrAction, ErrPinned, ErrNotPinned, ErrNoRoom, ErrTierOff, ErrUncacheable,
// those of Get, and those of the upstream, which has to answer before anything leaves the
// disk.
func (s *Store) Move(ctx context.Context, action Action, what Pattern, hot bool) (MoveResult, error) {
	if s.pins == nil {
		return MoveResult{}, fmt.Errorf("%w: nothing is under control", ErrTierOff)
	}
	end, err := s.moves.begin(ctx, what, false)
	if err != nil {
		return MoveResult{}, err
	}
	defer end()
	switch action {
	case PinObjects:
		return s.pin(ctx, what, hot)
	case UnpinObjects:
		return s.unpin(ctx, what)
	case PromoteToHot, PromoteToWarm, DemoteToWarm, DemoteToCold:
		return s.moveAll(ctx, action, what)
	}
	return MoveResult{}, ErrAction
}

// step is what is done with each object of a move. It reports whether there was anything
// to do.
type step func(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error)

// moveAll moves what a pattern names.
func (s *Store) moveAll(ctx context.Context, action Action, what Pattern) (result MoveResult, err error) {
	var prepare, do step
	undo := false
	switch action {
	case PromoteToHot:
		do, undo = s.toHot, true
	case PromoteToWarm:
		do, undo = s.toWarm, true
	case DemoteToWarm:
		prepare, do = s.keepOnDisk, s.outOfHot
	case DemoteToCold:
		prepare, do = s.demotable, s.outOfBoth
	}
	if !what.Exactly {
		if err := s.fits(ctx, action, what); err != nil {
			return result, err
		}
		if action == DemoteToCold {
			if err := s.reachable(ctx, what.Bucket); err != nil {
				return result, err
			}
			prepare = s.drained
		}
	}
	if prepare != nil {
		if err := s.eachKey(ctx, what, func(key akigw.Key) error {
			_, _, err := prepare(ctx, key)
			return err
		}); err != nil {
			return result, err
		}
	}
	done := map[akigw.Key]bool{} // and whether they were on disk before
	err = s.eachKey(ctx, what, func(key akigw.Key) error {
		e := s.peek(key)
		onDisk := undo && e != nil && s.warm != nil && s.onDisk(e)
		did, bytes, err := do(ctx, key)
		if err != nil || !did {
			if err == nil {
				result.Already++
			}
			return err
		}
		result.Moved++
		result.Bytes += bytes
		if undo {
			done[key] = onDisk
		}
		return nil
	})
	if err != nil {
		for key, onDisk := range done {
			s.takeBack(key, onDisk)
		}
		return MoveResult{}, err
	}
	moved(action, "operator").Add(result.Moved)
	return result, nil
}

// eachKey calls f with each key that a pattern names and that is known, until it returns an
// error; for a pattern of one key, with that one, known or not.
func (s *Store) eachKey(ctx context.Context, what Pattern, f func(key akigw.Key) error) error {
	if what.Exactly {
		return f(what.key())
	}
	const batch = 256
	for after, more := warm.Place(""), true; more; {
		var keys []akigw.Key
		more = false
		if err := s.catalog(what, after, func(k known) bool {
			keys = append(keys, k.Key)
			after, more = k.place, len(keys) == batch && s.warm != nil
			return len(keys) < batch || s.warm == nil
		}); err != nil {
			return err
		}
		for _, key := range keys {
			if err := errors.Join(ctx.Err(), f(key)); err != nil {
				return err
			}
		}
	}
	return nil
}

// fits refuses to promote more than a tier could hold.
func (s *Store) fits(ctx context.Context, action Action, what Pattern) error {
	var size, missing int64
	err := s.catalog(what, "", func(k known) bool {
		size += k.Size
		return ctx.Err() == nil
	})
	if err = errors.Join(err, ctx.Err()); err != nil {
		return err
	}
	if action == PromoteToHot {
		missing = size - s.hotRoom()
	}
	if action == PromoteToWarm && s.warm != nil {
		missing = size - s.warm.MostHeld()
	}
	if missing > 0 {
		return fmt.Errorf("%w: s3://%s/%s has %d bytes, %d more than the tier can hold", ErrNoRoom, what.Bucket, what.Prefix, size, missing)
	}
	return nil
}

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
	if now := s.peek(e.Key); now == nil || now.blocks != e.blocks {
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
		record, ok := s.warm.Entry(e.Key)
		on, err := decodeEntry(record)
		return ok && err == nil && on.blocks == e.blocks && (on.body != nil || e.Size == 0)
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
		v, ok := s.hot.Get(hotKey{key: e.Key})
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
			s.keepInMemory(settings, e.blocks, hotKey{blocks: e.blocks, n: n}, hotValue{block: data})
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

// keepInMemory keeps a value of a run of blocks in memory, pinned if its settings say so.
func (s *Store) keepInMemory(settings *rules.Settings, run uint64, key hotKey, value hotValue) {
	if settings.PinHot && s.hot.Pin(run, key, value) {
		return
	}
	s.hot.Keep(key, value)
}

// leaveHot takes an object out of memory.
func (s *Store) leaveHot(key akigw.Key) {
	if e := s.peek(key); e != nil {
		s.dropFromHot(e)
	}
}

// dropFromHot returns how many bytes there were.
func (s *Store) dropFromHot(e *entry) (bytes int64) {
	if v, ok := s.hot.Get(hotKey{key: e.Key}); ok && v.entry.body != nil {
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

// keepOnDisk makes sure that what memory has of an object is on disk, too.
func (s *Store) keepOnDisk(_ context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	settings := s.settings(key)
	if settings.PinHot {
		return false, 0, fmt.Errorf("%s is %w in memory", key, ErrPinned)
	}
	if s.warm == nil || !settings.Disk {
		return false, 0, fmt.Errorf("%w: %s cannot be on disk (cache.warm_bytes, and tiers in its rules)", ErrTierOff, key)
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	e := s.peek(key)
	if e == nil {
		return false, 0, nil
	}
	if s.small(e) {
		if e.body == nil || s.onDisk(e) {
			return false, 0, nil
		}
		if err = s.publishWanted(e); err == nil && !s.onDisk(e) {
			err = s.notKept(e, "on disk")
		}
		return err == nil, e.Size, err
	}
	for n := range e.blocksUpTo(e.Size) {
		v, ok := s.hot.Get(hotKey{blocks: e.blocks, n: n})
		if !ok {
			continue
		}
		if err := s.putOnDisk(settings, e, n, v.block); err != nil {
			return false, 0, err
		}
	}
	if !s.warm.HasEntry(key) {
		err = s.publishWanted(e)
	}
	return true, 0, err
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
func (s *Store) drained(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	if settings := s.settings(key); settings.Pin || settings.PinHot {
		return false, 0, fmt.Errorf("%s is %w", key, ErrPinned)
	}
	return false, 0, s.Drain(ctx, key)
}

// demotable makes sure that the upstream has an object, and can be asked for it.
func (s *Store) demotable(ctx context.Context, key akigw.Key) (did bool, bytes int64, err error) {
	if _, _, err := s.drained(ctx, key); err != nil {
		return false, 0, err
	}
	e, _ := s.lookup(key)
	if e == nil {
		_, err := s.learn(ctx, key)
		return false, 0, err
	}
	_, err = s.validate(ctx, e)
	return false, 0, err
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
	if record, ok := s.warm.Entry(key); ok {
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

// takeBack undoes a promotion.
func (s *Store) takeBack(key akigw.Key, wasOnDisk bool) {
	s.leaveHot(key)
	if !wasOnDisk {
		_, _, _ = s.outOfBoth(context.Background(), key) // it has no error
	}
}
