package shadow

import (
	"math"
	"time"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw/tiers/warm/policy"
)

// disk simulates the disk tier: which values it has under the policy of package tiers/warm, in files
// whose garbage takes space until they are rewritten. Time is that of the requests.
type disk struct {
	quota    policy.Quota
	halvings uint // of the sample
	popular  *policy.Popularity
	policy.Pressure

	values   map[unit]*kept
	blocks   files
	records  files                // entries with a body, in Badger's value log
	entries  *btree.BTreeG[*kept] // all entries, in the order of their names
	tables   int64                // bytes of the entries that are not in records, and of what belongs to entries
	replaced int64                // bytes in tables that are not needed any more, until Badger is made to notice that
	live     int64                // bytes of the entries as the evictor counts them: replaced ones until its next pass
	seen     int64                // bytes of the entries kept in this pass
	hand     hand                 // of the clock of the blocks
	next     kept                 // where the hand of the clock of the entries is
	owed     int64                // bytes evicted from Badger that the disk has not freed yet
	removed  bool                 // entries were evicted since Badger was last made to notice that
	stirred  bool                 // Badger was made to notice that
	due      time.Time            // of the next step; zero before the first request
}

const (
	// freshBadger and stirredBadger are about how many bytes Badger takes for itself: before it has compacted
	// anything, and after it was made to notice removed keys.
	freshBadger   = 40 << 10
	stirredBadger = 400 << 10
	// companions is about what is stored with an entry in other records, and countedMore by how much the evictor
	// counts an entry more when it is stored than when it is removed.
	companions  = 100
	countedMore = 64
	// segmentHead is the size of the head and of the end of a segment of blocks, and of the header of a block
	// and what its size is a multiple of; segmentEntry is what the end of a segment has of each block.
	segmentHead  = 64
	segmentEntry = 40
)

// blockSize is the space that a block of a number of bytes takes in a segment.
func blockSize(bytes int64) int64 { return segmentHead + (bytes+segmentHead-1)/segmentHead*segmentHead }

// newDisk returns the disk tier of a size for a sample. counters is the number of counters of its policy.
func newDisk(quota int64, halvings uint, counters int) *disk {
	d := &disk{quota: policy.Quota(quota), halvings: halvings, popular: policy.NewPopularity(counters), values: map[unit]*kept{}}
	d.blocks = files{most: d.quota.SegmentBytes() >> halvings, head: segmentHead, entry: segmentEntry}
	d.records.most = d.quota.ValueLogBytes() >> halvings
	d.entries = btree.NewBTreeGOptions(func(a, b *kept) bool {
		return a.name < b.name || a.name == b.name && a.unit.id < b.unit.id // versions of an object have one name
	}, btree.Options{NoLocks: true})
	return d
}

func (d *disk) limit() int64 { return d.quota.Limit() >> d.halvings }

// used is how many bytes the files take.
func (d *disk) used() int64 { return d.blocks.size + d.blocks.padding + d.inBadger() }

// inBadger is how many bytes Badger's files take.
func (d *disk) inBadger() int64 {
	own := int64(freshBadger)
	if d.stirred {
		own = stirredBadger
	}
	return d.records.size + d.tables + d.replaced + own>>d.halvings
}

// full reports whether more than a number of tenths of the limit are taken, in bytes or in blocks.
func (d *disk) full(tenths int64) bool {
	most := d.quota.MostBlocks() >> d.halvings
	return d.used() > d.limit()/10*tenths || d.count() > most/10*tenths
}

// count is how many blocks there are.
func (d *disk) count() int64 { return int64(len(d.values) - d.entries.Len()) }

// len is how many values take memory.
func (d *disk) len() int { return d.blocks.len + d.records.len + d.entries.Len() }

// popularity is the hash under which accesses of a value are counted: a block keeps its count when its
// object changes.
func popularity(u unit, v value) uint64 {
	if u.n == entryUnit {
		return mix(u.id)
	}
	return mix(v.object.id + uint64(u.n+1)*0x9e3779b97f4a7c15)
}

// name is the name by which a value is ordered among the entries, "" for a block.
func (v value) name(u unit) string {
	if u.n != entryUnit {
		return ""
	}
	return v.object.name
}

// get returns a value and counts the access.
func (d *disk) get(u unit) (value, bool) {
	k := d.values[u]
	if k == nil {
		return value{}, false
	}
	k.heat = min(k.heat+1, policy.MaxHeat)
	d.popular.Count(popularity(u, k.value))
	return k.value, true
}

// has reports whether there is a value, without counting an access.
func (d *disk) has(u unit) bool { return d.values[u] != nil }

