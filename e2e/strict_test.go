package e2e

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/s3utils"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// nasty are parts of keys that parsers disagree about.
var nasty = []string{"a", "b", "0", "/", "//", "/./", "/../", "..", ".", "%", "%2F", "%2e%2e", "%25", "%00", " ", "+", "&", "=", "?", "#", ";", ":", "@", "~", "*", "\\", "'", "\"", "<", ">", "|", "\t", "ü", "日本", "\u202e", "😀", "!", "(", ")", ",", "$", "[", "]", "{", "}", "^", "`"}

// pieces joins up to n of them.
func pieces(random *rand.Rand, n int) string {
	var b strings.Builder
	for range 1 + random.IntN(n) {
		b.WriteString(testkit.Pick(random, nasty...))
	}
	return b.String()
}

// otherwise maps each method to a different one.
var otherwise = map[string]string{"GET": "DELETE", "HEAD": "PUT", "PUT": "POST", "POST": "PUT", "DELETE": "GET"}

// changes are modifications of a request after it was signed.
var changes = []func(random *rand.Rand, r *http.Request){
	func(random *rand.Rand, r *http.Request) {
		r.URL.RawQuery += "&prefix=" + url.QueryEscape(pieces(random, 3))
	},
	func(random *rand.Rand, r *http.Request) { r.URL.Path, r.URL.RawPath = r.URL.Path+pieces(random, 2), "" },
	func(_ *rand.Rand, r *http.Request) { r.Header.Set("X-Amz-Meta-Late", "1") },
	func(_ *rand.Rand, r *http.Request) { r.Header.Del("Authorization") },
	func(_ *rand.Rand, r *http.Request) { r.Method = otherwise[r.Method] },
	func(random *rand.Rand, r *http.Request) {
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature="+testkit.Pick(random, "0", "a", " ", ","), 1))
	},
	func(_ *rand.Rand, r *http.Request) { r.Header.Set("X-Amz-Date", "20200101T000000Z") },
}

// TestT11_StrictUpstream sends random requests through the gateway to a strict upstream, which
// verifies each one as S3 does. A request that was signed for the gateway means the same upstream.
// A request that was changed after signing never reaches the upstream, and the upstream refuses
// nothing.
func TestT11_StrictUpstream(t *testing.T) {
	t.Parallel()
	p := testkit.Prove(t, "T11")
	requests := p.Amount(300, 1500, 10_000)
	behind := startStrict(t)
	g := startGateway(t, options{plain: true, upstream: behind})
	b := newBucket(t, g, "collection")
	random := p.Random(0)
	sent, stored, changed, answered := map[string]bool{"": true}, []string{}, 0, map[int]int{}
	for n := range requests {
		key := strings.TrimLeft(pieces(random, 6), "/") + fmt.Sprint("k", random.IntN(1000))
		method := testkit.Pick(random, "GET", "HEAD", "PUT", "PUT", "DELETE", "POST")
		query, header, body, path := url.Values{}, http.Header{}, []byte(nil), "/collection/"+key
		switch method {
		case "PUT":
			body = testkit.Bytes(random.Uint64()|1, testkit.Pick(random, 0, 1, 1000, 70_000))
			header.Set("X-Amz-Meta-"+testkit.Pick(random, "a", "B-c", "d.e"), strings.TrimSpace(testkit.Pick(random, "plain", "two  spaces", "a,b", "", "\"q\"", "ü")))
			header.Set("Content-Type", testkit.Pick(random, "text/plain", "application/x; a=\"b;c\"", "text/html;charset=utf-8"))
			if random.IntN(4) == 0 && len(stored) > 0 {
				header.Set("X-Amz-Copy-Source", s3utils.EncodePath("/collection/"+testkit.Pick(random, stored...)))
				body = nil
			}
		case "POST":
			path, body = "/collection", []byte("<Delete><Object><Key>"+strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(key)+"</Key></Object></Delete>")
			query.Set("delete", "")
			sum := md5.Sum(body)
			header.Set("Content-Md5", base64.StdEncoding.EncodeToString(sum[:]))
		case "GET":
			if random.IntN(3) == 0 {
				path = "/collection"
				query.Set("list-type", "2")
				query.Set("prefix", pieces(random, 3))
				query.Set("encoding-type", "url")
				if random.IntN(2) == 0 {
					query.Set("delimiter", testkit.Pick(random, "/", "%", "+", "ü"))
				}
			} else if random.IntN(2) == 0 {
				header.Set("Range", testkit.Pick(random, "bytes=0-", "bytes=-5", "bytes=3-2", "bytes=0-0,5-6", "lines=1", "bytes=99999999999999999999-"))
			}
		}
		r, err := b.client.Request(method, path, query.Encode(), header, body)
		if err != nil {
			t.Fatal(err)
		}
		broken := random.IntN(3) == 0
		if broken {
			changed++
			testkit.Pick(random, changes...)(random, r)
		} else {
			sent[key] = true
		}
		a, err := b.client.Do(r)
		if err != nil {
			t.Errorf("request %d, %s %q: %v", n, method, key, err)
			continue
		}
		answered[a.Status]++
		switch {
		case broken && (a.Status < 400 || a.Status >= 500):
			t.Errorf("request %d, %s %q, changed after it was signed: %d", n, r.Method, r.URL, a.Status)
		case !broken && (a.Status == 403 || a.Status >= 500):
			t.Errorf("request %d, %s %q: %d %s", n, method, r.URL, a.Status, a.Body)
		}
		if !broken && method == "PUT" && a.Status == 200 && header.Get("X-Amz-Copy-Source") == "" {
			stored = append(stored, key)
			got := b.client.Must(t, "GET", path, "", http.Header{"Cache-Control": {"no-store"}}, nil)
			if got.Status != 200 || !bytes.Equal(got.Body, body) {
				t.Errorf("request %d: %q came back with %d, %d bytes of %d", n, key, got.Status, len(got.Body), len(body))
			}
		}
	}
	calls := strictCalls(t, behind)
	for _, c := range calls {
		if c.Status == 403 || c.Status == 400 && strings.HasPrefix(c.Code, "InvalidRequest") {
			t.Errorf("refused upstream: %+v", c)
		}
		if c.Bucket != "" && c.Bucket != "collection" || !sent[c.Key] {
			t.Errorf("not a request of a client: %+v", c)
		}
	}
	if len(calls) < requests/4 || len(calls) == 10_000 || // the double remembers no more
		changed < requests/5 || answered[200] < requests/5 {
		t.Errorf("%d calls, %d changed requests, answers %v", len(calls), changed, answered)
	}
	p.Figure("requests", requests)
	p.Figure("of which changed after signing", changed)
	p.Figure("that came upstream", len(calls))
	p.Figure("answers", answered)
}
