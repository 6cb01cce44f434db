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
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/johannesboyne/gofakes3"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// Server is the trial upstream.
type Server struct {
	backend *backend
	fake    http.Handler
	// authenticate refuses requests that are not the gateway's: everybody on
	// this machine can reach the listener.
	authenticate func(*http.Request) error
	http         *http.Server
	listener     net.Listener
	ids          requestIDs
}

// Open opens the directory. authenticate is asked about each request; nil lets
// everybody in, for tests.
func Open(dir string, authenticate func(*http.Request) error, log *slog.Logger) (*Server, error) {
	b, err := openBackend(dir, log)
	if err != nil {
		return nil, err
	}
	s := &Server{backend: b, authenticate: authenticate}
	s.fake = gofakes3.New(b, gofakes3.WithMetadataSizeLimit(0), gofakes3.WithoutVersioning()).Server()
	return s, nil
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

// subresources are those that S3 has and this does not. gofakes3 ignores them,
// so that PutObjectTagging would overwrite the object with the tags.
var subresources = []string{
	"accelerate", "acl", "analytics", "attributes", "cors", "encryption", "intelligent-tiering", "inventory",
	"legal-hold", "lifecycle", "logging", "metrics", "notification", "object-lock", "ownershipControls", "policy",
	"policyStatus", "publicAccessBlock", "replication", "requestPayment", "restore", "retention", "select",
	"tagging", "torrent", "versions", "versionId", "website", "metadataTable", "metadataConfiguration", "renameObject",
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	id := s.ids.next()
	w.Header().Set("X-Amz-Request-Id", id)
	w.Header().Set("X-Amz-Id-2", "akigw-embedded")
	if err := s.serve(w, r); err != nil {
		s3err.Write(w, r, coded(err), id, "akigw-embedded")
	}
}

func coded(err error) *s3err.Error {
	var e *s3err.Error
	if errors.As(err, &e) {
		return e
	}
	var fake gofakes3.Error
	if errors.As(err, &fake) {
		return translate(string(fake.ErrorCode()), fake.Error(), fake.ErrorCode().Status())
	}
	return s3err.InternalError.With("embedded upstream: " + err.Error())
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) error {
	if s.authenticate != nil {
		if err := s.authenticate(r); err != nil {
			return err
		}
	}
	query := r.URL.Query()
	bkt, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	for _, sub := range subresources {
		if query.Has(sub) && !(sub == "versionId" && query.Get(sub) == "null") {
			if sub == "tagging" && r.Method == http.MethodGet && name != "" {
				return s.noTags(w, bkt, name)
			}
			return s3err.NotImplemented.With("The embedded trial upstream does not implement ?" + sub + ". Use --upstream for a real one.")
		}
	}
	copySource := r.Header.Get("X-Amz-Copy-Source")
	switch {
	case name != "" && (r.Method == http.MethodGet || r.Method == http.MethodHead) && !query.Has("uploadId"):
		return s.read(w, r, bkt, name, query.Get("partNumber"))
	case bkt != "" && name == "" && r.Method == http.MethodGet && !query.Has("uploads") && !query.Has("location") && !query.Has("versioning"):
		return s.list(w, bkt, query)
	case bkt != "" && name == "" && r.Method == http.MethodGet && query.Has("uploads"):
		return s.listUploads(w, bkt, query)
	case bkt != "" && name == "" && r.Method == http.MethodPost && query.Has("delete"):
		return s.deleteObjects(w, r, bkt)
	case copySource != "" && r.Method == http.MethodPut && query.Has("uploadId"):
		return s.copyPart(w, r, bkt, name, copySource, query)
	case copySource != "" && r.Method == http.MethodPut:
		return s.copyObject(w, r, bkt, name, copySource)
	}
	keepMetadata(r.Header)
	out, finish := withName(w, r, name)
	t := &translator{w: out, r: r}
	s.fake.ServeHTTP(t, r)
	finish()
	return t.finish()
}

// hidden are metadata headers that gofakes3 would not store, and the names
// under which it does.
var hidden = map[string]string{
	"Cache-Control":    "X-Amz-Akigw-Cache-Control",
	"Content-Language": "X-Amz-Akigw-Content-Language",
	"Expires":          "X-Amz-Akigw-Expires",
}

func keepMetadata(h http.Header) {
	for name, stored := range hidden {
		h.Del(stored)
		if v := h.Get(name); v != "" {
			h.Set(stored, v)
		}
	}
}

// objectMetadata sets the headers of an object's answer from what was stored
// with it.
func objectMetadata(h http.Header, meta map[string]string, checksums bool) {
	for name, v := range meta {
		switch {
		case name == "Content-Type", name == "Content-Disposition", name == "Content-Encoding",
			strings.HasPrefix(name, "X-Amz-Meta-"), name == "X-Amz-Website-Redirect-Location",
			checksums && strings.HasPrefix(name, "X-Amz-Checksum-") && name != "X-Amz-Checksum-Algorithm" && name != "X-Amz-Checksum-Mode":
			h.Set(name, v)
		}
	}
	if summed := slices.ContainsFunc(checksum.Algorithms, func(a checksum.Algorithm) bool { return h.Get(a.Header) != "" }); summed && h.Get("X-Amz-Checksum-Type") == "" { // those of parts are not kept
		h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	for name, stored := range hidden {
		if v := meta[stored]; v != "" {
			h.Set(name, v)
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
}

// find returns an object or S3's NoSuchBucket or NoSuchKey.
func (s *Server) find(bkt, name string) (*record, error) {
	o, err := s.backend.object(bkt, name)
	if err != nil || o != nil {
		return o, err
	}
	if exists, err := s.backend.BucketExists(bkt); err != nil {
		return nil, err
	} else if !exists {
		return nil, noSuchBucket.About("BucketName", bkt)
	}
	return nil, s3err.NoSuchKey.About("Key", name)
}

var noSuchBucket = &s3err.Error{Code: "NoSuchBucket", Status: http.StatusNotFound, Message: "The specified bucket does not exist"}

// read answers GetObject and HeadObject.
func (s *Server) read(w http.ResponseWriter, r *http.Request, bkt, name, partNumber string) error {
	o, err := s.find(bkt, name)
	if err != nil {
		return err
	}
	h := w.Header()
	h.Set("Etag", `"`+o.ETag+`"`)
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	err = akigw.ConditionsOf(r.Header).Check(&akigw.Object{ETag: h.Get("Etag"), LastModified: o.Modified})
	if errors.Is(err, akigw.ErrNotModified) {
		return s3err.NotModified
	} else if err != nil {
		return s3err.PreconditionFailed
	}
	spec := akigw.ParseRange(r.Header.Get("Range"))
	part, err := o.part(partNumber)
	if err == nil && part == nil {
		var resolved akigw.Range
		resolved, err = spec.Resolve(o.Size)
		part = &resolved
	}
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return s3err.InvalidRange
	}
	whole := spec.Whole() && partNumber == ""
	objectMetadata(h, o.Meta, whole && !o.Parts && strings.EqualFold(r.Header.Get("X-Amz-Checksum-Mode"), "ENABLED"))
	for param, header := range overrides {
		if v := r.URL.Query().Get(param); v != "" {
			h.Set(header, v)
		}
	}
	h.Set("Content-Length", strconv.FormatInt(part.Length, 10))
	status := http.StatusOK
	if partNumber != "" && o.Size > 0 || spec.Partial(o.Size) {
		h.Set("Content-Range", part.ContentRange(o.Size))
		status = http.StatusPartialContent
	}
	if partNumber != "" && o.Parts {
		h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Blobs)))
	}
	body := s.backend.reader(o, part.Start, part.Length)
	defer body.Close()
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		if n, err := io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 128<<10)); err != nil || n != part.Length {
			panic(http.ErrAbortHandler) // cut the connection: the body is not complete
		}
	}
	return nil
}

