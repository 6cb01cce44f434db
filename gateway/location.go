package gateway

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3xml"
)

// address returns the URL under which the client reaches the object of a call.
func (c *call) address() string {
	return scheme(c.Request) + "://" + c.Host + c.URL.EscapedPath()
}

// scheme returns the scheme of the URL that the client has used.
func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// relocate replaces the Location in an upstream document, which bypasses the gateway, by the
// address that the client uses. A document of known length gets its new length; any other is passed
// on as it arrives.
func relocate(resp *http.Response, address string) error {
	document := &relocated{in: bufio.NewReaderSize(resp.Body, maxElement), close: resp.Body, address: address}
	if resp.ContentLength < 0 {
		resp.Body = document
		return nil
	}
	text, err := io.ReadAll(document)
	resp.Body.Close()
	if err != nil {
		return fmt.Errorf("%w: its response broke off: %w", akigw.ErrUpstreamUnavailable, err)
	}
	resp.Body, resp.ContentLength = io.NopCloser(bytes.NewReader(text)), int64(len(text))
	return nil
}

// maxElement is more bytes than a tag or a Location can have: a key has up to 1,024 bytes.
const maxElement = 8 << 10

// relocated passes on a document as it arrives: white space that keeps a connection alive must
// reach the client at once.
type relocated struct {
	in      *bufio.Reader
	close   io.Closer
	address string
	out     []byte // to be read before err
	err     error
}

// Close implements io.Closer.
func (r *relocated) Close() error { return r.close.Close() }

// Read implements io.Reader.
func (r *relocated) Read(p []byte) (int, error) {
	for len(r.out) == 0 && r.err == nil {
		r.err = r.next()
	}
	if len(r.out) == 0 {
		return 0, r.err
	}
	n := copy(p, r.out)
	r.out = r.out[n:]
	return n, nil
}

// next sets out to the text up to the next tag, or to a tag.
func (r *relocated) next() error {
	if _, err := r.in.Peek(1); err != nil {
		return err
	}
	text, _ := r.in.Peek(r.in.Buffered())
	if i := bytes.IndexByte(text, '<'); i != 0 {
		if i > 0 {
			text = text[:i]
		}
		r.out = bytes.Clone(text)
		_, err := r.in.Discard(len(text))
		return err
	}
	tag, err := r.in.ReadSlice('>')
	r.out = bytes.Clone(tag)
	switch {
	case err == bufio.ErrBufferFull: // too long for <Location>
		return nil
	case err != nil || string(tag) != "<Location>":
		return err
	}
	r.out = s3xml.AppendEscaped(r.out, r.address)
	if _, err := r.in.ReadSlice('<'); err != nil {
		return err
	}
	return r.in.UnreadByte()
}
