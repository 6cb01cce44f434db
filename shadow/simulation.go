package shadow

import (
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/hot"
)

// simulation is the tiers without their bytes. A tier has the values that it would have in tiers: an
// entry for each object, with the body of a small one, and the blocks of the others.
type simulation struct {
	config   *tiers.Config
	most     int // values
	halvings uint
	memory   *hot.Cache[unit, value]
	disk     *disk
	extents  uint64 // assigned so far
	// beliefs are the objects in the real tiers, in shadow mode with bodies.
	beliefs *hot.Cache[unit, value]
}

// unit identifies a value: the entry of an object, or a block of an extent.
type unit struct {
	id uint64 // of the object for an entry, else the extent
	n  int64  // number of the block; entryUnit for an entry
}

const entryUnit = -1

// value is an entry or a block of an object.
type value struct {
	object *object
	weight uint32 // in memory
	stored uint32 // bytes on disk
	seen   uint64 // number by which the policy recognises it
}

// object is an object that the tiers hold.
type object struct {
	id     uint64
	name   string // by which its entry is ordered on disk
	extent uint64
	size   int64 // -1: not known
	block  int64
	// version is what the upstream showed last, or what was written; shown is when the read arrived that
	// has shown it, zero for a write.
	version uint64
	shown   time.Time
	headed  int  // bytes of memory of its headers, of those that are known
	body    bool // its bytes are in its entry
	// known is false after a write, until the upstream has shown the headers. wrote is when that write
	// ended, zero for none.
	known bool
	wrote time.Time
	modes [modes]belief
	ahead sequence
}

// belief is what a gateway in one freshness mode takes for the current version of an object.
type belief struct {
	version uint64    // 0: not known
	asked   time.Time // when the upstream last confirmed it
}

func newSimulation(config *tiers.Config, most int) *simulation {
	s := &simulation{config: config, most: most}
	s.reset()
	return s
}

// reset empties the tiers, with the sizes for the present sample.
func (s *simulation) reset() {
	values := hot.Values[unit, value]{
		Weigh: func(_ unit, v value) uint32 { return v.weight },
		ID:    func(_ unit, v value) uint64 { return v.seen },
	}
	s.memory = hot.New(int64(s.config.HotBytes)>>s.halvings, values)
	s.disk = newDisk(int64(s.config.WarmBytes), s.halvings, 4*s.most)
	s.beliefs = hot.New(int64(s.most), hot.Values[unit, value]{Weigh: func(unit, value) uint32 { return 1 }, ID: values.ID})
}

// samples reports whether the simulation follows an object.
func (s *simulation) samples(id uint64) bool { return mix(id)>>32&(1<<s.halvings-1) == 0 }

// share is the share of all keys that the simulation follows.
func (s *simulation) share() float64 { return 1 / float64(uint64(1)<<s.halvings) }

// scale is how many keys each key of the sample stands for.
func (s *simulation) scale() uint64 { return 1 << s.halvings }

// shrink halves the sample while there are too many values. What is left in memory keeps neither its
// place in the queues nor its ghosts.
func (s *simulation) shrink() {
	for s.memory.Len()+s.disk.len() > s.most {
		memory, disk, beliefs := s.memory, s.disk, s.beliefs
		s.halvings++
		s.reset()
		for old, now := range map[*hot.Cache[unit, value]]*hot.Cache[unit, value]{memory: s.memory, beliefs: s.beliefs} {
			for u, v := range old.All() {
				if s.samples(v.object.id) {
					now.Keep(u, v)
				}
			}
		}
		s.disk.takeOver(disk, func(v value) bool { return s.samples(v.object.id) })
	}
}

// mix spreads the entropy of a number over all its bits.
func mix(n uint64) uint64 {
	n *= 0x9e3779b97f4a7c15
	return n ^ n>>32
}

// find returns the object of a key and the tier that has its entry, nil and Cold if neither has.
func (s *simulation) find(id uint64, settings *rules.Settings) (*object, akigw.Outcome) {
	u := unit{id, entryUnit}
	if v, ok := s.memory.Get(u); ok {
		return v.object, akigw.Hot
	}
	v, ok := s.disk.get(u)
	if !ok {
		return nil, akigw.Cold
	}
	if !v.object.body || settings.Memory {
		s.memory.Put(u, v)
	}
	return v.object, akigw.Warm
}

// drop removes the entry of a key. Blocks that are left cannot be found any more.
func (s *simulation) drop(id uint64) {
	u := unit{id, entryUnit}
	s.memory.Drop(u)
	s.disk.drop(u)
	s.beliefs.Drop(u)
}

