// Package leans3 is an S3 service for measurements. It spends as little time as it can on a request, so
// that the cost of a server in front of it can be seen: it accepts any signature, and keeps no bodies.
//
// An uploaded object exists with its size, its ETag and its headers; its body can be read only if it was
// announced with Know. Fill gives a bucket objects of any size that take no memory. The service knows
// neither listings nor multipart uploads; it answers 501 to these.
package leans3

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
)

// Service is an http.Handler. Its zero value does not work; see New.
type Service struct {
	mu      sync.Mutex
	objects map[string]*object // by path
	filled  map[string]*object // what each other key of a bucket holds, by bucket
	known   map[start]*object  // announced bodies
	counts  map[string]int
	held    chan struct{} // closed when PUTs are answered again; nil: they are
}

// object is an object. Its body is block over and over; a nil block means that the body was not kept.
type object struct {
	block    []byte
	size     int64
	etag     string
	modified string
	header   http.Header // sent with the object; nil for none
}

// start is what an announced body is recognised by: its size and its first bytes.
type start struct {
	size  int64
	bytes [32]byte
}

// New returns a service without objects. Every bucket exists.
func New() *Service {
	return &Service{objects: map[string]*object{}, filled: map[string]*object{}, known: map[start]*object{}, counts: map[string]int{}}
}

// Know announces a body: when it is uploaded, its MD5 is known already. The service keeps the slice. A
// body of the same size that begins with the same 32 bytes is taken for it.
func (s *Service) Know(body []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := md5.Sum(body)
	s.known[startOf(body, int64(len(body)))] = &object{block: body, size: int64(len(body)), etag: quote(sum[:])}
}

// Fill makes every key of a bucket that was not written hold an object of the given size in bytes, which
// is block over and over. Its ETag is its MD5. algorithm names a checksum that it has as well
// ("CRC64NVME"); "" means none. The service keeps the slice.
func (s *Service) Fill(bucket string, block []byte, size int64, algorithm string) error {
	o := &object{block: block, size: size, modified: "Mon, 02 Jan 2006 15:04:05 GMT", header: http.Header{}}
	if algorithm != "" {
		a, ok := checksum.ByHeader("x-amz-checksum-" + algorithm)
		if !ok {
			return fmt.Errorf("no checksum is called %q", algorithm)
		}
		o.header[a.Header] = []string{base64.StdEncoding.EncodeToString(o.sum(a.New()))}
		o.header.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
	}
	o.etag = quote(o.sum(md5.New()))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.filled[bucket] = o
	return nil
}

// Hold lets PUTs of objects wait for their answers until Release. Their bodies are received.
func (s *Service) Hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = make(chan struct{})
	}
}

// Release ends Hold.
func (s *Service) Release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held != nil {
		close(s.held)
		s.held = nil
	}
}

// Count returns the number of requests for objects with a method.
func (s *Service) Count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.counts[method]
}

// ETag returns the ETag of an uploaded object, "" if there is none at this path ("/bucket/key").
func (s *Service) ETag(path string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[path]; o != nil {
		return o.etag
	}
	return ""
}

// The paths that another process holds and releases the PUTs with.
const (
	HoldPath    = "/_leans3/hold"
	ReleasePath = "/_leans3/release"
)

