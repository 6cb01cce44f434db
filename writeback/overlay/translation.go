package overlay

import (
	"context"
	"maps"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers"
)

// Translation maps between the ETag and Last-Modified that clients were promised for an object and
// those that the upstream gave it. The methods of a nil Translation change nothing.
type Translation journal.Translation

// Translation returns the translation of the current version of a key, nil if there is none.
func (o *Overlay) Translation(key akigw.Key) *Translation {
	known, ok := o.translation(key)
	if !ok {
		return nil
	}
	t := known // a separate variable, so that nothing is allocated if there is none
	return &t
}

// translation is Translation without an allocation.
func (o *Overlay) translation(key akigw.Key) (t Translation, ok bool) {
	if o.journal == nil || key.Version != "" {
		return t, false
	}
	known, ok := o.journal.Translation(key)
	return Translation(known), ok
}

// Translates reports whether any object of a bucket has an ETag or date in the upstream other than
// the promised one.
func (o *Overlay) Translates(bucket string) bool {
	return o.journal != nil && o.journal.Translates(bucket)
}

// ToUpstream replaces the promised ETag by the upstream's in a client's list of ETags (If-Match and
// the like).
func (t *Translation) ToUpstream(list string) string {
	if t == nil || list == "" || t.Promised == t.Upstream {
		return list
	}
	tags := strings.Split(list, ",")
	for i, tag := range tags {
		if bare(strings.TrimSpace(tag)) == bare(t.Promised) {
			tags[i] = t.Upstream
		}
	}
	return strings.Join(tags, ",")
}

// ToClient returns the promised ETag for the upstream's, and any other ETag unchanged.
func (t *Translation) ToClient(etag string) string {
	if t != nil && bare(etag) == bare(t.Upstream) {
		return t.Promised
	}
	return etag
}

// bare returns an ETag without its quotes, which not everyone sends.
func bare(etag string) string { return strings.Trim(etag, `"`) }

// dated reports whether the upstream's date is known.
func (t *Translation) dated() bool { return t != nil && !t.UpstreamModified.IsZero() }

// DateToUpstream converts the date of a condition (If-Modified-Since and the like) so that the
// upstream decides as the promised Last-Modified would: the upstream's object is not newer than the
// result exactly if the promised Last-Modified is not newer than date. An object that has replaced
// it is compared with date itself, as far as the order of the two dates allows. Anything other than
// an HTTP date stays as it is.
func (t *Translation) DateToUpstream(date string) string {
	if !t.dated() || date == "" {
		return date
	}
	asked, err := http.ParseTime(date)
	if err != nil {
		return date
	}
	newer := t.PromisedModified.Truncate(time.Second).After(asked)
	first, last := journal.DateBounds(t.UpstreamModified, t.Spread)
	switch before := first.Add(-time.Second); {
	case newer && asked.After(before):
		asked = before
	case !newer && asked.Before(last):
		asked = last
	}
	return asked.UTC().Format(http.TimeFormat)
}

// ExactDateToUpstream returns the upstream's Last-Modified for the promised one (If-Range and the
// like), and any other date unchanged. layout is the format of the date.
func (t *Translation) ExactDateToUpstream(date, layout string) string {
	asked, err := time.Parse(layout, date)
	if !t.dated() || err != nil || !asked.Equal(t.PromisedModified.Truncate(time.Second)) {
		return date
	}
	return t.UpstreamModified.UTC().Format(layout)
}

// Exact returns the translation with the upstream's exact date, which is in the header of its response to
// a HEAD, if that response describes the object of the promise.
func (t *Translation) Exact(h http.Header, size int64) *Translation {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if _, ok := t.Date(h.Get("Etag"), h.Get("X-Amz-Version-Id"), modified, size); err != nil || !ok {
		return t
	}
	exact := *t
	exact.UpstreamModified, exact.Spread = modified, 0
	return &exact
}

// Date returns the promised Last-Modified of an object that the upstream describes by the
// arguments; false if it is not the object that the promise is about. size is -1, and etag and
// version are "", where unknown.
func (t *Translation) Date(etag, version string, modified time.Time, size int64) (time.Time, bool) {
	if !t.dated() {
		return time.Time{}, false
	}
	first, last := journal.DateBounds(t.UpstreamModified, t.Spread)
	if second := modified.Truncate(time.Second); second.Before(first) || second.After(last) {
		return time.Time{}, false
	}
	if etag != "" && bare(etag) != bare(t.Upstream) || size >= 0 && size != t.Size || version != t.Version && version != "" && version != nullVersion {
		return time.Time{}, false
	}
	return t.PromisedModified, true
}

