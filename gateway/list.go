package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// listings answers the listings of objects, versions and multipart uploads.
type listings struct {
	Store    *tiers.Store
	Writes   *writeback.WriteBack
	Upstream Upstream
	Reserved Reserved
	forward  *forwarder
}

// listObjects answers ListObjects and ListObjectsV2 with the upstream's own pages, from memory where
// a rule allows that, or merged with pending writes.
func (g *listings) listObjects(w *answer, c *call, id sigv4.Identity) error {
	if g.Writes.WritesBack(c.key.Bucket) || g.Reserved.in(c.key.Bucket) {
		return g.listMerged(w, c)
	}
	request := c.upstreamRequest()
	for name := range request.Header {
		if strings.HasPrefix(name, amzPrefix) { // it may change the response
			return g.forward.pass(w, c, id)
		}
	}
	if akigw.NoStore(c.Header) {
		return g.forward.pass(w, c, id)
	}
	listing, resp, err := g.Store.List(c.Context(), c.key.Bucket, c.query.Get("prefix"), c.query.Encode(), akigw.ConditionsOf(c.Header),
		func(ctx context.Context) (*http.Response, error) { return g.Upstream.Do(ctx, request) })
	switch {
	case err != nil:
		return err
	case resp != nil:
		relay(w, c.Request, resp)
		return nil
	case listing == nil:
		return g.forward.pass(w, c, id)
	}
	h := w.Header()
	relayHeader(h, listing.Header, http.StatusOK)
	if listing.Outcome == akigw.Hot {
		delete(h, "X-Akigw-Upstream-Request-Id")
	}
	h["X-Akigw-Cache"] = []string{string(listing.Outcome)}
	h["Age"] = []string{strconv.Itoa(int(listing.Age.Seconds()))}
	h.Set("Content-Length", strconv.Itoa(len(listing.Body)))
	_, _ = w.Write(listing.Body) // a client that has disconnected does not read it
	return nil
}
