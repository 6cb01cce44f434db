package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

const reservedPrefix = "a/vectors/"

// reservedBench is a bench whose bucket "bucket" has reserved keys and others.
func reservedBench(t *testing.T) *bench {
	t.Helper()
	b := memoryBench(t, tiers.Config{HotBytes: 16 << 20}, rules.Settings{Freshness: rules.Exclusive}, nil)
	t.Cleanup(func() { b.store.Close() })
	b.reconfigure(func(o *Options) { o.Reserved = Reserved{"bucket", reservedPrefix} })
	for _, name := range []string{"a/b", "a/vectors0", "z", reservedPrefix + "catalog.json", reservedPrefix + "x/y.parquet", reservedPrefix + "z"} {
		b.up.Put(keyOf("bucket", name), []byte("content"))
	}
	b.up.Put(keyOf("other", reservedPrefix+"k"), []byte("content"))
	return b
}

// TestReservedKeys: no operation reaches a reserved key, in any spelling that an upstream may take for it, and
// none configures the bucket, whoever asks.
func TestReservedKeys(t *testing.T) {
	b := reservedBench(t)
	send := func(row *Route, path string) (status int, upstream int) {
		r, body := requestFor(row)
		r.URL.Path = path
		s3client.Signing{AccessKey: "root", Secret: tenantSecret, Body: body}.Sign(r)
		b.up.Reset()
		w := b.answer(r)
		for _, kind := range methods() {
			upstream += b.up.Count(kind)
		}
		return w.Code, upstream
	}
	objects, buckets := 0, 0
	for i := range allRoutes {
		row := &allRoutes[i]
		if row.Class == Refused || row.Body == Form {
			continue
		}
		if row.Level == ObjectLevel {
			for _, name := range []string{reservedPrefix + "catalog.json", "a/vectors", "a/vectors/", "a//vectors/x", "a/./vectors/x", "a/b/../vectors/x"} {
				objects++
				if status, upstream := send(row, "/bucket/"+name); status != 403 || upstream != 0 {
					t.Errorf("%s of %s: %d, %d requests to the upstream", row.Op, name, status, upstream)
				}
			}
		}
		if row.Level != ObjectLevel && row.Level != ServiceLevel && (row.Op == "Other" || row.Method != "GET" && row.Method != "HEAD" && row.Op != "DeleteObjects" && row.Op != "CreateBucket") {
			buckets++
			if status, upstream := send(row, "/bucket"); status != 403 || upstream != 0 {
				t.Errorf("%s: %d, %d requests to the upstream", row.Op, status, upstream)
			}
		}
	}
	if objects < 100 || buckets < 30 {
		t.Errorf("%d object operations, %d bucket operations", objects, buckets)
	}
	for _, c := range []struct {
		what, method, path, query string
		header                    http.Header
		want                      int
	}{
		{"a copy of a reserved key", "PUT", "/other/copy", "", http.Header{"X-Amz-Copy-Source": {"/bucket/" + reservedPrefix + "z"}}, 403},
		{"the same, encoded", "PUT", "/other/copy", "", http.Header{"X-Amz-Copy-Source": {"bucket/a%2Fvectors%2Fz"}}, 403},
		{"a copy to one", "PUT", "/bucket/" + reservedPrefix + "z", "", http.Header{"X-Amz-Copy-Source": {"/bucket/z"}}, 403},
		{"an ACL for the bucket", "PUT", "/bucket", "", http.Header{"X-Amz-Acl": {"public-read"}}, 403},
		{"a listing with an unknown parameter", "GET", "/bucket", "list-type=2&x=y", nil, 403},
		{"another key", "GET", "/bucket/a/b", "", nil, 200},
		{"a key that sorts behind them", "GET", "/bucket/a/vectors0", "", nil, 200},
		{"another bucket", "GET", "/other/" + reservedPrefix + "k", "", nil, 200},
	} {
		if w := b.ask("root", c.method, c.path, c.query, c.header, ""); w.Code != c.want {
			t.Errorf("%s: %d %s", c.what, w.Code, w.Body)
		}
	}
	w := b.ask("root", "POST", "/bucket", "delete", nil, "<Delete><Object><Key>"+reservedPrefix+"z</Key></Object><Object><Key>z</Key></Object><Object><Key>a/./vectors/z</Key></Object></Delete>")
	if w.Code != 200 || strings.Count(w.Body.String(), "<Code>AccessDenied</Code>") != 2 || strings.Count(w.Body.String(), "<Deleted>") != 1 {
		t.Errorf("DeleteObjects: %d %s", w.Code, w.Body)
	}
	if _, there := b.up.Get(keyOf("bucket", reservedPrefix+"z")); !there {
		t.Error("DeleteObjects deleted a reserved key")
	}
	if w := b.ask("alice", "GET", "/bucket/"+reservedPrefix+"z", "", nil, ""); w.Code != 403 || strings.Contains(w.Body.String(), "collections") {
		t.Errorf("who has no rights learns what is there: %d %s", w.Code, w.Body)
	}
}