var overrides = map[string]string{
	"response-content-type": "Content-Type", "response-content-language": "Content-Language", "response-expires": "Expires",
	"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding",
}

// part returns the range of a part by number, nil if none was asked for.
func (o *record) part(number string) (*akigw.Range, error) {
	if number == "" {
		return nil, nil
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(o.Blobs) {
		return nil, akigw.ErrRangeNotSatisfiable
	}
	r := akigw.Range{Length: o.Blobs[n-1].Size}
	for _, f := range o.Blobs[:n-1] {
		r.Start += f.Size
	}
	return &r, nil
}

// source finds the source of a copy and checks its conditions.
func (s *Server) source(r *http.Request, header string) (*record, error) {
	path, err := url.PathUnescape(strings.TrimPrefix(header, "/"))
	if err != nil {
		return nil, s3err.InvalidArgument.With("x-amz-copy-source is not properly encoded")
	}
	bkt, name, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	o, err := s.find(bkt, strings.TrimSuffix(name, "?versionId=null"))
	if err != nil {
		return nil, err
	}
	conditions := akigw.Conditions{
		IfMatch: r.Header.Get("X-Amz-Copy-Source-If-Match"), IfNoneMatch: r.Header.Get("X-Amz-Copy-Source-If-None-Match"),
		IfModifiedSince: r.Header.Get("X-Amz-Copy-Source-If-Modified-Since"), IfUnmodifiedSince: r.Header.Get("X-Amz-Copy-Source-If-Unmodified-Since"),
	}
	if conditions.Check(&akigw.Object{ETag: `"` + o.ETag + `"`, LastModified: o.Modified}) != nil {
		return nil, s3err.PreconditionFailed
	}
	return o, nil
}

// copyObject answers CopyObject: the bytes are shared by hard links.
func (s *Server) copyObject(w http.ResponseWriter, r *http.Request, bkt, name, header string) error {
	o, err := s.source(r, header)
	if err != nil {
		return err
	}
	if exists, err := s.backend.BucketExists(bkt); err != nil || !exists {
		return errors.Join(err, noSuchBucket.About("BucketName", bkt))
	}
	replace := r.Header.Get("X-Amz-Metadata-Directive") == "REPLACE"
	if !replace && header == "/"+bkt+"/"+name {
		return s3err.InvalidRequest.With("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	c := &record{Size: o.Size, ETag: o.ETag, Modified: time.Now().Truncate(time.Second), Meta: o.Meta, Parts: o.Parts}
	if replace {
		keepMetadata(r.Header)
		c.Meta = map[string]string{}
		for name, values := range r.Header {
			if strings.HasPrefix(name, "X-Amz-") || strings.HasPrefix(name, "Content-") {
				c.Meta[name] = values[0]
			}
		}
	}
	if c.Blobs, err = s.backend.clone(o); err != nil {
		return err
	}
	if err := s.backend.storeNew(bkt, name, c, nil); err != nil {
		return err
	}
	return writeXML(w, gofakes3.CopyObjectResult{ETag: `"` + c.ETag + `"`, LastModified: gofakes3.NewContentTime(c.Modified)})
}

// copyPart answers UploadPartCopy.
func (s *Server) copyPart(w http.ResponseWriter, r *http.Request, bkt, name, header string, query url.Values) error {
	o, err := s.source(r, header)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(query.Get("partNumber"))
	if err != nil || n < 1 || n > 10000 {
		return s3err.InvalidArgument.With("Part number must be an integer between 1 and 10000, inclusive").About("ArgumentName", "partNumber")
	}
	rng := akigw.Range{Length: o.Size}
	if v := r.Header.Get("X-Amz-Copy-Source-Range"); v != "" {
		if rng, err = akigw.ParseRange(v).Resolve(o.Size); err != nil {
			return s3err.InvalidArgument.With("Range specified is not valid for source object of size: " + strconv.FormatInt(o.Size, 10))
		}
	}
	body := s.backend.reader(o, rng.Start, rng.Length)
	defer body.Close()
	etag, err := s.backend.UploadPart(bkt, name, gofakes3.UploadID(query.Get("uploadId")), n, rng.Length, body)
	if err != nil {
		return err
	}
	return writeXML(w, copyPartResult{ETag: etag, LastModified: gofakes3.NewContentTime(time.Now())})
}

type copyPartResult struct {
	XMLName      xml.Name             `xml:"CopyPartResult"`
	ETag         string               `xml:"ETag"`
	LastModified gofakes3.ContentTime `xml:"LastModified"`
}

// noTags answers GetObjectTagging: PutObjectTagging is refused, so that no
// object has any.
func (s *Server) noTags(w http.ResponseWriter, bkt, name string) error {
	if _, err := s.find(bkt, name); err != nil {
		return err
	}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"Tagging"`
		TagSet  string   `xml:"TagSet"`
	}{})
}

func writeXML(w http.ResponseWriter, v any) error {
	raw, err := s3xml.Marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(raw)))
	_, _ = w.Write(raw) // the client's loss
	return nil
}

// translator holds gofakes3's error documents back, so that they can be
// completed, and gives its XML the content type that S3 gives it.
type translator struct {
	w      http.ResponseWriter
	r      *http.Request
	status int
	body   []byte
}

func (t *translator) Header() http.Header { return t.w.Header() }

func (t *translator) WriteHeader(status int) {
	if t.status != 0 {
		return
	}
	t.status = status
	h := t.w.Header()
	for name := range h { // gofakes3 answers every origin; S3 does not
		if strings.HasPrefix(name, "Access-Control-") {
			h.Del(name)
		}
	}
	h.Del("Server")
	h.Del("X-Amz-Delete-Marker")
	if status < 400 {
		t.w.WriteHeader(status)
	}
}

func (t *translator) Write(p []byte) (int, error) {
	if t.status == 0 {
		if len(p) > 0 {
			t.w.Header().Set("Content-Type", "application/xml")
		}
		t.WriteHeader(http.StatusOK)
	}
	if t.status >= 400 {
		t.body = append(t.body, p...)
		return len(p), nil
	}
	return t.w.Write(p)
}

// finish returns the error that gofakes3 answered with.
func (t *translator) finish() error {
	if t.status == 0 {
		t.WriteHeader(http.StatusOK)
	}
	if t.status < 400 {
		return nil
	}
	var doc struct{ Code, Message string }
	if err := xml.Unmarshal(t.body, &doc); err != nil || doc.Code == "" {
		doc.Code, doc.Message = "InternalError", http.StatusText(t.status)
		if t.r.Method == http.MethodHead { // it has no body to tell
			return &s3err.Error{Code: http.StatusText(t.status), Status: t.status, Message: doc.Message}
		}
	}
	return translate(doc.Code, doc.Message, t.status)
}

func translate(code, message string, status int) *s3err.Error {
	switch code {
	case "EntityTooSmall", "InvalidArgument":
		status = http.StatusBadRequest
	case "MethodNotAllowed":
		status = http.StatusMethodNotAllowed
	case "NoSuchUpload":
		message = "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed."
	}
	return &s3err.Error{Code: code, Status: status, Message: message}
}
