package gateway

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// lister counts listings and answers each with its number.
type lister struct {
	*s3mem.Memory
	asked int
	body  string
}

func (l *lister) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if r.Op != "ListObjectsV2" && r.Op != "ListObjects" {
		return l.Memory.Do(ctx, r)
	}
	l.asked++
	body := fmt.Sprintf("<ListBucketResult><N>%d</N></ListBucketResult>", l.asked)
	if l.body != "" {
		body = l.body
	}
	return s3mem.Response(http.StatusOK, http.Header{"Content-Type": {"application/xml"}}, []byte(body)), nil
}

// TestListingsAreKept: in mode ttl with list_ttl_secs a listing is answered from
// memory, by all that was asked, until its time is over or something changes.
func TestListingsAreKept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := s3mem.New()
		up := &lister{Memory: memory}
		b := diskBench(t, "", memory, tiers.Config{HotBytes: 16 << 20}, rules.Settings{Freshness: rules.TTL, TTL: time.Minute, ListTTL: 10 * time.Second}, up)
		defer b.store.Close()
		n := 0
		list := func(who, query string, header http.Header, fresh bool, why string) {
			t.Helper()
			if fresh {
				n++
			}
			w := b.ask(who, "GET", "/bucket", query, header, "")
			if w.Code != 200 || up.asked != n {
				t.Errorf("%s: %d, %d listings upstream, want %d", why, w.Code, up.asked, n)
			}
		}
		list("root", "list-type=2", nil, true, "first")
		list("root", "list-type=2", nil, false, "again")
		list("root", "list-type=2&prefix=a", nil, true, "another prefix")
		list("root", "list-type=2&max-keys=3", nil, true, "another page size")
		list("root", "", nil, true, "version 1")
		list("root", "", nil, false, "version 1 again")
		list("root", "list-type=2", http.Header{"X-Amz-Optional-Object-Attributes": {"RestoreStatus"}}, true, "another answer")
		list("root", "list-type=2", http.Header{"Cache-Control": {"no-cache"}}, true, "no-cache")
		list("root", "list-type=2", http.Header{"Cache-Control": {"no-store"}}, true, "no-store")
		time.Sleep(3 * time.Second)
		list("root", "list-type=2", http.Header{"Cache-Control": {"max-age=2"}}, true, "too old for this client")
		list("root", "list-type=2", nil, false, "not too old")
		time.Sleep(10 * time.Second)
		list("root", "list-type=2", nil, true, "its time is over")
		for what, change := range map[string]func(){
			"PUT":              func() { b.ask("root", "PUT", "/bucket/k", "", nil, "body") },
			"DELETE":           func() { b.ask("root", "DELETE", "/bucket/k", "", nil, "") },
			"bucket policy":    func() { b.ask("root", "PUT", "/bucket", "versioning", nil, "<VersioningConfiguration/>") },
			"event":            func() { b.store.Changed(cold.Change{Key: keyOf("bucket", "k"), Removed: true}) },
			"multipart upload": func() { b.store.Begin(keyOf("bucket", "k")).End() },
		} {
			list("root", "list-type=2", nil, false, "before "+what)
			change()
			list("root", "list-type=2", nil, true, "after "+what)
		}
		if w := b.ask("alice", "GET", "/bucket", "list-type=2", nil, ""); w.Code != 403 {
			t.Errorf("who may not list got %d", w.Code)
		}
		up.body = "<ListBucketResult><Contents>"
		n = up.asked
		time.Sleep(10 * time.Second)
		for range 2 {
			if w := b.ask("root", "GET", "/bucket", "list-type=2", nil, ""); w.Code != 503 {
				t.Errorf("A22: a listing that is cut off: %d %s", w.Code, w.Body)
			}
		}
	})
}
