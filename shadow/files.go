package shadow

import (
	"cmp"
	"slices"
)

// files simulates values in files that are only appended to, as the segments of blocks and the value log
// of Badger are: what is removed is garbage until its file is rewritten.
type files struct {
	most    int64 // size in bytes at which a file takes no more values
	head    int64 // bytes of a file besides its values, at its begin and again at its end
	entry   int64 // bytes that the end of a file takes for each value
	number  int   // of the last file
	all     []*file
	fresh   *file // takes new values
	copies  *file // takes values of files that are rewritten
	live    int64 // bytes of the values
	size    int64 // bytes of the files
	padding int64 // bytes that sealed files take besides, because a disk has blocks
	len     int   // values, removed ones included
}

// diskBlock is the size of the blocks that most file systems allocate, in bytes: a power of two.
const diskBlock = 4 << 10

// file is one of files. A value whose file is another one is garbage here.
type file struct {
	number     int
	size, live int64
	padding    int64
	values     []*kept
	full       bool // takes no more values
	sealed     bool // has its end
}

// kept is a value on the simulated disk.
type kept struct {
	unit  unit
	name  string // of the object of an entry
	value value
	size  int64
	heat  int   // passes of the clock that it survives
	file  *file // nil: removed, or in no file
}

// add appends a value.
func (f *files) add(k *kept) { f.append(&f.fresh, k) }

func (f *files) append(to **file, k *kept) {
	if *to == nil || (*to).full {
		f.number++
		*to = &file{number: f.number, size: f.head}
		f.size += f.head
		f.all = append(f.all, *to)
	}
	in := *to
	in.values = append(in.values, k)
	in.size += k.size
	in.live += k.size
	in.full = in.size >= f.most
	k.file = in
	f.live += k.size
	f.size += k.size
	f.len++
}

// seal writes the ends of the files that take no more values.
func (f *files) seal() {
	for _, each := range f.all {
		if each.full && !each.sealed {
			end := int64(len(each.values))*f.entry + f.head
			each.sealed = true
			each.size += end
			each.padding = -each.size & (diskBlock - 1)
			f.size += end
			f.padding += each.padding
		}
	}
}

// remove makes a value garbage.
func (f *files) remove(k *kept) {
	k.file.live -= k.size
	f.live -= k.size
	k.file = nil
}

// compact removes files of which at least a share is garbage, those with the most of it first, except the
// one that the clock's hand is in. What lives in them is copied, at most about as many bytes as budget
// says. It returns the size of what was removed less that of what was copied.
func (f *files) compact(share float64, budget int64, hand int) (freed int64) {
	var victims []*file
	for _, each := range f.all {
		if each.full && each.number != hand && (each.live == 0 || each.garbage() >= share) {
			victims = append(victims, each)
		}
	}
	slices.SortStableFunc(victims, func(a, b *file) int { return cmp.Compare(b.garbage(), a.garbage()) })
	copied := int64(0)
	for _, from := range victims {
		for _, k := range from.values {
			if k.file != from {
				continue
			}
			if copied >= budget {
				return freed
			}
			f.remove(k)
			f.append(&f.copies, k)
			copied += k.size
			freed -= k.size
		}
		freed += from.size
		f.size -= from.size
		f.padding -= from.padding
		f.len -= len(from.values)
		f.all = slices.DeleteFunc(f.all, func(each *file) bool { return each == from })
	}
	return freed
}

// garbage is the share of the file that is garbage.
func (f *file) garbage() float64 { return 1 - float64(f.live)/float64(f.size) }

// hand is the hand of a clock over the values of files, in the order in which they were written.
type hand struct {
	file  int // number
	value int // index
}

// sweep moves the hand until it has evicted a number of bytes or has passed all values: a value stays if
// keep returns true, and counts least bytes at least. It returns how many bytes it has evicted.
func (h *hand) sweep(f *files, bytes, least int64, keep func(*kept) bool) (evicted int64) {
	next, _ := slices.BinarySearchFunc(f.all, h.file, func(each *file, n int) int { return cmp.Compare(each.number, n) })
	all := slices.Concat(f.all[next:], f.all[:next])
	for _, each := range all {
		if each.number != h.file {
			*h = hand{file: each.number}
		}
		for ; h.value < len(each.values); h.value++ {
			if evicted >= bytes {
				return evicted
			}
			if k := each.values[h.value]; k.file == each && !keep(k) {
				evicted += max(k.size, least)
			}
		}
		*h = hand{file: each.number + 1}
	}
	return evicted
}
