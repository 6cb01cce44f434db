package tiers

import (
	"context"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// In mode Exclusive nobody else writes. What this gateway has written is therefore known without a
// request for each object: the headers from predictions, the date from pages.

// soleWriter reports whether the upstream still has the object of e, because only this gateway
// could have replaced it, and has not.
func (v *validator) soleWriter(e *entry) bool {
	return v.settings(e.Key).Freshness == rules.Exclusive && e.Key.Version == "" && e.epoch >= v.trusted && !v.fence.writing(e.Key)
}

// holds reports whether e is still the entry of its key. The caller has entered the key's fence, so
// that fence.alive tells from then on.
func (v *validator) holds(e *entry) bool {
	now := v.peek(e.Key)
	return now != nil && now.Generation == e.Generation
}

// asPredicted returns the entry of an object that this gateway has just written, with the headers
// that the upstream will show. It returns nil if only the upstream knows them.
func (v *validator) asPredicted(ctx context.Context, known *entry, c akigw.Conditions) *entry {
	if known.predicted == nil || c.NoCache || c.MaxAge > 0 || !v.soleWriter(known) || !v.predictions.trusts(known) {
		return nil
	}
	modified := known.LastModified
	if modified.IsZero() {
		modified = v.pages.modified(ctx, known, pageAge)
	}
	v.fence.enter(known.Key)
	defer v.fence.leave(known.Key)
	e := *known
	if modified.IsZero() || !v.holds(known) || !v.predictions.complete(&e, modified) {
		return nil
	}
	v.publish(&e)
	return &e
}

// listed reports whether the upstream has listed the object of e within the last seconds.
func (v *validator) listed(ctx context.Context, e *entry) bool {
	return v.soleWriter(e) && !v.pages.modified(ctx, e, confirmsFor).IsZero()
}

// learn compares what was predicted about e with the response to a HEAD. The caller entered the
// key's fence, and saw that it holds e, before it sent the HEAD.
func (v *validator) learn(e, shown *entry) {
	if shown == nil || shown.ETag != e.ETag || shown.Size != e.Size || !v.soleWriter(e) || !v.fence.alive(e.Key, e.Generation) {
		return // another object, or one that is being replaced
	}
	if e.predicted != nil {
		v.predictions.compare(e, shown)
	}
	if !v.pages.compare(e, shown) {
		v.counters.wrongPages.Inc()
		v.log.Warn("a listing of the upstream does not agree with its response to a HEAD; the listing is not used", "key", e.Key.String())
	}
}
