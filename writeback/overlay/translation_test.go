package overlay

import (
	"net/http"
	"testing"
	"time"
)

// TestDateToUpstream: for the promised object, the upstream decides on the translated date as it
// would on the promised one. For any other object it decides as on the client's date, where one
// date can say both.
func TestDateToUpstream(t *testing.T) {
	at := func(second int) time.Time { return time.Unix(1_700_000_000+int64(second), 0).UTC() }
	for name, c := range map[string]struct{ promised, upstream, spread, known int }{
		"upstream later": {0, 100, 0, 100}, "upstream earlier": {100, 0, 0, 0}, "the same second": {50, 50, 0, 50}, "a second later": {50, 51, 0, 51},
		"the first that it can be": {0, 100, 3, 103}, "the last that it can be": {100, 4, 3, 3},
	} {
		tr := &Translation{Promised: `"e"`, Upstream: `"e"`, PromisedModified: at(c.promised), UpstreamModified: at(c.known), Spread: c.spread}
		for asked := -10; asked <= 160; asked++ {
			sent, err := http.ParseTime(tr.DateToUpstream(at(asked).Format(http.TimeFormat)))
			if err != nil {
				t.Fatal(err)
			}
			if want, got := c.promised > asked, at(c.upstream).After(sent); got != want {
				t.Errorf("%s: asked about %d: newer is %t upstream, want %t", name, asked, got, want)
			}
			for other := max(c.promised, c.known+min(c.spread, 1)) + 1; other <= 160; other++ { // an object that came later
				if want, got := other > asked, at(other).After(sent); got != want {
					t.Errorf("%s: asked about %d of an object of %d: newer is %t upstream, want %t", name, asked, other, got, want)
				}
			}
		}
	}
}

// TestDateToUpstreamLeavesTheRest: a value that is not a date, or whose translation has no dates, stays
// as it is.
func TestDateToUpstreamLeavesTheRest(t *testing.T) {
	dated := &Translation{PromisedModified: time.Unix(1, 0), UpstreamModified: time.Unix(2, 0)}
	date := time.Unix(1, 0).UTC().Format(http.TimeFormat)
	for name, c := range map[string]struct {
		t    *Translation
		date string
	}{"nothing": {dated, ""}, "no date": {dated, "yesterday"}, "no translation": {nil, date}, "of an older release": {&Translation{Promised: `"a"`, Upstream: `"b"`}, date}} {
		if got := c.t.DateToUpstream(c.date); got != c.date {
			t.Errorf("%s: %q", name, got)
		}
		if got := c.t.ExactDateToUpstream(c.date, http.TimeFormat); got != c.date {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestDateIsOfOneVersion: a date is translated only if everything in the response matches the
// version.
func TestDateIsOfOneVersion(t *testing.T) {
	promised, upstream := time.Unix(1, 0), time.Unix(100, 0)
	tr := &Translation{Promised: `"e"`, Upstream: `"e"`, PromisedModified: promised, UpstreamModified: upstream, Size: 5}
	bounds := *tr
	bounds.UpstreamModified, bounds.Spread = upstream.Add(2*time.Second), 2
	versioned := *tr
	versioned.Version = "v1"
	for name, c := range map[string]struct {
		t             *Translation
		etag, version string
		modified      time.Time
		size          int64
		want          bool
	}{
		"all":                    {tr, `"e"`, "", upstream, 5, true},
		"a part of a second":     {tr, `"e"`, "", upstream.Add(999 * time.Millisecond), 5, true},
		"no quotes":              {tr, `e`, "", upstream, 5, true},
		"no ETag and no size":    {tr, "", "", upstream, -1, true},
		"the null version":       {tr, `"e"`, "null", upstream, 5, true},
		"the first date":         {&bounds, `"e"`, "", upstream, 5, true},
		"the last date":          {&bounds, `"e"`, "", upstream.Add(3 * time.Second), 5, true},
		"before the first":       {&bounds, `"e"`, "", upstream.Add(-time.Second), 5, false},
		"after the last":         {&bounds, `"e"`, "", upstream.Add(4 * time.Second), 5, false},
		"another ETag":           {tr, `"f"`, "", upstream, 5, false},
		"another size":           {tr, `"e"`, "", upstream, 6, false},
		"another date":           {tr, `"e"`, "", upstream.Add(time.Second), 5, false},
		"the promised date":      {tr, `"e"`, "", promised, 5, false},
		"a version":              {tr, `"e"`, "v1", upstream, 5, false},
		"its version":            {&versioned, `"e"`, "v1", upstream, 5, true},
		"another version":        {&versioned, `"e"`, "v2", upstream, 5, false},
		"nothing known":          {nil, `"e"`, "", upstream, 5, false},
		"without a date of both": {&Translation{Promised: `"e"`, Upstream: `"f"`}, `"f"`, "", time.Time{}, 0, false},
	} {
		if got, ok := c.t.Date(c.etag, c.version, c.modified, c.size); ok != c.want || ok && !got.Equal(promised) {
			t.Errorf("%s: %s %t", name, got, ok)
		}
	}
}
