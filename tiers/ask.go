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

// ask sends a HEAD, conditional on known if there is one that a 304 can confirm, and
// publishes what it learns.
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
		if known != nil && gone(err.Status) {
			v.dropEntry(key)
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

// notModified takes a 304 to a HEAD that was conditional on known. It confirms known if the dates
// agree, too; if not, the upstream is asked once more, without a condition.
func (v *validator) notModified(ctx context.Context, known *entry, resp *http.Response, asked time.Time) (*entry, error) {
	modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil {
		v.bare304.add(known.origin) // it cannot tell a re-put of the same bytes
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

// merge publishes an entry that the upstream has just told of. If known, which may be nil, is the
// same version, the entry takes over its bytes.
func (v *validator) merge(e, known *entry) *entry {
	if known != nil && known.same(&e.Object) && maps.EqualFunc(known.Header, e.Header, slices.Equal) {
		confirmed := *known
		confirmed.validated, confirmed.strong = e.validated, known.strong || e.strong
		return v.confirm(&confirmed, known)
	}
	if known != nil && (known.same(&e.Object) || !known.known() && known.ETag == e.ETag && known.Size == e.Size) {
		e.extent, e.block, e.body = known.extent, known.block, known.body
	}
	v.publish(e)
	return e
}

// gone reports whether a status says that the version which was asked for does not exist any more:
// it is deleted, or a delete marker. A refusal says nothing of it.
func gone(status int) bool {
	return status == http.StatusNotFound || status == http.StatusGone || status == http.StatusMethodNotAllowed
}

// confirm remembers that an entry was validated just now. In memory is enough,
// if it is there: after a restart it is validated again or trusted anyway.
func (v *validator) confirm(confirmed, known *entry) *entry {
	switch inMemory := v.hot.Has(hotKey{key: known.Key}); {
	case known.epoch != v.epoch:
		confirmed.epoch = v.epoch
		v.publish(confirmed)
	case confirmed.strong != known.strong: // once in the life of an entry
		v.publish(confirmed)
	case inMemory:
		v.remember(confirmed)
	case v.settings(known.Key).Freshness == rules.TTL, v.settings(known.Key).Freshness == rules.Events: // which look at the time
		v.publish(confirmed)
	case known.Key.Version != "" && (v.warm == nil || !v.warm.HasEntry(known.Key)): // found by way of the current one
		v.publish(confirmed)
	}
	return confirmed
}
