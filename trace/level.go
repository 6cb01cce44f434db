package trace

// level is a simulated tier.
type level interface {
	// see requests the block of step n, and offers the block to the tier if the tier does not hold
	// it.
	see(n int) (hit bool)
	// drop removes a block that will not be used again.
	drop(block uint64)
}

// overhead is the memory of a block besides its bytes, as in the tiers.
const overhead = 512
