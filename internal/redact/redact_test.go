package redact

import (
	"net/http"
	"reflect"
	"strings"
	"testing"
)

func TestQuery(t *testing.T) {
	for query, want := range map[string]string{
		"":                 "",
		"versionId=v1":     "versionId=v1",
		"a=1&Signature=xx": "a=1&Signature=-",
		"X-Amz-Signature=ab&x-amz-security-token=t&b": "X-Amz-Signature=-&x-amz-security-token=-&b",
	} {
		if got := Query(query); got != want {
			t.Errorf("%s became %s, want %s", query, got, want)
		}
	}
}

func TestHeader(t *testing.T) {
	long := strings.Repeat("x", 1000)
	h := http.Header{
		"Etag": {`"a"`}, "Authorization": {"AWS4-HMAC-SHA256 secret"}, "Set-Cookie": {"a", "b"}, "X-Amz-Security-Token": {"token"},
		"X-Amz-Server-Side-Encryption-Customer-Key":             {"key"},
		"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key": {"key"},
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5":         {"sum"},
		"X-Amz-Website-Redirect-Location":                       {"https://host/key?X-Amz-Signature=abc&x=1"},
		"X-Amz-Meta-Long":                                       {long},
	}
	want := http.Header{
		"Etag": {`"a"`}, "Authorization": {"-"}, "Set-Cookie": {"-", "-"}, "X-Amz-Security-Token": {"-"},
		"X-Amz-Server-Side-Encryption-Customer-Key":             {"-"},
		"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key": {"-"},
		"X-Amz-Server-Side-Encryption-Customer-Key-Md5":         {"sum"},
		"X-Amz-Website-Redirect-Location":                       {"https://host/key?X-Amz-Signature=-&x=1"},
		"X-Amz-Meta-Long":                                       {long[:256]},
	}
	if got := Header(h); !reflect.DeepEqual(got, want) {
		t.Errorf("%v", got)
	}
	if h.Get("Authorization") == Hidden {
		t.Error("the headers themselves were changed")
	}
}
