package gateway

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/writeback"
)

// parseXML decodes a control document strictly: one root element with this name, no document type,
// no deep nesting, nothing after the root.
func parseXML(document []byte, root string, into any) error {
	if s3xml.UnmarshalStrict(document, root, into) != nil {
		return s3err.MalformedXML
	}
	return nil
}

// maxDeleteKeys is the limit of one DeleteObjects request.
const maxDeleteKeys = 1000

// deletion is one object of a DeleteObjects request.
type deletion struct {
	name, version string
	raw           deleteObject
}

// deleteObject is an Object element. Every field except the key is optional.
type deleteObject struct {
	Key              []string
	VersionID        []string `xml:"VersionId"`
	ETag             []string
	LastModifiedTime []string
	Size             []string
}

// deleteRequest is a DeleteObjects document.
type deleteRequest struct {
	Objects []deletion
	quiet   []string
}

// parseDelete reads a DeleteObjects document.
func parseDelete(document []byte) (*deleteRequest, error) {
	var doc struct {
		Objects []deleteObject `xml:"Object"`
		Quiet   []string
	}
	if err := parseXML(document, "Delete", &doc); err != nil {
		return nil, err
	}
	if len(doc.Objects) == 0 || len(doc.Objects) > maxDeleteKeys || len(doc.Quiet) > 1 {
		return nil, s3err.MalformedXML
	}
	request := &deleteRequest{quiet: doc.Quiet, Objects: make([]deletion, 0, len(doc.Objects))}
	for _, o := range doc.Objects {
		if len(o.Key) != 1 || o.Key[0] == "" || len(o.VersionID) > 1 || len(o.ETag) > 1 || len(o.LastModifiedTime) > 1 || len(o.Size) > 1 {
			return nil, s3err.MalformedXML
		}
		if err := akigw.CheckKeyName(o.Key[0]); err != nil {
			return nil, err
		}
		d := deletion{name: o.Key[0], raw: o}
		if len(o.VersionID) == 1 {
			d.version = o.VersionID[0]
		}
		request.Objects = append(request.Objects, d)
	}
	return request, nil
}

// split removes the objects that are not allowed, and returns them.
func (r *deleteRequest) split(allowed func(deletion) bool) (denied []deletion) {
	r.Objects = slices.DeleteFunc(r.Objects, func(o deletion) bool {
		if allowed(o) {
			return false
		}
		denied = append(denied, o)
		return true
	})
	return denied
}

// encode writes a document with the remaining objects.
func (r *deleteRequest) encode() []byte {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/">`)
	for _, quiet := range r.quiet {
		element(&b, "Quiet", quiet)
	}
	for _, o := range r.Objects {
		b.WriteString("<Object>")
		for _, field := range []struct {
			name   string
			values []string
		}{{"Key", o.raw.Key}, {"VersionId", o.raw.VersionID}, {"ETag", o.raw.ETag}, {"LastModifiedTime", o.raw.LastModifiedTime}, {"Size", o.raw.Size}} {
			for _, value := range field.values {
				element(&b, field.name, value)
			}
		}
		b.WriteString("</Object>")
	}
	b.WriteString("</Delete>")
	return b.Bytes()
}

// element writes an element with a text.
func element(b *bytes.Buffer, name, value string) {
	s3xml.WriteElement(b, name, value)
}

// checksumElements writes the checksums in a header.
func checksumElements(b *bytes.Buffer, h http.Header) {
	for _, a := range checksum.Algorithms {
		if v := h.Get(a.Header); v != "" {
			element(b, "Checksum"+a.Name, v)
		}
	}
}

// sendCommitted answers a call that the journal has committed with a document; write adds the elements
// in its root.
func sendCommitted(w *answer, root string, write func(b *bytes.Buffer)) {
	var b bytes.Buffer
	b.WriteString(s3xml.Header + `<` + root + ` xmlns="` + namespace + `">`)
	write(&b)
	b.WriteString("</" + root + ">")
	w.Header().Set("X-Akigw-Commit", "journal")
	sendDocument(w, b.Bytes())
}

