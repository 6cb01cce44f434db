package gateway

import (
	"bytes"
	"encoding/xml"
	"io"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// maxDepth bounds nesting: S3's request documents are three levels deep.
const maxDepth = 16

// parseXML decodes a control document strictly: one root of this name, no
// document type, no deep nesting, nothing behind the root.
func parseXML(document []byte, root string, into any) error {
	d := xml.NewDecoder(bytes.NewReader(document))
	depth, roots := 0, 0
	for {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			return s3err.MalformedXML
		}
		switch t := token.(type) {
		case xml.Directive:
			return s3err.MalformedXML
		case xml.StartElement:
			if depth == 0 {
				roots++
				if t.Name.Local != root {
					return s3err.MalformedXML
				}
			}
			if depth++; depth > maxDepth {
				return s3err.MalformedXML
			}
		case xml.EndElement:
			depth--
		case xml.CharData:
			if depth == 0 && len(bytes.TrimSpace(t)) > 0 {
				return s3err.MalformedXML
			}
		}
	}
	if roots != 1 || xml.Unmarshal(document, into) != nil {
		return s3err.MalformedXML
	}
	return nil
}

// maxDeleteKeys is the limit of one DeleteObjects request.
const maxDeleteKeys = 1000

// parseDelete returns the keys of a DeleteObjects document.
func parseDelete(document []byte) ([]string, error) {
	var doc struct {
		Objects []struct {
			Key []string
		} `xml:"Object"`
	}
	if err := parseXML(document, "Delete", &doc); err != nil {
		return nil, err
	}
	if len(doc.Objects) == 0 || len(doc.Objects) > maxDeleteKeys {
		return nil, s3err.MalformedXML
	}
	names := make([]string, 0, len(doc.Objects))
	for _, o := range doc.Objects {
		if len(o.Key) != 1 || o.Key[0] == "" {
			return nil, s3err.MalformedXML
		}
		if err := akigw.CheckKeyName(o.Key[0]); err != nil {
			return nil, err
		}
		names = append(names, o.Key[0])
	}
	return names, nil
}

// checkComplete checks the part list of a CompleteMultipartUpload document:
// 1 to 10,000 parts in ascending order, each with an ETag.
func checkComplete(document []byte) error {
	var doc struct {
		Parts []struct {
			PartNumber []int
			ETag       []string
		} `xml:"Part"`
	}
	if err := parseXML(document, "CompleteMultipartUpload", &doc); err != nil {
		return err
	}
	if len(doc.Parts) == 0 || len(doc.Parts) > maxParts {
		return s3err.MalformedXML
	}
	last := 0
	for _, p := range doc.Parts {
		switch {
		case len(p.PartNumber) != 1 || len(p.ETag) != 1:
			return s3err.MalformedXML
		case p.PartNumber[0] < 1 || p.PartNumber[0] > maxParts:
			return s3err.InvalidArgument.With("PartNumber must be >= 1 and <= 10000").About("ArgumentName", "PartNumber")
		case p.PartNumber[0] <= last:
			return s3err.InvalidPartOrder
		}
		last = p.PartNumber[0]
	}
	return nil
}
