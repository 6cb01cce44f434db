package gateway

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw"
)

// FuzzKey: percent-encoded, any bytes come out of a target as they went in.
func FuzzKey(f *testing.F) {
	for _, name := range oddKeys {
		f.Add("/bucket/" + name)
	}
	f.Fuzz(func(t *testing.T, path string) {
		if !strings.HasPrefix(path, "/") {
			return
		}
		var target strings.Builder
		for i := range len(path) {
			if path[i] == '/' {
				target.WriteByte('/')
			} else {
				fmt.Fprintf(&target, "%%%02X", path[i])
			}
		}
		u, err := url.ParseRequestURI(target.String())
		if err != nil {
			return
		}
		c, err := parse(&http.Request{URL: u}, nil)
		if err != nil {
			return
		}
		if c.key.Bucket != "" && "/"+c.key.Bucket+"/"+c.key.Name != path && "/"+c.key.Bucket != path {
			t.Errorf("%q parsed to %q %q", path, c.key.Bucket, c.key.Name)
		}
	})
}

func FuzzCopySource(f *testing.F) {
	for _, s := range []string{"/bucket/key", "bucket/a%2Fb?versionId=1", "bucket", "/", "bucket/%zz", "bucket/a?versionId=%zz", "bucket/a?acl"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		s, err := parseSource(value)
		if err != nil {
			return
		}
		if s.key.Name == "" || akigw.CheckBucketName(s.key.Bucket) != nil || akigw.CheckKeyName(s.key.Name) != nil {
			t.Errorf("%q: %q", value, s.key)
		}
		if again, err := parseSource(s.encoded()); err != nil || *again != *s {
			t.Errorf("%q became %q, and that %v (%v)", value, s.encoded(), again, err)
		}
	})
}

func FuzzControlDocuments(f *testing.F) {
	for _, s := range []string{"<Delete><Object><Key>k</Key></Object></Delete>", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
		"<!DOCTYPE a><Delete/>", "<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>", "<a></a><b></b>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if r, err := parseDelete(document); err == nil {
			if len(r.Objects) == 0 || len(r.Objects) > maxDeleteKeys {
				t.Errorf("%q: %d keys", document, len(r.Objects))
			}
			again, err := parseDelete(r.encode())
			if err != nil || !slices.EqualFunc(again.Objects, r.Objects, func(a, b deletion) bool { return a.name == b.name && a.version == b.version }) {
				t.Errorf("%q became %q: %v", document, r.encode(), err)
			}
		}
		if parts, err := parseComplete(document); err == nil && (len(parts) == 0 || len(parts) > maxParts || parts[len(parts)-1].Number > maxParts) {
			t.Errorf("%q: %d parts", document, len(parts))
		}
	})
}

// FuzzContinuationToken: a listing's parameters reach the upstream as they
// came, whatever is in them.
func FuzzContinuationToken(f *testing.F) {
	f.Add("1ueGcxLPRx1Tr/XYExHnhbYLgveDs2J/wm36Hy4vbOwM=", "a/b c+d")
	f.Add("%00&list-type=1", "\xff\n")
	f.Fuzz(func(t *testing.T, token, prefix string) {
		query := url.Values{"list-type": {"2"}, "continuation-token": {token}, "prefix": {prefix}}
		c, err := parse(&http.Request{Method: "GET", URL: &url.URL{Path: "/bucket", RawQuery: query.Encode()}, Header: http.Header{}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.hoist(); err != nil {
			t.Fatal(err)
		}
		row := slices.IndexFunc(allRoutes, func(r Route) bool { return r.Method == "GET" && r.matches(c) })
		c.route = &allRoutes[row]
		if got := c.upstreamRequest(); c.route.Op != "ListObjectsV2" || got.Query.Encode() != query.Encode() {
			t.Fatalf("%s %v, want %v", c.route.Op, got.Query, query)
		}
	})
}
