package gateway

import (
	"net/http"

	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// objectWrites answers PutObject, DeleteObject and DeleteObjects.
type objectWrites struct {
	Store    *tiers.Store
	Writes   *writeback.WriteBack
	Upstream Upstream
	Reserved Reserved
	forward  *forwarder
}

// putObject answers PutObject. Unless the journal accepts it, it is written through: the body is
// verified while it streams to the upstream and into the cache, and the response is the upstream's.
func (g *objectWrites) putObject(w *answer, c *call, _ sigv4.Identity) error {
	if !c.plain() {
		g.Writes.Through(c.key)
	} else if back, err := g.Writes.Accept(c.Context(), c.key, c.payload.Length, c.Header); err != nil {
		return err
	} else if back != nil {
		return g.acknowledgePut(w, c, back)
	}
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	change := g.Store.Begin(c.key)
	return g.forward.whileFenced(func() error {
		seen := change.Body
		if !c.keepable() {
			seen = nil
		}
		resp, whole, err := g.forward.roundTrip(c, out, seen)
		if err != nil {
			return err
		}
		if resp.StatusCode == http.StatusOK && seen != nil && whole {
			change.Written(out.sent(), resp.Header, nil)
		} else {
			change.End()
		}
		if resp.StatusCode == http.StatusOK && c.plain() {
			g.Writes.Accepted(c.key, c.Header)
		}
		acknowledge(w, c, resp)
		return nil
	}, change)
}
