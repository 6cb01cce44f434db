// Package double is an S3 service for tests, of this project and of others: the embedded trial
// upstream behind a fault plan, with a history of its calls and counters. It verifies every
// signature; in strict mode it also refuses whatever a careful client does not send.
//
// It is not a storage service: its objects are lost when it ends.
package double

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/embedded"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
)

// Config configures a double. AccessKey and SecretKey are required.
type Config struct {
	AccessKey, SecretKey string
	Region               string // region of the signatures; "" is us-east-1
	// Strict refuses requests without a signature, with parameters or x-amz-* headers that S3 does
	// not have, and with bodies without a checksum.
	Strict bool
	// Dir is an empty directory for the objects.
	Dir string
	Log *slog.Logger
}

// Server is a double. It is an http.Handler. Besides S3 it serves, without signatures, GET, POST and
// DELETE of /_fakes3/plan, and GET and DELETE of /_fakes3/history and /_fakes3/counts.
type Server struct {
	Faults faults.Layer

	config   Config
	verifier sigv4.Verifier
	inner    *embedded.Server
	proxy    *httputil.ReverseProxy
	control  *http.ServeMux
	recorder
}

// Open makes a double.
func Open(c Config) (*Server, error) {
	if c.Region == "" {
		c.Region = "us-east-1"
	}
	s := &Server{config: c, recorder: recorder{counts: map[string]Count{}}, verifier: sigv4.Verifier{Region: c.Region, Keys: sigv4.StaticKeys{c.AccessKey: c.SecretKey}}}
	var err error
	if s.inner, err = embedded.Open(c.Dir, nil, c.Log); err != nil {
		return nil, err
	}
	endpoint, err := s.inner.Listen("127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, s.inner.Close())
	}
	target, err := url.Parse(endpoint)
	if err != nil {
		return nil, errors.Join(err, s.inner.Close())
	}
	s.proxy = &httputil.ReverseProxy{
		Rewrite:      func(r *httputil.ProxyRequest) { r.Out.URL.Scheme, r.Out.URL.Host = target.Scheme, target.Host },
		Transport:    s.Faults.Wrap(&http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}),
		ErrorHandler: s.failed,
		ErrorLog:     slog.NewLogLogger(c.Log.Handler(), slog.LevelDebug),
	}
	s.control = controls(&s.Faults, &s.recorder)
	return s, nil
}

// Close closes the double.
func (s *Server) Close() error { return s.inner.Close() }

// failed ends the connection: a request that the plan broke gets no response.
func (s *Server) failed(w http.ResponseWriter, r *http.Request, err error) {
	var refused *s3err.Error
	if errors.As(err, &refused) { // from the verification of the body
		s.refuse(w, r, refused)
		return
	}
	if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // sends RST instead of FIN
		}
		_ = conn.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, e *s3err.Error) {
	if seen, ok := w.(*watcher); ok {
		seen.call.Code = e.Code
	}
	s3err.Write(w, r, e, "double", "akigw-fakes3")
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasPrefix(r.URL.Path, controlPath) {
		s.control.ServeHTTP(w, r)
		return
	}
	seen := &watcher{ResponseWriter: w, call: Call{Time: time.Now(), Query: r.URL.RawQuery}}
	seen.call.Op, seen.call.Bucket, seen.call.Key = faults.Identify(r)
	counted := &counter{ReadCloser: r.Body}
	r = r.WithContext(r.Context()) // check changes it
	r.Body = counted
	defer func() {
		seen.call.In, seen.call.Seconds = counted.n, time.Since(seen.call.Time).Seconds()
		s.note(seen.call)
	}()
	if err := s.check(r, seen.call.Op, seen.call.Key); err != nil {
		s.refuse(seen, r, err)
		return
	}
	s.proxy.ServeHTTP(seen, r)
}

