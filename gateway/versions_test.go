package gateway

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// putVersion stores a version upstream, and makes it the current one.
func putVersion(up *s3mem.Memory, name, version, body string) {
	key := akigw.Key{Bucket: "bucket", Name: name}
	up.Put(key, []byte(body))
	o, _ := up.Get(key)
	o.Header = http.Header{"X-Amz-Version-Id": {version}}
	up.PutStored(key, o)
	key.Version = version
	up.PutStored(key, o)
}

func cacheOf(a *s3client.Answer) string { return a.Header.Get("X-Akigw-Cache") }

// TestVersions: a version is cached under its id, in every freshness mode
// validated by one HEAD, shares its bytes with the current version, and never
// outlives its deletion.
//
// Scenarios: E29.
func TestVersions(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Strict, rules.Exclusive} {
		for _, size := range []int{10, 200_000} { // one entry, several blocks
			g := newRig(t, freshness)
			first, second := strings.Repeat("1", size), strings.Repeat("2", size)
			putVersion(g.up, "k", "v1", first)
			putVersion(g.up, "k", "v2", second)
			get := func(query, want, cache string, gets int) *s3client.Answer {
				t.Helper()
				before := g.up.Count("GET")
				a := g.Must(t, "GET", "/bucket/k", query, nil, nil)
				if string(a.Body) != want || cacheOf(a) != cache || g.up.Count("GET")-before != gets {
					t.Errorf("%s, %d bytes, ?%s: %d, %d bytes from %s with %d GETs, want %d bytes from %s with %d", freshness, size, query, a.Status, len(a.Body), cacheOf(a), g.up.Count("GET")-before, len(want), cache, gets)
				}
				return a
			}
			get("versionId=v1", first, "cold", 1)
			heads := g.up.Count("HEAD")
			if a := get("versionId=v1", first, "hot", 0); a.Header.Get("X-Amz-Version-Id") != "v1" {
				t.Errorf("version %s", a.Header.Get("X-Amz-Version-Id"))
			}
			if n := g.up.Count("HEAD") - heads; n != 1 || g.up.Count("HEAD conditional") > 0 {
				t.Errorf("%s: %d HEADs, %d conditional", freshness, n, g.up.Count("HEAD conditional"))
			}
			get("", second, "cold", 1)
			get("versionId=v2", second, "hot", 0) // known from the current one
			if a := g.Must(t, "HEAD", "/bucket/k", "versionId=v2", nil, nil); a.Status != 200 || cacheOf(a) != "hot" {
				t.Errorf("HEAD: %d from %s", a.Status, cacheOf(a))
			}
			// A change of its metadata that does not name it.
			key := akigw.Key{Bucket: "bucket", Name: "k", Version: "v2"}
			o, _ := g.up.Get(key)
			o.Header = http.Header{"X-Amz-Version-Id": {"v2"}, "X-Amz-Tagging-Count": {"1"}}
			g.up.PutStored(key, o)
			if a := get("versionId=v2", second, "hot", 0); a.Header.Get("X-Amz-Tagging-Count") != "1" {
				t.Errorf("%s: old tags", freshness)
			}
			// Past the cache, or not there.
			if a := g.Must(t, "GET", "/bucket/k", "versionId=null", nil, nil); cacheOf(a) != "bypass" {
				t.Errorf("null version from %s", cacheOf(a))
			}
			if a := g.Must(t, "GET", "/bucket/k", "versionId=v3", nil, nil); a.Status != 404 {
				t.Errorf("no such version: %d", a.Status)
			}
			// Deleted through the gateway, and behind its back.
			if a := g.Must(t, "DELETE", "/bucket/k", "versionId=v1", nil, nil); a.Status != 204 {
				t.Errorf("DELETE: %d", a.Status)
			}
			g.up.Delete(key)
			for _, v := range []string{"v1", "v2"} {
				if a := g.Must(t, "GET", "/bucket/k", "versionId="+v, nil, nil); a.Status != 404 {
					t.Errorf("%s: deleted %s: %d", freshness, v, a.Status)
				}
			}
		}
	}
}

// TestDeleteMarkers: an upstream's answer about a delete marker is passed
// on with its headers.
//
// Scenarios: E29.
func TestDeleteMarkers(t *testing.T) {
	g := newRig(t, rules.Strict)
	g.up.Before = func(r *cold.Request) (*http.Response, error) {
		h := http.Header{"X-Amz-Delete-Marker": {"true"}, "X-Amz-Version-Id": {"m1"}, "Last-Modified": {time.Now().UTC().Format(http.TimeFormat)}}
		if r.Key.Version != "" {
			return s3mem.Response(http.StatusMethodNotAllowed, h, []byte("<Error><Code>MethodNotAllowed</Code></Error>")), nil
		}
		return s3mem.Response(http.StatusNotFound, h, []byte("<Error><Code>NoSuchKey</Code></Error>")), nil
	}
	for query, status := range map[string]int{"": 404, "versionId=m1": 405} {
		a := g.Must(t, "GET", "/bucket/k", query, nil, nil)
		if a.Status != status || a.Header.Get("X-Amz-Delete-Marker") != "true" || a.Header.Get("X-Amz-Version-Id") != "m1" {
			t.Errorf("?%s: %d %v", query, a.Status, a.Header)
		}
	}
}

// TestAnotherVersionThanAsked: an upstream that ignores versionId is not
// believed.
//
// Scenarios: E29.
func TestAnotherVersionThanAsked(t *testing.T) {
	g := newRig(t, rules.Strict)
	g.up.PutStored(akigw.Key{Bucket: "bucket", Name: "k", Version: "v1"}, s3mem.Stored{Body: []byte("x"), ETag: `"e"`, Modified: time.Now()})
	for range 2 {
		if a := g.Must(t, "GET", "/bucket/k", "versionId=v1", nil, nil); a.Status != 200 || cacheOf(a) != "bypass" {
			t.Errorf("%d from %s", a.Status, cacheOf(a))
		}
	}
}