// nullVersion is the version ID of objects written before a bucket had versions.
const nullVersion = "null"

// Answer makes the upstream's response to an operation on a key show what was promised. t is the
// key's translation from before the request was sent.
func (o *Overlay) Answer(key akigw.Key, t *Translation, op string, resp *http.Response) {
	h := resp.Header
	if etag := h.Get("Etag"); t != nil && etag != "" {
		defer func() { h.Set("Etag", t.ToClient(etag)) }() // after the date, which is identified by the upstream's ETag
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	if err != nil {
		return
	}
	for _, t := range []*Translation{t, o.Translation(key)} { // the object may have been flushed in the meantime
		if date, ok := t.Date(h.Get("Etag"), h.Get("X-Amz-Version-Id"), modified, wholeSize(op, resp)); ok {
			h.Set("Last-Modified", date.UTC().Format(http.TimeFormat))
			return
		}
	}
}

// wholeSize returns the size of the object that a response is about, -1 if unknown.
func wholeSize(op string, resp *http.Response) int64 {
	if op != "GetObject" && op != "HeadObject" {
		return -1
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return resp.ContentLength
	case http.StatusPartialContent:
		_, after, _ := strings.Cut(resp.Header.Get("Content-Range"), "/")
		if n, err := strconv.ParseInt(after, 10, 64); err == nil {
			return n
		}
	}
	return -1
}

// speaksOf reports whether t is about an object, and not about an earlier one of its key.
func (t *Translation) speaksOf(o *akigw.Object) bool {
	if bare(o.ETag) != bare(t.Upstream) {
		return false
	}
	_, same := t.Date(o.ETag, o.VersionID(), o.LastModified, o.Size)
	return same || !t.dated() || t.Promised != t.Upstream
}

// show changes an object that t is about to the one that clients see. Its header is replaced.
func (t *Translation) show(object *akigw.Object) {
	object.Header = maps.Clone(object.Header) // its values are replaced, not changed
	if date, ok := t.Date(object.ETag, object.VersionID(), object.LastModified, object.Size); ok {
		object.LastModified = date
		object.Header["Last-Modified"] = []string{date.UTC().Format(http.TimeFormat)}
	}
	if t.Promised != t.Upstream {
		object.ETag = t.Promised
		object.Header["Etag"] = []string{t.Promised}
	}
}

// Replaced says that an object that t may be about was replaced or deleted through this gateway. A
// new one with the same bytes, written in the same second, could not be told from it. t may be nil.
func (o *Overlay) Replaced(t *Translation) {
	if t != nil {
		o.forget(t)
	}
}

// forget drops a translation in the background. One that remains does no harm: it is about an
// object that no longer exists.
func (o *Overlay) forget(t *Translation) {
	commit := o.journal.Forget(journal.Translation(*t))
	o.work.Go(func() {
		ctx, cancel := context.WithTimeout(o.ctx, forgetTimeout)
		defer cancel()
		_ = commit(ctx) // best effort, see above
	})
}

// forgetTimeout is how long dropping a translation may take.
const forgetTimeout = 10 * time.Second

// Promise implements tiers.Overlay.
func (o *Overlay) Promise(key akigw.Key) tiers.Promise {
	if t, ok := o.translation(key); ok {
		return &promise{overlay: o, t: t}
	}
	return nil
}

// promise is a translation as the cache uses it. It implements tiers.Promise.
type promise struct {
	overlay *Overlay
	t       Translation
	object  akigw.Object // the result of Object: one allocation for both
}

// Conditions implements tiers.Promise.
func (p *promise) Conditions(c akigw.Conditions) akigw.Conditions {
	c.IfMatch, c.IfNoneMatch = p.t.ToUpstream(c.IfMatch), p.t.ToUpstream(c.IfNoneMatch)
	c.IfModifiedSince, c.IfUnmodifiedSince = p.t.DateToUpstream(c.IfModifiedSince), p.t.DateToUpstream(c.IfUnmodifiedSince)
	return c
}

// Object implements tiers.Promise.
func (p *promise) Object(o *akigw.Object) (*akigw.Object, bool) {
	if !p.t.speaksOf(o) {
		return nil, false
	}
	p.object = *o
	p.t.show(&p.object)
	return &p.object, true
}

// Forget implements tiers.Promise: it drops the translation, unless another one has replaced it.
func (p *promise) Forget() {
	if now, ok := p.overlay.translation(p.t.Key); ok && now == p.t {
		p.overlay.forget(&p.t)
	}
}
