//go:build !race

package gateway

import (
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/rules"
)

// TestHotGetAllocations: a GET from memory allocates what is known, and nothing more. A change that needs
// another allocation says why, with the figures of make bench-check.
func TestHotGetAllocations(t *testing.T) {
	g := newRig(t, rules.Exclusive)
	for _, size := range []int{4 << 10, 1 << 20} {
		hotGet(t, g, size, false)() // from the upstream
		for _, quick := range []bool{false, true} {
			if n := testing.AllocsPerRun(200, hotGet(t, g, size, quick)); n > 13 {
				t.Errorf("%d bytes, quick %t: %.0f allocations, 13 are known", size, quick, n)
			}
		}
	}
}

// TestAllocationsOfPromisedDates: that dates are known costs other objects nothing, and the
// object itself a copy of its headers.
func TestAllocationsOfPromisedDates(t *testing.T) {
	d := newDating(t, backAs{byMode{}, rules.Exclusive}, 2*time.Hour)
	d.up.Put(backKey("other"), []byte("body"))
	measure := func(path string) float64 {
		d.ask("root", "GET", path, "", nil, "")
		r := &http.Request{Method: "GET", URL: &url.URL{Path: path}, Host: "s3.example.com", Header: http.Header{}, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, RemoteAddr: "127.0.0.1:1"}
		s3client.Signing{AccessKey: "root", Secret: tenantSecret}.Sign(r)
		w := httptest.NewRecorder()
		return testing.AllocsPerRun(200, func() {
			clear(w.Header())
			if w.Body.Reset(); !d.g.ServeLocal(w, r) {
				t.Fatal("not answered quickly")
			}
		})
	}
	before := measure("/back/other")
	d.ask("root", "PUT", "/back/k", "", nil, "body")
	d.flush()
	if now := measure("/back/other"); now > before {
		t.Errorf("%.0f allocations of an object without dates, %.0f while none was known", now, before)
	}
	if own := measure("/back/k"); own > before+5 {
		t.Errorf("%.0f allocations of an object with dates, %.0f of one without", own, before)
	} else {
		t.Logf("%.0f allocations of an object with dates, %.0f of one without", own, before)
	}
}
