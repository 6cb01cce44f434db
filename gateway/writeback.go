package gateway

import (
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/writeback"
)

// canPend reports whether the journal can acknowledge a write with an x-amz-* header, besides those of
// user metadata and checksums and the gateway's own. A write with any other one is written through: the
// upstream decides about access control, locks, tags and encryption.
func canPend(header string) bool {
	switch header {
	case "X-Amz-Storage-Class", "X-Amz-Website-Redirect-Location", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Checksum-Mode":
		return true
	default:
		return false
	}
}

// plain reports whether a write only asks for storing, so that its outcome is known without the
// upstream.
func (c *call) plain() bool { return len(c.query) == 0 && c.plainHeaders() }

// plainHeaders is plain without regard to the query. The headers in also are allowed as well.
func (c *call) plainHeaders(also ...string) bool {
	for name := range c.Header {
		if slices.Contains(also, name) {
			continue
		}
		amz := strings.HasPrefix(name, amzPrefix)
		known := strings.HasPrefix(name, metadataPrefix) || strings.HasPrefix(name, "X-Amz-Checksum-") || canPend(name) || amzHeaders[name].own
		if amz && (!known || name == copySourceHeader) || strings.HasPrefix(name, "If-") || name == "Origin" {
			return false
		}
	}
	return true
}

// acknowledgePut answers a PutObject that the journal acknowledges.
func (g *objectWrites) acknowledgePut(w *answer, c *call, back *writeback.Write) error {
	defer back.Discard()
	etag, header, err := c.receive(back)
	if err != nil {
		return err
	}
	if _, err := back.Commit(c.Context(), etag, header); err != nil {
		return err
	}
	failpoint.Here("ack.beforeSend")
	h := w.Header()
	h["ETag"] = []string{etag}
	for name, values := range header {
		if strings.HasPrefix(name, "X-Amz-Checksum-") {
			h[name] = values
			h.Set("X-Amz-Checksum-Type", "FULL_OBJECT")
		}
	}
	acknowledgeJournaled(w, http.StatusOK)
	return nil
}

// receive writes the body of a call to the journal, and to the hashes in also. It returns the ETag
// and the headers that go upstream with the body.
func (c *call) receive(back *writeback.Write, also ...io.Writer) (etag string, header http.Header, err error) {
	b, err := newBody(c)
	if err != nil {
		return "", nil, err
	}
	if c.payload.Length < 0 {
		return "", nil, s3err.MissingContentLength
	}
	if err := c.reserve(c.bodyMemory()); err != nil {
		return "", nil, err
	}
	to := append([]io.Writer{back}, also...)
	sum := b.md5()
	if sum == nil {
		sum = back.MD5()
		to = append(to, sum)
	}
	buf := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(buf)
	if _, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(to...)}, b, *buf); err != nil {
		return "", nil, err
	}
	header = c.pendingHeader()
	if b.trailer != nil {
		header.Set(b.trailer.Header, c.payload.Trailer().Get(b.trailer.Header))
	}
	return `"` + hex.EncodeToString(sum.Sum(nil)) + `"`, header, nil
}

// pendingHeader returns the headers of a call that describe the object.
func (c *call) pendingHeader() http.Header {
	header := c.upstreamRequest().Header
	for _, name := range []string{"Content-Md5", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Checksum-Mode"} {
		delete(header, name)
	}
	return header
}

// md5 returns the running MD5 of a body, nil if it is not computed.
func (b *body) md5() hash.Hash {
	for _, d := range b.digests {
		if d.name == contentMD5 {
			return d.Hash
		}
	}
	return nil
}

// acknowledgeJournaled answers a write that is in the journal. It sends no body.
func acknowledgeJournaled(w *answer, status int) {
	w.Header().Set("X-Akigw-Commit", "journal")
	if status != http.StatusNoContent {
		w.Header().Set("Content-Length", "0")
	}
	w.WriteHeader(status)
	failpoint.Here("ack.afterSend")
}
