package akigw

import (
	"net/http"
	"strings"
	"time"
)

// Conditions are the conditional headers of a read (RFC 9110 §13.1). Absent
// ones are empty.
type Conditions struct {
	IfMatch, IfNoneMatch               string
	IfModifiedSince, IfUnmodifiedSince string
}

// ConditionsOf takes the conditional headers of a request.
func ConditionsOf(h http.Header) Conditions {
	return Conditions{
		IfMatch:           first(h["If-Match"]),
		IfNoneMatch:       first(h["If-None-Match"]),
		IfModifiedSince:   first(h["If-Modified-Since"]),
		IfUnmodifiedSince: first(h["If-Unmodified-Since"]),
	}
}

// Any reports whether there is a condition at all.
func (c Conditions) Any() bool { return c != Conditions{} }

// Check evaluates the conditions for a GET or HEAD in the order of RFC 9110
// §13.2.2, which S3 follows: it returns ErrPreconditionFailed, ErrNotModified
// or nil. Dates that do not parse are ignored (RFC 9110 §13.1.3).
func (c Conditions) Check(o *Object) error {
	if c.IfMatch != "" {
		if !matchesETag(c.IfMatch, o.ETag) {
			return ErrPreconditionFailed
		}
	} else if t, ok := httpTime(c.IfUnmodifiedSince); ok && o.LastModified.After(t) {
		return ErrPreconditionFailed
	}
	if c.IfNoneMatch != "" {
		if matchesETag(c.IfNoneMatch, o.ETag) {
			return ErrNotModified
		}
	} else if t, ok := httpTime(c.IfModifiedSince); ok && !o.LastModified.After(t) {
		return ErrNotModified
	}
	return nil
}

func httpTime(value string) (time.Time, bool) {
	if value == "" {
		return time.Time{}, false
	}
	t, err := http.ParseTime(value)
	return t, err == nil
}

// matchesETag reports whether an entity-tag list, "*" or, as S3 allows, a tag
// without quotes names etag.
func matchesETag(list, etag string) bool {
	bare := strings.Trim(etag, `"`)
	for item := range strings.SplitSeq(list, ",") {
		item = strings.TrimPrefix(strings.TrimSpace(item), "W/")
		if item == "*" || strings.Trim(item, `"`) == bare {
			return true
		}
	}
	return false
}
