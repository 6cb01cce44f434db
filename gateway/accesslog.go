package gateway

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/rotate"
)

// AccessLogConfig is the access log: [access_log].
type AccessLogConfig struct {
	File   string `toml:"file" help:"file with a line for each request, in the format of S3's server access logs; empty: none"`
	MaxMiB int    `toml:"max_mib" help:"size in MiB at which the file is put aside, with the time in its name, and a new one begun"`
	Keep   int    `toml:"keep" help:"how many files that were put aside are kept; they are compressed"`
}

// Check reports every impossible value by its key.
func (c *AccessLogConfig) Check(report func(key, problem string)) {
	if c.MaxMiB < 1 || c.MaxMiB > 1<<20 {
		report("max_mib", "must be 1 to 1048576")
	}
	if c.Keep < 1 || c.Keep > 100_000 {
		report("keep", "must be 1 to 100000")
	}
}

// AccessLog writes lines of S3's server access log format. Any goroutine may use it.
type AccessLog struct{ to io.WriteCloser }

// OpenAccessLog begins, or goes on with, the file that is configured; nil if none is.
func OpenAccessLog(c AccessLogConfig) *AccessLog {
	if c.File == "" {
		return nil
	}
	return &AccessLog{rotate.New(rotate.Options{Path: c.File, MaxBytes: int64(c.MaxMiB) << 20, Keep: c.Keep})}
}

// Close closes the file.
func (l *AccessLog) Close() error { return l.to.Close() }

// write writes the line of a request that is over. The fields are those of "Amazon S3 server
// access log format"; what the gateway does not know is "-".
func (l *AccessLog) write(r *http.Request, w *answer, op, accessKey, requestID, hostID string, started time.Time, took time.Duration) {
	bucket, key, version, auth := "-", "-", "-", "-"
	if w.call != nil {
		bucket, key, version = orDash(w.call.key.Bucket), orDash(escaped(w.call.key.Name)), orDash(escaped(w.call.query.Get("versionId")))
		switch {
		case accessKey == "":
		case w.call.query.Has("X-Amz-Signature"):
			auth = "QueryString"
		default:
			auth = "AuthHeader"
		}
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = "-"
	}
	signature := "-"
	if auth != "-" {
		signature = "SigV4"
	}
	turnAround := "-"
	if !w.began.IsZero() {
		turnAround = strconv.FormatInt(w.began.Sub(started).Milliseconds(), 10)
	}
	cipher, version2 := "-", "-"
	if r.TLS != nil {
		cipher, version2 = tls.CipherSuiteName(r.TLS.CipherSuite), strings.Replace(tls.VersionName(r.TLS.Version), "TLS 1.", "TLSv1.", 1)
	}
	line := fmt.Appendf(make([]byte, 0, 512), "- %s [%s] %s %s %s %s %s \"%s\" %d %s %s %s %d %s \"%s\" \"%s\" %s %s %s %s %s %s %s - -\n",
		bucket, started.UTC().Format("02/Jan/2006:15:04:05 -0700"), address, orDash(plain(accessKey)), requestID, loggedOperation(r, w, op), key,
		r.Method+" "+redacted(r)+" "+r.Proto, w.status, orDash(w.code), sizeField(w.bytes), sizeField(objectSize(r, w)), took.Milliseconds(), turnAround,
		orDash(plain(r.Referer())), orDash(plain(r.UserAgent())), version, hostID, signature, cipher, auth, orDash(plain(r.Host)), version2)
	_, _ = l.to.Write(line) // a request does not fail for its line; a full disk is seen elsewhere
}

// orDash is S3's sign for nothing.
func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func sizeField(n int64) string {
	if n <= 0 {
		return "-"
	}
	return strconv.FormatInt(n, 10)
}

// escaped is a key or a version id as it is in a URL: it cannot end its field.
func escaped(key string) string { return (&url.URL{Path: key}).EscapedPath() }

// plain is text of a client that cannot end the line or its field.
func plain(s string) string {
	return clip(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '"' {
			return '_'
		}
		return c
	}, s))
}

// secrets are parameters that would let a reader of the log use a presigned URL.
var secrets = []string{"X-Amz-Signature", "X-Amz-Security-Token", "Signature"}

// redacted is the target of a request without what signs it.
func redacted(r *http.Request) string {
	path, query, ok := strings.Cut(r.RequestURI, "?")
	if !ok {
		return plain(path)
	}
	fields := strings.Split(query, "&")
	for i, f := range fields {
		name, _, _ := strings.Cut(f, "=")
		for _, secret := range secrets {
			if strings.EqualFold(name, secret) {
				fields[i] = name + "=-"
			}
		}
	}
	return plain(path + "?" + strings.Join(fields, "&"))
}

// objectSize is how large the object is, as far as the answer says.
func objectSize(r *http.Request, w *answer) int64 {
	text := w.Header().Get("Content-Length")
	switch {
	case w.status >= 300:
		return 0
	case r.Method == http.MethodPut:
		return r.ContentLength
	case w.status == http.StatusPartialContent:
		_, text, _ = strings.Cut(w.Header().Get("Content-Range"), "/")
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// loggedOperation is S3's name for an operation in its logs: REST.METHOD.RESOURCE.
func loggedOperation(r *http.Request, w *answer, op string) string {
	method, resource := r.Method, "OBJECT"
	switch {
	case w.call == nil || w.call.key.Bucket == "":
		resource = "SERVICE"
	case w.call.key.Name == "":
		resource = "BUCKET"
	}
	switch op {
	case "CopyObject":
		method = "COPY"
	case "UploadPart":
		resource = "PART"
	case "UploadPartCopy":
		method, resource = "COPY", "PART"
	case "CreateMultipartUpload", "ListMultipartUploads":
		resource = "UPLOADS"
	case "CompleteMultipartUpload", "AbortMultipartUpload", "ListParts":
		resource = "UPLOAD"
	case "DeleteObjects":
		resource = "MULTI_OBJECT_DELETE"
	default:
		if w.call != nil {
			for name := range w.call.query {
				if subresources[name] {
					resource = strings.ToUpper(name)
				}
			}
		}
	}
	return "REST." + method + "." + resource
}

// subresources are parameters that name what a request is about.
var subresources = map[string]bool{
	"acl": true, "tagging": true, "versioning": true, "versions": true, "policy": true, "lifecycle": true, "cors": true, "location": true, "logging": true,
	"notification": true, "encryption": true, "replication": true, "website": true, "retention": true, "legal-hold": true, "object-lock": true, "attributes": true, "torrent": true,
}