// small reports whether an object's bytes are stored with its entry.
func (s *simulation) small(o *object) bool {
	return o.size >= 0 && o.size <= min(int64(s.config.SmallBytes), o.block)
}

// publish stores the entry of an object in the tiers that may hold it.
func (s *simulation) publish(o *object, settings *rules.Settings) {
	v := value{object: o, weight: uint32(entryWeight + len(o.name) + o.headed), stored: uint32(entryStored + 2*len(o.name) + o.headed*3/10), seen: mix(o.id)}
	if o.body {
		v.weight += uint32(o.size)
		v.stored += uint32(o.size)
	}
	u := unit{o.id, entryUnit}
	if !o.body || settings.Memory {
		s.memory.Put(u, v)
	}
	if settings.Disk && !s.disk.put(u, v, false) { // an entry of another version would be back when this one leaves memory
		if old := s.disk.values[u]; old != nil && old.value.object.extent != o.extent {
			s.disk.drop(u)
		}
	}
}

// confirm stores an entry in memory anew if it is there.
func (s *simulation) confirm(o *object, settings *rules.Settings) {
	u := unit{o.id, entryUnit}
	if v, ok := s.memory.Peek(u); ok && (!o.body || settings.Memory) {
		s.memory.Put(u, v)
	}
}

// blocksUpTo is the first block that begins at or after an offset.
func (o *object) blocksUpTo(offset int64) int64 { return (offset + o.block - 1) / o.block }

// blockBytes is the size of blocks first up to end of an object.
func (o *object) blockBytes(first, end int64) int64 { return min(end*o.block, o.size) - first*o.block }

// place returns the tier that has a block, without counting an access.
func (s *simulation) place(o *object, n int64) akigw.Outcome {
	u := unit{o.extent, n}
	switch {
	case s.memory.Has(u):
		return akigw.Hot
	case s.disk.has(u):
		return akigw.Warm
	}
	return akigw.Cold
}

// overhead is the memory of a block besides its bytes, as in the tiers.
const overhead = 128

// use reads a block, or stores it where it is missing. wanted means that it was fetched ahead.
func (s *simulation) use(o *object, n int64, settings *rules.Settings, wanted bool) {
	u := unit{o.extent, n}
	bytes := o.blockBytes(n, n+1)
	v := value{object: o, weight: uint32(bytes + overhead), stored: uint32(blockSize(bytes)), seen: mix(o.extent<<20 ^ uint64(n))}
	if _, ok := s.memory.Get(u); ok {
		return
	}
	_, onDisk := s.disk.get(u)
	switch {
	case !settings.Memory:
	case wanted:
		s.memory.Keep(u, v)
	default:
		s.memory.Put(u, v)
	}
	if settings.Disk && !onDisk {
		s.disk.put(u, v, wanted)
	}
}

// newObject returns an object without anything in the tiers.
func (s *simulation) newObject(id uint64, key akigw.Key, size, block int64, version uint64) *object {
	s.extents++
	return &object{id: id, name: key.Bucket + key.Name, extent: s.extents, size: size, block: block, version: version}
}

// written stores a body that was written. If another write of the key is under way, only the upstream
// knows which one won, and nothing is kept.
func (s *simulation) written(id uint64, w *Write, alone bool) {
	s.memory.Drop(unit{id, entryUnit}) // as a write does when it begins
	settings := *w.Settings.ForWrite()
	settings.Shadow = rules.ShadowOff
	if !alone || !settings.CachedSize(w.Size) {
		s.drop(id)
		return
	}
	o := s.newObject(id, w.Key, w.Size, settings.Block, versionOf(w.ETag))
	if settings.Freshness == rules.Exclusive {
		o.headed = w.Described
	}
	o.wrote = time.Now()
	if w.Settings.Shadow == rules.ShadowBodies {
		s.believe(o)
		return
	}
	if s.small(o) {
		o.body = true
	} else {
		for n := range o.blocksUpTo(o.size) {
			s.use(o, n, &settings, false)
		}
	}
	s.publish(o, &settings)
}

// believe remembers an object that is in the real tiers.
func (s *simulation) believe(o *object) {
	s.beliefs.Keep(unit{o.id, entryUnit}, value{object: o, weight: 1, seen: mix(o.id)})
}

const (
	// entryWeight is the memory of an entry besides its name, headers and body, as in the tiers.
	entryWeight = 512
	// entryStored is about what it takes on disk besides them.
	entryStored = 94
)
