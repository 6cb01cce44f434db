package gateway

import (
	"errors"
	"io"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
)

// cachedKey returns what a read looks up, or false if the cache has no say: the
// null version can be replaced.
func (c *Call) cachedKey() (key akigw.Key, ok bool) {
	key = c.key
	if c.query.Has("versionId") {
		key.Version = c.query.Get("versionId")
		if key.Version == "" || key.Version == "null" || len(key.Version) > maxVersion || strings.IndexByte(key.Version, 0) >= 0 {
			return key, false
		}
	}
	return key, c.cacheable()
}

// spec is what of the object a read asks for; check has seen that it is one
// thing.
func (c *Call) spec() akigw.RangeSpec {
	if c.query.Has("partNumber") {
		n, _ := strconv.Atoi(c.query.Get("partNumber")) // check has seen that it is a number
		return akigw.PartSpec(n)
	}
	return akigw.ParseRange(c.Header.Get("Range"))
}

// maxVersion is the longest version id (S3: 1,024 bytes).
const maxVersion = 1024

// getObject answers GetObject from the store: the conditions, the range, the
// headers and then the bytes as they come.
func (g *Gateway) getObject(w *answer, c *Call, id sigv4.Identity) error {
	key, ok := c.cachedKey()
	if !ok {
		return g.bypass(w, c, id)
	}
	ctx := c.Context()
	spec := c.spec()
	reader, err := g.Store.Get(ctx, key, spec, akigw.ConditionsOf(c.Header))
	if reader != nil {
		defer reader.Close()
	}
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.bypass(w, c, id)
	}
	if err != nil {
		return refuse(w, c, reader, err)
	}
	return g.sendObject(w, c, reader, spec)
}

// sendObject answers with what a reader brings.
func (g *Gateway) sendObject(w *answer, c *Call, reader *tiers.Reader, spec akigw.RangeSpec) error {
	ctx := c.Context()
	together := reader.Outcome != akigw.Cold && len(c.pace) == 0 && httpguard.Hold(c.Request)
	defer httpguard.Release(c.Request)
	describe(w, c, reader, spec)
	reader.Borrow = true
	for held := 0; ; {
		data, err := reader.Next(ctx)
		if err == io.EOF {
			if together {
				w.flush() // into what is held
			}
			return nil
		}
		if err != nil {
			g.Log.Warn("cut off an answer that could not be completed", "request_id", c.requestID, "key", c.key.String(), "error", err)
			panic(http.ErrAbortHandler)
		}
		if _, err := w.Write(data); err != nil {
			return nil // the client has gone
		}
		if held += len(data); int64(held) < reader.Hold {
			continue
		}
		if together {
			err = httpguard.Release(c.Request)
		} else {
			w.flush()
		}
		if err != nil {
			return nil
		}
		reader.Sent()
		held, together = 0, together && httpguard.Hold(c.Request)
	}
}

// headObject answers HeadObject from the entry that a GET would be served
// from.
func (g *Gateway) headObject(w *answer, c *Call, id sigv4.Identity) error {
	key, ok := c.cachedKey()
	if !ok {
		return g.bypass(w, c, id)
	}
	spec := c.spec()
	reader, err := g.Store.Head(c.Context(), key, spec, akigw.ConditionsOf(c.Header))
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.bypass(w, c, id)
	}
	if err != nil {
		return refuse(w, c, reader, err)
	}
	describe(w, c, reader, spec)
	return nil
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
		condition := "If-Match"
		if c.Header.Get(condition) == "" {
			condition = "If-Unmodified-Since"
		}
		return s3err.PreconditionFailed.About("Condition", condition)
	case errors.Is(err, akigw.ErrRangeNotSatisfiable):
		size := strconv.FormatInt(reader.Object.Size, 10)
		h.Set("Content-Range", "bytes */"+size)
		return s3err.InvalidRange.About("RangeRequested", c.Header.Get("Range")).About("ActualObjectSize", size)
	}
	return err
}

// describe sends status and headers of an object.
func describe(w *answer, c *Call, reader *tiers.Reader, spec akigw.RangeSpec) {
	checksums := spec.Whole() && strings.EqualFold(c.Header.Get("X-Amz-Checksum-Mode"), "ENABLED")
	h := w.Header()
	for name, values := range reader.Object.Header {
		if checksums || !strings.HasPrefix(name, "X-Amz-Checksum-") {
			h[wireName(name)] = values
		}
	}
	override(h, c)
	values := &[3]string{string(reader.Outcome), strconv.Itoa(int(reader.Age.Seconds())), strconv.FormatInt(reader.Range.Length, 10)}
	h["x-akigw-cache"], h["Age"], h["Content-Length"] = values[0:1:1], values[1:2:2], values[2:3:3]
	if reader.Outcome == akigw.Stale {
		h["Warning"] = []string{`110 - "Response is Stale"`}
	}
	status := http.StatusOK
	if p := reader.Part; p != nil {
		status = p.Status
		describePart(h, p, reader.Object.Size, strings.EqualFold(c.Header.Get("X-Amz-Checksum-Mode"), "ENABLED"))
	} else if spec.Partial(reader.Object.Size) {
		h["Content-Range"] = []string{reader.Range.ContentRange(reader.Object.Size)}
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}

// describePart adds what the upstream says of a part to what it says of the
// object.
func describePart(h http.Header, p *tiers.Part, size int64, checksums bool) {
	for name, values := range p.Header {
		if _, known := h[wireName(name)]; !known && (checksums || !strings.HasPrefix(name, "X-Amz-Checksum-")) {
			h[wireName(name)] = values
		}
	}
	if p.Status == http.StatusPartialContent {
		h["Content-Range"] = []string{p.Range.ContentRange(size)}
	}
}

// overridable are the headers that response-* parameters may set (GetObject).
var overridable = map[string]bool{
	"Content-Type": true, "Content-Language": true, "Expires": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true,
}

// override applies response-* parameters to this answer only. They are signed,
// like the whole query.
func override(h http.Header, c *Call) {
	for parameter, values := range c.query {
		if name, ok := strings.CutPrefix(parameter, "response-"); ok {
			h[textproto.CanonicalMIMEHeaderKey(name)] = values[:1:1]
		}
	}
}

// checkOverrides refuses an override of any other header, or one that would
// end its line.
func (c *Call) checkOverrides() error {
	for parameter, values := range c.query {
		name, ok := strings.CutPrefix(parameter, "response-")
		if ok && (!overridable[textproto.CanonicalMIMEHeaderKey(name)] || hasControl(values[0])) {
			return s3err.InvalidArgument.With("The response header override is not valid.").About("ArgumentName", parameter)
		}
	}
	return nil
}
