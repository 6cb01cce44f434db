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

	"github.com/akidb/akigw/internal/redact"
	"github.com/akidb/akigw/internal/rotate"
	"github.com/akidb/akigw/sigv4"
)

// AccessLogConfig is the access log: [access_log].
type AccessLogConfig struct {
	File   string `toml:"file" help:"file with a line for each request, in the format of S3's server access logs; empty: none"`
	MaxMiB int    `toml:"max_mib" help:"size in MiB at which the file is rotated: it gets the time in its name, and a new one is started"`
	Keep   int    `toml:"keep" help:"how many rotated files are kept, compressed"`
}

// Check reports each invalid value by its key.
func (c *AccessLogConfig) Check(report func(key, problem string)) {
	if c.MaxMiB < 1 || c.MaxMiB > 1<<20 {
		report("max_mib", "must be 1 to 1048576")
	}
	if c.Keep < 1 || c.Keep > 100_000 {
		report("keep", "must be 1 to 100000")
	}
}

// AccessLog writes lines in S3's server access log format. It is safe for concurrent use.
type AccessLog struct{ to io.WriteCloser }

// OpenAccessLog opens the configured file for appending. It returns nil if none is configured.
func OpenAccessLog(c AccessLogConfig) *AccessLog {
	if c.File == "" {
		return nil
	}
	return &AccessLog{rotate.New(rotate.Options{Path: c.File, MaxBytes: int64(c.MaxMiB) << 20, Keep: c.Keep})}
}

// Close closes the file.
func (l *AccessLog) Close() error { return l.to.Close() }

// write writes the line of an exchange that has ended. The fields are those of "Amazon S3 server
// access log format"; a value that the gateway does not know is "-".
func (l *AccessLog) write(x *exchange, hostID string, took time.Duration) {
	r, w, accessKey := x.request, &x.answer, x.accessKey()
	bucket, key, version, signature, auth := "-", "-", "-", "-", "-"
	if w.call != nil {
		bucket, key, version = orDash(w.call.key.Bucket), orDash(escaped(w.call.key.Name)), orDash(escaped(w.call.query.Get("versionId")))
		signature, auth = loggedSignature(w.call.identity)
	}
	address, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		address = "-"
	}
	turnAround := "-"
	if w.head > 0 {
		turnAround = strconv.FormatInt(w.head.Milliseconds(), 10)
	}
	cipher, tlsVersion := "-", "-"
	if r.TLS != nil {
		cipher, tlsVersion = tls.CipherSuiteName(r.TLS.CipherSuite), strings.Replace(tls.VersionName(r.TLS.Version), "TLS 1.", "TLSv1.", 1)
	}
	line := fmt.Appendf(make([]byte, 0, 512), "- %s [%s] %s %s %s %s %s \"%s\" %d %s %s %s %d %s \"%s\" \"%s\" %s %s %s %s %s %s %s - -\n",
		bucket, w.started.UTC().Format("02/Jan/2006:15:04:05 -0700"), address, orDash(printable(accessKey)), x.id(), loggedOperation(r, w, x.op), key,
		r.Method+" "+redacted(r)+" "+r.Proto, w.status, orDash(w.code), sizeField(w.bytes), sizeField(objectSize(r, w)), took.Milliseconds(), turnAround,
		orDash(printable(r.Referer())), orDash(printable(r.UserAgent())), version, hostID, signature, cipher, auth, orDash(printable(r.Host)), tlsVersion)
	_, _ = l.to.Write(line) // a request does not fail because of its log line; a full disk is noticed elsewhere
}

// loggedSignature returns the fields for the version of a signature and for its place, "-" for none.
func loggedSignature(who sigv4.Identity) (version, place string) {
	switch who.Place() {
	case sigv4.Header:
		place = "AuthHeader"
	case sigv4.Query:
		place = "QueryString"
	case sigv4.Form:
		place = "POST" // as in the condition key s3:authType
	default:
		return "-", "-"
	}
	return "SigV" + strconv.Itoa(who.Version()), place
}

// orDash returns "-" for an empty field.
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

// escaped returns a key or a version ID escaped as in a URL, so that it cannot end its field.
func escaped(key string) string { return (&url.URL{Path: key}).EscapedPath() }

// printable returns a client's text in a form that cannot end the line or its field.
func printable(s string) string {
	return clip(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c == '"' {
			return '_'
		}
		return c
	}, s))
}

// redacted returns the target of a request without its signature.
func redacted(r *http.Request) string {
	path, query, ok := strings.Cut(r.RequestURI, "?")
	if !ok {
		return printable(path)
	}
	return printable(path + "?" + redact.Query(query))
}

// objectSize returns the size of the object if the response says it, else 0.
func objectSize(r *http.Request, w *answer) int64 {
	text := w.Header().Get("Content-Length")
	switch {
	case w.call != nil && w.call.form != nil && w.status < 400:
		return w.call.ContentLength
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

// loggedOperation returns S3's name of an operation in its logs: REST.METHOD.RESOURCE.
func loggedOperation(r *http.Request, w *answer, op string) string {
	if w.vectors {
		return "S3VECTORS." + op
	}
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
				if isSubresource(name) {
					resource = strings.ToUpper(name)
				}
			}
		}
	}
	return "REST." + method + "." + resource
}

// isSubresource reports whether a query parameter says which resource a request is about.
func isSubresource(parameter string) bool {
	switch parameter {
	case "acl", "tagging", "versioning", "versions", "policy", "lifecycle", "cors", "location", "logging",
		"notification", "encryption", "replication", "website", "retention", "legal-hold", "object-lock", "attributes", "torrent":
		return true
	default:
		return false
	}
}
