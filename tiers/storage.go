package tiers

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/hot"
	"github.com/akidb/akigw/tiers/warm"
)

// hotKey identifies a value of the hot tier: the entry of a key, or one block.
type hotKey struct {
	key    akigw.Key
	extent uint64
	n      int64
}

// hotValue is an entry, the bytes of a block, a listing, or the location of a part.
type hotValue struct {
	entry   *entry
	block   *sharedBlock
	listing *Listing
	part    *Part
}

// weight is the approximate memory use of a value in bytes.
func (v hotValue) weight() uint32 {
	switch {
	case v.entry != nil:
		return uint32(v.entry.weight())
	case v.listing != nil:
		return uint32(v.listing.weight())
	case v.part != nil:
		return uint32(v.part.weight())
	}
	return uint32(cap(v.block.data) + 128)
}

// kept and lost hold the memory of a block for as long as the hot tier has it.
func (v hotValue) kept() {
	if v.block != nil {
		v.block.share()
	}
}

func (v hotValue) lost() {
	if v.block != nil {
		v.block.release()
	}
}

// popularity returns the number under which the hot tier counts the accesses of a value: an object
// keeps its count when it changes.
func popularity(k hotKey, v hotValue) uint64 {
	switch {
	case v.entry != nil:
		return mix(v.entry.object)
	case v.listing != nil:
		return mix(objectNumber(k.key))
	}
	return mix(k.extent<<20 ^ uint64(k.n))
}

// mix spreads the entropy of a number over all its bits.
func mix(n uint64) uint64 {
	n *= 0x9e3779b97f4a7c15
	return n ^ n>>32
}

// storage is memory and disk: what is stored there, and how much. Whether it may still be used is
// for the catalog to decide.
type storage struct {
	config   Config
	log      *slog.Logger
	counters *counters
	hot      *hot.Cache[hotKey, hotValue]
	warm     *warm.Tier // nil when switched off
	warmOff  string     // why it is off although configured
	buffers  buffers    // for blocks, and for records on their way to disk

	// ghost caches of twice the size; nil where there is no tier.
	hotGhost, warmGhost *ghost

	epoch   uint64 // number of this epoch
	trusted uint64 // entries of earlier epochs must be validated before use

	removals sync.WaitGroup // running removals of blocks
}

// openStorage opens both tiers, and returns the first generation of this epoch. It continues
// without the warm tier if that cannot be opened. An error means an invalid configuration.
func openStorage(o *Options) (s *storage, first uint64, err error) {
	config, dir := o.Config, o.Dir
	var secret []byte
	if config.WarmBytes > 0 {
		if secret, err = config.Secret(); err != nil {
			return nil, 0, err
		}
	}
	s = &storage{
		config: config, log: o.Log, counters: newCounters(o.Metrics),
		hot: hot.New(int64(config.HotBytes), hot.Values[hotKey, hotValue]{
			Weigh: func(_ hotKey, v hotValue) uint32 { return v.weight() }, ID: popularity, Kept: hotValue.kept, Lost: hotValue.lost,
		}),
	}
	if config.HotBytes > 0 {
		s.hotGhost = newGhost(s.counters.hotLookups, int64(config.HotBytes))
	}
	if config.WarmBytes == 0 {
		s.withoutWarm(dir, nil)
		return s, 1, nil
	}
	s.warmGhost = newGhost(s.counters.warmLookups, int64(config.WarmBytes))
	if first, err = s.openWarm(dir, secret, o.Metrics); err != nil {
		s.withoutWarm(dir, err)
		first = 1
	}
	return s, first, nil
}

// openWarm opens the warm tier, and returns the first generation of this epoch.
func (s *storage) openWarm(dir string, secret []byte, set *metrics.Set) (first uint64, err error) {
	s.warm, err = warm.Open(warm.Config{
		Dir:     dir,
		Quota:   int64(s.config.WarmBytes),
		Format:  fmt.Sprintf("entry %d, summary %d", entryVersion, summaryVersion),
		Secret:  secret,
		Fault:   s.config.WarmFault,
		Log:     s.log,
		Metrics: set,
	})
	if err != nil {
		return 0, err
	}
	if first, err = s.startEpoch(); err != nil {
		return 0, errors.Join(err, s.warm.Close())
	}
	return first, nil
}

