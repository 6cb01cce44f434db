package embedded

import (
	"encoding/xml"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
)

// described are the headers outside x-amz-* that are stored with an object, and their names in
// record.Meta.
var described = map[string]string{
	"Content-Type": "Content-Type", "Content-Disposition": "Content-Disposition", "Content-Encoding": "Content-Encoding",
	"Cache-Control": "X-Amz-Akigw-Cache-Control", "Content-Language": "X-Amz-Akigw-Content-Language", "Expires": "X-Amz-Akigw-Expires",
}

const redirectHeader, checksumType = "X-Amz-Website-Redirect-Location", "X-Amz-Checksum-Type"

// meta returns the description of a new object in a request.
func (c *call) meta() map[string]string {
	meta := map[string]string{}
	for name, kept := range described {
		if v := c.Header.Get(name); v != "" {
			meta[kept] = v
		}
	}
	for name, values := range c.Header {
		if strings.HasPrefix(name, "X-Amz-Meta-") || name == redirectHeader {
			meta[name] = values[0]
		}
	}
	return meta
}

// setSum replaces the checksum of an object.
func (r *record) setSum(s sum, how string) {
	for _, a := range checksum.Algorithms {
		delete(r.Meta, a.Header)
	}
	r.Meta[http.CanonicalHeaderKey("X-Amz-Checksum-"+s.Algorithm)], r.Meta[checksumType] = s.Value, how
}

// sum returns an object's checksum and its type, nil if it has none.
func (r *record) sum() (s *sum, how string) {
	for _, a := range checksum.Algorithms {
		v := r.Meta[a.Header]
		switch {
		case v == "":
		case r.Meta[checksumType] != "":
			return &sum{a.Name, v}, r.Meta[checksumType]
		case !r.Parts: // stored by an earlier release, which only kept checksums of whole bodies
			return &sum{a.Name, v}, checksum.FullObject
		}
	}
	return nil, ""
}

// setSum sets the response headers for the checksum of a body.
func setSum(h http.Header, s *sum) {
	if s != nil {
		h.Set("X-Amz-Checksum-"+s.Algorithm, s.Value)
	}
}

// conditions returns the conditions of a write.
func (c *call) conditions() conditions {
	return conditions{ifMatch: c.Header.Get("If-Match"), ifNoneMatch: c.Header.Get("If-None-Match")}
}

// length returns the length of a body that is to be stored.
func (c *call) length() (int64, error) {
	switch {
	case c.ContentLength < 0:
		return 0, s3err.MissingContentLength
	case c.ContentLength > akigw.MaxObjectBytes:
		return 0, s3err.EntityTooLarge
	}
	return c.ContentLength, nil
}

// putObject answers PutObject.
func (s *Server) putObject(w http.ResponseWriter, c *call) error {
	if _, err := c.length(); err != nil {
		return err
	}
	if how := c.Header.Get(checksumType); how != "" && how != checksum.FullObject {
		return s3err.InvalidRequest.With("The checksum of an object that is not uploaded in parts is FULL_OBJECT.")
	}
	body, err := c.content()
	if err != nil {
		return err
	}
	return s.fake(w, c, &adapter{body: body})
}

// deleteObject answers DeleteObject.
func (s *Server) deleteObject(w http.ResponseWriter, c *call) error {
	return s.fake(w, c, &adapter{})
}

// maxDelete is how many keys a DeleteObjects may name.
const maxDelete = 1000

type deletion struct {
	Key       string
	ETag      string
	VersionID string `xml:"VersionId"`
	// The conditions of directory buckets, and unknown elements.
	Unknown unknown `xml:",any"`
}

type deleted struct {
	Key       s3xml.Text
	VersionID string `xml:"VersionId,omitempty"`
}

type deleteError struct {
	Key           s3xml.Text
	Code, Message string
}

// deleteObjects answers DeleteObjects. gofakes3 ignores its conditions and digests, and cannot read
// keys that XML 1.0 cannot hold.
func (s *Server) deleteObjects(w http.ResponseWriter, c *call) error {
	if err := s.backend.needBucket(c.bucket); err != nil {
		return err
	}
	var in struct {
		Object  []deletion
		Quiet   bool
		Unknown unknown `xml:",any"`
	}
	if err := c.readXML("Delete", &in); err != nil {
		return err
	}
	if len(in.Object) == 0 || len(in.Object) > maxDelete || slices.ContainsFunc(in.Object, func(d deletion) bool { return d.Key == "" }) {
		return s3err.MalformedXML
	}
	if err := in.Unknown.refuse(); err != nil {
		return err
	}
	out := struct {
		XMLName xml.Name `xml:"http://s3.amazonaws.com/doc/2006-03-01/ DeleteResult"`
		Deleted []deleted
		Error   []deleteError
	}{}
	for _, d := range in.Object {
		if err := s.delete(c.bucket, d); err != nil {
			var e *s3err.Error
			if !errors.As(err, &e) {
				e = s3err.InternalError.With("embedded upstream: " + err.Error())
			}
			out.Error = append(out.Error, deleteError{s3xml.Text(d.Key), e.Code, e.Message})
		} else if !in.Quiet {
			out.Deleted = append(out.Deleted, deleted{s3xml.Text(d.Key), d.VersionID})
		}
	}
	return writeXML(w, out)
}

// delete deletes one object of a DeleteObjects.
func (s *Server) delete(bkt string, d deletion) error {
	if err := d.Unknown.refuse(); err != nil {
		return err
	}
	if d.VersionID != "" {
		if err := checkValue("versionId", d.VersionID); err != nil {
			return err
		}
	}
	if akigw.CheckKeyName(d.Key) != nil {
		return s3err.InvalidArgument.With("The key is not valid: " + strconv.Quote(d.Key))
	}
	return s.backend.deleteObject(bkt, d.Key, d.ETag)
}
