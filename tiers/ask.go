package tiers

import (
	"context"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// ask sends a HEAD, conditional on known if a 304 can confirm it, and publishes the result.
func (v *validator) ask(ctx context.Context, key akigw.Key, known *entry) (*entry, error) {
	generation := v.fence.enter(key)
	defer v.fence.leave(key)
	header := http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}
	conditional := known != nil && known.known() && known.strong && key.Version == "" && !v.bare304.has(known.origin)
	if conditional {
		header.Set("If-None-Match", known.ETag)
	}
	asked := time.Now()
	resp, err := v.upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: key, Header: header})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	switch {
	case conditional && resp.StatusCode == http.StatusNotModified:
		return v.notModified(ctx, known, resp, asked)
	case resp.StatusCode != http.StatusOK:
		err := &cold.ResponseError{Status: resp.StatusCode, Header: resp.Header}
		if known != nil && deleted(err.Status) {
			v.dropUpTo(key, generation)
		}
		v.rememberAbsence(key, generation, asked, err, true)
		return nil, err
	case resp.ContentLength < 0 || !strongETag(resp.Header.Get("Etag")):
		return nil, ErrUncacheable
	}
	e := v.newEntry(objectOf(key, resp.Header, resp.ContentLength), generation, asked)
	e.strong = strongValidator(resp.Header)
	if !e.asked() {
		return nil, ErrUncacheable
	}
	return v.merge(e, known), nil
}

// notModified handles a 304 to a HEAD that was conditional on known. It confirms known if the dates
// agree as well; otherwise it sends an unconditional HEAD.
func (v *validator) notModified(ctx context.Context, known *entry, resp *http.Response, asked time.Time) (*entry, error) {
	modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		v.bare304.add(known.origin) // it does not reveal a PUT of the same bytes
	}
	if err != nil || !modified.Equal(known.LastModified) {
		unconditional := *known
		unconditional.Header = nil
		return v.ask(ctx, known.Key, &unconditional)
	}
	confirmed := *known
	confirmed.validated = asked
	return v.confirm(&confirmed, known), nil
}

// merge publishes an entry made from an upstream response. If known, which may be nil, is the same
// version, the entry takes over its bytes.
func (v *validator) merge(e, known *entry) *entry {
	if known != nil && known.same(&e.Object) && maps.EqualFunc(known.Header, e.Header, slices.Equal) {
		confirmed := *known
		confirmed.validated, confirmed.strong = e.validated, known.strong || e.strong
		return v.confirm(&confirmed, known)
	}
	if known != nil && (known.same(&e.Object) || !known.known() && known.ETag == e.ETag && known.Size == e.Size) {
		e.extent, e.block, e.body, e.parts = known.extent, known.block, known.body, known.parts
	}
	v.publish(e)
	return e
}

// deleted reports whether a status says that the requested version no longer exists: it was deleted,
// or is a delete marker. A refusal says nothing about that.
func deleted(status int) bool {
	return status == http.StatusNotFound || status == http.StatusGone || status == http.StatusMethodNotAllowed
}

// confirm records that an entry was validated just now. Recording it in memory is enough if the
// entry is there: after a restart it is either validated again or trusted anyway.
func (v *validator) confirm(confirmed, known *entry) *entry {
	switch inMemory := v.hot.Has(hotKey{key: known.Key}); {
	case known.epoch != v.epoch:
		confirmed.epoch = v.epoch
		v.publish(confirmed)
	case confirmed.strong != known.strong: // happens once in the life of an entry
		v.publish(confirmed)
	case inMemory:
		v.remember(confirmed)
	case v.settings(known.Key).Freshness == rules.TTL, v.settings(known.Key).Freshness == rules.Events: // these modes use the time
		v.publish(confirmed)
	case known.Key.Version != "" && (v.warm == nil || !v.warm.HasEntry(known.Key)): // found through the entry of the current version
		v.publish(confirmed)
	}
	return confirmed
}
