package embedded

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/sigv4"
)

// Server is the trial upstream.
type Server struct {
	backend *backend
	newFake func(gofakes3.Backend) http.Handler
	// authenticate refuses requests that do not come from the gateway: every process on this machine
	// can reach the listener.
	authenticate func(*http.Request) error
	http         *http.Server
	listener     net.Listener
	ids          requestIDs
}

// Open opens the directory. authenticate is called for each request; nil accepts all requests, for
// tests. authenticate may replace the body by a verified one, and must do so for a body with
// aws-chunked framing: then Request.ContentLength is the length without the framing, and no header
// except x-amz-trailer describes the framing. A trailing checksum is compared with the body's
// Trailer() http.Header, if the body has that method.
func Open(dir string, authenticate func(*http.Request) error, log *slog.Logger) (*Server, error) {
	b, err := openBackend(dir, log)
	if err != nil {
		return nil, err
	}
	return &Server{backend: b, newFake: newFake, authenticate: authenticate}, nil
}

// Listen starts serving on address, which must be loopback, and returns the
// endpoint's URL.
func (s *Server) Listen(address string) (endpoint string, err error) {
	s.listener, err = net.Listen("tcp", address)
	if err != nil {
		return "", fmt.Errorf("embedded upstream: %w", err)
	}
	s.http = &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = s.http.Serve(s.listener) }() // ends with Close
	return "http://" + s.listener.Addr().String(), nil
}

// Close stops serving, waits for requests under way, and closes the directory.
func (s *Server) Close() error {
	var err error
	if s.http != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		err = s.http.Shutdown(ctx)
	}
	return errors.Join(err, s.backend.index.Close())
}

// call is one request.
type call struct {
	*http.Request
	bucket, key string // "" for none
	query       url.Values
}

func newCall(r *http.Request) (*call, error) {
	query, err := sigv4.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, s3err.InvalidURI
	}
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING-") {
		return nil, s3err.NotImplemented.With("The body still has its aws-chunked framing.")
	}
	c := &call{Request: r, query: query}
	c.bucket, c.key, _ = strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for name, values := range r.Header {
		if len(values) > 1 { // RFC 9110 §5.3
			r.Header[name] = []string{strings.Join(values, ",")}
		}
	}
	return c, c.checkKey()
}

// checkKey refuses names that no object can have. The index stores names byte for byte, and no file is
// named after an object, so dots, slashes, control characters and long segments have no special
// meaning.
func (c *call) checkKey() error {
	switch err := akigw.CheckKeyName(c.key); {
	case errors.Is(err, akigw.ErrKeyTooLong):
		return s3err.KeyTooLong.About("Size", strconv.Itoa(len(c.key))).About("MaxSizeAllowed", strconv.Itoa(akigw.MaxKeyBytes))
	case err != nil, strings.Contains(c.bucket, "\x00"):
		return s3err.InvalidURI
	}
	return nil
}

func (c *call) level() level {
	switch {
	case c.bucket == "":
		return serviceLevel
	case c.key == "":
		return bucketLevel
	}
	return objectLevel
}

// number returns the value of a query parameter between 0 and most. The default is most.
func (c *call) number(name string, most int) (int, error) {
	value := c.query.Get(name)
	if value == "" {
		return most, nil
	}
	n, err := strconv.ParseInt(value, 10, 32)
	if err != nil || n < 0 {
		return 0, s3err.InvalidArgument.With("Provided "+name+" not an integer or within integer range").About("ArgumentName", name).About("ArgumentValue", value)
	}
	return min(int(n), most), nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := s.ids.next()
	w.Header().Set("X-Amz-Request-Id", id)
	w.Header().Set("X-Amz-Id-2", "akigw-embedded")
	if err := s.serve(w, r); err != nil {
		var e *s3err.Error
		if !errors.As(err, &e) {
			e = s3err.InternalError.With("embedded upstream: " + err.Error())
		}
		s3err.Write(w, r, e, id, "akigw-embedded")
	}
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if s.authenticate != nil {
		r = r.WithContext(r.Context()) // authenticate may change it
		if err := s.authenticate(r); err != nil {
			return err
		}
	}
	c, err := newCall(r)
	if err != nil {
		return err
	}
	op, err := operationOf(c)
	if err != nil {
		return err
	}
	return op.handle(s, w, c)
}

// writeXML responds with a document. Fields with text from a client must have the type s3xml.Text.
func writeXML(w http.ResponseWriter, v any) error {
	raw, err := s3xml.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	_, _ = w.Write(raw) // fails only if the client has disconnected
	return nil
}

// maxDocument bounds the document of a request, in bytes. 10,000 parts with their checksums fit, and
// 1,000 keys.
const maxDocument = 8 << 20

// readXML reads the document of a request with the given root into v and verifies its digests. It
// leaves v unchanged if there is no document.
func (c *call) readXML(root string, v any) error {
	body, err := c.content()
	if err != nil {
		return err
	}
	raw, err := io.ReadAll(io.LimitReader(body, maxDocument+1))
	switch {
	case err != nil:
		return err
	case len(raw) > maxDocument:
		return s3err.MalformedXML
	case len(raw) == 0:
		return nil
	}
	if err := s3xml.UnmarshalStrict(raw, root, v); err != nil {
		return s3err.MalformedXML
	}
	return nil
}

// unknown collects the elements of a document that a type does not name.
type unknown []struct{ XMLName xml.Name }

// refuse returns the error for a document with elements that would be ignored.
func (u unknown) refuse() error {
	if len(u) == 0 {
		return nil
	}
	return refused("the element " + u[0].XMLName.Local)
}

// contentTime formats a time as S3 does in documents.
func contentTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
