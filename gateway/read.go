package gateway

import (
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/textproto"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
)

// cachedKey returns the key under which the cache has the object of a read, or false if the cache
// cannot answer the read. The null version can be replaced, so it is not cached.
func (c *call) cachedKey() (key akigw.Key, ok bool) {
	key = c.key
	if c.query.Has("versionId") {
		key.Version = c.query.Get("versionId")
		if key.Version == "" || key.Version == "null" || len(key.Version) > maxVersion || strings.IndexByte(key.Version, 0) >= 0 {
			return key, false
		}
	}
	return key, c.cacheable()
}

// spec returns the range or part number that a read asks for; it cannot have both (see check).
func (c *call) spec() akigw.RangeSpec {
	if c.query.Has("partNumber") {
		n, _ := strconv.Atoi(c.query.Get("partNumber")) // check has parsed it
		return akigw.PartSpec(n, c.wantsChecksums())
	}
	return akigw.ParseRange(c.Header.Get("Range"))
}

// wantsChecksums reports whether a read asks for x-amz-checksum-* headers.
func (c *call) wantsChecksums() bool {
	return strings.EqualFold(c.Header.Get("X-Amz-Checksum-Mode"), "ENABLED")
}

// maxVersion is the longest version ID (S3: 1,024 bytes).
const maxVersion = 1024

// objectReads answers GetObject and HeadObject from the cache.
type objectReads struct {
	Store   *tiers.Store
	forward *forwarder
	compare *compare.Comparer // nil: nothing is compared
	log     *slog.Logger
}

// getObject answers GetObject: it checks the conditions and the range, sends the headers, and then
// the bytes as they arrive.
func (g *objectReads) getObject(w *answer, c *call, id sigv4.Identity) error {
	key, ok := c.cachedKey()
	if !ok {
		return g.bypass(w, c, id)
	}
	spec := c.spec()
	reader, err := g.open(c, key, spec)
	if reader != nil {
		defer reader.Close()
	}
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.uncached(w, c, id, key)
	}
	if err != nil {
		g.unmet(reader)
		return refuse(w, c, reader, err)
	}
	return g.sendObject(w, c, reader, spec)
}

// open starts a read of the object; on the fast path only if it is in memory or on local disk.
func (g *objectReads) open(c *call, key akigw.Key, spec akigw.RangeSpec) (*tiers.Reader, error) {
	if !c.localOnly {
		return g.Store.Get(c.Context(), key, spec, akigw.ConditionsOf(c.Header))
	}
	if reader := g.Store.Local(c.Context(), key, spec, akigw.ConditionsOf(c.Header)); reader != nil {
		return reader, nil
	}
	return nil, errGivenUp
}

// bypass forwards a read past the cache; on the fast path it gives up.
func (g *objectReads) bypass(w *answer, c *call, id sigv4.Identity) error {
	if c.localOnly {
		return errGivenUp
	}
	return g.forward.bypass(w, c, id)
}

// sendObject sends what a reader returns. What the reader lends is sent before the reader is
// closed.
func (g *objectReads) sendObject(w *answer, c *call, reader *tiers.Reader, spec akigw.RangeSpec) error {
	ctx := c.Context()
	out := newObjectWriter(w, c, reader)
	out.sampled = g.sample(c, reader)
	defer out.close()
	describe(w, c, reader, spec)
	reader.Borrow = true
	for {
		data, err := reader.Next(ctx)
		if err == io.EOF {
			out.end()
			return nil
		}
		if err != nil {
			g.log.Warn("aborted a response that could not be completed", "request_id", w.requestID[0], "key", c.key.String(), "error", err)
			panic(http.ErrAbortHandler)
		}
		if out.write(data) != nil {
			return nil // the client has disconnected
		}
	}
}

// objectWriter sends the bytes that a reader lends. Headers and bytes that are available at once
// are sent with one system call, and never more than reader.Hold bytes are held.
type objectWriter struct {
	w       *answer
	r       *http.Request
	reader  *tiers.Reader
	local   bool // fast path, which holds what is written by itself
	holding bool // the connection holds what net/http writes
	held    int  // bytes written since the last flush
	sampled *sampled
}

