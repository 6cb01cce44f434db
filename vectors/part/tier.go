package part

import "github.com/akidb/akigw/tiers/warm"

// Tier stores the blocks of warm parts, each under the number of an extent and its own within it. It may
// lose a block at any time. What it returns is what was stored under these numbers, by its checksums.
type Tier interface {
	// PutBlock stores a block of up to BlockBytes bytes, which it does not retain, and reports whether it
	// did.
	PutBlock(extent uint64, n int64, data []byte) bool
	// Block returns a block, in buffer if it has the capacity. The caller owns the bytes.
	Block(extent uint64, n int64, buffer []byte) ([]byte, bool)
	// DropBlocks removes all blocks of an extent.
	DropBlocks(extent uint64)
}

// On returns the Tier whose blocks are in a warm tier. It compresses nothing: vectors do not get smaller.
func On(tier *warm.Tier) Tier { return onDisk{tier} }

type onDisk struct{ tier *warm.Tier }

// run returns what the tier knows an extent by. Its blocks are admitted although nobody has read them.
func run(extent uint64) warm.Run {
	return warm.Run{ID: extent, Object: extent, Handling: warm.Handling{Wanted: true}}
}

// PutBlock implements Tier.
func (d onDisk) PutBlock(extent uint64, n int64, data []byte) bool {
	d.tier.PutBlock(run(extent), n, data)
	return d.tier.HasBlock(run(extent), n)
}

// Block implements Tier.
func (d onDisk) Block(extent uint64, n int64, buffer []byte) ([]byte, bool) {
	return d.tier.Block(run(extent), n, buffer)
}

// DropBlocks implements Tier.
func (d onDisk) DropBlocks(extent uint64) { d.tier.DropBlocks(extent) }