// ServeHTTP implements http.Handler.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case HoldPath:
		s.Hold()
		return
	case ReleasePath:
		s.Release()
		return
	}
	bucket, name, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	if name == "" {
		ofBucket(w, r)
		return
	}
	s.mu.Lock()
	s.counts[r.Method]++
	held := s.held
	s.mu.Unlock()
	switch {
	case r.URL.Query().Has("uploads") || r.URL.Query().Has("uploadId") || r.Header.Get("X-Amz-Copy-Source") != "":
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	case r.Method == http.MethodPut:
		s.put(w, r, held)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		s.get(w, r, bucket)
	case r.Method == http.MethodDelete:
		s.mu.Lock()
		delete(s.objects, r.URL.Path)
		s.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// ofBucket answers requests for a bucket.
func ofBucket(w http.ResponseWriter, r *http.Request) {
	switch q := r.URL.Query(); {
	case r.Method == http.MethodPut || r.Method == http.MethodHead:
	case r.Method == http.MethodGet && q.Has("versioning"):
		io.WriteString(w, "<VersioningConfiguration/>")
	case r.Method == http.MethodGet && q.Has("encryption"):
		refuse(w, http.StatusNotFound, "ServerSideEncryptionConfigurationNotFoundError")
	default:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// put receives an object. A checksum that came with it is returned, unverified.
func (s *Service) put(w http.ResponseWriter, r *http.Request, held chan struct{}) {
	if r.ContentLength < 0 || r.Header.Get("X-Amz-Decoded-Content-Length") != "" {
		refuse(w, http.StatusNotImplemented, "NotImplemented")
		return
	}
	o, err := s.receive(r.Body, r.ContentLength)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if held != nil {
		select {
		case <-held:
		case <-r.Context().Done():
			return
		}
	}
	o.modified, o.header = time.Now().UTC().Format(http.TimeFormat), kept(r.Header)
	s.mu.Lock()
	s.objects[r.URL.Path] = &o
	s.mu.Unlock()
	for name, values := range o.header {
		if _, ok := checksum.ByHeader(name); ok {
			w.Header()[name] = values
		}
	}
	w.Header()["Etag"] = []string{o.etag}
}

// buffers are of 256 KiB: larger reads cost fewer system calls, and no more than a core's own cache.
var buffers = sync.Pool{New: func() any { return new([256 << 10]byte) }}

// receive reads a body to its end, and returns what is known of it.
func (s *Service) receive(body io.Reader, size int64) (object, error) {
	buffer := buffers.Get().(*[256 << 10]byte)
	defer buffers.Put(buffer)
	head := buffer[:min(size, int64(len(start{}.bytes)))]
	if _, err := io.ReadFull(body, head); err != nil {
		return object{}, err
	}
	s.mu.Lock()
	known := s.known[startOf(head, size)]
	s.mu.Unlock()
	sum := md5.New()
	if known == nil {
		sum.Write(head)
	}
	for left := size - int64(len(head)); left > 0; {
		n, err := body.Read(buffer[:])
		if left -= int64(n); known == nil {
			sum.Write(buffer[:n])
		}
		if err != nil && (left > 0 || !errors.Is(err, io.EOF)) {
			return object{}, fmt.Errorf("%d bytes are missing: %w", left, err)
		}
	}
	if known != nil {
		return *known, nil
	}
	return object{size: size, etag: quote(sum.Sum(nil))}, nil
}

// get answers GET and HEAD of an object.
func (s *Service) get(w http.ResponseWriter, r *http.Request, bucket string) {
	s.mu.Lock()
	o := s.objects[r.URL.Path]
	if o == nil {
		o = s.filled[bucket]
	}
	s.mu.Unlock()
	if o == nil {
		refuse(w, http.StatusNotFound, "NoSuchKey")
		return
	}
	spec := akigw.ParseRange(r.Header.Get("Range"))
	part, err := spec.Resolve(o.size)
	if err != nil {
		refuse(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
		return
	}
	partial := spec.Partial(o.size)
	h := w.Header()
	for name, values := range o.header {
		if !strings.HasPrefix(name, "X-Amz-Checksum-") || !partial && r.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
			h[name] = values
		}
	}
	h["Etag"], h["Last-Modified"], h["Accept-Ranges"] = []string{o.etag}, []string{o.modified}, []string{"bytes"}
	modified, _ := http.ParseTime(o.modified) // written by us
	switch err := akigw.ConditionsOf(r.Header).Check(&akigw.Object{ETag: o.etag, LastModified: modified}); {
	case errors.Is(err, akigw.ErrNotModified):
		w.WriteHeader(http.StatusNotModified)
		return
	case err != nil:
		refuse(w, http.StatusPreconditionFailed, "PreconditionFailed")
		return
	case r.Method == http.MethodGet && o.block == nil && o.size > 0:
		refuse(w, http.StatusNotImplemented, "NotImplemented")
		return
	}
	h["Content-Length"] = []string{strconv.FormatInt(part.Length, 10)}
	if partial {
		h["Content-Range"] = []string{part.ContentRange(o.size)}
		w.WriteHeader(http.StatusPartialContent)
	}
	if r.Method == http.MethodGet {
		_ = o.write(w, part) // the client has gone
	}
}

// write writes a range of the body.
func (o *object) write(w io.Writer, part akigw.Range) error {
	for at := part.Start; at < part.End(); {
		from := o.block[at%int64(len(o.block)):]
		n := min(int64(len(from)), part.End()-at)
		if _, err := w.Write(from[:n]); err != nil {
			return err
		}
		at += n
	}
	return nil
}

// sum returns a digest of the body.
func (o *object) sum(h hash.Hash) []byte {
	_ = o.write(h, akigw.Range{Length: o.size}) // a hash returns no error
	return h.Sum(nil)
}

// kept returns the headers of a PUT that are stored with the object, nil for none.
func kept(h http.Header) (out http.Header) {
	for name, values := range h {
		_, sum := checksum.ByHeader(name)
		if !sum && name != "Content-Type" && !strings.HasPrefix(name, "X-Amz-Meta-") {
			continue
		}
		if out == nil {
			out = http.Header{}
		}
		if out[name] = values; sum {
			out.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		}
	}
	return out
}

func startOf(head []byte, size int64) start {
	s := start{size: size}
	copy(s.bytes[:], head)
	return s
}

func quote(sum []byte) string { return `"` + hex.EncodeToString(sum) + `"` }

// refuse answers with an error of S3.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, "<Error><Code>%s</Code></Error>", code)
}
