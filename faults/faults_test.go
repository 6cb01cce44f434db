package faults

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// upstream answers every request with a body and counts the requests that it carries out.
type upstream struct{ done atomic.Int64 }

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body != nil {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			return nil, err
		}
		r.Body.Close()
	}
	u.done.Add(1)
	w := httptest.NewRecorder()
	w.Header().Set("Etag", `"right"`)
	status := http.StatusOK
	if r.Header.Get("Range") != "" {
		w.Header().Set("Content-Range", "bytes 0-99/1000")
		status = http.StatusPartialContent
	}
	w.WriteHeader(status)
	w.Write(bytes.Repeat([]byte("x"), 100))
	resp := w.Result()
	resp.ContentLength = 100
	return resp, nil
}

func request(method, target string, body string) *http.Request {
	r := httptest.NewRequest(method, "http://upstream"+target, strings.NewReader(body))
	r.RequestURI = ""
	return r
}

// TestEffects: each effect does what its name says, and the request is carried out exactly if its
// description says so.
func TestEffects(t *testing.T) {
	for _, c := range []struct {
		fault  Fault
		status int
		err    error
		code   string
		done   int64
		check  func(resp *http.Response, body []byte) bool
	}{
		{fault: Fault{Effect: SlowDown}, status: 503, code: "SlowDown"},
		{fault: Fault{Effect: TooManyRequests}, status: 429, code: "TooManyRequests"},
		{fault: Fault{Effect: InternalError}, status: 500, code: "InternalError"},
		{fault: Fault{Effect: AnyError, Status: 418, Code: "Teapot"}, status: 418, code: "Teapot"},
		{fault: Fault{Effect: ErrorIn200}, status: 200, code: "InternalError"},
		{fault: Fault{Effect: Refused}, err: syscall.ECONNREFUSED},
		{fault: Fault{Effect: ResetBefore}, err: syscall.ECONNRESET},
		{fault: Fault{Effect: ResetAfter}, err: syscall.ECONNRESET, done: 1},
		{fault: Fault{Effect: TimeoutBefore, LatencyMS: 1}, err: os.ErrDeadlineExceeded},
		{fault: Fault{Effect: TimeoutAfter, LatencyMS: 1}, err: os.ErrDeadlineExceeded, done: 1},
		{fault: Fault{Effect: Latency, LatencyMS: 1, JitterMS: 2}, status: 206, done: 1},
		{fault: Fault{Effect: Duplicate}, status: 206, done: 2},
		{fault: Fault{Effect: Bandwidth, BytesPerSec: 1 << 20}, status: 206, done: 1},
		{fault: Fault{Effect: ShortBody}, status: 206, done: 1, check: func(_ *http.Response, body []byte) bool { return len(body) == 50 }},
		{fault: Fault{Effect: Corrupt}, status: 206, done: 1, check: func(_ *http.Response, body []byte) bool {
			return len(body) == 100 && bytes.Count(body, []byte("x")) == 99
		}},
		{fault: Fault{Effect: WrongRange}, status: 206, done: 1, check: func(resp *http.Response, _ []byte) bool {
			return resp.Header.Get("Content-Range") == "bytes 1-100/1001"
		}},
		{fault: Fault{Effect: StaleETag}, status: 206, done: 1, check: func(resp *http.Response, _ []byte) bool { return resp.Header.Get("Etag") != `"right"` }},
	} {
		t.Run(string(c.fault.Effect), func(t *testing.T) {
			var layer Layer
			up := &upstream{}
			if err := layer.Set(Plan{Seed: 3, Faults: []Fault{c.fault}}); err != nil {
				t.Fatal(err)
			}
			r := request("GET", "/bucket/k", "body")
			r.Header.Set("Range", "bytes=0-99")
			resp, err := layer.Wrap(up).RoundTrip(r)
			if up.done.Load() != c.done {
				t.Errorf("the upstream carried it out %d times", up.done.Load())
			}
			if c.err != nil || err != nil {
				if !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				return
			}
			body, err := io.ReadAll(resp.Body)
			if resp.StatusCode != c.status || err != nil || c.code != "" && !strings.Contains(string(body), "<Code>"+c.code+"</Code>") || c.check != nil && !c.check(resp, body) {
				t.Errorf("%d, %q, %v, %v", resp.StatusCode, body, resp.Header, err)
			}
			if report := layer.Report(); report.Met[0] != 1 || report.Hits[0] != 1 {
				t.Errorf("%+v", report)
			}
		})
	}
}

