package s3xml

import (
	"bytes"
	"encoding/xml"
)

// IsAnswer reports whether an upstream's document is the expected one: by its root or, because some
// upstreams name roots differently, by a child that only the expected document has. An error
// document is not, whatever its status was, nor is a truncated document.
func IsAnswer(document []byte, root, child string) bool {
	d := xml.NewDecoder(bytes.NewReader(guard(document, true).document))
	found, depth := false, 0
	for {
		token, err := d.Token()
		if err != nil {
			return depth == 0 && found
		}
		switch e := token.(type) {
		case xml.StartElement:
			if depth == 0 && e.Name.Local == "Error" {
				return false
			}
			found = found || depth == 0 && e.Name.Local == root || depth == 1 && e.Name.Local == child
			depth++
		case xml.EndElement:
			depth--
		}
	}
}
