package embedded

import (
	"encoding/xml"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// source is what x-amz-copy-source names.
type source struct{ bucket, key string }

// source parses x-amz-copy-source: "[/]bucket/key[?versionId=null]",
// percent-encoded.
func (c *call) source() (source, error) {
	invalid := func(message string) (source, error) {
		return source{}, s3err.InvalidArgument.With(message).About("ArgumentName", "x-amz-copy-source").About("ArgumentValue", c.Header.Get("X-Amz-Copy-Source"))
	}
	path, query, _ := strings.Cut(c.Header.Get("X-Amz-Copy-Source"), "?")
	if version, ok := strings.CutPrefix(query, "versionId="); ok {
		if err := checkValue("versionId", version); err != nil {
			return source{}, err
		}
	} else if query != "" {
		return invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	path, err := url.QueryUnescape(path) // a plus sign is a space, as in S3
	if err != nil {
		return invalid("Invalid copy source encoding")
	}
	var s source
	s.bucket, s.key, _ = strings.Cut(strings.TrimPrefix(path, "/"), "/")
	if s.bucket == "" || s.key == "" || akigw.CheckKeyName(s.key) != nil || strings.Contains(s.bucket, "\x00") {
		return invalid("Copy Source must mention the source bucket and key: sourcebucket/sourcekey")
	}
	return s, nil
}

// open finds the source of a copy, checks the conditions on it, and creates hard links to its
// files, so that the bytes cannot be removed before they are copied. The caller stores or
// releases the links.
func (s *Server) open(c *call, from source) (*record, error) {
	s.backend.change.Lock()
	defer s.backend.change.Unlock()
	o, err := s.backend.find(from.bucket, from.key)
	if err != nil {
		return nil, err
	}
	conditions := akigw.Conditions{
		IfMatch: c.Header.Get("X-Amz-Copy-Source-If-Match"), IfNoneMatch: c.Header.Get("X-Amz-Copy-Source-If-None-Match"),
		IfModifiedSince: c.Header.Get("X-Amz-Copy-Source-If-Modified-Since"), IfUnmodifiedSince: c.Header.Get("X-Amz-Copy-Source-If-Unmodified-Since"),
	}
	if conditions.Check(&akigw.Object{ETag: `"` + o.ETag + `"`, LastModified: o.Modified}) != nil {
		return nil, s3err.PreconditionFailed
	}
	own := *o
	own.Meta = map[string]string{}
	maps.Copy(own.Meta, o.Meta)
	own.Blobs, err = s.backend.clone(o)
	return &own, err
}

// copied is the response of CopyObject and of UploadPartCopy.
type copied struct {
	XMLName      xml.Name
	ETag         string
	LastModified string
	partSums
	ChecksumType string `xml:",omitempty"`
}

// copyObject answers CopyObject: the bytes are shared by hard links. gofakes3
// ignores its conditions and directives.
func (s *Server) copyObject(w http.ResponseWriter, c *call) error {
	from, err := c.source()
	if err != nil {
		return err
	}
	replace := c.Header.Get("X-Amz-Metadata-Directive") == "REPLACE"
	changes := replace || c.Header.Get(redirectHeader) != "" || c.Header.Get("X-Amz-Storage-Class") != ""
	if !changes && from == (source{c.bucket, c.key}) {
		return s3err.InvalidRequest.With("This copy request is illegal because it is trying to copy an object to itself without changing the object's metadata, storage class, website redirect location or encryption attributes.")
	}
	if err := s.backend.check(c.bucket, c.key, c.conditions()); err != nil {
		return err
	}
	o, err := s.open(c, from)
	if err != nil {
		return err
	}
	o.Modified = time.Now().Truncate(time.Second)
	err = s.describe(c, o, replace)
	if err != nil {
		return errors.Join(err, s.backend.release(o))
	}
	if err := s.backend.storeNew(c.bucket, c.key, o, c.conditions()); err != nil {
		return err
	}
	of, how := o.sum()
	return writeXML(w, copied{XMLName: xml.Name{Space: s3xml.Namespace, Local: "CopyObjectResult"}, ETag: `"` + o.ETag + `"`, LastModified: contentTime(o.Modified), partSums: sumsOf(of), ChecksumType: how})
}

// describe copies the description of the source to the copy. The redirect is never copied. The
// checksum always is, unless the request asks for another one.
func (s *Server) describe(c *call, o *record, replace bool) error {
	of, how := o.sum()
	given := c.meta()
	if replace {
		o.Meta = given
	} else {
		delete(o.Meta, redirectHeader)
		if v := given[redirectHeader]; v != "" {
			o.Meta[redirectHeader] = v
		}
	}
	name := c.Header.Get("X-Amz-Checksum-Algorithm")
	if name == "" {
		if of != nil {
			o.setSum(*of, how)
		}
		return nil
	}
	a, err := algorithm(name)
	if err != nil {
		return err
	}
	made, err := s.backend.sum(a, o)
	if err != nil {
		return err
	}
	o.setSum(*made, checksum.FullObject)
	return nil
}

// copyPart answers UploadPartCopy, which gofakes3 does not have.
func (s *Server) copyPart(w http.ResponseWriter, c *call) error {
	n, err := c.part()
	if err != nil {
		return err
	}
	from, err := c.source()
	if err != nil {
		return err
	}
	spec, err := c.copyRange()
	if err != nil {
		return err
	}
	u, err := s.backend.upload(c.bucket, c.key, c.query.Get("uploadId"))
	if err != nil {
		return err
	}
	o, err := s.open(c, from)
	if err != nil {
		return err
	}
	p, err := s.copyRangeOf(c, n, u, o, spec)
	if err = errors.Join(err, s.backend.release(o)); err != nil {
		return err
	}
	return writeXML(w, copied{XMLName: xml.Name{Space: s3xml.Namespace, Local: "CopyPartResult"}, ETag: `"` + p.MD5 + `"`, LastModified: contentTime(p.Modified), partSums: sumsOf(p.Blob.Sum)})
}

// copyRange parses x-amz-copy-source-range, which must name both ends, unlike Range. Without the
// header, the whole source is copied.
func (c *call) copyRange() (akigw.RangeSpec, error) {
	values, ok := c.Header["X-Amz-Copy-Source-Range"]
	if !ok {
		return akigw.RangeSpec{}, nil
	}
	spec := akigw.ParseRange(values[0])
	_, suffix := spec.Suffix()
	if !spec.Whole() && !suffix {
		if _, last := spec.Bounds(); last >= 0 {
			return spec, nil
		}
	}
	return spec, s3err.InvalidArgument.With("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy").
		About("ArgumentName", "x-amz-copy-source-range").About("ArgumentValue", values[0])
}

// copyRangeOf copies a range of an object, which must lie within the object, into part n of an
// upload.
func (s *Server) copyRangeOf(c *call, n int, u *upload, o *record, spec akigw.RangeSpec) (part, error) {
	rng, err := spec.Resolve(o.Size)
	if _, last := spec.Bounds(); err != nil || !spec.Whole() && last >= o.Size {
		return part{}, s3err.InvalidArgument.With("Range specified is not valid for source object of size: "+strconv.FormatInt(o.Size, 10)).
			About("ArgumentName", "x-amz-copy-source-range").About("ArgumentValue", c.Header.Get("X-Amz-Copy-Source-Range"))
	}
	if rng.Length > akigw.MaxObjectBytes {
		return part{}, s3err.InvalidRequest.With("The specified copy source is larger than the maximum allowable size for a copy source: 5368709120")
	}
	reader := s.backend.reader(o, rng.Start, rng.Length)
	defer reader.Close()
	body := &content{body: reader}
	if err := body.join(u); err != nil {
		return part{}, err
	}
	return s.backend.uploadPart(c, n, rng.Length, body, body.checksum)
}
