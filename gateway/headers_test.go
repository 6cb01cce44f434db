package gateway

import (
	"net/http"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// TestHeadersOfReads: what a request header does to the read of a cached
// object.
func TestHeadersOfReads(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	g.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("x"))
	g.Must(t, "GET", "/bucket/k", "", nil, nil)
	for name, want := range map[string]string{
		"X-Amz-Checksum-Mode": "hot", "X-Amz-User-Agent": "hot", "X-Amz-Te": "hot", "X-Amz-Cf-Id": "hot", "X-Amzn-Trace-Id": "hot", "Accept-Encoding": "hot",
		"X-Amz-Expected-Bucket-Owner": "bypass", "X-Amz-Request-Payer": "bypass", "If-Range": "bypass", "Origin": "bypass",
		"X-Amz-Nonsense": "",
	} {
		g.up.Reset()
		a := g.Must(t, "GET", "/bucket/k", "", http.Header{name: {"x"}}, nil)
		sent := g.up.Count("GET")
		if got := a.Header.Get("X-Akigw-Cache"); got != want || (a.Status == http.StatusNotImplemented) != (want == "") || (sent == 1) != (want == "bypass") {
			t.Errorf("%s: %d, cache %q with %d requests upstream, want %q", name, a.Status, got, sent, want)
		}
	}
}
