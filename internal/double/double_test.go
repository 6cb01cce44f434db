package double

import (
	"bytes"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"
	"go.uber.org/goleak"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, append(testkit.BadgerLeaks(), goleak.IgnoreTopFunction("net/http.(*persistConn).readLoop"), goleak.IgnoreTopFunction("net/http.(*persistConn).writeLoop"))...)
}

func start(t *testing.T, strict bool) (*Server, *s3client.Client) {
	t.Helper()
	s, err := Open(Config{AccessKey: s3client.AccessKey, SecretKey: s3client.SecretKey, Strict: strict, Dir: filepath.Join(testkit.MemoryDir(t), "double"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	front := testkit.Serve(t, s)
	c := &s3client.Client{Endpoint: front.URL, HTTP: front.Client()}
	if a := c.Must(t, "PUT", "/bucket", "", nil, nil); a.Status != 200 {
		t.Fatalf("%d %s", a.Status, a.Body)
	}
	return s, c
}

// TestStrict: strict mode accepts correct requests only.
func TestStrict(t *testing.T) {
	_, c := start(t, true)
	_, lenient := start(t, false)
	sum := md5.Sum([]byte("body"))
	good, bad := base64.StdEncoding.EncodeToString(sum[:]), base64.StdEncoding.EncodeToString(make([]byte, 16))
	document := []byte("<Delete><Object><Key>k</Key></Object></Delete>")
	for _, c1 := range []struct {
		name, method, path, query string
		header                    http.Header
		body                      []byte
		strict, other             int
	}{
		{"plain", "PUT", "/bucket/k", "", nil, []byte("body"), 200, 200},
		{"a copy", "PUT", "/bucket/l", "", http.Header{"X-Amz-Copy-Source": {"/bucket/k"}}, nil, 200, 200},
		{"unsigned payload", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}}, []byte("body"), 400, 200},
		{"unsigned payload with an MD5", "PUT", "/bucket/k", "", http.Header{"X-Amz-Content-Sha256": {"UNSIGNED-PAYLOAD"}, "Content-Md5": {good}}, []byte("body"), 200, 200},
		{"a wrong MD5", "PUT", "/bucket/k", "", http.Header{"Content-Md5": {bad}}, []byte("body"), 400, 400},
		{"a wrong checksum", "PUT", "/bucket/k", "", http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}, []byte("body"), 400, 400},
		{"an unknown parameter", "GET", "/bucket", "colour=red", nil, nil, 400, 501},
		{"an unknown header", "GET", "/bucket/k", "", http.Header{"X-Amz-Colour": {"red"}}, nil, 400, 501},
		{"DeleteObjects without a digest", "POST", "/bucket", "delete=", nil, document, 400, 200},
	} {
		for client, want := range map[*s3client.Client]int{c: c1.strict, lenient: c1.other} {
			if a := client.Must(t, c1.method, c1.path, c1.query, c1.header, c1.body); a.Status != want {
				t.Errorf("%s, strict %t: %d %s", c1.name, client == c, a.Status, a.Body)
			}
		}
	}
	for client, want := range map[*s3client.Client]int{c: 403, lenient: 404} {
		resp, err := client.HTTP.Get(client.Endpoint + "/bucket/k")
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want { // an accepted DELETE has removed k
			t.Errorf("without a signature, strict %t: %d", client == c, resp.StatusCode)
		}
		r, err := client.Request("GET", "/bucket/l", "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), "Signature=", "Signature=0", 1)[:len(r.Header.Get("Authorization"))])
		if a, err := client.Do(r); err != nil || a.Status != 403 {
			t.Errorf("a wrong signature, strict %t: %+v %v", client == c, a, err)
		}
	}
}

// TestTrailingChecksum: a checksum in a trailer is verified and stored with the object.
func TestTrailingChecksum(t *testing.T) {
	_, c := start(t, true)
	body := testkit.Bytes(1, 300_000)
	good := base64.StdEncoding.EncodeToString(binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
	for value, want := range map[string]int{good: 200, "AAAAAA==": 400} {
		r, err := http.NewRequest("PUT", c.Endpoint+"/bucket/trailed", bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
		resp, err := c.HTTP.Do(signer.SignV4Trailer(*r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", http.Header{"X-Amz-Checksum-Crc32": {value}}))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want || want == 200 && resp.Header.Get("X-Amz-Checksum-Crc32") != good {
			t.Errorf("%s: %d %v", value, resp.StatusCode, resp.Header)
		}
	}
	a := c.Must(t, "GET", "/bucket/trailed", "", http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}, nil)
	if a.Status != 200 || !bytes.Equal(a.Body, body) || a.Header.Get("X-Amz-Checksum-Crc32") != good || a.Header.Get("Content-Encoding") != "" {
		t.Errorf("%d, %d bytes, %v", a.Status, len(a.Body), a.Header)
	}
}

// TestRefusedBodies: a request that is refused because of its body is not stored, not even after the
// response.
func TestRefusedBodies(t *testing.T) {
	log, dir := slog.New(slog.DiscardHandler), filepath.Join(testkit.MemoryDir(t), "double")
	s, err := Open(Config{AccessKey: s3client.AccessKey, SecretKey: s3client.SecretKey, Dir: dir, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	front := httptest.NewServer(s)
	c := &s3client.Client{Endpoint: front.URL, HTTP: front.Client()}
	c.Must(t, "PUT", "/bucket", "", nil, nil)
	other := fmt.Sprintf("%x", sha256.Sum256([]byte("other")))
	for i, size := range []int{0, 1, 100, 100_000, 1, 100, 1, 100} {
		body := testkit.Bytes(1, size)
		if a := c.Must(t, "PUT", fmt.Sprintf("/bucket/digest-%d", i), "", http.Header{"X-Amz-Content-Sha256": {other}}, body); a.Status != 400 {
			t.Errorf("%d bytes with the digest of others: %d %s", size, a.Status, a.Body)
		}
		r, err := http.NewRequest("PUT", fmt.Sprintf("%s/bucket/trailer-%d", c.Endpoint, i), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", "STREAMING-UNSIGNED-PAYLOAD-TRAILER")
		if a, err := c.Do(signer.SignV4Trailer(*r, s3client.AccessKey, s3client.SecretKey, "", "us-east-1", http.Header{"X-Amz-Checksum-Crc32": {"AAAAAQ=="}})); err != nil || a.Status != 400 {
			t.Errorf("%d bytes with a wrong trailer: %+v %v", size, a, err)
		}
	}
	front.Close()
	if err := s.Close(); err != nil { // waits for requests under way
		t.Fatal(err)
	}
	inner, err := embedded.Open(dir, nil, log)
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	list := httptest.NewRecorder()
	if inner.ServeHTTP(list, httptest.NewRequest("GET", "/bucket", nil)); list.Code != 200 || strings.Contains(list.Body.String(), "<Key>") {
		t.Errorf("stored all the same: %d %s", list.Code, list.Body)
	}
}

// TestFaultsAndHistory: a plan breaks responses and connections, and the history and the counts record
// all requests.
func TestFaultsAndHistory(t *testing.T) {
	s, c := start(t, false)
	body := testkit.Bytes(1, 100_000)
	c.Must(t, "PUT", "/bucket/k", "", nil, body)
	get := func() (*s3client.Answer, error) {
		r, err := c.Request("GET", "/bucket/k", "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Do(r)
	}
	for _, f := range []struct {
		effect faults.Effect
		as     func(a *s3client.Answer, err error) bool
	}{
		{faults.SlowDown, func(a *s3client.Answer, err error) bool { return err == nil && a.Status == 503 }},
		{faults.ResetAfter, func(_ *s3client.Answer, err error) bool { return err != nil }},
		{faults.Refused, func(_ *s3client.Answer, err error) bool { return err != nil }},
		{faults.TimeoutBefore, func(_ *s3client.Answer, err error) bool { return err != nil }},
		{faults.ShortBody, func(a *s3client.Answer, err error) bool { return err != nil && len(a.Body) < len(body) }},
		{faults.Corrupt, func(a *s3client.Answer, err error) bool {
			return err == nil && len(a.Body) == len(body) && !bytes.Equal(a.Body, body)
		}},
		{faults.Latency, func(a *s3client.Answer, err error) bool { return err == nil && bytes.Equal(a.Body, body) }},
	} {
		if err := s.Faults.Set(faults.Plan{Faults: []faults.Fault{{Effect: f.effect, LatencyMS: 1}}}); err != nil {
			t.Fatal(err)
		}
		if a, err := get(); !f.as(a, err) {
			t.Errorf("%s: %+v, %v", f.effect, a, err)
		}
		s.Faults.Clear()
	}
	for range 100 { // the last responses are recorded a moment after they are sent
		if n := s.Counts()["GetObject"]; n.Requests >= 7 && n.Out >= 250_000 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	n := s.Counts()["GetObject"] // a client may have retried after a reset
	if put := s.Counts()["PutObject"]; put != (Count{Requests: 1, In: 100_000}) || n.Requests < 7 || n.Failed < 4 || n.Out < 250_000 {
		t.Errorf("%+v, %+v", put, n)
	}
	h := s.History()
	if first, third := h[0], h[2]; first.Op != "CreateBucket" || third.Op != "GetObject" || third.Key != "k" || third.Status != 503 || third.Code != "SlowDown" {
		t.Errorf("%+v, %+v", first, third)
	}
	// Over HTTP, as tests in other languages do.
	ask := func(method, path, body string) (int, string) {
		r, err := http.NewRequest(method, c.Endpoint+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		a, err := c.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		return a.Status, string(a.Body)
	}
	for _, step := range []struct {
		method, path, body string
		status             int
		says               string
	}{
		{"GET", "/_fakes3/history", "", 200, `"op":"GetObject"`},
		{"GET", "/_fakes3/counts", "", 200, `"GetObject":{"requests":`},
		{"DELETE", "/_fakes3/history", "", 204, ""},
		{"GET", "/_fakes3/counts", "", 200, "{}"},
		{"GET", "/_fakes3/history", "", 200, "[]"},
		{"POST", "/_fakes3/plan", `{"seed": 1, "fault": [{"effect": "slow_down"}]}`, 204, ""},
		{"GET", "/_fakes3/plan", "", 200, `"met":[0]`},
		{"GET", "/bucket/k", "", 503, "SlowDown"},
		{"POST", "/_fakes3/plan", `{"seed": 1, "fault": [{"effect": "melt"}]}`, 400, "effect must be"},
		{"DELETE", "/_fakes3/plan", "", 204, ""},
		{"GET", "/_fakes3/plan", "", 200, "null"},
	} {
		if status, text := ask(step.method, step.path, step.body); status != step.status || !strings.Contains(text, step.says) {
			t.Errorf("%s %s: %d %s", step.method, step.path, status, text)
		}
	}
}

// TestModes: all named plans are valid.
func TestModes(t *testing.T) {
	for _, name := range []string{"RateLimit", "Timeout", "PartialUpload", "Corruption"} {
		p, ok := faults.Modes()[name]
		if err := p.Check(); !ok || err != nil || len(p.Faults) == 0 {
			t.Error(fmt.Sprint(name, err))
		}
	}
}
