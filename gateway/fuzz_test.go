package gateway

import (
	"fmt"
	"net/http"
	"net/url"
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
		c, err := parse(&http.Request{URL: u})
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
		k, _, err := copySource(value)
		if err == nil && (k.Name == "" || akigw.CheckBucketName(k.Bucket) != nil || akigw.CheckKeyName(k.Name) != nil) {
			t.Errorf("%q: %q", value, k)
		}
	})
}

func FuzzControlDocuments(f *testing.F) {
	for _, s := range []string{"<Delete><Object><Key>k</Key></Object></Delete>", "<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
		"<!DOCTYPE a><Delete/>", "<Delete><Object><Key>k</Key><Key>l</Key></Object></Delete>", "<a></a><b></b>"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, document []byte) {
		if names, err := parseDelete(document); err == nil && (len(names) == 0 || len(names) > maxDeleteKeys) {
			t.Errorf("%q: %d keys", document, len(names))
		}
		_ = checkComplete(document)
	})
}
