package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/sigv4"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/tiers"
)

// cachedHeaders are the x-amz-* request headers that a cached answer takes
// into account. Any other asks for something that only the upstream can give:
// SSE-C keys, an expected owner, a requester who pays.
var cachedHeaders = map[string]bool{
	"X-Amz-Date": true, "X-Amz-Content-Sha256": true, "X-Amz-Checksum-Mode": true, "X-Amz-User-Agent": true, "X-Amz-Security-Token": true,
}

func (c *Call) cacheable() bool {
	for name := range c.Header {
		if strings.HasPrefix(name, "X-Amz-") && !cachedHeaders[name] || name == "If-Range" {
			return false
		}
	}
	return true
}

// getObject answers GetObject from the store: the conditions, the range, the
// headers and then the bytes as they come.
func (g *Gateway) getObject(w *answer, c *Call, id sigv4.Identity) error {
	if !c.cacheable() {
		return g.bypass(w, c, id)
	}
	ctx := c.Context()
	spec := akigw.ParseRange(c.Header.Get("Range"))
	reader, err := g.store.Get(ctx, c.key, spec, akigw.ConditionsOf(c.Header))
	if reader != nil {
		defer reader.Close()
	}
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.bypass(w, c, id)
	}
	if err != nil {
		return refuse(w, c, reader, err)
	}
	if err := describe(w, c, reader, spec.Whole()); err != nil {
		return err
	}
	for {
		data, err := reader.Next(ctx)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			g.log.Warn("cut off an answer that could not be completed", "request_id", c.requestID, "key", c.key.String(), "error", err)
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(data); err != nil {
			return nil // the client has gone
		}
	}
}

// headObject answers HeadObject from the entry that a GET would be served
// from.
func (g *Gateway) headObject(w *answer, c *Call, id sigv4.Identity) error {
	if !c.cacheable() {
		return g.bypass(w, c, id)
	}
	reader, err := g.store.Head(c.Context(), c.key, akigw.ConditionsOf(c.Header))
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.bypass(w, c, id)
	}
	spec := akigw.ParseRange(c.Header.Get("Range"))
	if err == nil {
		reader.Range, err = spec.Resolve(reader.Object.Size)
	}
	if err != nil {
		return refuse(w, c, reader, err)
	}
	return describe(w, c, reader, spec.Whole())
}

// refuse answers a read that its own conditions or range end.
func refuse(w *answer, c *Call, reader *tiers.Reader, err error) error {
	if reader == nil {
		return err
	}
	h := w.Header()
	h["X-Akigw-Cache"] = []string{string(reader.Outcome)}
	switch {
	case errors.Is(err, akigw.ErrNotModified):
		for _, name := range [...]string{"Etag", "Last-Modified", "Cache-Control", "Expires", "X-Amz-Version-Id"} {
			if v, ok := reader.Object.Header[name]; ok {
				h[name] = v
			}
		}
		return s3err.NotModified
	case errors.Is(err, akigw.ErrPreconditionFailed):
		return s3err.PreconditionFailed
	case errors.Is(err, akigw.ErrRangeNotSatisfiable):
		size := strconv.FormatInt(reader.Object.Size, 10)
		h.Set("Content-Range", "bytes */"+size)
		return s3err.InvalidRange.About("RangeRequested", c.Header.Get("Range")).About("ActualObjectSize", size)
	}
	return err
}

// describe sends status and headers of an object.
func describe(w *answer, c *Call, reader *tiers.Reader, whole bool) error {
	checksums := whole && strings.EqualFold(c.Header.Get("X-Amz-Checksum-Mode"), "ENABLED")
	h := w.Header()
	for name, values := range reader.Object.Header {
		if checksums || !strings.HasPrefix(name, "X-Amz-Checksum-") {
			h[name] = values
		}
	}
	if err := override(h, c); err != nil {
		return err
	}
	h["X-Akigw-Cache"] = []string{string(reader.Outcome)}
	h["Age"] = []string{strconv.Itoa(int(reader.Age.Seconds()))}
	h["Content-Length"] = []string{strconv.FormatInt(reader.Range.Length, 10)}
	status := http.StatusOK
	if !whole {
		h["Content-Range"] = []string{reader.Range.ContentRange(reader.Object.Size)}
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	return nil
}

// overridable are the headers that response-* parameters may set (GetObject).
var overridable = map[string]bool{
	"Content-Type": true, "Content-Language": true, "Expires": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true,
}

// override applies response-* parameters to this answer only. They are signed,
// like the whole query.
func override(h http.Header, c *Call) error {
	for parameter, values := range c.query {
		name, ok := strings.CutPrefix(parameter, "response-")
		if !ok {
			continue
		}
		name = textproto.CanonicalMIMEHeaderKey(name)
		if !overridable[name] || strings.ContainsFunc(values[0], func(r rune) bool { return r < ' ' || r == 0x7f }) {
			return s3err.InvalidArgument.With("The response header override is not valid.").About("ArgumentName", parameter)
		}
		h[name] = values[:1:1]
	}
	return nil
}
