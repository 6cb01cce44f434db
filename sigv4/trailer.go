package sigv4

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// SignTrailer is Sign for a body with trailing headers, which is sent aws-chunked; neither its chunks
// nor its trailer are signed (STREAMING-UNSIGNED-PAYLOAD-TRAILER). r.ContentLength is the exact length
// of the body without framing. It replaces r.Body and r.ContentLength by the framed ones, and removes
// r.GetBody, which would send the body without framing.
//
// The values in trailer are placeholders of the right length until the body returns io.EOF; by then
// they must be set.
func (s *Signer) SignTrailer(r *http.Request, query url.Values, keys KeyPair, trailer http.Header, at time.Time) {
	names := slices.Sorted(maps.Keys(trailer))
	encoding := chunkedEncoding
	if others := WithoutChunked(r.Header["Content-Encoding"]); others != "" {
		encoding += "," + others
	}
	r.Header["X-Amz-Trailer"] = []string{strings.ToLower(strings.Join(names, ","))}
	r.Header["Content-Encoding"] = []string{encoding}
	r.Header["X-Amz-Decoded-Content-Length"] = []string{strconv.FormatInt(r.ContentLength, 10)}
	s.sign(r, query, keys, unsignedTrailer, at)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	framed := &chunkWriter{body: r.Body, left: r.ContentLength, trailer: trailer, names: names}
	r.Body, r.ContentLength, r.GetBody = framed, framed.length(), nil
}

// chunkedEncoding is the content coding of a framed body.
const chunkedEncoding = "aws-chunked"

// chunkSize is the length of the chunks of a framed body in bytes, except for the last one. MinIO takes
// at most 16 MiB, S3 at least 8 KiB.
const chunkSize = 64 << 10

// chunkWriter frames a body aws-chunked, without signatures. It copies nothing: the bytes of the body
// are read into the caller's buffer.
type chunkWriter struct {
	body    io.ReadCloser
	left    int64 // bytes of the body that are in no chunk yet
	chunk   int64 // bytes left in the current chunk
	frame   []byte
	size    [18]byte // backs frame at the head of a chunk
	trailer http.Header
	names   []string // of the trailer, sorted
	ended   bool     // the body returned io.EOF
	done    bool     // the trailer is in frame, or was read
}

// length is the length of the framed body in bytes.
func (c *chunkWriter) length() int64 {
	size := func(n int64) int64 { return int64(len(strconv.AppendInt(c.size[:0], n, 16))+len("\r\n\r\n")) + n }
	total := c.left / chunkSize * size(chunkSize)
	if last := c.left % chunkSize; last > 0 {
		total += size(last)
	}
	return total + int64(len(c.end()))
}

// end is the empty last chunk and the trailer. SDKs differ in its line ends, and services read all of
// them; these are minio-go's.
func (c *chunkWriter) end() []byte {
	b := []byte("0\r\n")
	for _, name := range c.names {
		b = appendLower(b, name)
		b = append(b, ':')
		b = append(b, c.trailer[name][0]...)
		b = append(b, '\n')
	}
	return append(b, "\r\n\r\n"...)
}

// Read implements io.Reader.
func (c *chunkWriter) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if len(c.frame) == 0 && c.chunk == 0 {
		if err := c.next(); err != nil {
			return 0, err
		}
	}
	if len(c.frame) > 0 {
		n := copy(p, c.frame)
		c.frame = c.frame[n:]
		return n, nil
	}
	n, err := c.body.Read(p[:min(int64(len(p)), c.chunk)])
	c.chunk -= int64(n)
	if err == io.EOF {
		c.ended, err = true, nil
		if c.chunk > 0 {
			err = io.ErrUnexpectedEOF
		}
	}
	if c.chunk == 0 {
		c.frame = append(c.size[:0], "\r\n"...)
	}
	return n, err
}

// next begins the next chunk or, when the body has returned io.EOF, the trailer. It returns io.EOF when
// there is nothing more.
func (c *chunkWriter) next() error {
	if c.left > 0 {
		c.chunk = min(c.left, chunkSize)
		c.left -= c.chunk
		c.frame = append(strconv.AppendInt(c.size[:0], c.chunk, 16), "\r\n"...)
		return nil
	}
	if c.done {
		return io.EOF
	}
	for !c.ended {
		var more [1]byte
		n, err := c.body.Read(more[:])
		switch {
		case n > 0:
			return errors.New("the body is longer than was announced")
		case err == io.EOF:
			c.ended = true
		case err != nil:
			return err
		}
	}
	c.done, c.frame = true, c.end()
	return nil
}

// Close implements io.Closer.
func (c *chunkWriter) Close() error { return c.body.Close() }
