package gateway

import (
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback/overlay"
)

type listing struct {
	IsTruncated           bool
	KeyCount              int
	NextContinuationToken string
	NextMarker            string
	Contents              []struct {
		Key, ETag string
		Size      int
	}
	CommonPrefixes []struct{ Prefix string }
}

// pages reads a listing page by page and returns its items in order.
func (b *bench) pages(t *testing.T, query url.Values) (items []string) {
	t.Helper()
	for n := 0; ; n++ {
		w := b.ask("root", "GET", "/back", query.Encode(), nil, "")
		var l listing
		if err := xml.Unmarshal(w.Body.Bytes(), &l); err != nil || w.Code != http.StatusOK || n > 500 {
			t.Fatalf("%v: page %d: %d %v %s", query, n, w.Code, err, w.Body)
		}
		var page []string
		for _, c := range l.Contents {
			page = append(page, c.Key+" "+c.ETag+" "+strconv.Itoa(c.Size))
		}
		for _, p := range l.CommonPrefixes {
			page = append(page, p.Prefix)
		}
		if max, err := strconv.Atoi(query.Get("max-keys")); err == nil && len(page) > max {
			t.Fatalf("%v: %d items in a page", query, len(page))
		}
		slices.Sort(page)
		items = append(items, page...)
		switch {
		case !l.IsTruncated:
			return items
		case len(page) == 0:
			t.Fatalf("%v: an empty page says that there is more", query)
		case query.Get("list-type") == "2":
			query.Set("continuation-token", l.NextContinuationToken)
		case l.NextMarker != "":
			query.Set("marker", l.NextMarker)
		default:
			query.Set("marker", l.Contents[len(l.Contents)-1].Key)
		}
	}
}

// TestMergedListing compares listings of random buckets, partly upstream
// and partly in the journal, with what they have to be: sorted, each item once,
// paged in any way.
//
// Scenarios: E14, E15.
func TestMergedListing(t *testing.T) {
	random := testkit.Random(t)
	for round := range 12 {
		b := backBench(t)
		b.teach(t, "x//y")
		want := map[string]string{}
		names := []string{"a", "a/", "a/b", "a/b/c", "a/c", "a//d", "ab", "b/1", "b/2", "b/3", "c d+e", "ü/ü", "ü/v", "z"}
		for i := range 40 {
			names = append(names, fmt.Sprintf("many/%02d", i), fmt.Sprintf("k%02d", i))
		}
		for _, name := range names {
			body := testkit.Bytes(uint64(round), random.IntN(20))
			if random.IntN(2) == 0 {
				want[name] = b.up.Put(akigw.Key{Bucket: back, Name: name}, body) + " " + strconv.Itoa(len(body))
			}
			switch random.IntN(4) {
			case 0:
				body = append(body, 'x')
				w := b.ask("root", "PUT", "/back/"+name, "", nil, string(body))
				if w.Code != 200 || sentHeader(w, "x-akigw-commit") != "journal" {
					t.Fatalf("PUT %s: %d %s", name, w.Code, w.Body)
				}
				want[name] = tagOf(w) + " " + strconv.Itoa(len(body))
			case 1:
				if w := b.ask("root", "DELETE", "/back/"+name, "", nil, ""); w.Code != 204 {
					t.Fatalf("DELETE %s: %d", name, w.Code)
				}
				delete(want, name)
			}
		}
		for range 30 {
			prefix := testkit.Pick(random, "", "", "a", "a/", "b/", "many/", "k", "ü", "none")
			delimiter := testkit.Pick(random, "", "/", "/", "b")
			max := testkit.Pick(random, 1, 2, 3, 7, 1000)
			after := testkit.Pick(random, "", "", "a/b", "b/2", "k10", "many/")
			query := url.Values{"prefix": {prefix}, "delimiter": {delimiter}, "max-keys": {strconv.Itoa(max)}}
			if random.IntN(2) == 0 {
				query.Set("list-type", "2")
				query.Set("start-after", after)
			} else {
				after = ""
			}
			var expected []string
			// Behind a common prefix is behind all that begins with it.
			passed := false
			if rest, ok := strings.CutPrefix(after, prefix); ok && delimiter != "" {
				first, _, found := strings.Cut(rest, delimiter)
				passed = found && rest == first+delimiter
			}
			for name, what := range want {
				if !strings.HasPrefix(name, prefix) || after != "" && name <= after || passed && strings.HasPrefix(name, after) {
					continue
				}
				item := name + " " + what
				if i := strings.Index(name[len(prefix):], delimiter); delimiter != "" && i >= 0 {
					item = name[:len(prefix)+i+len(delimiter)]
				}
				if !slices.Contains(expected, item) {
					expected = append(expected, item)
				}
			}
			// By name: an item's ETag does not take part in the order.
			byName := func(a, b string) int {
				return strings.Compare(strings.SplitN(a, ` "`, 2)[0], strings.SplitN(b, ` "`, 2)[0])
			}
			slices.SortFunc(expected, byName)
			got := b.pages(t, query)
			if !slices.Equal(got, expected) && !slices.Equal(slices.SortedFunc(slices.Values(got), byName), expected) {
				t.Fatalf("%v after %q:\n%q\nwant\n%q", query, after, got, expected)
			}
			if !slices.IsSortedFunc(got, byName) {
				t.Errorf("%v: not sorted: %q", query, got)
			}
		}
	}
}

