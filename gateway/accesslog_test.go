package gateway

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/sigv4"
)

// nothing closes what need not be.
type nothing struct{ strings.Builder }

// Close implements io.Closer.
func (*nothing) Close() error { return nil }

// TestAccessLogIsS3s: a line has the fields of S3's server access log format, and nothing that a
// client sends can end it or forge another.
func TestAccessLogIsS3s(t *testing.T) {
	var out nothing
	l := &AccessLog{&out}
	signed := httptest.NewRequest("GET", "/bucket/k", nil)
	s3client.Signing{AccessKey: "ACCESSKEY", Secret: tenantSecret}.Sign(signed)
	presigned := httptest.NewRequest("GET", "/bucket/k", nil)
	s3client.Signing{AccessKey: "ACCESSKEY", Secret: tenantSecret, Presign: true}.Sign(presigned)
	verifier := &sigv4.Verifier{Region: "us-east-1", Keys: sigv4.StaticKeys{"ACCESSKEY": tenantSecret}}
	who, _, err := verifier.Verify(signed, "/bucket/k", nil)
	if err != nil {
		t.Fatal(err)
	}
	byURL, _, err := verifier.Verify(presigned, "/bucket/k", presigned.URL.Query())
	if err != nil {
		t.Fatal(err)
	}
	// The fields as Athena's documentation of the format takes them apart.
	format := regexp.MustCompile(`^([^ ]*) ([^ ]*) \[(.*?)\] ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) (-|[0-9]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ("[^"]*"|-) ("[^"]*"|-) ([^ ]*)(?: ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*) ([^ ]*))?.*$`)
	for _, c := range []struct {
		method, target, op string
		change             func(r *http.Request, w *answer)
		want               map[int]string
	}{
		{"GET", "/bucket/a%20key", "GetObject", func(_ *http.Request, w *answer) {
			w.call.key = akigw.Key{Bucket: "bucket", Name: "a key"}
			w.Header().Set("Content-Length", "1234")
			w.bytes, w.status, w.head = 1234, 200, time.Second
		}, map[int]string{2: "bucket", 4: "192.0.2.9", 5: "ACCESSKEY", 6: "REQUESTID", 7: "REST.GET.OBJECT", 8: "a%20key", 9: `"GET /bucket/a%20key HTTP/1.1"`, 10: "200", 11: "-", 12: "1234", 13: "1234", 19: "HOSTID", 20: "SigV4", 22: "AuthHeader"}},
		{"GET", "/bucket/k?X-Amz-Signature=abcdef&X-Amz-Security-Token=token&versionId=v1", "GetObject", func(_ *http.Request, w *answer) {
			w.call.key = akigw.Key{Bucket: "bucket", Name: "k"}
			w.call.query, w.call.identity = map[string][]string{"versionId": {"v1"}}, byURL
			w.Header().Set("Content-Range", "bytes 0-9/5000")
			w.bytes, w.status = 10, 206
		}, map[int]string{9: `"GET /bucket/k?X-Amz-Signature=-&X-Amz-Security-Token=-&versionId=v1 HTTP/1.1"`, 12: "10", 13: "5000", 18: "v1", 22: "QueryString"}},
		{"GET", "/bucket/k?versionId=v%0A-%20forged%20line", "GetObject", func(_ *http.Request, w *answer) {
			w.call.key = akigw.Key{Bucket: "bucket", Name: "k"}
			w.call.query = map[string][]string{"versionId": {"v\n- forged line"}}
			w.status = 400
		}, map[int]string{18: "v%0A-%20forged%20line"}},
		{"PUT", "/bucket/k?partNumber=1&uploadId=2", "UploadPart", func(r *http.Request, w *answer) {
			w.call.key, r.ContentLength = akigw.Key{Bucket: "bucket", Name: "k"}, 77
			w.status = 200
		}, map[int]string{7: "REST.PUT.PART", 12: "-", 13: "77"}},
		{"GET", "/bucket?versioning", "GetBucketVersioning", func(_ *http.Request, w *answer) {
			w.call.key, w.call.query = akigw.Key{Bucket: "bucket"}, map[string][]string{"versioning": {""}}
			w.status, w.code = 403, "AccessDenied"
		}, map[int]string{7: "REST.GET.VERSIONING", 8: "-", 10: "403", 11: "AccessDenied"}},
		{"GET", "/", "ListBuckets", func(r *http.Request, w *answer) {
			r.Header.Set("User-Agent", "evil\" 200\n- forged line")
			r.Header.Set("Referer", "http://example.com/\r\n")
			w.status = 200
		}, map[int]string{2: "-", 7: "REST.GET.SERVICE", 16: `"http://example.com/__"`, 17: `"evil_ 200_- forged line"`}},
		{"GET", "/%zz", "none", func(_ *http.Request, w *answer) { w.call, w.status, w.code = nil, 400, "InvalidURI" }, map[int]string{2: "-", 5: "-", 7: "REST.GET.SERVICE", 10: "400", 11: "InvalidURI"}},
	} {
		r := httptest.NewRequest(c.method, "/", nil)
		r.RequestURI, r.RemoteAddr = c.target, "192.0.2.9:1234"
		x := newExchange(httptest.NewRecorder(), r, false)
		x.answer.call, x.op, x.answer.requestID[0] = &call{Request: r, identity: who}, c.op, "REQUESTID"
		c.change(r, &x.answer)
		out.Reset()
		l.write(x, "HOSTID", time.Second)
		fields := format.FindStringSubmatch(strings.TrimSuffix(out.String(), "\n"))
		if strings.Count(out.String(), "\n") != 1 || fields == nil {
			t.Errorf("%s: %q", c.target, out.String())
			continue
		}
		if len(strings.Fields(regexp.MustCompile(`"[^"]*"|\[[^]]*\]`).ReplaceAllString(out.String(), "x"))) != 26 {
			t.Errorf("%s has not the 26 fields: %s", c.target, out.String())
		}
		for n, want := range c.want {
			if fields[n] != want {
				t.Errorf("%s: field %d is %q, want %q, in %s", c.target, n, fields[n], want, out.String())
			}
		}
		if strings.Contains(out.String(), "abcdef") || strings.Contains(out.String(), "=token") {
			t.Errorf("a signature is in the log: %s", out.String())
		}
	}
}
