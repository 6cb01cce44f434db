package gateway

import (
	"bytes"
	"context"
	"html"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/overlay"
)

// An acknowledged write promises an ETag and a Last-Modified. Clients see them for as long as the
// upstream has that object, even if the upstream gave it others. The cache does that for reads;
// this file does it for forwarded requests and responses, and for listings.

// conditional names the request headers with conditions on one object.
type conditional struct {
	tags  []string // ETags
	dates []string // dates to compare with
	exact []string // the Last-Modified itself
}

var (
	onObject = conditional{
		tags:  []string{"If-Match", "If-None-Match", "If-Range", "X-Amz-Object-If-Match"},
		dates: []string{"If-Modified-Since", "If-Unmodified-Since"},
		exact: []string{"If-Range", "X-Amz-If-Match-Last-Modified-Time"},
	}
	onSource = conditional{
		tags:  []string{"X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match"},
		dates: []string{"X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since"},
	}
)

// translated returns the headers of a request, with the ETag and Last-Modified in its conditions as
// the upstream knows them.
func (c *conditional) translated(h http.Header, t *overlay.Translation) http.Header {
	if t == nil {
		return h
	}
	h = h.Clone()
	change := func(names []string, translate func(string) string) {
		for _, name := range names {
			if v := h.Get(name); v != "" {
				h.Set(name, translate(v))
			}
		}
	}
	change(c.tags, t.ToUpstream)
	change(c.dates, t.DateToUpstream)
	change(c.exact, func(v string) string { return t.ExactDateToUpstream(v, http.TimeFormat) })
	return h
}

// hasExact reports whether a request has a condition that needs the exact date of the object.
func (c *conditional) hasExact(h http.Header) bool {
	return slices.ContainsFunc(c.exact, func(name string) bool { return h.Get(name) != "" })
}

// exact returns a translation with the exact date of the object in the upstream, which only a HEAD
// tells if the upload was verified by its own response. t may be nil.
func exact(ctx context.Context, upstream Upstream, t *overlay.Translation) (*overlay.Translation, error) {
	if t == nil || t.Spread == 0 {
		return t, nil
	}
	resp, err := upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: t.Key, Header: http.Header{}})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	return t.Exact(resp.Header, resp.ContentLength), nil
}

// replaces reports whether an operation, if it succeeds, replaces or deletes the object. CopyObject and
// CompleteMultipartUpload are not among them, because their 200 may carry an error: the date of the
// object tells afterwards.
func replaces(op string) bool {
	switch op {
	case "PutObject", "DeleteObject":
		return true
	default:
		return false
	}
}

// replacedBy reports whether a response says that a call has replaced or deleted the object.
func (c *call) replacedBy(resp *http.Response) bool {
	return replaces(c.route.sent()) && resp.StatusCode/100 == 2 && !c.query.Has("versionId")
}

// promised replaces the ETag and the date in the elements of an object in a listing by the promised
// ones.
func promised(raw []byte, t *overlay.Translation) []byte {
	etag, modified := elementOf(raw, "ETag"), elementOf(raw, "LastModified")
	size, err := strconv.ParseInt(elementOf(raw, "Size").text, 10, 64)
	if err != nil {
		size = -1
	}
	if at, err := time.Parse(time.RFC3339, modified.text); err == nil {
		if date, ok := t.Date(etag.text, elementOf(raw, "VersionId").text, at, size); ok {
			raw = modified.replaced(raw, date.UTC().Format(listTime))
		}
	}
	if told := t.ToClient(etag.text); told != etag.text {
		raw = elementOf(raw, "ETag").replaced(raw, told)
	}
	return raw
}

// found is the text of an XML element and its position; from equals to if there is none.
type found struct {
	text     string
	from, to int
}

