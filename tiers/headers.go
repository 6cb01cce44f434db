package tiers

import (
	"net/http"
	"strings"

	"github.com/akidb/akigw"
)

// describes reports whether a header that does not begin with x-amz- describes an object (RFC 9110 §8 and the
// response elements of GetObject).
func describes(header string) bool {
	switch header {
	case "Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding",
		"Content-Language", "Content-Type", "Etag", "Expires", "Last-Modified":
		return true
	default:
		return false
	}
}

// ObjectHeader returns a new header with the fields of h that describe the object, without
// those that describe the exchange. The values are shared with h.
func ObjectHeader(h http.Header) http.Header {
	kept := make(http.Header, len(h))
	for name, values := range h {
		amz := strings.HasPrefix(name, "X-Amz-") && name != "X-Amz-Request-Id" && name != "X-Amz-Id-2"
		if amz || describes(name) {
			kept[name] = values
		}
	}
	return kept
}

// strongETag reports whether an ETag allows caching the object: it exists and is not weak (RFC 9110
// §8.8.1).
func strongETag(etag string) bool { return etag != "" && !strings.HasPrefix(etag, "W/") }

// objectOf reads an object from the headers of a successful response. size is the size of the whole
// object.
func objectOf(key akigw.Key, h http.Header, size int64) akigw.Object {
	modified, _ := http.ParseTime(h.Get("Last-Modified")) // absent stays zero
	return akigw.Object{Key: key, Size: size, ETag: h.Get("Etag"), LastModified: modified, Header: ObjectHeader(h)}
}
