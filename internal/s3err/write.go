package s3err

import (
	"bytes"
	"fmt"
	"net/http"
	"strconv"

	"github.com/akidb/akigw/internal/s3xml"
)

// Write responds to a request with e as S3 does: with an Error document with the resource and the
// ids, and without a body for HEAD and 304. Headers that are set on w are kept.
func Write(w http.ResponseWriter, r *http.Request, e *Error, requestID, hostID string) {
	if e.Status == http.StatusNotModified {
		w.WriteHeader(e.Status)
		return
	}
	body := Document(e, r, requestID, hostID)
	h := w.Header()
	h.Set("Content-Type", "application/xml")
	h.Set("X-Content-Type-Options", "nosniff")
	if e.Status == http.StatusServiceUnavailable && h.Get("Retry-After") == "" {
		h.Set("Retry-After", "1")
	}
	if r.Method == http.MethodHead {
		w.WriteHeader(e.Status)
		return
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(e.Status)
	_, _ = w.Write(body) // fails only if the client has disconnected
}

// Document returns the Error document of a response.
func Document(e *Error, r *http.Request, requestID, hostID string) []byte {
	return document(e, r.URL.EscapedPath(), requestID, hostID)
}

// Raw returns a complete HTTP/1.1 error response, for a connection that is not served.
func Raw(e *Error) []byte {
	body := document(e, "/", "", "")
	return append(fmt.Appendf(nil, "HTTP/1.1 %d %s\r\nContent-Type: application/xml\r\nRetry-After: 1\r\nConnection: close\r\nContent-Length: %d\r\n\r\n",
		e.Status, http.StatusText(e.Status), len(body)), body...)
}

func document(e *Error, resource, requestID, hostID string) []byte {
	var b bytes.Buffer
	b.WriteString(s3xml.Header)
	b.WriteString("<Error>")
	fields := append([][2]string{{"Code", e.Code}, {"Message", e.Message}}, e.Detail...)
	fields = append(fields, [2]string{"Resource", resource}, [2]string{"RequestId", requestID}, [2]string{"HostId", hostID})
	for _, f := range fields {
		s3xml.WriteElement(&b, f[0], f[1])
	}
	b.WriteString("</Error>")
	return b.Bytes()
}