// TestReservedForm: a browser upload cannot name a reserved key.
func TestReservedForm(t *testing.T) {
	c := &call{route: &Route{Op: "PostObject"}, key: keyOf("bucket", reservedPrefix+"x")} // as form.accept leaves it
	if err := (Reserved{"bucket", reservedPrefix}).check(c); err == nil {
		t.Error("accepted")
	}
}

var listedNames = regexp.MustCompile(`<(?:Key|Prefix)>([^<]+)</`)

// TestReservedListings: listings of all kinds, in pages of any size, have no reserved key and every other one.
func TestReservedListings(t *testing.T) {
	b := reservedBench(t)
	for _, name := range []string{"a/b", reservedPrefix + "u1", reservedPrefix + "u2", reservedPrefix + "u3", "z"} {
		if w := (&bench{g: b.plain()}).ask("root", "POST", "/bucket/"+name, "uploads", nil, ""); w.Code != 200 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
	}
	walk := func(query, most, marker string, next ...string) (names []string) {
		t.Helper()
		cursor := url.Values{}
		for pages := 0; pages < 20; pages++ {
			w := b.ask("root", "GET", "/bucket", query+"&"+cursor.Encode(), nil, "")
			if w.Code != 200 {
				t.Fatalf("%s: %d %s", query, w.Code, w.Body)
			}
			if strings.Contains(w.Body.String(), reservedPrefix+"u") || strings.Contains(w.Body.String(), reservedPrefix+"x") || strings.Contains(w.Body.String(), "catalog") {
				t.Errorf("%s: %s", query, w.Body)
			}
			for _, m := range listedNames.FindAllStringSubmatch(w.Body.String(), -1) {
				if !strings.Contains(query, "prefix="+url.QueryEscape(m[1])+"&") && !strings.Contains(query, "prefix="+m[1]+"&") {
					names = append(names, m[1])
				}
			}
			if !strings.Contains(w.Body.String(), "<IsTruncated>true</IsTruncated>") {
				return names
			}
			cursor = url.Values{}
			for i, element := range next {
				if v := elementOf(w.Body.Bytes(), element).text; v != "" {
					cursor.Set(strings.Split(marker, " ")[i], v)
				}
			}
			if len(cursor) == 0 && len(names) > 0 {
				cursor.Set(strings.Split(marker, " ")[0], names[len(names)-1])
			}
		}
		t.Errorf("%s: no end of pages (%s)", query, most)
		return names
	}
	all := []string{"a/b", "a/vectors0", "z"}
	for _, size := range []int{1, 2, 3, 4, 1000} {
		for _, c := range []struct {
			query, marker string
			next          []string
			want          []string
		}{
			{fmt.Sprintf("list-type=2&max-keys=%d", size), "continuation-token", []string{"NextContinuationToken"}, all},
			{fmt.Sprintf("max-keys=%d", size), "marker", []string{"NextMarker"}, all},
			{fmt.Sprintf("list-type=2&delimiter=/&prefix=a/&max-keys=%d", size), "continuation-token", []string{"NextContinuationToken"}, []string{"a/b", "a/vectors0"}},
			{fmt.Sprintf("list-type=2&delimiter=/&max-keys=%d", size), "continuation-token", []string{"NextContinuationToken"}, []string{"z", "a/"}},
			{fmt.Sprintf("list-type=2&prefix=%s&max-keys=%d", url.QueryEscape(reservedPrefix), size), "continuation-token", []string{"NextContinuationToken"}, nil},
			{fmt.Sprintf("list-type=2&delimiter=/&prefix=%s&max-keys=%d", url.QueryEscape(reservedPrefix), size), "continuation-token", []string{"NextContinuationToken"}, nil},
			{fmt.Sprintf("uploads&max-uploads=%d", size), "key-marker upload-id-marker", []string{"NextKeyMarker", "NextUploadIdMarker"}, []string{"a/b", "z"}},
		} {
			got := walk(c.query, fmt.Sprint(size), c.marker, c.next...)
			slices.Sort(got)
			want := slices.Sorted(slices.Values(c.want))
			if !slices.Equal(got, want) {
				t.Errorf("%s: %q, want %q", c.query, got, want)
			}
		}
	}
}

