package gateway

import (
	"bytes"
	"encoding/xml"
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// keptAlive are the operations that may take minutes, during which S3 sends white space. Their
// status is sent before their outcome is known, so an error is sent in the body of a 200.
var keptAlive = map[string]bool{"CompleteMultipartUpload": true, "CopyObject": true, "UploadPartCopy": true}

// keepAliveEvery is how often such an operation sends a byte. Proxies and clients give up after 30
// s or more.
const keepAliveEvery = 10 * time.Second

// keepAlive calls ask, which sends a request or prepares it. If ask takes long, and the operation
// is one of keptAlive, the client's connection is kept alive meanwhile: the response has begun
// then, which w.kept tells.
func (g *forwarder) keepAlive(w *answer, c *call, ask func() (*http.Response, error)) (*http.Response, error) {
	if !keptAlive[c.route.Op] {
		return ask()
	}
	type outcome struct {
		resp     *http.Response
		err      error
		panicked any
	}
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		defer func() {
			o.panicked = recover() // it goes on in the goroutine of the handler
			done <- o
		}()
		o.resp, o.err = ask()
	}()
	tick := time.NewTicker(keepAliveEvery)
	defer tick.Stop()
	for {
		select {
		case o := <-done:
			if o.panicked != nil {
				panic(o.panicked)
			}
			return o.resp, o.err
		case <-tick.C:
			w.keep()
		}
	}
}

// keep sends a byte of white space, or the beginning of the response if it has not been sent.
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

// relayLate sends the document of an upstream response after the response to the client has begun.
func relayLate(w *answer, r *http.Request, resp *http.Response) {
	document, err := io.ReadAll(io.LimitReader(resp.Body, maxHeld+1))
	if tooLong := len(document) > maxHeld; tooLong || err != nil && r.Context().Err() == nil { // no result of these operations is that long
		panic(http.ErrAbortHandler)
	}
	w.finishLate(r, resp.StatusCode, document)
}

// finishLate ends a response that began before its outcome was known, with the document of the
// outcome. An error without a document gets one.
func (a *answer) finishLate(r *http.Request, status int, document []byte) {
	document = withoutDeclaration(document)
	if status >= http.StatusMultipleChoices {
		a.status = status // for the log and the metrics: the client has got a 200
		if len(document) == 0 {
			document = withoutDeclaration(s3err.Document(s3err.InternalError, r, a.requestID[0], ""))
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