// put offers a value, and reports whether it was admitted; if not, an earlier one is kept. wanted admits it
// however rarely it was requested.
func (d *disk) put(u unit, v value, wanted bool) bool {
	if d.quota == 0 {
		return false
	}
	count := d.popular.Count(popularity(u, v))
	size := int64(v.stored)
	if size >= policy.ValueThreshold && d.Crowded && !wanted && !d.popular.Admits(count) {
		return false
	}
	if d.used()+size > d.limit() || u.n != entryUnit && d.full(10) {
		return false
	}
	old := d.values[u]
	d.drop(u)
	k := &kept{unit: u, name: v.name(u), value: v, size: size}
	if old != nil {
		k.heat = old.heat
	}
	d.values[u] = k
	if u.n != entryUnit {
		d.blocks.add(k)
		return true
	}
	k.heat = min(k.heat+1, policy.MaxHeat) // the hand may be about to pass it
	d.entries.Set(k)
	d.live += size + countedMore
	d.tables += companions
	if size >= policy.ValueThreshold {
		d.records.add(k)
	} else {
		d.tables += size
	}
	return true
}

// drop removes a value.
func (d *disk) drop(u unit) {
	k := d.values[u]
	if k == nil {
		return
	}
	delete(d.values, u)
	k.value.object = nil // the file still has it
	if u.n != entryUnit {
		d.blocks.remove(k)
		return
	}
	d.entries.Delete(k)
	d.tables -= companions
	d.replaced += companions
	if k.file == nil {
		d.tables -= k.size
		d.replaced += k.size
	} else {
		d.records.remove(k)
	}
}

// advance takes the steps of the evictor that are due. The evictor has run since began.
func (d *disk) advance(began, now time.Time) {
	if d.due.IsZero() {
		d.due = began.Add(d.Pause())
	}
	for d.quota > 0 && now.After(d.due) {
		did := d.step()
		d.due = d.due.Add(d.Pause())
		if late := now.Sub(d.due); !did && late > 0 { // nor will the next steps
			d.due = d.due.Add(late / d.Pause() * d.Pause())
		}
	}
}

// step is evictor.makeRoom of package tiers/warm. It reports whether it has done anything.
func (d *disk) step() bool {
	used, owed := d.used(), d.owed
	d.Measure(d.full)
	weight := max(d.blocks.live, d.count()*policy.BlockLeast)
	live := max(d.live, 0)
	evicts := d.Evicts(d.limit(), weight+live, d.owed)
	if evicts {
		d.evict(d.quota.Sweep()>>d.halvings, weight, max(live, d.inBadger()-d.owed-policy.BadgerLeast>>d.halvings, 1))
	}
	d.blocks.compact(d.Garbage(), d.quota.Sweep()>>d.halvings, d.handFile())
	d.blocks.seal()
	if d.Busy && d.removed {
		d.removed, d.stirred, d.replaced = false, true, 0
	}
	freed := d.records.compact(d.Garbage(), math.MaxInt64, 0)
	d.owed = max(0, d.owed-max(freed, 0))
	if d.Busy && freed <= 0 {
		d.owed -= d.owed / 8
	}
	return evicts || d.used() != used || d.owed != owed
}

// handFile is the number of the file that the hand is in the middle of, 0 for none.
func (d *disk) handFile() int {
	if d.hand.value > 0 {
		return d.hand.file
	}
	return 0
}

// evict evicts want bytes, from blocks and entries in proportion to what they weigh.
func (d *disk) evict(want, inBlocks, inBadger int64) {
	d.popular.Learn(d.limit() * int64(len(d.values)) / max(inBlocks+inBadger, 1))
	part := int64(float64(want) * float64(inBlocks) / float64(inBlocks+inBadger))
	d.hand.sweep(&d.blocks, part, policy.BlockLeast, d.spare)
	d.sweepEntries(want - part)
}

// sweepEntries moves the hand of the entries until it has evicted a number of bytes, or has passed all of them
// once.
func (d *disk) sweepEntries(want int64) {
	for wrapped := false; want > 0; {
		var k *kept
		d.entries.Ascend(&d.next, func(at *kept) bool {
			k = at
			return false
		})
		if k == nil {
			d.live, d.seen, d.next = d.seen, 0, kept{} // all were seen, so their size is known
			if wrapped {
				return
			}
			wrapped = true
			continue
		}
		d.next = kept{name: k.name, unit: unit{id: k.unit.id + 1}}
		if d.spare(k) {
			d.seen += k.size
			continue
		}
		want -= k.size
		d.live -= k.size
		d.owed += k.size
		d.removed = true
	}
}

// spare reports whether a value that the hand passes stays. One that was used since the last pass does;
// any other is removed.
func (d *disk) spare(k *kept) bool {
	if k.heat > 0 {
		k.heat--
		return true
	}
	if k.size >= policy.ValueThreshold {
		d.popular.Evicted(popularity(k.unit, k.value))
	}
	d.drop(k.unit)
	return false
}

// takeOver takes the values of another disk that are in the sample, in the order in which they were
// written.
func (d *disk) takeOver(old *disk, sampled func(value) bool) {
	keep := func(k *kept) {
		if sampled(k.value) {
			d.put(k.unit, k.value, true)
			if now := d.values[k.unit]; now != nil {
				now.heat = k.heat
			}
		}
	}
	for _, f := range old.blocks.all {
		for _, k := range f.values {
			if k.file == f {
				keep(k)
			}
		}
	}
	old.entries.Scan(func(k *kept) bool {
		keep(k)
		return true
	})
	d.due, d.stirred = old.due, old.stirred
}