// elementOf finds the first element with a name. It must have no attributes, like all elements of a
// listing.
func elementOf(raw []byte, name string) found {
	from := bytes.Index(raw, []byte("<"+name+">"))
	if from < 0 {
		return found{}
	}
	from += len(name) + 2
	n := bytes.Index(raw[from:], []byte("</"+name+">"))
	if n < 0 {
		return found{}
	}
	return found{html.UnescapeString(string(raw[from : from+n])), from, from + n}
}

// replaced returns raw with the text of the element replaced.
func (f found) replaced(raw []byte, text string) []byte {
	if f.from == f.to {
		return raw
	}
	return append(s3xml.AppendEscaped(bytes.Clone(raw[:f.from]), text), raw[f.to:]...)
}

// listObjectVersions forwards ListObjectVersions. In its document, the current version of a key has
// the promised ETag and date.
func (g *listings) listObjectVersions(w *answer, c *call, _ sigv4.Identity) error {
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	resp, _, err := g.forward.roundTrip(c, out, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && (g.Writes.Overlay.Translates(c.key.Bucket) || g.Reserved.in(c.key.Bucket)) {
		if err := g.promiseVersions(c, resp); err != nil {
			return err
		}
	}
	relay(w, c.Request, resp)
	return nil
}

// promiseVersions replaces the document of ListObjectVersions, without what belongs to vector
// collections. A document that is larger than any of S3's stays as it is, unless something in it has to
// be hidden.
func (g *listings) promiseVersions(c *call, resp *http.Response) error {
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	if err != nil {
		resp.Body.Close()
		return akigw.ErrUpstreamUnavailable
	}
	if len(document) > maxList && !g.Reserved.in(c.key.Bucket) {
		unread(resp, document)
		return nil
	}
	resp.Body.Close()
	if len(document) > maxList {
		return akigw.ErrUpstreamUnavailable
	}
	encoding := elementOf(document, "EncodingType").text
	document = eachVersion(document, func(raw []byte) []byte {
		key := akigw.Key{Bucket: c.key.Bucket, Name: decodedName(elementOf(raw, "Key").text, encoding)}
		if t := g.Writes.Overlay.Translation(key); t != nil && elementOf(raw, "IsLatest").text == "true" {
			return promised(raw, t)
		}
		return raw
	})
	document = g.Reserved.withoutVersions(c.key.Bucket, document, encoding)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(document)), int64(len(document))
	return nil
}

// eachVersion returns a document with the elements of each Version replaced. Text in XML contains
// no bare <, so no text is mistaken for an element.
func eachVersion(document []byte, replace func(raw []byte) []byte) []byte {
	var b bytes.Buffer
	for {
		v := elementOf(document, "Version")
		if v.to == 0 {
			b.Write(document)
			return b.Bytes()
		}
		b.Write(document[:v.from])
		b.Write(replace(document[v.from:v.to]))
		document = document[v.to:]
	}
}

// conditional reports whether a deletion has a condition.
func (r *deleteRequest) conditional() bool {
	return slices.ContainsFunc(r.Objects, func(o deletion) bool { return len(o.raw.ETag)+len(o.raw.LastModifiedTime) > 0 })
}

// translateDeletions translates the conditions of deletions.
func (g *objectWrites) translateDeletions(c *call, request *deleteRequest) (err error) {
	for i := range request.Objects {
		o := &request.Objects[i]
		t := g.Writes.Overlay.Translation(akigw.Key{Bucket: c.key.Bucket, Name: o.name})
		if t == nil || o.version != "" {
			continue
		}
		for k, v := range o.raw.ETag {
			o.raw.ETag[k] = t.ToUpstream(v)
		}
		if len(o.raw.LastModifiedTime) > 0 {
			if t, err = exact(c.Context(), g.Upstream, t); err != nil {
				return err
			}
		}
		for k, v := range o.raw.LastModifiedTime {
			for _, layout := range []string{http.TimeFormat, time.RFC3339} {
				v = t.ExactDateToUpstream(v, layout)
			}
			o.raw.LastModifiedTime[k] = v
		}
	}
	return nil
}
