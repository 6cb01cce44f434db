package blockfile

import (
	"math"

	"github.com/tidwall/btree"
)

// item says where a block is. It has no pointers, so the garbage collector does not look into the index.
type item struct {
	extent  uint64
	n       uint32
	segment uint32
	place   uint32
	length  uint32
}

func itemOf(seg *segment, r *record) item {
	return item{extent: r.Extent, n: uint32(r.N), segment: seg.number, place: r.place, length: r.length}
}

// size is the space that the record of i takes in its segment.
func (i item) size() int64 { return Size(int(i.length)) }

// before is the order of the index: by extent and number.
func before(a, b item) bool { return a.extent < b.extent || a.extent == b.extent && a.n < b.n }

// index has the item of each block, in order. Its zero value is not usable.
type index struct{ tree *btree.BTreeG[item] }

func newIndex() index {
	return index{btree.NewBTreeGOptions(before, btree.Options{NoLocks: true, Degree: 64})}
}

func (x index) get(i item) (item, bool)           { return x.tree.Get(i) }
func (x index) set(i item) (old item, found bool) { return x.tree.Set(i) }
func (x index) remove(i item)                     { x.tree.Delete(i) }
func (x index) len() int                          { return x.tree.Len() }

// from calls yield with each item from one on, until yield returns false.
func (x index) from(i item, yield func(item) bool) { x.tree.Ascend(i, yield) }

// ofExtent calls yield with each item of an extent.
func (x index) ofExtent(extent uint64, yield func(item)) {
	x.from(item{extent: extent}, func(i item) bool {
		if i.extent != extent {
			return false
		}
		yield(i)
		return i.n < math.MaxUint32
	})
}

// newest is the highest number of an extent, 0 for none.
func (x index) newest() uint64 {
	i, _ := x.tree.Max()
	return i.extent
}