// TestTokenOfAnotherListing: a token is good for the listing that it came from.
//
// Scenarios: E15.
func TestTokenOfAnotherListing(t *testing.T) {
	b := backBench(t)
	for i := range 5 {
		b.up.Put(akigw.Key{Bucket: back, Name: fmt.Sprint(i)}, nil)
	}
	var l listing
	w := b.ask("root", "GET", "/back", "list-type=2&max-keys=2", nil, "")
	if err := xml.Unmarshal(w.Body.Bytes(), &l); err != nil || l.NextContinuationToken == "" {
		t.Fatal(err, w.Body)
	}
	for query, want := range map[string]int{
		"list-type=2&continuation-token=" + l.NextContinuationToken:               200,
		"list-type=2&prefix=1&continuation-token=" + l.NextContinuationToken:      400,
		"list-type=2&delimiter=%2F&continuation-token=" + l.NextContinuationToken: 400,
		"list-type=2&continuation-token=garbage":                                  400,
		"list-type=2&continuation-token=":                                         400,
	} {
		if w := b.ask("root", "GET", "/back", query, nil, ""); w.Code != want {
			t.Errorf("%s: %d, want %d", query, w.Code, want)
		}
	}
}

// TestTruncatedMergedListing: a page that is cut off is an error, not an end.
//
// Scenarios: A22.
func TestTruncatedMergedListing(t *testing.T) {
	b := backBench(t)
	b.up.Put(akigw.Key{Bucket: back, Name: "k"}, nil)
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "ListObjectsV2" {
			return s3mem.Response(200, nil, []byte("<ListBucketResult><Contents><Key>k</Key>")), nil
		}
		return nil, nil
	}
	if w := b.ask("root", "GET", "/back", "list-type=2", nil, ""); w.Code != http.StatusServiceUnavailable {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

// TestMergerPassesDeletions: a page whose known part is nothing but pending deletions ends behind
// them, so that the next page begins there.
func TestMergerPassesDeletions(t *testing.T) {
	q := &listRequest{}
	pending := []overlay.Change{{Name: "a", Deleted: true}, {Name: "b", Deleted: true}}
	m := newMerger(q, []listItem{{name: "z"}}, false, pending, true) // there are more behind b
	if item, _, ok := m.next(); ok || !m.more() || m.last.name != "b" {
		t.Errorf("%q, %t, more %t, the known part ends at %q", item.name, ok, m.more(), m.last.name)
	}
	m = newMerger(q, []listItem{{name: "a"}, {name: "c"}}, true, []overlay.Change{{Name: "b"}, {Name: "d"}}, false)
	var names []string
	for {
		item, isPending, ok := m.next()
		if !ok {
			break
		}
		if isPending != (item.name == "b") {
			t.Errorf("%s: pending %t", item.name, isPending)
		}
		names = append(names, item.name)
	}
	if !slices.Equal(names, []string{"a", "b", "c"}) || !m.more() { // d lies behind the end of the upstream's page
		t.Errorf("%v, more %t", names, m.more())
	}
}
