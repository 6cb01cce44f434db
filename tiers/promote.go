package tiers

import (
	"context"
	"fmt"
	"io"

	"github.com/akidb/akigw"
)

// bring reads all blocks of an object, and calls keep with each.
func (r *Reader) bring(ctx context.Context, keep func(n int64, data []byte) error) error {
	if r.fill != nil || r.slowest(0) < r.endBlock() {
		r.expectParts()
	}
	for n := int64(0); ; n++ {
		data, err := r.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err == nil {
			err = keep(n, data)
		}
		if err != nil {
			return err
		}
	}
}

// whole returns the entry of a small object, including its bytes.
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

// ToDisk copies all of an object to disk, from memory or from the upstream. A pending write of the
// key must have been flushed: the store does not know of it. moved is false if all of the object
// was on disk already; bytes is its size. Errors: ErrTierOff, ErrNoRoom, akigw.ErrChanged, those of
// Get.
func (m *mover) ToDisk(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	settings := m.settings(key)
	if err := m.admits(akigw.Warm, key, settings); err != nil {
		return false, 0, err
	}
	m.fence.enter(key)
	defer m.fence.leave(key)
	r, err := m.source.opened(ctx, key, settings)
	if err != nil {
		return false, 0, err
	}
	defer r.Close()
	e := r.entry
	if r.fill == nil && m.onDisk(e) {
		return false, e.Size, nil
	}
	if e.Size > m.warm.MostHeld() {
		return false, 0, fmt.Errorf("%w: %s has %d bytes, and the warm tier can hold %d", ErrNoRoom, key, e.Size, m.warm.MostHeld())
	}
	if m.small(e) {
		e, err = r.whole(ctx)
	} else {
		err = r.bring(ctx, func(n int64, data []byte) error { return m.putOnDisk(settings, e, n, data) })
	}
	if err == nil && !m.onDisk(e) {
		err = m.publishWanted(e)
	}
	if err == nil && !m.onDisk(e) {
		err = m.notKept(e, "on disk")
	}
	return err == nil, e.Size, err
}

// ToMemory copies all of an object into memory. Otherwise it is like ToDisk. If it fails, nothing
// of the object stays in memory.
func (m *mover) ToMemory(ctx context.Context, key akigw.Key) (moved bool, bytes int64, err error) {
	settings := m.settings(key)
	if err := m.admits(akigw.Hot, key, settings); err != nil {
		return false, 0, err
	}
	m.fence.enter(key)
	defer m.fence.leave(key)
	var before uint64 // the extent that was in memory
	if e := m.peek(key); e != nil && m.inMemory(e) {
		before = e.extent
	}
	r, err := m.source.opened(ctx, key, settings)
	if err != nil {
		return false, 0, err
	}
	defer r.Close()
	e := r.entry
	if e.extent == before && !settings.PinHot {
		return false, e.Size, nil
	}
	if room := m.Room().Memory; e.Size > room {
		return false, 0, fmt.Errorf("%w: %s has %d bytes, and memory can hold %d", ErrNoRoom, key, e.Size, room)
	}
	if m.small(e) {
		if e, err = r.whole(ctx); err == nil {
			err = m.publishWanted(e)
		}
	} else {
		err = r.bring(ctx, func(n int64, data []byte) error {
			m.keepInMemory(key, settings, e.extent, hotKey{extent: e.extent, n: n}, hotValue{block: newBlock(data, nil)})
			return nil
		})
		if err == nil && settings.PinHot { // its entry, too: without it, reads would ask the disk
			m.rememberAs(e, settings, true)
		}
	}
	if err == nil && !m.inMemory(e) {
		err = m.notKept(e, "in memory")
	}
	if err != nil {
		m.LeaveMemory(key)
	}
	return err == nil, e.Size, err
}
