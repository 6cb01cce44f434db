package sigv4

import (
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

// isUnique reports whether a header is ambiguous if it is sent twice, whether it is signed or not.
func isUnique(header string) bool {
	switch header {
	case "X-Amz-Date", "Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token",
		"X-Amz-Decoded-Content-Length", "X-Amz-Copy-Source", "Content-Md5", "Content-Type",
		"Range", "If-Range", "If-Modified-Since", "If-Unmodified-Since":
		return true
	default:
		return false
	}
}

// checkSignedHeaders checks that the list is well-formed, that each header in it was sent once, and
// that it has the host, every x-amz-* header and, in header authentication, Content-MD5: anyone
// could have added a header that is not signed.
func (c *credential) checkSignedHeaders(h http.Header) error {
	host, previous := false, ""
	for name, rest, more := cut(c.signedHeaders, ';'); ; name, rest, more = cut(rest, ';') {
		if !lowerToken(name) || name <= previous {
			if c.place == Query {
				return s3err.AuthorizationQueryParameters.With("X-Amz-SignedHeaders must be a sorted list of lower-case header names")
			}
			return s3err.AuthorizationHeaderMalformed.With("SignedHeaders must be a sorted list of lower-case header names")
		}
		host = host || name == "host"
		previous = name
		if !more {
			break
		}
	}
	var missing []string
	if !host {
		missing = append(missing, "host")
	}
	for name, values := range h {
		if len(values) > 1 && (isUnique(name) || c.signs(name) && !repeatable(name)) {
			return sentTwice(name)
		}
		if c.mustSign(name, values) && !c.signs(name) {
			missing = append(missing, strings.ToLower(name))
		}
	}
	if len(missing) > 0 {
		return notSigned(missing)
	}
	return nil
}

// notSigned returns the error for headers that the signature has to cover and does not.
func notSigned(headers []string) error {
	slices.Sort(headers)
	return s3err.AccessDenied.With("There were headers present in the request which were not signed").About("HeadersNotSigned", strings.Join(headers, ", "))
}

// repeatable reports whether a signed header may be sent in several lines, which mean the same as
// one line with comma-separated values: user metadata ("Working with object metadata"), and lists.
func repeatable(name string) bool {
	return strings.HasPrefix(name, "X-Amz-Meta-") || name == "X-Amz-Object-Attributes" || name == "X-Amz-Optional-Object-Attributes"
}

// lowerToken reports whether name is a header name (RFC 9110 §5.6.2) without
// capitals.
func lowerToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || strings.IndexByte("!#$%&'*+^`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}

func (c *credential) signs(name string) bool {
	for s, rest, more := cut(c.signedHeaders, ';'); ; s, rest, more = cut(rest, ';') {
		if len(s) == len(name) && strings.EqualFold(s, name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// mustSign reports whether the signature has to cover a header. S3 documents the same for
// Content-Type, but accepts it unsigned: AWS SDK for JavaScript 2, minio-js, Bun and older minio-go
// (restic, mc) do not sign it.
func (c *credential) mustSign(name string, values []string) bool {
	if strings.HasPrefix(name, "X-Amz-") {
		// A presigned request is bound to UNSIGNED-PAYLOAD anyway.
		return c.place == Header || name != "X-Amz-Content-Sha256" || values[0] != unsignedPayload
	}
	return name == "Content-Md5" && c.place == Header
}

// SignedHeaders returns the header names that the signature of a request covers, nil if it has
// none. It verifies nothing.
func SignedHeaders(r *http.Request) []string {
	_, list, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	if !ok {
		return nil
	}
	list, _, _ = cut(list, ',')
	return slices.DeleteFunc(strings.Split(list, ";"), func(s string) bool { return s == "" })
}
