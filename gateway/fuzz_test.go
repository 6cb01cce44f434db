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
		_ = checkComplete(document)
	})
}
