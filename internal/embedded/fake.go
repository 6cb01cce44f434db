package embedded

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"maps"
	"net/http"
	"strconv"
	"time"

	"github.com/johannesboyne/gofakes3"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// newFake returns gofakes3's server over a backend. Versions are off because there are none. The
// checks that are switched off are made before gofakes3 sees a request: the time by the
// authentication, metadata by the gateway, and Content-MD5 by call.content, also for documents.
func newFake(b gofakes3.Backend) http.Handler {
	return gofakes3.New(b, gofakes3.WithoutVersioning(), gofakes3.WithTimeSkewLimit(0), gofakes3.WithMetadataSizeLimit(0), gofakes3.WithIntegrityCheck(false)).Server()
}

// fake lets gofakes3 answer a request that the table of operations has accepted. a is the backend
// of this request.
func (s *Server) fake(w http.ResponseWriter, c *call, a *adapter) error {
	if c.query.Has("uploadId") && c.query.Get("uploadId") == "" {
		return s3err.NoSuchUpload // gofakes3 would treat it as a request for the object
	}
	a.backend, a.call, a.header = s.backend, c, http.Header{}
	r := *c.Request
	target := *c.URL
	target.RawQuery = c.query.Encode() // gofakes3 drops parameters with bare semicolons
	r.URL, r.Header = &target, c.Header.Clone()
	r.Header.Del("X-Minio-Force-Delete") // gofakes3 knows it, S3 does not
	r.Header.Set("Content-Length", strconv.FormatInt(c.ContentLength, 10))
	if a.body != nil {
		r.Body = a.body
	}
	out := &answer{header: http.Header{}}
	s.newFake(a).ServeHTTP(out, &r)
	if out.status >= http.StatusMultipleChoices {
		return a.failure(out)
	}
	maps.Copy(w.Header(), a.header)
	return out.send(w, c.key)
}

// adapter is the backend with which gofakes3 answers one request. The interface of gofakes3 does not
// pass on the headers of a request, such as checksums and conditions, so each request has a backend of
// its own.
type adapter struct {
	unreached
	backend  *backend
	call     *call
	body     *content // of PutObject and UploadPart
	location string   // of CreateBucket
	upload   upload   // of CreateMultipartUpload
	// header has the response headers that gofakes3 does not set, such as checksums.
	header http.Header
	err    error // the error that a method returned
}

// fail records an error, because gofakes3's error document has less detail.
func (a *adapter) fail(err error) error {
	a.err = err
	return err
}

// failure returns the error for a request that gofakes3 refused.
func (a *adapter) failure(out *answer) error {
	var known *s3err.Error
	var fake gofakes3.Error
	switch {
	case errors.As(a.err, &known):
		return known
	case errors.As(a.err, &fake):
		code := fake.ErrorCode()
		return &s3err.Error{Code: string(code), Status: code.Status(), Message: code.Message()}
	case a.err != nil:
		return a.err
	}
	var document struct{ Code, Message string }
	if err := xml.Unmarshal(out.body.Bytes(), &document); err != nil || document.Code == "" {
		return s3err.InternalError.With("embedded upstream: gofakes3 responded with status " + strconv.Itoa(out.status))
	}
	return &s3err.Error{Code: document.Code, Status: out.status, Message: document.Message}
}

// Buckets.

// ListBuckets implements gofakes3.Backend.
func (a *adapter) ListBuckets() (all []gofakes3.BucketInfo, err error) {
	err = eachValue(a.backend.index, []byte(bucketPrefix), nil, func(key []byte, v *bucket) bool {
		all = append(all, gofakes3.BucketInfo{Name: string(key), CreationDate: gofakes3.NewContentTime(v.Created)})
		return true
	})
	return all, a.fail(err)
}

// BucketExists implements gofakes3.Backend.
func (a *adapter) BucketExists(name string) (bool, error) {
	v, err := a.backend.bucket(name)
	if err == nil && v == nil {
		a.err = s3err.NoSuchBucket.About("BucketName", name) // gofakes3 turns false into this error
	}
	if err != nil {
		return false, a.fail(err)
	}
	return v != nil, nil
}

// CreateBucket implements gofakes3.Backend.
func (a *adapter) CreateBucket(name string) error {
	return a.fail(a.backend.createBucket(name, a.location))
}

// DeleteBucket implements gofakes3.Backend.
func (a *adapter) DeleteBucket(name string) error { return a.fail(a.backend.deleteBucket(name)) }

// Objects.

