package gateway

import (
	"context"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// two is two upstreams: "logs" has the buckets that begin so.
type two struct {
	*s3mem.Memory
	lists map[string]string // what each answers to ListBuckets
	down  string            // this one does not answer
}

func (u *two) Owner(bucket string) string {
	if strings.HasPrefix(bucket, "logs") {
		return "logs"
	}
	return cold.DefaultName
}

func (u *two) Names() []string { return []string{"logs", cold.DefaultName} }

func (u *two) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if r.Op != "ListBuckets" {
		return u.Memory.Do(ctx, r)
	}
	if r.Upstream == u.down {
		return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
	}
	return s3mem.Response(http.StatusOK, nil, []byte(u.lists[r.Upstream])), nil
}

// TestListBucketsOfSeveralUpstreams: one list of what each upstream has and is
// asked for, in order and in pages, or none.
func TestListBucketsOfSeveralUpstreams(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	const list = `<?xml version="1.0"?><ListAllMyBucketsResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>o</ID></Owner><Buckets>%s</Buckets></ListAllMyBucketsResult>`
	bucket := func(names ...string) (all string) {
		for _, name := range names {
			all += "<Bucket><Name>" + name + "</Name><CreationDate>2026-01-01T00:00:00.000Z</CreationDate></Bucket>"
		}
		return fmt.Sprintf(list, all)
	}
	up := &two{Memory: b.up, lists: map[string]string{
		"logs":           bucket("logs-b", "foreign", "logs-a"),
		cold.DefaultName: bucket("alpha", "logs-shadowed", "zeta"),
	}}
	b.reconfigure(func(o *Options) { o.Upstream = up })
	names := func(query string) []string {
		w := b.ask("root", "GET", "/", query, nil, "")
		if w.Code != 200 {
			t.Fatalf("%s: %d %s", query, w.Code, w.Body)
		}
		var found []string
		for _, m := range regexp.MustCompile("<Name>(.*?)</Name>|<ContinuationToken>(.*?)</ContinuationToken>").FindAllStringSubmatch(w.Body.String(), -1) {
			found = append(found, m[1]+m[2])
		}
		return found
	}
	if got := names(""); !slices.Equal(got, []string{"alpha", "logs-a", "logs-b", "zeta"}) {
		t.Errorf("all: %v", got)
	}
	if got := names("prefix=logs"); !slices.Equal(got, []string{"logs-a", "logs-b"}) {
		t.Errorf("by prefix: %v", got)
	}
	page := names("max-buckets=3")
	if len(page) != 4 || !slices.Equal(page[:3], []string{"alpha", "logs-a", "logs-b"}) {
		t.Fatalf("first page: %v", page)
	}
	if got := names("max-buckets=3&continuation-token=" + page[3]); !slices.Equal(got, []string{"zeta"}) {
		t.Errorf("second page: %v", got)
	}
	if w := b.ask("root", "GET", "/", "continuation-token=%21", nil, ""); w.Code != 400 {
		t.Errorf("nonsense as a token: %d", w.Code)
	}
	if w := b.ask("alice", "GET", "/", "", nil, ""); w.Code != 403 {
		t.Errorf("without the right to list buckets: %d", w.Code)
	}
	up.down = "logs"
	if w := b.ask("root", "GET", "/", "", nil, ""); w.Code != 503 {
		t.Errorf("a part of the list: %d %s", w.Code, w.Body)
	}
	up.down, up.lists["logs"] = "", up.lists["logs"][:100]
	if w := b.ask("root", "GET", "/", "", nil, ""); w.Code != 503 {
		t.Errorf("A22: a list that is cut off: %d %s", w.Code, w.Body)
	}
}

// TestCopyBetweenUpstreams: neither upstream could do it, so it is refused.
func TestCopyBetweenUpstreams(t *testing.T) {
	b := newBench(t, tenants(t), tenants(t))
	b.reconfigure(func(o *Options) { o.Upstream = &two{Memory: b.up} })
	for _, query := range []string{"", "partNumber=1&uploadId=u"} {
		w := b.ask("root", "PUT", "/bucket/k", query, http.Header{"X-Amz-Copy-Source": {"/logs/source"}}, "")
		if w.Code != 501 || !strings.Contains(w.Body.String(), "different upstreams") {
			t.Errorf("%q: %d %s", query, w.Code, w.Body)
		}
		if w := b.ask("root", "PUT", "/logs-2/k", query, http.Header{"X-Amz-Copy-Source": {"/logs/source"}}, ""); w.Code == 501 && strings.Contains(w.Body.String(), "different") {
			t.Errorf("%q on one upstream: %d %s", query, w.Code, w.Body)
		}
	}
}

// slowLists is two upstreams, each of which takes a while to list its buckets.
type slowLists struct {
	two
	takes map[string]time.Duration
}

func (u *slowLists) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	select {
	case <-time.After(u.takes[r.Upstream]):
		return u.two.Do(ctx, r)
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, ctx.Err())
	}
}

// TestBucketsAreListedAtOnce: all upstreams are asked at the same time, and when one has failed
// nobody waits for another that hangs.
func TestBucketsAreListedAtOnce(t *testing.T) {
	const list = `<ListAllMyBucketsResult><Buckets><Bucket><Name>logs</Name></Bucket></Buckets></ListAllMyBucketsResult>`
	for _, c := range []struct {
		name           string
		logs, standard time.Duration
		down           string
		want           time.Duration
	}{
		{"both are slow", 2 * time.Second, 3 * time.Second, "none", 3 * time.Second},
		{"one fails, the other hangs", time.Hour, time.Second, cold.DefaultName, time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			up := &slowLists{two: two{lists: map[string]string{"logs": list, cold.DefaultName: list}, down: c.down}, takes: map[string]time.Duration{"logs": c.logs, cold.DefaultName: c.standard}}
			began := time.Now()
			all, err := (&bucketLists{Upstream: up}).allBuckets(t.Context())
			if took := time.Since(began); took != c.want || (err == nil) != (c.down == "none") {
				t.Errorf("%s: %v %v after %v, want %v", c.name, all, err, took, c.want)
			}
		})
	}
}

// TestNoKeysForTheUpstream: the client is told what is wrong.
func TestNoKeysForTheUpstream(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.up.Before = func(*cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: %w: their source hangs", akigw.ErrUpstreamUnavailable, cold.ErrNoKeys)
	}
	if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Code != 503 || !strings.Contains(w.Body.String(), "no valid credentials") || strings.Contains(w.Body.String(), "hangs") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
