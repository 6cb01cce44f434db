package akigw

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestRanges: what counts as a range, and what it is of an object.
//
// Scenarios: E9.
func TestRanges(t *testing.T) {
	for _, c := range []struct {
		header        string
		size          int64
		start, length int64 // length -1: not satisfiable
		whole         bool
	}{
		{"", 10, 0, 10, true},
		{"bytes=0-4", 10, 0, 5, false},
		{"bytes=5-", 10, 5, 5, false},
		{"bytes=9-9", 10, 9, 1, false},
		{"bytes=0-100", 10, 0, 10, false},
		{"bytes=-3", 10, 7, 3, false},
		{"bytes=-100", 10, 0, 10, false},
		{"bytes=10-", 10, 0, -1, false},
		{"bytes=10-20", 10, 0, -1, false},
		{"bytes=-0", 10, 0, -1, false},
		{"bytes=0-0", 0, 0, -1, false},
		{"bytes=-5", 0, 0, 0, false}, // satisfiable (RFC 9110 §14.1.2), and all there is
		{"bytes=0-99999999999999999999", 10, 0, 10, false},
		{"bytes=99999999999999999999-", 10, 0, -1, false},
		{"bytes=-99999999999999999999", 10, 0, 10, false},
		{"bytes=5-2", 10, 0, 10, true},
		{"bytes=0-1,3-4", 10, 0, 10, true},
		{"bytes=", 10, 0, 10, true},
		{"bytes= 1-2", 10, 0, 10, true},
		{"bytes=1 -2", 10, 0, 10, true},
		{"bytes=-", 10, 0, 10, true},
		{"bytes=a-b", 10, 0, 10, true},
		{"bytes=+1-2", 10, 0, 10, true},
		{"lines=0-1", 10, 0, 10, true},
		{"0-1", 10, 0, 10, true},
	} {
		spec := ParseRange(c.header)
		r, err := spec.Resolve(c.size)
		if partial := !c.whole && c.size > 0; spec.Partial(c.size) != partial {
			t.Errorf("%q of %d: partial %t", c.header, c.size, !partial)
		}
		if spec.Whole() != c.whole || (c.length < 0) != errors.Is(err, ErrRangeNotSatisfiable) || err == nil && r != (Range{c.start, c.length}) {
			t.Errorf("%q of %d: whole %t, %+v, %v", c.header, c.size, spec.Whole(), r, err)
		}
	}
}

func FuzzParseRange(f *testing.F) {
	for _, s := range []string{"bytes=0-4", "bytes=-3", "bytes=5-", "bytes=99999999999999999999-", "bytes=0-1,3-4"} {
		f.Add(s, int64(10))
	}
	f.Fuzz(func(t *testing.T, header string, size int64) {
		size &= 1<<50 - 1
		r, err := ParseRange(header).Resolve(size)
		if err == nil && (r.Start < 0 || r.Length < 0 || r.End() > size || r.Length == 0 && size > 0) {
			t.Errorf("%q of %d: %+v", header, size, r)
		}
	})
}

// TestConditions follows RFC 9110 §13.2.2.
func TestConditions(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	o := &Object{ETag: `"abc"`, LastModified: modified}
	at, before, after := modified.Format(http.TimeFormat), modified.Add(-time.Second).Format(http.TimeFormat), modified.Add(time.Second).Format(http.TimeFormat)
	for _, c := range []struct {
		name string
		c    Conditions
		want error
	}{
		{"none", Conditions{}, nil},
		{"If-Match, equal", Conditions{IfMatch: `"abc"`}, nil},
		{"If-Match, without quotes", Conditions{IfMatch: `abc`}, nil},
		{"If-Match, in a list", Conditions{IfMatch: `"x", "abc"`}, nil},
		{"If-Match, star", Conditions{IfMatch: `*`}, nil},
		{"If-Match, other", Conditions{IfMatch: `"x"`}, ErrPreconditionFailed},
		{"If-None-Match, equal", Conditions{IfNoneMatch: `"abc"`}, ErrNotModified},
		{"If-None-Match, weak", Conditions{IfNoneMatch: `W/"abc"`}, ErrNotModified},
		{"If-None-Match, other", Conditions{IfNoneMatch: `"x"`}, nil},
		{"If-Modified-Since, same", Conditions{IfModifiedSince: at}, ErrNotModified},
		{"If-Modified-Since, before", Conditions{IfModifiedSince: before}, nil},
		{"If-Modified-Since, after", Conditions{IfModifiedSince: after}, ErrNotModified},
		{"If-Unmodified-Since, same", Conditions{IfUnmodifiedSince: at}, nil},
		{"If-Unmodified-Since, before", Conditions{IfUnmodifiedSince: before}, ErrPreconditionFailed},
		{"dates that do not parse", Conditions{IfModifiedSince: "x", IfUnmodifiedSince: "y"}, nil},
		{"If-Match wins over If-Unmodified-Since", Conditions{IfMatch: `"abc"`, IfUnmodifiedSince: before}, nil},
		{"If-None-Match wins over If-Modified-Since", Conditions{IfNoneMatch: `"x"`, IfModifiedSince: after}, nil},
		{"both fail", Conditions{IfMatch: `"x"`, IfNoneMatch: `"abc"`}, ErrPreconditionFailed},
	} {
		if err := c.c.Check(o); !errors.Is(err, c.want) || c.want == nil && err != nil {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

// Scenarios: S35.
func TestBucketNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"abc": true, "a-b.c1": true, "1bucket": true, strings.Repeat("a", 63): true, "192.168.5": true, "my.bucket.1": true,
		"ab": false, strings.Repeat("a", 64): false, "": false, "Abc": false, "a_b": false, "-abc": false, "abc-": false, ".abc": false, "abc.": false,
		"a..b": false, "192.168.5.4": false, "xn--abc": false, "sthree-abc": false, "abc-s3alias": false, "abc--ol-s3": false, "a/b": false, "äbc": false, ".akigw": false,
	} {
		if err := CheckBucketName(name); ok != (err == nil) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// TestCacheControl: the request directives that bear on freshness.
func TestCacheControl(t *testing.T) {
	for _, c := range []struct {
		header           http.Header
		noCache, noStore bool
		maxAge           time.Duration
	}{
		{nil, false, false, 0},
		{http.Header{"Cache-Control": {"no-cache"}}, true, false, 0},
		{http.Header{"Cache-Control": {"No-Cache, no-transform"}}, true, false, 0},
		{http.Header{"Cache-Control": {"max-age=0"}}, true, false, 0},
		{http.Header{"Cache-Control": {"max-age=10"}}, false, false, 10 * time.Second},
		{http.Header{"Cache-Control": {"min-fresh=5", "max-age=\"10\""}}, false, false, 10 * time.Second},
		{http.Header{"Cache-Control": {"max-age=-1"}}, true, false, 0},
		{http.Header{"Cache-Control": {"max-age=soon"}}, true, false, 0},
		{http.Header{"Cache-Control": {"no-store"}}, false, true, 0},
		{http.Header{"Cache-Control": {"no-cache,NO-STORE"}}, true, true, 0},
	} {
		got := ConditionsOf(c.header)
		if got.NoCache != c.noCache || NoStore(c.header) != c.noStore || !c.noCache && got.MaxAge != c.maxAge || got.Any() {
			t.Errorf("%v: %+v, no-store %t", c.header, got, NoStore(c.header))
		}
	}
}
