// Package redact removes from logs and reports what would let their reader act in somebody else's
// name: signatures, tokens and keys. It changes nothing else; names of objects and user metadata stay.
package redact

import (
	"net/http"
	"strings"
)

// Hidden stands where a secret was.
const Hidden = "-"

// maxValue is the longest header value that is kept, in bytes.
const maxValue = 256

// secretParameter reports whether a query parameter would let its reader use a presigned URL.
func secretParameter(name string) bool {
	return strings.EqualFold(name, "X-Amz-Signature") || strings.EqualFold(name, "X-Amz-Security-Token") || strings.EqualFold(name, "Signature")
}

// Query returns the query of a URL, as it is sent, with Hidden for the value of each parameter that
// would let its reader use a presigned URL.
func Query(query string) string {
	fields := strings.Split(query, "&")
	for i, f := range fields {
		if name, _, _ := strings.Cut(f, "="); secretParameter(name) {
			fields[i] = name + "=" + Hidden
		}
	}
	return strings.Join(fields, "&")
}

// secretHeader reports whether a header, by its canonical name, is a secret.
func secretHeader(name string) bool {
	switch name {
	case "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "X-Amz-Security-Token":
		return true
	default:
		return strings.HasSuffix(name, "Server-Side-Encryption-Customer-Key")
	}
}

// Header returns a copy of h, whose names are canonical, with Hidden for each value that is a secret.
// In values that are URLs, the query is redacted. Values are cut off after 256 bytes.
func Header(h http.Header) http.Header {
	shown := make(http.Header, len(h))
	for name, values := range h {
		for _, v := range values {
			switch path, query, ok := strings.Cut(v, "?"); {
			case secretHeader(name):
				v = Hidden
			case ok:
				v = path + "?" + Query(query)
			}
			shown[name] = append(shown[name], v[:min(len(v), maxValue)])
		}
	}
	return shown
}
