package tiers

import (
	"net/http"
	"strings"

	"github.com/akidb/akigw"
)

// representation lists the headers that describe an object, apart from x-amz-* (RFC 9110 §8 and the
// response elements of S3's GetObject).
var representation = map[string]bool{
	"Accept-Ranges": true, "Cache-Control": true, "Content-Disposition": true, "Content-Encoding": true,
	"Content-Language": true, "Content-Type": true, "Etag": true, "Expires": true, "Last-Modified": true,
}

// ObjectHeader returns a new header with the fields of h that describe the object, without
// those that describe the exchange. The values are shared with h.
func ObjectHeader(h http.Header) http.Header {
	kept := make(http.Header, len(h))
	for name, values := range h {
		amz := strings.HasPrefix(name, "X-Amz-") && name != "X-Amz-Request-Id" && name != "X-Amz-Id-2"
		if amz || representation[name] {
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