// plain returns a gateway over the same upstream without reserved keys.
func (b *bench) plain() *Gateway {
	o := b.g.options
	o.Reserved = Reserved{}
	return New(o)
}

// TestReservedVersions: a page of versions loses what is reserved, and the next one begins behind it.
func TestReservedVersions(t *testing.T) {
	r := Reserved{"bucket", reservedPrefix}
	const page = `<ListVersionsResult><Name>bucket</Name><NextKeyMarker>a/vectors/x/y</NextKeyMarker><NextVersionIdMarker>v7</NextVersionIdMarker><IsTruncated>true</IsTruncated>` +
		`<Version><Key>a/b</Key><VersionId>v1</VersionId></Version><Version><Key>a/vectors/x/y</Key></Version><DeleteMarker><Key>a/vectors/z</Key></DeleteMarker>` +
		`<DeleteMarker><Key>a/c</Key></DeleteMarker><CommonPrefixes><Prefix>a/vectors/</Prefix></CommonPrefixes><CommonPrefixes><Prefix>a/w/</Prefix></CommonPrefixes></ListVersionsResult>`
	const want = "<ListVersionsResult><Name>bucket</Name><NextKeyMarker>a/vectors/\U0010ffff</NextKeyMarker><IsTruncated>true</IsTruncated>" +
		`<Version><Key>a/b</Key><VersionId>v1</VersionId></Version><DeleteMarker><Key>a/c</Key></DeleteMarker><CommonPrefixes><Prefix>a/w/</Prefix></CommonPrefixes></ListVersionsResult>`
	if got := string(r.withoutVersions("bucket", []byte(page), "")); got != want {
		t.Errorf("%s\nwant\n%s", got, want)
	}
	if got := string(r.withoutVersions("other", []byte(page), "")); got != page {
		t.Errorf("another bucket: %s", got)
	}
	encoded := strings.ReplaceAll(page, "a/vectors/", "a%2Fvectors%2F")
	if got := string(r.withoutVersions("bucket", []byte(encoded), "url")); strings.Contains(got, "%2Fx") || strings.Contains(got, "%2Fz") || !strings.Contains(got, "a/vectors/%F4%8F%BF%BF") {
		t.Errorf("encoded: %s", got)
	}
	b := reservedBench(t)
	w := b.ask("root", "GET", "/bucket", "versions", nil, "")
	if body := w.Body.String(); w.Code != 200 || strings.Contains(body, reservedPrefix) || !strings.Contains(body, "<Key>a/b</Key>") || !strings.Contains(body, "<Key>a/vectors0</Key>") {
		t.Errorf("%d %s", w.Code, body)
	}
}
