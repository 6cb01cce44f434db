package crashfs

import (
	"iter"
	"maps"
	"math/rand/v2"
)

// Loss says how much of the data that is not durable a crash loses.
type Loss struct {
	// KeepPercent is the probability, from 0 to 100, that a piece that is not durable is kept: a
	// piece of a file's bytes, or a change of a name. With 0, the zero value, only durable data is
	// left; with 100 everything is, as after a crash of the process alone.
	KeepPercent int
	// Seed decides which pieces are kept. The same calls and the same Loss leave the same files.
	Seed uint64
}

// Units in which disks lose bytes.
const (
	sector = 512
	page   = 4096
)

// Crash returns the file system as a crash at this moment could leave it. Everything in it is durable,
// and nothing is locked. The original continues unchanged; neither sees later changes of the other.
func (fs *FS) Crash(loss Loss) *FS {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	c := &crash{loss: loss, changes: map[*node][]*change{}, left: map[*node]*node{}}
	dice := c.dice(0)
	for _, change := range fs.pending {
		change.kept = (change.with == nil || change.with.durable || change.with.kept) && c.keeps(dice)
		if change.kept {
			c.changes[change.dir] = append(c.changes[change.dir], change)
		}
	}
	return &FS{root: c.node(fs.root), made: fs.made, locked: map[*node]bool{}}
}

// Crashes yields what n crashes at this moment may leave behind. They keep different shares of what
// is not durable; first is the seed of the first one.
func (fs *FS) Crashes(first, n uint64) iter.Seq[*FS] {
	return func(yield func(*FS) bool) {
		for seed := first; seed < first+n; seed++ {
			if !yield(fs.Crash(Loss{KeepPercent: []int{0, 30, 70, 100}[seed%4], Seed: seed})) {
				return
			}
		}
	}
}

// crash is a crash while it is being computed.
type crash struct {
	loss    Loss
	changes map[*node][]*change // kept changes of names, by directory
	left    map[*node]*node     // what is left of each visited node
}

// dice returns the source of randomness for a node. Each node has its own, so that the order of nodes
// does not matter. Changes of names use that of node 0.
func (c *crash) dice(id uint64) *rand.Rand { return rand.New(rand.NewPCG(c.loss.Seed, id)) }

func (c *crash) keeps(dice *rand.Rand) bool {
	return c.loss.KeepPercent > 0 && dice.IntN(100) < c.loss.KeepPercent
}

// node returns what is left of a file, or of a directory with all that is below it.
func (c *crash) node(n *node) *node {
	if left := c.left[n]; left != nil {
		return left // already visited under another name
	}
	left := &node{id: n.id}
	c.left[n] = left
	if !n.isDir() {
		left.data = c.bytes(n)
		left.synced = len(left.data)
		return left
	}
	left.names = maps.Clone(n.durable)
	for _, change := range c.changes[n] {
		change.apply(left.names)
	}
	for name, child := range left.names {
		left.names[name] = c.node(child)
	}
	left.durable = maps.Clone(left.names)
	return left
}

// bytes returns what is left of a file's bytes. A prefix that is left intact is shared with the file,
// without spare capacity, so that neither can write into the other.
func (c *crash) bytes(n *node) []byte {
	durable, size := n.synced, len(n.data)
	switch {
	case durable == size || c.loss.KeepPercent >= 100:
		return n.data[:size:size]
	case c.loss.KeepPercent <= 0:
		return n.data[:durable:durable]
	}
	dice := c.dice(n.id)
	piece := sector
	if dice.IntN(2) == 0 {
		piece = page
	}
	left := make([]byte, size)
	copy(left, n.data[:durable])
	end, last := durable, durable // end of the last piece that is kept, and its beginning
	for from := durable; from < size; {
		to := min(from-from%piece+piece, size)
		if c.keeps(dice) {
			copy(left[from:], n.data[from:to])
			last, end = from, to
		}
		from = to
	}
	if end > last && dice.IntN(4) == 0 { // the last piece is torn
		at := last + dice.IntN(end-last)
		if dice.IntN(2) == 0 {
			clear(left[at:end])
		} else {
			end = at
		}
	}
	return left[:end:end]
}
