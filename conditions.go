package akigw

import (
	"iter"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Conditions are the conditional headers of a read (RFC 9110 §13.1). An absent header is empty.
type Conditions struct {
	IfMatch, IfNoneMatch               string
	IfModifiedSince, IfUnmodifiedSince string
	// NoCache asks for validation by the upstream before the response. MaxAge limits the time since
	// the last validation; 0 is no limit (RFC 9111 §5.2.1).
	NoCache bool
	MaxAge  time.Duration
}

// ConditionsOf reads the conditional headers of a request.
func ConditionsOf(h http.Header) Conditions {
	c := Conditions{
		IfMatch:           first(h["If-Match"]),
		IfNoneMatch:       first(h["If-None-Match"]),
		IfModifiedSince:   first(h["If-Modified-Since"]),
		IfUnmodifiedSince: first(h["If-Unmodified-Since"]),
	}
	if _, ok := h["Cache-Control"]; ok {
		c.cacheControl(h)
	}
	return c
}

// cacheControl reads the request directives that affect freshness. A max-age that is not a number
// is treated as no-cache, to be on the safe side.
func (c *Conditions) cacheControl(h http.Header) {
	for name, value := range directives(h) {
		switch {
		case name == "no-cache":
			c.NoCache = true
		case name == "max-age":
			seconds, err := strconv.ParseInt(value, 10, 32)
			if err != nil || seconds <= 0 {
				c.NoCache = true
			}
			c.MaxAge = time.Duration(seconds) * time.Second
		}
	}
}

// NoStore reports whether a request forbids storing any part of its response (RFC 9111 §5.2.1.5).
func NoStore(h http.Header) bool {
	for name := range directives(h) {
		if name == "no-store" {
			return true
		}
	}
	return false
}

// directives yields the directives of Cache-Control, names in lower case.
func directives(h http.Header) iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for _, line := range h["Cache-Control"] {
			for directive := range strings.SplitSeq(line, ",") {
				name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
				if !yield(strings.ToLower(name), strings.Trim(value, `"`)) {
					return
				}
			}
		}
	}
}

// Any reports whether there is any precondition.
func (c Conditions) Any() bool {
	return c.IfMatch != "" || c.IfNoneMatch != "" || c.IfModifiedSince != "" || c.IfUnmodifiedSince != ""
}

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

// matchesETag reports whether etag matches a list of entity tags, "*" or, as S3 allows, an entity
// tag without quotes.
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
