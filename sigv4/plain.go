package sigv4

import (
	"io"
	"net/http"
)

// Plain removes aws-chunked framing from a verified request, for a server that knows nothing of
// signatures: p, which Verify returned for r, becomes the body, Request.ContentLength is its
// length, and no header describes the framing or the digest of the payload any more. r has to be a
// copy of the request that net/http gave to the handler, because net/http reads the length after
// the handler has returned. x-amz-trailer stays, and the body has a method Trailer() http.Header
// with the trailing headers.
func (p *Payload) Plain(r *http.Request) {
	r.ContentLength = p.Length
	r.Body = plainBody{p, r.Body}
	r.Header.Del("X-Amz-Content-Sha256")
	r.Header.Del("X-Amz-Decoded-Content-Length")
	encoding := WithoutChunked(r.Header["Content-Encoding"])
	if r.Header.Del("Content-Encoding"); encoding != "" {
		r.Header.Set("Content-Encoding", encoding)
	}
}

// plainBody is a Payload as the body of a request.
type plainBody struct {
	*Payload
	body io.Closer
}

// Close implements io.Closer.
func (p plainBody) Close() error {
	p.Payload.Close()
	if p.body == nil {
		return nil
	}
	return p.body.Close()
}