const emptyDeleteResult = s3xml.Header + `<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"></DeleteResult>`

// appendDenied adds an Error for each object to a DeleteResult.
func appendDenied(result []byte, denied []deletion) ([]byte, error) {
	var b bytes.Buffer
	if head, ok := bytes.CutSuffix(bytes.TrimSpace(result), []byte("</DeleteResult>")); ok {
		b.Write(head)
	} else if head, ok := bytes.CutSuffix(bytes.TrimSpace(result), []byte("/>")); ok && bytes.Contains(head, []byte("<DeleteResult")) {
		b.Write(head)
		b.WriteByte('>')
	} else {
		return nil, fmt.Errorf("%w: the response to DeleteObjects is not a DeleteResult", akigw.ErrUpstreamUnavailable)
	}
	for _, o := range denied {
		b.WriteString("<Error>")
		element(&b, "Key", o.name)
		if o.version != "" {
			element(&b, "VersionId", o.version)
		}
		element(&b, "Code", string(s3err.AccessDenied))
		element(&b, "Message", s3err.AccessDenied.Err().Message)
		b.WriteString("</Error>")
	}
	b.WriteString("</DeleteResult>")
	return b.Bytes(), nil
}

// parseComplete reads a CompleteMultipartUpload document: 1 to 10,000 parts in
// ascending order, each with an ETag, and a checksum if there is one.
func parseComplete(document []byte) ([]writeback.Part, error) {
	var doc struct {
		Parts []struct {
			PartNumber []int
			ETag       []string
			Others     []struct {
				XMLName xml.Name
				Value   string `xml:",chardata"`
			} `xml:",any"`
		} `xml:"Part"`
	}
	if err := parseXML(document, "CompleteMultipartUpload", &doc); err != nil {
		return nil, err
	}
	if len(doc.Parts) == 0 || len(doc.Parts) > maxParts {
		return nil, s3err.MalformedXML
	}
	last := 0
	parts := make([]writeback.Part, len(doc.Parts))
	for i, p := range doc.Parts {
		switch {
		case len(p.PartNumber) != 1 || len(p.ETag) != 1:
			return nil, s3err.MalformedXML
		case p.PartNumber[0] < 1:
			return nil, s3err.InvalidArgument.With("PartNumber must be >= 1").About("ArgumentName", "PartNumber").About("ArgumentValue", strconv.Itoa(p.PartNumber[0]))
		case p.PartNumber[0] > maxParts:
			return nil, s3err.InvalidArgument.With("PartNumber must be <= 10000").About("ArgumentName", "PartNumber").About("ArgumentValue", strconv.Itoa(p.PartNumber[0]))
		case p.PartNumber[0] <= last:
			return nil, s3err.InvalidPartOrder
		}
		last = p.PartNumber[0]
		parts[i] = writeback.Part{Number: last, ETag: `"` + strings.Trim(strings.TrimSpace(p.ETag[0]), `"`) + `"`}
		for _, o := range p.Others {
			if name, ok := strings.CutPrefix(o.XMLName.Local, "Checksum"); ok {
				if parts[i].Header == nil {
					parts[i].Header = http.Header{}
				}
				parts[i].Header.Set("X-Amz-Checksum-"+name, strings.TrimSpace(o.Value))
			}
		}
	}
	return parts, nil
}

// Limits of control documents in bytes: 1,000 keys or 10,000 parts with their checksums fit.
const (
	maxDelete       = 2 << 20
	maxDeleteResult = 8 << 20
	maxComplete     = 4 << 20
	// maxDocument is the limit for documents that are only forwarded.
	maxDocument = 4 << 20
)

// listTime is the format of times in S3's documents.
const listTime = "2006-01-02T15:04:05.000Z"

// namespace is the XML namespace of S3's documents.
const namespace = "http://s3.amazonaws.com/doc/2006-03-01/"
