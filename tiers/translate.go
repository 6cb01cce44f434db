package tiers

import (
	"context"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
)

// Translation is between the ETag that a client was promised of an object and the one
// that the upstream gave it. The methods of nil translate nothing.
type Translation journal.Translation

// Translation returns what is remembered of a key, nil if nothing is.
func (s *Store) Translation(key akigw.Key) *Translation {
	if s.back == nil || key.Version != "" {
		return nil
	}
	t, ok := s.back.journal.Translation(key)
	if !ok {
		return nil
	}
	return (*Translation)(&t)
}

// ToUpstream puts the upstream's ETag into a list of those that a client names
// (If-Match and the like).
func (t *Translation) ToUpstream(list string) string {
	if t == nil || list == "" {
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

// ToClient is the promised ETag in the place of the upstream's, and any other as it is.
func (t *Translation) ToClient(etag string) string {
	if t != nil && bare(etag) == bare(t.Upstream) {
		return t.Promised
	}
	return etag
}

// bare is an ETag without the quotes that not everybody puts around it.
func bare(etag string) string { return strings.Trim(etag, `"`) }

// conditions are those of a client as they are for the upstream.
func (t *Translation) conditions(c akigw.Conditions) akigw.Conditions {
	c.IfMatch, c.IfNoneMatch = t.ToUpstream(c.IfMatch), t.ToUpstream(c.IfNoneMatch)
	return c
}

// translate has a reader show the ETag that was promised. If the key has another object
// by now, the translation is forgotten.
func (s *Store) translate(t *Translation, r *Reader) {
	if t == nil || r == nil {
		return
	}
	if bare(r.Object.ETag) == bare(t.Upstream) {
		object := *r.Object
		object.ETag, object.Header = t.Promised, r.Object.Header.Clone()
		object.Header["Etag"] = []string{t.Promised}
		r.Object = &object
	} else if r.Outcome != akigw.Stale {
		s.forgetTranslation(t)
	}
}

// forgetTranslation drops a translation in the background. One that stays does no harm:
// it speaks of an object that nobody has any more.
func (s *Store) forgetTranslation(t *Translation) {
	s.work.Go(func() {
		ctx, cancel := context.WithTimeout(s.ctx, forgetPatience)
		defer cancel()
		_ = s.back.journal.Forget(ctx, journal.Translation(*t))
	})
}

// forgetPatience is how long the journal may take for it.
const forgetPatience = 10 * time.Second
