package tiers

// cutter cuts the bytes of a body into blocks. It is for one goroutine.
type cutter struct {
	buffers *buffers
	length  int    // of a block in bytes
	block   []byte // the current block
	n       int64  // its number
}

// write adds the next bytes, which it does not retain. put gets each full block with its number as soon
// as there are bytes of the next one. The block is released when put returns.
func (c *cutter) write(p []byte, put func(n int64, b *sharedBlock)) {
	for len(p) > 0 {
		if len(c.block) == c.length {
			c.flush(put)
			c.n++
		}
		if cap(c.block)-len(c.block) < min(len(p), c.length-len(c.block)) {
			c.grow(len(p))
		}
		k := min(len(p), cap(c.block)-len(c.block))
		c.block = append(c.block, p[:k]...)
		p = p[k:]
	}
}

// grow makes room in the current block for more bytes: for all of a block, unless there are few.
func (c *cutter) grow(more int) {
	room := max(2*cap(c.block), more)
	if c.n == 0 && room <= c.length/4 {
		c.block = append(make([]byte, 0, room), c.block...)
	} else {
		c.block = append(c.buffers.get(int64(c.length)), c.block...)
	}
}

// flush passes the current block to put, and begins a new one.
func (c *cutter) flush(put func(n int64, b *sharedBlock)) {
	b := c.take().trim()
	put(c.n, b)
	b.release()
}

// take returns the current block, of which the caller is the only user, and begins a new one.
func (c *cutter) take() *sharedBlock {
	b := newBlock(c.block, nil)
	if cap(c.block) == c.length {
		b.buffers = c.buffers
	}
	c.block = nil
	return b
}

// whole returns the bytes of an object in one block, in memory of their size.
func (c *cutter) whole() []byte {
	if len(c.block) < cap(c.block) || len(c.block) == 0 || len(c.block) == c.length {
		return append(make([]byte, 0, len(c.block)), c.block...)
	}
	body := c.block // it came in one piece
	c.block = nil
	return body
}

// free releases the current block.
func (c *cutter) free() {
	if c.block != nil {
		c.take().release()
	}
}