// TestHangs: a request that hangs gets no response until the client gives up or the plan ends. Whether
// it is carried out depends on the effect.
func TestHangs(t *testing.T) {
	for _, c := range []struct {
		effect Effect
		done   int64
		read   int // bytes of the body that arrive, -1 for no head
	}{{Hang, 0, -1}, {HangAfter, 1, -1}, {HangBody, 1, 50}} {
		for name, end := range map[string]struct {
			how func(l *Layer, giveUp context.CancelFunc)
			err error
		}{
			"given up": {func(_ *Layer, giveUp context.CancelFunc) { giveUp() }, context.Canceled},
			"cleared":  {func(l *Layer, _ context.CancelFunc) { l.Clear() }, syscall.ECONNRESET},
			"replaced": {func(l *Layer, _ context.CancelFunc) { _ = l.Set(Plan{}) }, syscall.ECONNRESET},
		} {
			t.Run(string(c.effect)+", "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var layer Layer
					up := &upstream{}
					if err := layer.Set(Plan{Faults: []Fault{{Effect: c.effect}}}); err != nil {
						t.Fatal(err)
					}
					ctx, giveUp := context.WithCancel(t.Context())
					defer giveUp()
					const patience = 24 * time.Hour
					time.AfterFunc(patience, func() { end.how(&layer, giveUp) })
					began := time.Now()
					read := -1
					resp, err := layer.Wrap(up).RoundTrip(request("GET", "/bucket/k", "body").WithContext(ctx))
					if err == nil {
						var body []byte
						body, err = io.ReadAll(resp.Body)
						read = len(body)
					}
					if !errors.Is(err, end.err) || time.Since(began) != patience {
						t.Errorf("%v after %s", err, time.Since(began))
					}
					if read != c.read || up.done.Load() != c.done {
						t.Errorf("%d bytes arrived, want %d; the upstream carried it out %d times, want %d", read, c.read, up.done.Load(), c.done)
					}
				})
			})
		}
	}
}

// TestHangingBodyIsClosed: closing a body ends a Read of it that hangs.
func TestHangingBodyIsClosed(t *testing.T) {
	var layer Layer
	if err := layer.Set(Plan{Faults: []Fault{{Effect: HangBody}}}); err != nil {
		t.Fatal(err)
	}
	resp, err := layer.Wrap(&upstream{}).RoundTrip(request("GET", "/bucket/k", ""))
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(10*time.Millisecond, func() { resp.Body.Close() })
	if read, err := io.ReadAll(resp.Body); len(read) != 50 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes, %v", len(read), err)
	}
}

// TestOperations: Identify returns the operation of a request.
func TestOperations(t *testing.T) {
	for target, want := range map[string]string{
		"GET /": "ListBuckets", "GET /b": "ListObjects", "GET /b?list-type=2": "ListObjectsV2", "GET /b/k": "GetObject", "GET /b/k/l?versionId=1": "GetObject",
		"PUT /b/k": "PutObject", "PUT /b/k?partNumber=1&uploadId=x": "UploadPart", "POST /b/k?uploads": "CreateMultipartUpload", "POST /b/k?uploadId=x": "CompleteMultipartUpload",
		"DELETE /b/k?uploadId=x": "AbortMultipartUpload", "DELETE /b/k": "DeleteObject", "POST /b?delete": "DeleteObjects", "HEAD /b": "HeadBucket", "HEAD /b/k": "HeadObject",
		"GET /b/k?acl": "", "PUT /b?versioning": "", "PUT /b": "CreateBucket", "GET /b/k?uploadId=x": "ListParts",
	} {
		method, path, _ := strings.Cut(target, " ")
		if op, _, _ := Identify(request(method, path, "")); op != want {
			t.Errorf("%s is %q, want %q", target, op, want)
		}
	}
	r := request("PUT", "/b/k", "")
	r.Header.Set("X-Amz-Copy-Source", "/b/other")
	if op, bucket, key := Identify(r); op != "CopyObject" || bucket != "b" || key != "k" {
		t.Errorf("%s %s %s", op, bucket, key)
	}
}

