package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// Upstream sends requests to the S3 services behind the gateway.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Owner returns the name of the upstream that a bucket belongs to.
	Owner(bucket string) string
	// Names returns the names of all upstreams.
	Names() []string
}

// forwarder sends calls to the upstream, as new requests signed by the gateway. Before that, the
// pending writes of the affected keys are flushed, and keys that a call changes are fenced.
type forwarder struct {
	Store    *tiers.Store
	Writes   *writeback.WriteBack
	Upstream Upstream
}

// upstreamRequest builds the request to the upstream from the parsed and verified call: allowed
// headers, the query without the signature, no body yet.
func (c *call) upstreamRequest() *cold.Request {
	header := make(http.Header, len(c.Header))
	for name, values := range c.Header {
		if isSent(name) || strings.HasPrefix(name, amzPrefix) && !amzHeaders[name].own {
			header[name] = values
		}
	}
	if encoding := sigv4.WithoutChunked(c.Header["Content-Encoding"]); encoding != "" {
		header.Set("Content-Encoding", encoding)
	}
	if c.source != nil {
		header.Set(copySourceHeader, c.source.encoded())
	}
	return &cold.Request{Op: c.route.sent(), Method: c.Method, Key: c.key, Query: c.query, Header: header, Relayed: true}
}

// outgoing is a call on its way to the upstream, with its body verified as far as possible before
// it is sent.
type outgoing struct {
	request *cold.Request
	body    *body
}

// sent returns the headers that the upstream got with the object. The body has been sent.
func (o *outgoing) sent() http.Header {
	if len(o.request.Trailer) == 0 {
		return o.request.Header
	}
	h := maps.Clone(o.request.Header)
	maps.Copy(h, o.request.Trailer)
	return h
}

// prepare prepares a call for sending. It changes nothing.
func (g *forwarder) prepare(c *call) (*outgoing, error) {
	body, err := newBody(c)
	if err != nil {
		return nil, err
	}
	if err := c.reserve(c.bodyMemory()); err != nil {
		return nil, err
	}
	out := &outgoing{request: c.upstreamRequest(), body: body}
	return out, body.attach(out.request)
}

// roundTrip sends a call and returns the upstream's response. seen, if not nil, is called with the
// bytes of the body as they are sent; whole reports whether it got all of them.
func (g *forwarder) roundTrip(c *call, out *outgoing, seen func([]byte)) (resp *http.Response, whole bool, err error) {
	if err := g.flushPending(c); err != nil {
		out.body.stop()
		return nil, false, err
	}
	if seen != nil && out.body.small != nil {
		seen(out.body.small)
	} else {
		out.body.tee = seen
	}
	resp, err = g.do(c, out.request)
	ended, bodyErr := out.body.stop()
	if bodyErr != nil { // the client's mistake, not the upstream's
		if resp != nil {
			resp.Body.Close()
		}
		return nil, false, bodyErr
	}
	return resp, ended, err
}

// send sends a call with a control document that has already been read.
func (g *forwarder) send(c *call, document []byte) (*http.Response, error) {
	if err := g.flushPending(c); err != nil {
		return nil, err
	}
	r := c.upstreamRequest()
	r.Body, r.Length, r.SHA256 = bytes.NewReader(document), int64(len(document)), c.payload.SHA256
	return g.do(c, r)
}

// do sends a call whose keys have no pending writes. If the upstream's ETag or date of the object
// is not the promised one, conditions and response are translated.
func (g *forwarder) do(c *call, r *cold.Request) (*http.Response, error) {
	t := g.Writes.Overlay.Translation(c.key)
	if onObject.hasExact(r.Header) {
		var err error
		if t, err = exact(c.Context(), g.Upstream, t); err != nil {
			return nil, err
		}
	}
	r.Header = onObject.translated(r.Header, t)
	if c.source != nil {
		r.Header = onSource.translated(r.Header, g.Writes.Overlay.Translation(c.source.key))
	}
	resp, err := g.Upstream.Do(c.Context(), r)
	if err == nil && !streamed(c.route.Op) {
		err = c.readWhole(resp)
	}
	if err != nil {
		return nil, err
	}
	if cold.NoBytes(resp) {
		resp.StatusCode = http.StatusOK
		resp.Header.Del("Content-Range")
	}
	g.Writes.Overlay.Answer(c.key, t, c.route.Op, resp)
	if c.replacedBy(resp) {
		g.Writes.Overlay.Replaced(t)
	}
	return resp, nil
}

