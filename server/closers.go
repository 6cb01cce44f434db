package server

import "errors"

// closers closes what New has opened, in reverse order. The zero value is empty.
type closers struct{ steps []func() error }

func (c *closers) add(step func() error) { c.steps = append(c.steps, step) }

// close runs the steps. It runs each step once, however often it is called.
func (c *closers) close() (err error) {
	for len(c.steps) > 0 {
		last := len(c.steps) - 1
		step := c.steps[last]
		c.steps = c.steps[:last]
		err = errors.Join(err, step())
	}
	return err
}