// check verifies a request and removes its signature and chunk encoding.
func (s *Server) check(r *http.Request, op, key string) *s3err.Error {
	query, err := sigv4.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return s3err.InvalidURI.Err()
	}
	id, payload, err := s.verifier.Verify(r, r.URL.Path, query)
	if err == nil && s.config.Strict {
		err = odd(r, op, key, id, payload)
	}
	if err != nil {
		return coded(err)
	}
	if payload.Length < 0 {
		return s3err.MissingContentLength.Err()
	}
	r.URL.RawQuery = sigv4.EscapeSemicolons(r.URL.RawQuery) // the proxy would drop the parameters
	body := &verified{Payload: payload, body: r.Body, left: payload.Length}
	for _, a := range checksum.Algorithms {
		if value := r.Header.Get(a.Header); value != "" || slices.Contains(payload.TrailerNames, strings.ToLower(a.Header)) {
			body.sums = append(body.sums, sum{a, a.New(), value})
		}
	}
	if op == "CompleteMultipartUpload" {
		body.sums = nil // these checksums are of the object, not of this body
	}
	payload.Plain(r)
	r.Body = body
	if payload.Length == 0 { // the proxy would not read it, so that nothing would verify it
		if _, err := io.Copy(io.Discard, body); err != nil {
			return coded(err)
		}
		r.Body = http.NoBody
	}
	r.Header.Del("Authorization")
	return nil
}

func coded(err error) *s3err.Error {
	var e *s3err.Error
	if !errors.As(err, &e) {
		e = s3err.InternalError.With(err.Error())
	}
	return e
}

// isParameter reports whether S3's operations on objects and buckets have a query parameter.
func isParameter(name string) bool {
	switch name {
	case "list-type", "prefix", "delimiter", "max-keys", "marker", "start-after", "continuation-token", "encoding-type", "fetch-owner", "uploads", "uploadId", "partNumber",
		"part-number-marker", "max-parts", "key-marker", "upload-id-marker", "max-uploads", "delete", "location", "versioning", "versions", "versionId", "x-id", "tagging", "acl", "policy",
		"response-content-type", "response-content-language", "response-expires", "response-cache-control", "response-content-disposition", "response-content-encoding",
		"bucket-region", "max-buckets", "lifecycle", "encryption", "notification", "object-lock", "cors", "attributes":
		return true
	default:
		return false
	}
}

// isHeader reports whether S3's operations on objects and buckets have an x-amz-* header.
func isHeader(name string) bool {
	switch name {
	case "X-Amz-Date", "X-Amz-Content-Sha256", "X-Amz-Decoded-Content-Length", "X-Amz-Trailer", "X-Amz-Security-Token", "X-Amz-Copy-Source", "X-Amz-Copy-Source-Range",
		"X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match", "X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since", "X-Amz-Metadata-Directive",
		"X-Amz-Tagging-Directive", "X-Amz-Storage-Class", "X-Amz-Acl", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type", "X-Amz-Checksum-Mode", "X-Amz-User-Agent",
		"X-Amz-Object-Attributes", "X-Amz-Request-Payer", "X-Amz-Expected-Bucket-Owner", "X-Amz-Mp-Object-Size", "X-Amz-Website-Redirect-Location", "X-Amz-Server-Side-Encryption":
		return true
	default:
		return false
	}
}