// PutObject implements gofakes3.Backend. The conditions and the description come from the call,
// because gofakes3 leaves out some of their headers.
func (a *adapter) PutObject(bkt, name string, _ map[string]string, input io.Reader, size int64, _ *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	var none gofakes3.PutObjectResult
	if err := a.backend.check(bkt, name, a.call.conditions()); err != nil { // before the body as well as after it
		return none, a.fail(err)
	}
	f, etag, err := a.backend.write(input, size)
	if err != nil {
		return none, a.fail(err)
	}
	r := &record{Blobs: []blob{f}, Size: size, ETag: etag, Modified: time.Now().Truncate(time.Second), Meta: a.call.meta()}
	if given := a.body.checksum(); given != nil {
		r.setSum(*given, checksum.FullObject)
		setSum(a.header, given)
		a.header.Set(checksumType, checksum.FullObject)
	}
	return none, a.fail(a.backend.storeNew(bkt, name, r, a.call.conditions()))
}

// DeleteObject implements gofakes3.Backend.
func (a *adapter) DeleteObject(bkt, name string) (gofakes3.ObjectDeleteResult, error) {
	return gofakes3.ObjectDeleteResult{}, a.fail(a.backend.deleteObject(bkt, name, a.call.Header.Get("If-Match")))
}

// Uploads in parts.

// CreateMultipartUpload implements gofakes3.MultipartBackend.
func (a *adapter) CreateMultipartUpload(bkt, name string, _ map[string]string) (gofakes3.UploadID, error) {
	id, err := a.backend.createUpload(bkt, name, a.upload)
	if a.upload.Algorithm != "" {
		a.header.Set("X-Amz-Checksum-Algorithm", a.upload.Algorithm)
		a.header.Set(checksumType, a.upload.Type)
	}
	return gofakes3.UploadID(id), a.fail(err)
}

// UploadPart implements gofakes3.MultipartBackend.
func (a *adapter) UploadPart(_, _ string, _ gofakes3.UploadID, n int, size int64, input io.Reader) (etag string, err error) {
	p, err := a.backend.uploadPart(a.call, n, size, input, a.body.checksum)
	setSum(a.header, p.Blob.Sum)
	return `"` + p.MD5 + `"`, a.fail(err)
}

// AbortMultipartUpload implements gofakes3.MultipartBackend.
func (a *adapter) AbortMultipartUpload(bkt, name string, id gofakes3.UploadID) error {
	return a.fail(a.backend.abortUpload(bkt, name, string(id)))
}

// unreached has the methods of gofakes3's backends for operations that Server handles itself.
type unreached struct{}

func (unreached) ListBucket(string, *gofakes3.Prefix, gofakes3.ListBucketPage) (*gofakes3.ObjectList, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (unreached) ForceDeleteBucket(string) error { return gofakes3.ErrNotImplemented }

func (unreached) GetObject(string, string, *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (unreached) HeadObject(string, string) (*gofakes3.Object, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (unreached) DeleteMulti(string, ...string) (none gofakes3.MultiDeleteResult, err error) {
	return none, gofakes3.ErrNotImplemented
}

func (unreached) CopyObject(string, string, string, string, map[string]string) (none gofakes3.CopyObjectResult, err error) {
	return none, gofakes3.ErrNotImplemented
}

func (unreached) ListMultipartUploads(string, *gofakes3.UploadListMarker, gofakes3.Prefix, int64) (*gofakes3.ListMultipartUploadsResult, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (unreached) ListParts(string, string, gofakes3.UploadID, int, int64) (*gofakes3.ListMultipartUploadPartsResult, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (unreached) CompleteMultipartUpload(string, string, gofakes3.UploadID, *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	return "", "", gofakes3.ErrNotImplemented
}

// answer buffers the response of gofakes3, because s3err writes errors, and because gofakes3 sets
// headers that S3 does not send here, such as those that allow every origin. The documents of gofakes3
// are short.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.status == 0 {
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	return a.body.Write(p)
}

// send passes on the response to a request for a key.
func (a *answer) send(w http.ResponseWriter, key string) error {
	a.WriteHeader(http.StatusOK)
	for _, name := range []string{"Etag", "Location"} {
		if v := a.header.Get(name); v != "" {
			w.Header().Set(name, v)
		}
	}
	document := a.body.Bytes()
	if len(document) > 0 {
		document = rightKey(document, key)
		w.Header().Set("Content-Type", "application/xml")
		w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(document) // fails only if the client has disconnected
	return nil
}

// rightKey restores a key that XML 1.0 cannot hold in a document of gofakes3, where encoding/xml has
// replaced characters of it.
func rightKey(document []byte, key string) []byte {
	if s3xml.Holds(key) {
		return document
	}
	var wrong bytes.Buffer
	_ = xml.EscapeText(&wrong, []byte(key)) // a buffer does not fail
	return bytes.ReplaceAll(document, wrong.Bytes(), s3xml.AppendEscaped(nil, key))
}