// withoutWarm continues without the warm tier, because of err, or because it is switched off. The
// warm tier is only a cache: its failure does not keep the gateway from starting. Its content will
// miss the changes of this epoch.
func (s *storage) withoutWarm(dir string, err error) {
	s.warm = nil
	missed := warm.Distrust(dir)
	if missed != nil {
		s.log.Error("the content of the warm tier may be out of date after this epoch: delete its directory before you use it again", "dir", dir, "error", missed)
	}
	if err == nil {
		return
	}
	s.warmOff = fmt.Sprintf("off until restart: %v; free some space or repair the disk first", err)
	s.log.Error("the gateway starts without its warm tier: nothing is cached on disk, and its content is not used; free some space or repair the disk, and restart the gateway", "dir", dir, "error", err)
}

// generationsPerEpoch is the number of generations that an epoch can assign before it would reach
// those of the next one. Each epoch has its own range, so that no number is ever used twice, even
// if the last ones were never stored.
const generationsPerEpoch = 1 << 40

// startEpoch starts a new epoch, and returns its first generation. It is above that of all blocks on
// disk, even if damage took the counter back.
func (s *storage) startEpoch() (firstGeneration uint64, err error) {
	s.epoch = max(s.warm.Counter("run"), s.warm.NewestRun()/generationsPerEpoch) + 1
	if s.warm.Clean() {
		s.trusted = s.warm.Counter("trusted")
	} else {
		s.trusted = s.epoch
	}
	err = errors.Join(s.warm.SetCounter("run", s.epoch), s.warm.SetCounter("trusted", s.trusted))
	return s.epoch * generationsPerEpoch, err
}

// close closes the warm tier, after waiting for running work.
func (s *storage) close() error {
	s.removals.Wait()
	if s.warm == nil {
		return nil
	}
	return s.warm.Close()
}

// locate returns the tier that would serve block n of e, without reading it.
func (s *storage) locate(e *entry, n int64) akigw.Outcome {
	if s.hot.Has(hotKey{extent: e.extent, n: n}) {
		return akigw.Hot
	}
	return s.locateBelow(e, n)
}

// expect is locate for a block that is about to be read. It counts the access to memory already, because
// the missing blocks of the same read might otherwise evict it before its turn.
func (s *storage) expect(e *entry, n int64) akigw.Outcome {
	if _, ok := s.hot.Get(hotKey{extent: e.extent, n: n}); ok {
		return akigw.Hot
	}
	return s.locateBelow(e, n)
}

// locateBelow is locate for a block that is not in memory.
func (s *storage) locateBelow(e *entry, n int64) akigw.Outcome {
	if s.warm != nil && s.warm.HasBlock(e.warmRun(), n) {
		return akigw.Warm
	}
	return akigw.Cold
}

// freeBlocks removes unreachable blocks in the background.
func (s *storage) freeBlocks(blocks uint64) {
	s.hot.Release(blocks, false)
	if s.warm != nil {
		s.removals.Go(func() { s.warm.DropBlocks(blocks) })
	}
}

// dropOnDisk removes the entry of a key from the warm tier.
func (s *storage) dropOnDisk(key akigw.Key) {
	if err := s.warm.DropEntry(key); err != nil {
		s.log.Error("could not remove a catalog entry from the warm tier", "key", key.String(), "error", err)
	}
}

// saw reports to the ghosts a read of block n of e, or of all of a small object, which a tier
// served.
func (s *storage) saw(e *entry, n int64, tier akigw.Outcome) {
	id := e.object + uint64(n)*0x9e3779b97f4a7c15
	bytes := e.blockLen(n) + 512
	s.hotGhost.saw(id, bytes, tier == akigw.Hot)
	if tier != akigw.Hot {
		s.warmGhost.saw(id, bytes, tier == akigw.Warm)
	}
}
