package gateway

import (
	"bytes"
	"html"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
)

// What was promised of an object when its write was acknowledged, its ETag and its
// Last-Modified, is shown for as long as the upstream holds that object, whatever the
// upstream says. Reads from the cache are tiers' business; here are requests and answers
// that are forwarded, and documents with many objects.

// conditional are the headers of a request that hold conditions on one object.
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

// translated are headers of a request with the upstream's ETag and Last-Modified in its
// conditions.
func (c *conditional) translated(h http.Header, t *tiers.Translation) http.Header {
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

// replaces are the operations whose success leaves another object, or none, in the place of
// the one that there was. Those whose success can be an error, CopyObject and
// CompleteMultipartUpload, are not among them: the date of what they leave tells.
var replaces = map[string]bool{"PutObject": true, "DeleteObject": true}

// replacedBy reports whether an answer says that a call has replaced or deleted the object.
func (c *call) replacedBy(resp *http.Response) bool {
	return replaces[c.route.Op] && resp.StatusCode/100 == 2 && !c.query.Has("versionId")
}

// promised puts what was promised in the place of what the upstream says in the elements of
// an object in a listing.
func promised(raw []byte, t *tiers.Translation) []byte {
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

// found is the text of an element, and where it is: from and to are equal for none.
type found struct {
	text     string
	from, to int
}

// elementOf finds the first element of a name that has no attributes, as those of a
// listing have none.
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

// replaced is raw with another text in the element.
func (f found) replaced(raw []byte, text string) []byte {
	if f.from == f.to {
		return raw
	}
	return append(s3xml.AppendEscaped(bytes.Clone(raw[:f.from]), text), raw[f.to:]...)
}

// listObjectVersions forwards ListObjectVersions. Where the current version of a key is the
// one that something was promised of, the document says so.
func (g *listings) listObjectVersions(w *answer, c *call, _ sigv4.Identity) error {
	out, err := g.forward.prepare(c)
	if err != nil {
		return err
	}
	resp, _, err := g.forward.roundTrip(c, out, nil)
	if err != nil {
		return err
	}
	if resp.StatusCode == http.StatusOK && g.Store.Translates(c.key.Bucket) {
		if err := g.promiseVersions(c, resp); err != nil {
			return err
		}
	}
	relay(w, c.Request, resp)
	return nil
}

// promiseVersions replaces the document of an answer to ListObjectVersions. One that is
// larger than any that S3 sends stays as it is.
func (g *listings) promiseVersions(c *call, resp *http.Response) error {
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxList+1))
	if err != nil {
		resp.Body.Close()
		return akigw.ErrUpstreamUnavailable
	}
	if len(document) > maxList {
		unread(resp, document)
		return nil
	}
	resp.Body.Close()
	encoding := elementOf(document, "EncodingType").text
	document = eachVersion(document, func(raw []byte) []byte {
		key := akigw.Key{Bucket: c.key.Bucket, Name: decodedName(elementOf(raw, "Key").text, encoding)}
		if t := g.Store.Translation(key); t != nil && elementOf(raw, "IsLatest").text == "true" {
			return promised(raw, t)
		}
		return raw
	})
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(document)), int64(len(document))
	return nil
}

// eachVersion is a document with the elements of each Version replaced. No text in it has a
// < that would be taken for one.
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
func (g *objectWrites) translateDeletions(c *call, request *deleteRequest) {
	for i := range request.Objects {
		o := &request.Objects[i]
		t := g.Store.Translation(akigw.Key{Bucket: c.key.Bucket, Name: o.name})
		if t == nil || o.version != "" {
			continue
		}
		for k, v := range o.raw.ETag {
			o.raw.ETag[k] = t.ToUpstream(v)
		}
		for k, v := range o.raw.LastModifiedTime {
			for _, layout := range []string{http.TimeFormat, time.RFC3339} {
				v = t.ExactDateToUpstream(v, layout)
			}
			o.raw.LastModifiedTime[k] = v
		}
	}
}
