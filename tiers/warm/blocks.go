package warm

import (
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"sync"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm/internal/blockfile"
	"github.com/akidb/akigw/tiers/warm/policy"
)

// blocks keeps the blocks of the tier in segments, encoded by the codec, and drops damaged ones. Earlier
// releases had blocks in Badger. Those are read until eviction has removed them.
type blocks struct {
	*blockfile.Store
	data    *database
	legacy  atomic.Bool // Badger has blocks
	most    int64       // how many blocks the store may have
	scratch sync.Pool   // of *[]byte, for payloads that must be decoded
}

// blocksDir is the directory of the segments in that of the tier.
const blocksDir = "blocks"

// openBlocks opens the segments that belong to a database. A database without a mark, because it is new
// or was emptied, has none: its numbers of extents begin anew.
func openBlocks(config *Config, data *database) (*blocks, error) {
	mark := []byte("mblocks")
	store, _ := data.get(mark)
	if len(store) != 16 {
		store = make([]byte, 16)
		_, _ = rand.Read(store) // it never fails
		if err := data.write(mark, store); err != nil {
			return nil, err
		}
	}
	b := &blocks{data: data, most: policy.Quota(config.Quota).MostBlocks()}
	b.scratch.New = func() any { return new([]byte) }
	var err error
	b.Store, err = blockfile.Open(blockfile.Options{
		Dir: filepath.Join(config.Dir, blocksDir), Store: [16]byte(store), SegmentBytes: policy.Quota(config.Quota).SegmentBytes(), LeastBytes: policy.BlockLeast,
		Damaged: func(id blockfile.ID, err error) { data.damaged(heatKey(id), err, nil) },
	})
	if err != nil {
		return nil, fmt.Errorf("the segments of blocks: %w", err)
	}
	b.lookForLegacy()
	b.register(config.Metrics)
	return b, nil
}

// register adds the metrics of the segments to a set, if there is one.
func (b *blocks) register(set *metrics.Set) {
	if set == nil {
		return
	}
	for name, value := range map[string]func(blockfile.Stats) int64{
		"akigw_warm_segments":           func(s blockfile.Stats) int64 { return int64(s.Segments) },
		"akigw_warm_segment_blocks":     func(s blockfile.Stats) int64 { return int64(s.Blocks) },
		"akigw_warm_segment_live_bytes": func(s blockfile.Stats) int64 { return s.Live },
		"akigw_warm_segment_bytes":      func(s blockfile.Stats) int64 { return s.Size },
	} {
		set.GetOrCreateGauge(name, func() float64 { return float64(value(b.Stats())) })
	}
}

// lookForLegacy finds out whether Badger has blocks.
func (b *blocks) lookForLegacy() {
	found := false
	b.data.keys([]byte{blockPrefix}, func([]byte) bool {
		found = true
		return false
	})
	b.legacy.Store(found)
}

// id returns what the segments know a block by.
func (b *blocks) id(run Run, n int64) blockfile.ID {
	return blockfile.ID{Extent: run.ID, N: n, Object: b.data.values.object(run.Object)}
}

// weight is the size of what lives in the segments, in bytes, where each block counts policy.BlockLeast at least.
func (b *blocks) weight() int64 { return max(b.Live(), int64(b.Len())*policy.BlockLeast) }

// full reports whether there are more than a number of tenths of the blocks that the index may have.
func (b *blocks) full(tenths int64) bool { return int64(b.Len()) > b.most/10*tenths }

// has reports whether a block exists, without reading it.
func (b *blocks) has(run Run, n int64) bool {
	return b.Has(b.id(run, n)) || b.legacy.Load() && b.data.has(blockKey(run, n))
}

// read reads and verifies a block. It returns the key under which uses of it are counted.
func (b *blocks) read(run Run, n int64, buffer []byte) (value, used []byte, ok bool) {
	id, key := b.id(run, n), blockKey(run, n)
	if b.Has(id) {
		err := b.data.fault(akigw.DiskRead, key, 0)
		if err == nil {
			value, err = b.load(id, key, buffer)
		}
		switch {
		case err == nil:
			return value, heatKey(id), true
		case !errors.Is(err, blockfile.ErrAbsent):
			b.Drop(id)
			b.data.damaged(key, err, nil)
			return nil, nil, false
		}
	}
	if !b.legacy.Load() {
		return nil, nil, false
	}
	value, ok = b.data.read(key, buffer)
	return value, key, ok
}

// load reads a block from its segment and decodes it.
func (b *blocks) load(id blockfile.ID, key, buffer []byte) ([]byte, error) {
	var scratch *[]byte
	done, payload, err := b.Get(id, func(done byte, length int) []byte {
		if done == 0 {
			return buffer
		}
		if scratch == nil {
			scratch = b.scratch.Get().(*[]byte)
		}
		if cap(*scratch) < length {
			*scratch = make([]byte, length)
		}
		return *scratch
	})
	if err == nil {
		payload, err = b.data.values.open(buffer, key, done, payload)
	}
	if scratch != nil {
		b.scratch.Put(scratch)
	}
	return payload, err
}

// drop removes the blocks of an extent, and returns how many there were. legacy gets the size of each
// that was in Badger.
func (b *blocks) drop(extent uint64, legacy func(size int64)) (n int, err error) {
	n, err = b.Free(extent)
	if !b.legacy.Load() {
		return n, err
	}
	more, failed := b.data.removeAll(runPrefix(extent), legacy)
	return n + more, errors.Join(err, failed)
}

// count returns how many blocks of an extent exist.
func (b *blocks) count(extent uint64) int64 {
	n := b.Count(extent)
	if b.legacy.Load() {
		b.data.keys(runPrefix(extent), func([]byte) bool {
			n++
			return true
		})
	}
	return n
}

// extents calls yield with each extent, by ascending number, and how many of its blocks exist.
func (b *blocks) extents(yield func(extent uint64, blocks int64) bool) {
	var old []runCount
	if b.legacy.Load() {
		old = b.data.runs()
	}
	more := true
	until := func(extent uint64) { // the ones in Badger before an extent
		for ; more && len(old) > 0 && old[0].id < extent; old = old[1:] {
			more = yield(old[0].id, old[0].blocks)
		}
	}
	b.Extents(func(extent uint64, n int64) bool {
		until(extent)
		if len(old) > 0 && old[0].id == extent {
			n, old = n+old[0].blocks, old[1:]
		}
		more = more && yield(extent, n)
		return more
	})
	until(math.MaxUint64)
}

// newest is the highest number of an extent that has blocks, 0 for none.
func (b *blocks) newest() uint64 {
	newest := b.Newest()
	if b.legacy.Load() {
		if old := b.data.runs(); len(old) > 0 {
			newest = max(newest, old[len(old)-1].id)
		}
	}
	return newest
}
