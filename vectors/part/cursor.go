package part

// cursor has the blocks of a warm part that were read last, so that rows in sequence read each block
// once. Its buffers, up to 1 MiB, are made when the first block is read: parts in memory need none.
type cursor struct {
	text, vector block
}

// forget makes the cursor fit for another part.
func (c *cursor) forget() { c.text.loaded, c.vector.loaded = false, false }