// TestWhen: faults hit the requests that they select, at the right time, and reproducibly.
func TestWhen(t *testing.T) {
	pattern := func(f Fault, targets ...string) string {
		var layer Layer
		f.Effect = SlowDown
		if err := layer.Set(Plan{Seed: 7, Faults: []Fault{f}}); err != nil {
			t.Fatal(err)
		}
		send, out := layer.Wrap(&upstream{}), ""
		for n := range 10 {
			resp, err := send.RoundTrip(request("GET", targets[n%len(targets)], ""))
			if err != nil {
				t.Fatal(err)
			}
			out += map[bool]string{true: "x", false: "."}[resp.StatusCode == 503]
		}
		return out
	}
	for _, c := range []struct {
		fault Fault
		want  string
	}{
		{Fault{}, "xxxxxxxxxx"},
		{Fault{Nth: 3}, "..x......."},
		{Fault{First: 2}, "xx........"},
		{Fault{Skip: 3, First: 2}, "...xx....."},
		{Fault{Skip: 8}, "........xx"},
		{Fault{Bucket: "other*"}, ".........."},
		{Fault{Op: "PutObject, GetObject", Bucket: "bu*", Key: "k?"}, "xxxxxxxxxx"},
		{Fault{Op: "PutObject"}, ".........."},
		{Fault{After: 3600}, ".........."},
	} {
		if got := pattern(c.fault, "/bucket/k1"); got != c.want {
			t.Errorf("%+v: %s, want %s", c.fault, got, c.want)
		}
	}
	if got := pattern(Fault{Key: "k1"}, "/bucket/k1", "/bucket/k2"); got != "x.x.x.x.x." {
		t.Errorf("one key of two: %s", got)
	}
	one, two := pattern(Fault{Probability: 0.5}, "/bucket/k"), pattern(Fault{Probability: 0.5}, "/bucket/k")
	if one != two || !strings.Contains(one, "x") || !strings.Contains(one, ".") {
		t.Errorf("%s, then %s", one, two)
	}
}

// TestBetween: a fault begins and ends at the configured times.
func TestBetween(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var layer Layer
		if err := layer.Set(Plan{Faults: []Fault{{Effect: SlowDown, After: 2, Until: 4}}}); err != nil {
			t.Fatal(err)
		}
		send, out := layer.Wrap(&upstream{}), ""
		for range 6 {
			resp, err := send.RoundTrip(request("GET", "/b/k", ""))
			if err != nil {
				t.Fatal(err)
			}
			out += fmt.Sprint(resp.StatusCode / 100)
			time.Sleep(time.Second)
		}
		if out != "225522" {
			t.Error(out)
		}
		layer.Clear()
		if layer.Report() != nil {
			t.Error("the faults are still set after they were cleared")
		}
	})
}

// TestBadPlans: all mistakes in a plan are reported, and no plan is set.
func TestBadPlans(t *testing.T) {
	for text, want := range map[string]string{
		"[[fault]]\neffect = \"melt\"":                                                  "fault 1: effect must be one of",
		"[[fault]]\neffect = \"slow_down\"\nprobability = 2":                            "fault 1: probability must be 0 to 1",
		"[[fault]]\neffect = \"slow_down\"\ncolour = 2":                                 "fault plan",
		"[[fault]]\neffect = \"error\"":                                                 "fault 1: status must be 400 to 599",
		"[[fault]]\neffect = \"latency\"":                                               "fault 1: latency_ms",
		"[[fault]]\neffect = \"refused\"\nafter_secs = 5\nuntil_secs = 5":               "until_secs must be later",
		`{"seed": 1, "fault": [{"effect": "bandwidth"}]}`:                               "bytes_per_sec must be at least 1024",
		"[[fault]]\neffect = \"eio\"\ntier = \"cold\"":                                  `tier must be one of ["warm" "journal"]`,
		"[[fault]]\neffect = \"refused\"\ntier = \"warm\"":                              `tier must be one of ["cold"]`,
		"[[fault]]\neffect = \"eio\"\nbucket = \"b\"":                                   "bucket must be left out",
		"[[fault]]\neffect = \"slow_sync\"":                                             "latency_ms",
		"[[fault]]\neffect = \"refused\"\ndirection = \"sideways\"":                     "direction must be read or write",
		`{"seed": 1, "faults": []}`:                                                     "unknown field",
		"[[fault]]\neffect = \"corrupt\"\nnth = -1\n[[fault]]\neffect = \"also wrong\"": "fault 2",
	} {
		p, err := Parse([]byte(text))
		var layer Layer
		if err == nil || !strings.Contains(err.Error(), want) || len(p.Faults) > 0 && layer.Set(p) == nil {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
	for name, p := range Presets() {
		if err := p.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzParse: any plan is either accepted or refused.
func FuzzParse(f *testing.F) {
	f.Add([]byte("seed = 1\n[[fault]]\neffect = \"slow_down\"\n"))
	f.Add([]byte(`{"seed": 1, "fault": [{"effect": "corrupt", "probability": 0.5}]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		p, err := Parse(raw)
		var layer Layer
		if err == nil && layer.Set(p) != nil {
			t.Error("the plan was parsed but cannot be set")
		}
	})
}