func newObjectWriter(w *answer, c *call, reader *tiers.Reader) objectWriter {
	if c.localOnly {
		if holds, ok := w.ResponseWriter.(interface{ HoldAtMost(bytes int64) }); ok {
			holds.HoldAtMost(reader.Hold)
		}
	}
	return objectWriter{w: w, r: c.Request, reader: reader, local: c.localOnly,
		holding: reader.Outcome != akigw.Cold && len(c.pace) == 0 && httpguard.Hold(c.Request)}
}

// write sends data. An error means that the client has disconnected.
func (o *objectWriter) write(data []byte) error {
	if _, err := o.w.Write(data); err != nil {
		return err
	}
	o.sampled.write(data)
	if o.held += len(data); int64(o.held) < o.reader.Hold {
		return nil
	}
	var err error
	if o.holding {
		err = httpguard.Release(o.r)
	} else {
		o.w.flush()
	}
	if err != nil {
		return err
	}
	o.reader.Sent()
	o.held, o.holding = 0, o.holding && httpguard.Hold(o.r)
	return nil
}

// end completes the response.
func (o *objectWriter) end() {
	if o.holding || o.local {
		o.w.flush()
	}
	o.sampled.end()
}

// close sends what the connection still holds.
func (o *objectWriter) close() {
	_ = httpguard.Release(o.r) // a broken connection is noticed at the next read
	o.sampled.offer(o.w)
}

// headObject answers HeadObject from the entry that would serve a GET.
func (g *objectReads) headObject(w *answer, c *call, id sigv4.Identity) error {
	key, ok := c.cachedKey()
	if !ok {
		return g.forward.bypass(w, c, id)
	}
	spec := c.spec()
	reader, err := g.Store.Head(c.Context(), key, spec, akigw.ConditionsOf(c.Header))
	if errors.Is(err, tiers.ErrUncacheable) {
		return g.uncached(w, c, id, key)
	}
	if err != nil {
		g.unmet(reader)
		return refuse(w, c, reader, err)
	}
	describe(w, c, reader, spec)
	s := g.sample(c, reader)
	s.end()
	s.offer(w)
	return nil
}

// refuse returns the error of a read that fails its own conditions or range.
func refuse(w *answer, c *call, reader *tiers.Reader, err error) error {
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

// describe sends the status and the headers of an object.
func describe(w *answer, c *call, reader *tiers.Reader, spec akigw.RangeSpec) {
	checksums := spec.Whole() && c.wantsChecksums()
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
		describePart(h, p, reader.Object.Size, spec.Checksum())
	} else if spec.Partial(reader.Object.Size) {
		h["Content-Range"] = []string{reader.Range.ContentRange(reader.Object.Size)}
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
}

// describePart adds the headers of a part to those of the object.
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

// overridable reports whether a response-* parameter may set a header (GetObject).
func overridable(header string) bool {
	switch header {
	case "Content-Type", "Content-Language", "Expires", "Cache-Control", "Content-Disposition", "Content-Encoding":
		return true
	default:
		return false
	}
}

// override applies response-* parameters to this response. They are signed, like the whole query.
func override(h http.Header, c *call) {
	for parameter, values := range c.query {
		if name, ok := strings.CutPrefix(parameter, "response-"); ok {
			h[textproto.CanonicalMIMEHeaderKey(name)] = values[:1:1]
		}
	}
}

// checkOverrides refuses the override of any other header, and one that would end its line.
func (c *call) checkOverrides() error {
	for parameter, values := range c.query {
		name, ok := strings.CutPrefix(parameter, "response-")
		if ok && (!overridable(textproto.CanonicalMIMEHeaderKey(name)) || hasControl(values[0])) {
			return s3err.InvalidArgument.With("The response header override is not valid.").About("ArgumentName", parameter)
		}
	}
	return nil
}
