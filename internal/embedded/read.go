package embedded

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// objectMetadata sets the response headers that were stored with an object.
func objectMetadata(h http.Header, meta map[string]string) {
	for name, v := range meta {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == redirectHeader {
			h.Set(name, v)
		}
	}
	for name, kept := range described {
		if v := meta[kept]; v != "" {
			h.Set(name, v)
		}
	}
	if h.Get("Content-Type") == "" {
		h.Set("Content-Type", "binary/octet-stream")
	}
}

// read answers GetObject and HeadObject. gofakes3 lacks If-Match, If-Unmodified-Since, parts, checksums
// and the ETags of multipart uploads.
func (s *Server) read(w http.ResponseWriter, c *call) error {
	o, done, err := s.backend.reading(c.bucket, c.key)
	if err != nil {
		return err
	}
	defer done()
	h := w.Header()
	h.Set("Etag", `"`+o.ETag+`"`)
	h.Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	h.Set("Accept-Ranges", "bytes")
	err = akigw.ConditionsOf(c.Header).Check(&akigw.Object{ETag: h.Get("Etag"), LastModified: o.Modified})
	if errors.Is(err, akigw.ErrNotModified) {
		return s3err.NotModified
	} else if err != nil {
		return s3err.PreconditionFailed
	}
	want, err := o.requested(c, h)
	if err != nil {
		return err
	}
	objectMetadata(h, o.Meta)
	if of, how := o.sum(); of != nil && want.whole && c.Header.Get("X-Amz-Checksum-Mode") != "" {
		setSum(h, of)
		h.Set(checksumType, how)
	}
	for param, header := range overrides {
		if v := c.query.Get(param); v != "" {
			h.Set(header, v)
		}
	}
	return s.send(w, c, o, want)
}

var overrides = map[string]string{
	"response-content-type": "Content-Type", "response-content-language": "Content-Language", "response-expires": "Expires",
	"response-cache-control": "Cache-Control", "response-content-disposition": "Content-Disposition", "response-content-encoding": "Content-Encoding",
}

// selection is the part of an object that a GET or HEAD requests.
type selection struct {
	akigw.Range
	whole   bool // neither a range nor a part was requested
	partial bool // the response is 206
}

// requested returns the part of the object that a GET or HEAD requests: the whole object, a range or a
// part. h has the object's validators.
func (o *record) requested(c *call, h http.Header) (want selection, err error) {
	header := c.Header.Get("Range")
	if condition := c.Header.Get("If-Range"); condition != "" && condition != h.Get("Etag") && condition != h.Get("Last-Modified") {
		header = "" // RFC 9110 §13.1.5
	}
	number := c.query.Get("partNumber")
	if number != "" && header != "" {
		return want, s3err.InvalidRequest.With("Cannot specify both Range header and partNumber query parameter")
	}
	if number != "" {
		n, err := c.part()
		if err != nil {
			return want, err
		}
		if o.Parts {
			h.Set("X-Amz-Mp-Parts-Count", strconv.Itoa(len(o.Blobs)))
		}
		want.Range, err = o.part(n)
		want.partial = o.Size > 0
		return want, err
	}
	spec := akigw.ParseRange(header)
	want.Range, err = spec.Resolve(o.Size)
	if err != nil {
		h.Set("Content-Range", fmt.Sprintf("bytes */%d", o.Size))
		return want, s3err.InvalidRange
	}
	want.whole, want.partial = spec.Whole(), spec.Partial(o.Size)
	return want, nil
}

// part returns the range of a part by number.
func (o *record) part(n int) (akigw.Range, error) {
	if n > len(o.Blobs) {
		return akigw.Range{}, s3err.InvalidPartNumber
	}
	r := akigw.Range{Length: o.Blobs[n-1].Size}
	for _, f := range o.Blobs[:n-1] {
		r.Start += f.Size
	}
	return r, nil
}

// send writes the requested part of an object. The headers of the object are already set.
func (s *Server) send(w http.ResponseWriter, c *call, o *record, want selection) error {
	h := w.Header()
	h.Set("Content-Length", strconv.FormatInt(want.Length, 10))
	status := http.StatusOK
	if want.partial {
		h.Set("Content-Range", want.ContentRange(o.Size))
		status = http.StatusPartialContent
	}
	body := s.backend.reader(o, want.Start, want.Length)
	defer body.Close()
	w.WriteHeader(status)
	if c.Method == http.MethodGet {
		if n, err := io.CopyBuffer(struct{ io.Writer }{w}, body, make([]byte, 128<<10)); err != nil || n != want.Length {
			panic(http.ErrAbortHandler) // cut the connection: the body is not complete
		}
	}
	return nil
}