// odd refuses requests that a careful client does not send.
func odd(r *http.Request, op, key string, id sigv4.Identity, payload *sigv4.Payload) error {
	strange := func(format string, args ...any) error {
		return s3err.InvalidRequest.With("strict: " + fmt.Sprintf(format, args...))
	}
	if id.Anonymous() {
		return s3err.AccessDenied.With("strict: the request has no signature")
	}
	for name, values := range r.URL.Query() {
		if len(values) > 1 || !isParameter(name) && !strings.HasPrefix(name, "X-Amz-") {
			return strange("query parameter %q", name)
		}
	}
	for name, values := range r.Header {
		known := !strings.HasPrefix(name, "X-Amz-") || isHeader(name) || strings.HasPrefix(name, "X-Amz-Meta-") || strings.HasPrefix(name, "X-Amz-Checksum-")
		if !known || len(values) > 1 && strings.HasPrefix(name, "X-Amz-") {
			return strange("header %q", name)
		}
	}
	switch {
	case op != "ListBuckets" && strings.Contains(r.URL.RawQuery, ";"), strings.Contains(r.URL.RawPath, "%2F") && strings.HasPrefix(key, "/"):
		return strange("target %s", r.URL.RequestURI())
	case (r.Method == http.MethodGet || r.Method == http.MethodHead || r.Method == http.MethodDelete) && payload.Length > 0:
		return strange("%s with a body", op)
	case op == "DeleteObjects" && r.Header.Get("Content-Md5") == "" && !checksummed(r.Header, payload):
		return strange("DeleteObjects without a digest")
	case payload.SHA256 == "" && payload.Mode == sigv4.Unsigned && payload.Length > 0 && r.Header.Get("Content-Md5") == "" && !checksummed(r.Header, payload):
		return strange("nothing says what the body of this %s is", op)
	}
	return nil
}

func checksummed(h http.Header, payload *sigv4.Payload) bool {
	return slices.ContainsFunc(checksum.Algorithms, func(a checksum.Algorithm) bool {
		return h.Get(a.Header) != "" || slices.Contains(payload.TrailerNames, strings.ToLower(a.Header))
	})
}

// sum is the expected checksum of a body. If want is empty, it comes in a trailer.
type sum struct {
	checksum.Algorithm
	hash interface {
		io.Writer
		Sum([]byte) []byte
	}
	want string
}

// verified is a body that is verified before its last byte is returned. The embedded service stores a
// body as soon as it has all of its bytes, so a later verification would be too late.
type verified struct {
	*sigv4.Payload
	body io.Closer
	sums []sum
	left int64 // bytes
}

// Read implements io.Reader.
func (v *verified) Read(p []byte) (int, error) {
	n, err := v.read(p)
	if v.left -= int64(n); err == nil && v.left <= 0 {
		_, err = io.Copy(io.Discard, readerFunc(v.read))
	}
	if err != nil && err != io.EOF {
		return 0, err
	}
	return n, err
}

type readerFunc func([]byte) (int, error)

// Read implements io.Reader.
func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// read reads the body and verifies it at its end.
func (v *verified) read(p []byte) (int, error) {
	n, err := v.Payload.Read(p)
	for _, s := range v.sums {
		_, _ = s.hash.Write(p[:n]) // a hash does not fail
	}
	if err != io.EOF {
		return n, err
	}
	for _, s := range v.sums {
		want := s.want
		if want == "" {
			want = v.Trailer().Get(s.Header)
		}
		if value, ok := s.Parse(want); !ok || string(value) != string(s.hash.Sum(nil)) {
			return 0, s3err.BadDigest.With("The " + s.Name + " you specified did not match the calculated checksum.")
		}
	}
	return n, io.EOF
}

// Close implements io.Closer.
func (v *verified) Close() error {
	v.Payload.Close()
	return v.body.Close()
}

// counter counts the bytes that are read from a body.
type counter struct {
	io.ReadCloser
	n int64
}

// Read implements io.Reader.
func (c *counter) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// watcher records the status and size of a response.
type watcher struct {
	http.ResponseWriter
	call Call
}

// WriteHeader implements http.ResponseWriter.
func (w *watcher) WriteHeader(status int) {
	if status >= 200 {
		w.call.Status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *watcher) Write(p []byte) (int, error) {
	if w.call.Status == 0 {
		w.call.Status = http.StatusOK
	}
	if w.call.Status >= 400 && w.call.Code == "" {
		if _, rest, ok := strings.Cut(string(p), "<Code>"); ok {
			w.call.Code, _, _ = strings.Cut(rest, "</Code>")
		}
	}
	n, err := w.ResponseWriter.Write(p)
	w.call.Out += int64(n)
	return n, err
}

// Unwrap is for http.ResponseController.
func (w *watcher) Unwrap() http.ResponseWriter { return w.ResponseWriter }