// streamed reports whether the response to an operation may be large and is passed on as it arrives. The
// responses to all others are documents.
func streamed(op string) bool {
	switch op {
	case "GetObject", "GetObjectAnnotation", "GetObjectTorrent", "SelectObjectContent", "Other":
		return true
	default:
		return false
	}
}

// readWhole reads the document of a response, so that one that breaks off, or does not arrive
// within the call's deadline, can still be answered with an error. A document that is too large, or
// for which there is no memory, is passed on as it arrives.
func (c *call) readWhole(resp *http.Response) error {
	size := resp.ContentLength
	if size < 0 {
		size = maxHeld
	}
	if size == 0 || size > maxHeld || c.Method == http.MethodHead || c.reserve(size) != nil {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHeld+1))
	if err == nil && len(body) > maxHeld {
		unread(resp, body)
		return nil
	}
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("%w: the response to %s broke off: %w", akigw.ErrUpstreamUnavailable, c.route.Op, err)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	return nil
}

// pass forwards a call and its response, streaming both ways.
func (g *forwarder) pass(w *answer, c *call, _ sigv4.Identity) error {
	out, err := g.prepare(c)
	if err != nil {
		return err
	}
	if c.level() == BucketLevel && !c.reads() {
		return g.changeBucket(w, c, out)
	}
	resp, err := g.passAlive(w, c, out)
	if err != nil {
		return err
	}
	relay(w, c.Request, resp)
	return nil
}

// ask sends a request for a listing with this XML root, and decodes the response.
func (g *forwarder) ask(c *call, request *cold.Request, root string, into any) error {
	resp, err := g.Upstream.Do(c.Context(), request)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return cold.NewResponseError(resp)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxList))
	if err == nil {
		err = s3xml.Unmarshal(body, into)
	}
	if err == nil && !s3xml.IsAnswer(body, root, "IsTruncated") {
		err = fmt.Errorf("no %s", root)
	}
	if err != nil {
		return fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, c.key.Bucket, err)
	}
	return nil
}

// changeBucket forwards a request that creates, deletes or configures a bucket. Cached data of the
// bucket is dropped before the client gets the response.
func (g *forwarder) changeBucket(w *answer, c *call, out *outgoing) error {
	resp, deleted, err := g.sendBucketChange(c, out)
	if err != nil {
		return err
	}
	if deleted {
		g.Writes.Uploads.AbortAll(c.Context(), c.key.Bucket)
	}
	relay(w, c.Request, resp)
	return nil
}

// sendBucketChange sends such a request, and reports whether it deleted the bucket.
func (g *forwarder) sendBucketChange(c *call, out *outgoing) (resp *http.Response, deleted bool, err error) {
	changed := true // unless the upstream or the error says otherwise
	defer g.Store.ChangeBucket(c.key.Bucket)()
	end := g.Writes.ChangeBucket(c.key.Bucket)
	defer func() { end(changed, deleted) }()
	if resp, _, err = g.roundTrip(c, out, nil); err != nil {
		changed = !unsent(err)
		return nil, false, err
	}
	changed = resp.StatusCode < 300 || resp.StatusCode >= 500
	return resp, c.route.Op == "DeleteBucket" && resp.StatusCode == http.StatusNoContent, nil
}

// unsent reports whether a call failed before it reached the upstream, and so changed nothing.
func unsent(err error) bool {
	var coded *s3err.Error // the client's mistake
	return errors.Is(err, cold.ErrNotSent) || errors.Is(err, writeback.ErrPending) || errors.As(err, &coded)
}

// bypass forwards a read of an object past the cache.
func (g *forwarder) bypass(w *answer, c *call, id sigv4.Identity) error {
	w.Header().Set("X-Akigw-Cache", string(akigw.Bypass))
	return g.pass(w, c, id)
}

// other forwards a request that is not an S3 operation. It fences the key unless the method only
// reads.
func (g *forwarder) other(w *answer, c *call, id sigv4.Identity) error {
	if c.reads() {
		return g.pass(w, c, id)
	}
	return g.change(w, c, id)
}

// refused answers an operation that the gateway does not support.
func refused(_ *answer, c *call, _ sigv4.Identity) error {
	return s3err.NotImplemented.With(c.route.Op + " is not implemented: " + c.route.Note + ".")
}

// acknowledge passes on the response to a write, and records that the upstream accepted it.
func acknowledge(w *answer, c *call, resp *http.Response) {
	if resp.StatusCode < 300 {
		w.Header().Set("X-Akigw-Commit", "upstream")
	}
	relay(w, c.Request, resp)
}

// maxList is the largest page that is read, in bytes.
const maxList = 16 << 20