// noTags answers GetObjectTagging, which gofakes3 does not have. No object has tags, because
// PutObjectTagging and x-amz-tagging are refused.
func (s *Server) noTags(w http.ResponseWriter, c *call) error {
	if _, err := s.backend.find(c.bucket, c.key); err != nil {
		return err
	}
	return writeXML(w, struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ Tagging"`
		TagSet  string   `xml:"TagSet"`
	}{})
}

type attributes struct {
	XMLName      xml.Name       `xml:"http://s3.amazonaws.com/doc/2006-03-01/ GetObjectAttributesResponse"`
	ETag         string         `xml:",omitempty"`
	Checksum     *objectSums    `xml:",omitempty"`
	ObjectParts  *partsOfObject `xml:",omitempty"`
	StorageClass string         `xml:",omitempty"`
	ObjectSize   *int64         `xml:",omitempty"`
}

type objectSums struct {
	partSums
	ChecksumType string
}

type partsOfObject struct {
	TotalPartsCount      int `xml:"PartsCount"`
	PartNumberMarker     int
	NextPartNumberMarker int
	MaxParts             int
	IsTruncated          bool
	Part                 []attributesPart
}

type attributesPart struct {
	PartNumber int
	Size       int64
	partSums
}

// objectAttributes answers GetObjectAttributes, which gofakes3 does not have.
func (s *Server) objectAttributes(w http.ResponseWriter, c *call) error {
	wanted := c.Header.Get("X-Amz-Object-Attributes")
	if wanted == "" {
		return s3err.InvalidArgument.With("The x-amz-object-attributes header specifying the attributes to be retrieved is either missing or empty")
	}
	o, err := s.backend.find(c.bucket, c.key)
	if err != nil {
		return err
	}
	var out attributes
	for name := range strings.SplitSeq(wanted, ",") {
		switch strings.TrimSpace(name) {
		case "ETag":
			out.ETag = o.ETag
		case "ObjectSize":
			out.ObjectSize = &o.Size
		case "StorageClass":
			out.StorageClass = "STANDARD"
		case "Checksum":
			if of, how := o.sum(); of != nil {
				out.Checksum = &objectSums{sumsOf(of), how}
			}
		case "ObjectParts":
			if out.ObjectParts, err = o.listParts(c.Header); err != nil {
				return err
			}
		default:
			return s3err.InvalidArgument.With("Invalid attribute name specified.").About("ArgumentName", "x-amz-object-attributes").About("ArgumentValue", name)
		}
	}
	w.Header().Set("Last-Modified", o.Modified.UTC().Format(http.TimeFormat))
	return writeXML(w, out)
}

// listParts returns a page of the parts of an object, nil if the object was not uploaded in parts.
func (o *record) listParts(h http.Header) (*partsOfObject, error) {
	if !o.Parts {
		return nil, nil
	}
	number := func(name string, otherwise int) (int, error) {
		v := h.Get(name)
		if v == "" {
			return otherwise, nil
		}
		n, err := strconv.Atoi(v)
		if err != nil || n < 0 {
			return 0, s3err.InvalidArgument.About("ArgumentName", strings.ToLower(name)).About("ArgumentValue", v)
		}
		return n, nil
	}
	page, err := number("X-Amz-Max-Parts", maxPage)
	if err != nil {
		return nil, err
	}
	after, err := number("X-Amz-Part-Number-Marker", 0)
	if err != nil {
		return nil, err
	}
	out := &partsOfObject{TotalPartsCount: len(o.Blobs), PartNumberMarker: after, MaxParts: min(page, maxPage)}
	for i, f := range o.Blobs[min(after, len(o.Blobs)):] {
		if i == out.MaxParts {
			out.IsTruncated = true
			break
		}
		out.NextPartNumberMarker = after + i + 1
		if f.Sum != nil { // S3 lists parts only for objects with checksums
			out.Part = append(out.Part, attributesPart{after + i + 1, f.Size, sumsOf(f.Sum)})
		}
	}
	return out, nil
}
