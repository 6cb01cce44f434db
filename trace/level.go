package trace

// level is a simulated tier.
type level interface {
	// see asks for the block of step n, and offers the block if the tier does not hold it.
	see(n int) (hit bool)
	// drop removes a block that is useless from now on.
	drop(block uint64)
	close()
}

// overhead is what a block takes besides its bytes, as in the tiers.
const overhead = 512
