package gateway

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/s3err"
)

// answer is the response to a request. It remembers what was sent, and sends it no faster than the
// limits of the call allow.
type answer struct {
	http.ResponseWriter
	call *call // nil until the request is verified
	// requestID is the value of the header x-amz-request-id, "" before identify.
	requestID [1]string
	status    int
	bytes     int64
	code      string // S3 error code, "" for none
	vectors   bool   // the request is one of S3 Vectors: errors have the form of that service
	kept      bool   // the response began before its outcome was known (see keepAlive)
	started   time.Time
	head      time.Duration // time from started until the head was sent, 0 before
}

// hostID returns the value of the header x-amz-id-2, "" before identify.
func (a *answer) hostID() string {
	if values := a.Header()["x-amz-id-2"]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK && a.call != nil {
		a.call.deadline.answered()
	}
	a.begin(status)
}

// begin is WriteHeader, but leaves the call's deadline running.
func (a *answer) begin(status int) {
	if status >= http.StatusOK {
		a.status = status
		a.head = time.Since(a.started)
		wireNames(a.Header())
	}
	a.ResponseWriter.WriteHeader(status)
}

// wireNames changes header names to the spelling that S3 sends, because clients derive the names of
// user metadata from them.
func wireNames(h http.Header) {
	for name, values := range h {
		if wire := wireName(name); wire != name {
			delete(h, name)
			h[wire] = values
		}
	}
}

// sent returns the first value of a header that was sent, by its name as wireNames spells it. Header.Get does not
// find most of these names.
func (a *answer) sent(name string) string {
	if values := a.Header()[name]; len(values) > 0 {
		return values[0]
	}
	return ""
}

// wireName is the name of a header as S3 writes it. The names that almost every response has are
// constants, to save allocations.
func wireName(name string) string {
	switch name {
	case "Etag":
		return "ETag"
	case "X-Amz-Request-Id":
		return "x-amz-request-id"
	case "X-Amz-Id-2":
		return "x-amz-id-2"
	case "X-Akigw-Cache":
		return "x-akigw-cache"
	case "X-Akigw-Commit":
		return "x-akigw-commit"
	case "X-Akigw-Upstream-Request-Id":
		return "x-akigw-upstream-request-id"
	case "X-Amz-Version-Id":
		return "x-amz-version-id"
	case "X-Amz-Storage-Class":
		return "x-amz-storage-class"
	case "X-Amz-Server-Side-Encryption":
		return "x-amz-server-side-encryption"
	case "X-Amz-Checksum-Crc32":
		return "x-amz-checksum-crc32"
	case "X-Amz-Checksum-Crc64nvme":
		return "x-amz-checksum-crc64nvme"
	case "X-Amz-Checksum-Type":
		return "x-amz-checksum-type"
	}
	if strings.HasPrefix(name, "X-") {
		return strings.ToLower(name)
	}
	return name
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.call != nil && len(a.call.pace) > 0 {
		return a.paced(p)
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// paced writes p in steps, no faster than the bandwidth limits of the call allow.
func (a *answer) paced(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		step := p[:min(len(p), limits.PaceStep)]
		if err = a.call.pace.Wait(a.call.Request.Context(), len(step)); err != nil { // not the call's context: its deadline is for the head only
			return written, err
		}
		var n int
		n, err = a.ResponseWriter.Write(step)
		a.bytes += int64(n)
		written += n
		p = p[n:]
	}
	return written, err
}

// flush sends what net/http or the fast path has buffered.
func (a *answer) flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// sendDocument sends an XML document as the whole response.
func sendDocument(w *answer, document []byte) {
	w.Header().Set("Content-Type", "application/xml")
	w.Header().Set("Content-Length", strconv.Itoa(len(document)))
	_, _ = w.Write(document) // a client that has disconnected does not read it
}

// pacedBody is a request body that is read no faster than the bandwidth limits of its call allow.
type pacedBody struct {
	io.ReadCloser
	call *call
}

// Read implements io.Reader.
func (b *pacedBody) Read(p []byte) (int, error) {
	if len(b.call.pace) == 0 {
		return b.ReadCloser.Read(p)
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), limits.PaceStep)])
	if waitErr := b.call.pace.Wait(b.call.Context(), n); err == nil {
		err = waitErr
	}
	return n, err
}

// keep sends a byte of white space, after beginning the response if necessary.
func (a *answer) keep() {
	if !a.kept {
		a.kept = true
		a.Header().Set("Content-Type", "application/xml")
		a.begin(http.StatusOK)
		_, _ = io.WriteString(a, xml.Header) // a client that has disconnected ends the call's context
	} else {
		_, _ = io.WriteString(a, " ")
	}
	a.flush()
}

// finishLate ends a response that began before its outcome was known, with the outcome's document.
// An error without a document gets one.
func (a *answer) finishLate(r *http.Request, status int, document []byte) {
	document = withoutDeclaration(document)
	if status >= http.StatusMultipleChoices {
		a.status = status // for the log and the metrics: the client has received a 200
		if len(document) == 0 {
			document = withoutDeclaration(s3err.Document(s3err.InternalError.Err(), r, a.requestID[0], a.hostID()))
		}
	}
	_, _ = a.Write(document) // a client that has disconnected does not read its answer
}

// withoutDeclaration returns an XML document without its declaration.
func withoutDeclaration(document []byte) []byte {
	document = bytes.TrimLeft(document, " \t\r\n\ufeff")
	if bytes.HasPrefix(document, []byte("<?xml")) {
		if _, rest, ok := bytes.Cut(document, []byte("?>")); ok {
			return bytes.TrimLeft(rest, " \t\r\n")
		}
	}
	return document
}

// clip limits the length of a client's text in log lines.
func clip(s string) string { return s[:min(len(s), 256)] }
