package gateway

import (
	"net/http"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// TestPreflight: the upstream decides; a no is the same for every bucket, and
// nothing of the client's goes along but what a preflight says.
func TestPreflight(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	var sent *cold.Request
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		sent = r
		switch r.Key.Bucket {
		case "open":
			return s3mem.Response(200, http.Header{"Access-Control-Allow-Origin": {"http://page"}, "Access-Control-Allow-Methods": {"PUT"}, "Vary": {"Origin"}, "Set-Cookie": {"a=b"}}, nil), nil
		case "closed":
			return s3mem.Response(403, nil, []byte("<Error><Code>AccessForbidden</Code></Error>")), nil
		}
		return s3mem.Response(404, nil, []byte("<Error><Code>NoSuchBucket</Code></Error>")), nil
	}
	asks := http.Header{"Origin": {"http://page"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"content-type"}, "Cookie": {"a=b"}}
	w := b.ask("", "OPTIONS", "/open/k", "X-Amz-Signature=of-another-method&X-Amz-Credential=x", asks, "")
	if w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "http://page" || w.Header().Get("Vary") != "Origin" || w.Header().Get("Set-Cookie") != "" {
		t.Errorf("open: %d %v", w.Code, w.Header())
	}
	if sent == nil || sent.Method != "OPTIONS" || sent.Key != (akigw.Key{Bucket: "open", Name: "k"}) || len(sent.Header) != 3 || len(sent.Query) != 0 {
		t.Errorf("the upstream got %+v", sent)
	}
	closed, none := b.ask("", "OPTIONS", "/closed/k", "", asks, ""), b.ask("", "OPTIONS", "/none/k", "", asks, "")
	if closed.Code != 403 || codeOf(closed) != "AccessForbidden" || seen(closed, "/closed/k") != seen(none, "/none/k") {
		t.Errorf("closed:\n%s\nnone:\n%s", seen(closed, "/closed/k"), seen(none, "/none/k"))
	}
	sent = nil
	for name, h := range map[string]http.Header{
		"no origin":            {"Access-Control-Request-Method": {"PUT"}},
		"no method":            {"Origin": {"http://page"}},
		"a method of no S3":    {"Origin": {"http://page"}, "Access-Control-Request-Method": {"PATCH"}},
		"a header with a void": {"Origin": {"http://page"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"a b"}},
		"a header in brackets": {"Origin": {"http://page"}, "Access-Control-Request-Method": {"PUT"}, "Access-Control-Request-Headers": {"x-a, (x-b)"}},
	} {
		if w := b.ask("", "OPTIONS", "/open/k", "", h, ""); w.Code != 400 || sent != nil {
			t.Errorf("%s: %d, sent on %v", name, w.Code, sent)
		}
	}
	if w := b.ask("", "OPTIONS", "/", "", asks, ""); w.Code != 400 {
		t.Errorf("the service: %d", w.Code)
	}
}

// TestOriginGoesPastTheCache: the upstream's answer to an origin is not kept,
// nor is what is kept given to one.
func TestOriginGoesPastTheCache(t *testing.T) {
	b := newBench(t, rootAlone, rootAlone)
	b.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, []byte("x"))
	b.up.After = func(r *cold.Request, resp *http.Response) {
		if origin := r.Header.Get("Origin"); origin != "" {
			resp.Header.Set("Access-Control-Allow-Origin", origin)
		}
	}
	b.ask("root", "GET", "/bucket/k", "", nil, "")
	for range 2 {
		w := b.ask("root", "GET", "/bucket/k", "", http.Header{"Origin": {"http://page"}}, "")
		if w.Code != 200 || w.Header().Get("Access-Control-Allow-Origin") != "http://page" || w.Header()["x-akigw-cache"][0] != "bypass" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		if w := b.ask("root", "GET", "/bucket/k", "", nil, ""); w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header()["x-akigw-cache"][0] != "hot" {
			t.Errorf("without an origin: %v", w.Header())
		}
	}
}
