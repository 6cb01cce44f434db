package gateway

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/tiers/cold"
)

// isReturned reports whether a response header of the upstream is passed on.
func isReturned(header string) bool {
	switch header {
	case "Accept-Ranges", "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language",
		"Content-Range", "Content-Type", "Etag", "Expires", "Last-Modified", "Retry-After", "Vary":
		return true
	default:
		return strings.HasPrefix(header, "X-Amz-") || strings.HasPrefix(header, "X-Rgw-") ||
			strings.HasPrefix(header, "X-Minio-") || strings.HasPrefix(header, "Access-Control-")
	}
}

// relayHeader copies the headers of an upstream response that are meant for the client. The
// upstream's ids get other names.
func relayHeader(h, upstream http.Header, status int) {
	for name, values := range upstream {
		switch {
		case name == "X-Amz-Request-Id":
			h["X-Akigw-Upstream-Request-Id"] = values
		case name == "X-Amz-Id-2":
			h["X-Akigw-Upstream-Id-2"] = values
		case isReturned(name):
			h[name] = values
		case name == "Location" && status < 300: // only of CreateBucket; a redirect would bypass the gateway
			h[name] = values
		}
	}
}

var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 64<<10); return &b }}

// relay passes on an upstream response. If its body breaks off, the response to the client is
// aborted.
func relay(w *answer, r *http.Request, resp *http.Response) {
	defer resp.Body.Close()
	if w.kept {
		relayLate(w, r, resp)
		return
	}
	h := w.Header()
	relayHeader(h, resp.Header, resp.StatusCode)
	if r.Method != http.MethodHead && (resp.StatusCode >= http.StatusBadRequest || w.call != nil && keptAlive(w.call.route.Op)) {
		w.adopt(resp)
	}
	if resp.ContentLength >= 0 && resp.StatusCode != http.StatusNoContent && resp.StatusCode != http.StatusNotModified {
		h.Set("Content-Length", strconv.FormatInt(resp.ContentLength, 10))
	}
	w.WriteHeader(resp.StatusCode)
	if r.Method == http.MethodHead {
		return
	}
	out := io.Writer(w)
	if resp.ContentLength < 0 { // white space may keep the connection alive
		out = flusher{w, http.NewResponseController(w)}
	}
	buf := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{out}, resp.Body, *buf); err != nil && r.Context().Err() == nil {
		panic(http.ErrAbortHandler)
	}
}

// flusher flushes every write.
type flusher struct {
	io.Writer
	control *http.ResponseController
}

func (f flusher) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.control.Flush()
	}
	return n, err
}

// relayError passes on an upstream error that has been read.
func relayError(w *answer, r *http.Request, e *cold.ResponseError) {
	document := w.withIDs(e.Body)
	if w.kept {
		w.finishLate(r, e.Status, document)
		return
	}
	h := w.Header()
	relayHeader(h, e.Header, e.Status)
	if r.Method != http.MethodHead {
		h.Set("Content-Length", strconv.Itoa(len(document)))
	}
	w.WriteHeader(e.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(document) // a client that has disconnected does not read it
	}
}

// maxErrorDocument is the size in bytes of the largest error document whose ids are replaced.
const maxErrorDocument = 64 << 10

// adopt replaces the upstream's ids in an error document by those of the response. A longer document is
// passed on as it arrives, and so is one that breaks off.
func (a *answer) adopt(resp *http.Response) {
	if resp.ContentLength > maxErrorDocument {
		return
	}
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxErrorDocument+1))
	if err != nil || len(document) > maxErrorDocument {
		unread(resp, document)
		return
	}
	document = a.withIDs(document)
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(document)), int64(len(document))
}

// withIDs returns an error document with the ids of the response, which are those in the log. Any other
// document is returned as it is.
func (a *answer) withIDs(document []byte) []byte {
	root := withoutDeclaration(document)
	if !bytes.HasPrefix(root, []byte("<Error>")) && !bytes.HasPrefix(root, []byte("<Error ")) {
		return document
	}
	document = withElement(document, "RequestId", a.requestID[0])
	return withElement(document, "HostId", a.hostID())
}

// withElement returns a document with another text in its first element of a name, if it has one.
func withElement(document []byte, name, text string) []byte {
	begin, end := []byte("<"+name+">"), []byte("</"+name+">")
	from := bytes.Index(document, begin)
	if from < 0 {
		return document
	}
	from += len(begin)
	size := bytes.Index(document[from:], end)
	if size < 0 {
		return document
	}
	changed := append(make([]byte, 0, len(document)+len(text)), document[:from]...) // document may be shared
	changed = s3xml.AppendEscaped(changed, text)
	return append(changed, document[from+size:]...)
}

// relayLate sends the document of an upstream response after the response to the client has begun.
func relayLate(w *answer, r *http.Request, resp *http.Response) {
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxHeld+1))
	if tooLong := len(document) > maxHeld; tooLong || err != nil && r.Context().Err() == nil { // no result of these operations is that long
		panic(http.ErrAbortHandler)
	}
	w.finishLate(r, resp.StatusCode, w.withIDs(document))
}

// maxHeld is how many bytes of a document are read before its head is passed on. A page of a
// listing fits.
const maxHeld = 1 << 20

// peek decodes the document of a response, which is still to be passed on. It returns false if that is not
// the whole document with this root, or child of another root, or if waiting for it would hold up the
// client.
func peek(resp *http.Response, root, child string, into any) bool {
	if resp.ContentLength < 0 || resp.ContentLength > maxHeld {
		return false
	}
	document, err := io.ReadAll(resp.Body)
	unread(resp, document)
	return err == nil && s3xml.IsAnswer(document, root, child) && s3xml.Unmarshal(document, into) == nil
}

// unread puts bytes that were read back in front of the rest of a response body.
func unread(resp *http.Response, read []byte) {
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(read), resp.Body), resp.Body}
}
