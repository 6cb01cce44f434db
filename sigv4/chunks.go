package sigv4

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

func (p *Payload) decodeChunks(h http.Header, mode Mode, chain *chunkChain, memory Memory) error {
	length, err := strconv.ParseInt(h.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 {
		return s3err.MissingContentLength.About("Header", "x-amz-decoded-content-length")
	}
	for _, value := range h["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			p.TrailerNames = append(p.TrailerNames, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	switch announced := len(p.TrailerNames) > 0; {
	case mode == StreamingSigned && announced:
		return s3err.InvalidRequest.With("x-amz-trailer needs one of the -TRAILER values of x-amz-content-sha256.")
	case mode == StreamingTrailer && !announced:
		return s3err.MalformedTrailer
	}
	p.Length, p.trailer = length, http.Header{}
	d := &chunkReader{in: bufio.NewReaderSize(p.body, 64<<10), left: length, payload: p, hasTrailer: mode != StreamingSigned, memory: memory}
	if mode != UnsignedTrailer {
		d.chain = chain
	}
	p.body, p.release = d, d.release
	return nil
}

// chunkChain verifies chunk signatures, each of which signs the one before
// ("Signature calculations for the Authorization header: transferring payload
// in multiple chunks").
type chunkChain struct {
	key               *signingKey
	time, day, region string
	previous          string
}

func (c *chunkChain) verify(kind, digests, signature string) error {
	text := appendStringToSign(nil, kind, c.time, c.day, c.region, service)
	text = append(text, c.previous...)
	text = append(text, '\n')
	want := c.key.sum(append(text, digests...))
	if !hmac.Equal(hex.AppendEncode(nil, want[:]), []byte(signature)) {
		return s3err.SignatureDoesNotMatch
	}
	c.previous = signature
	return nil
}

func (c *chunkChain) verifyChunk(data []byte, signature string) error {
	return c.verify("AWS4-HMAC-SHA256-PAYLOAD", emptySHA256+"\n"+hexSHA256(data), signature)
}

func (c *chunkChain) verifyTrailer(trailer []byte, signature string) error {
	return c.verify("AWS4-HMAC-SHA256-TRAILER", hexSHA256(trailer), signature)
}

// WithoutChunked returns the values of Content-Encoding without aws-chunked, which is framing and
// not a property of the object; "" for none.
func WithoutChunked(values []string) string {
	var kept []string
	for token := range strings.SplitSeq(strings.Join(values, ","), ",") {
		if token = strings.TrimSpace(token); token != "" && !strings.EqualFold(token, "aws-chunked") {
			kept = append(kept, token)
		}
	}
	return strings.Join(kept, ",")
}

// chunkReader decodes aws-chunked framing. With a chain, it returns the bytes of a chunk only after
// the signature was verified; without one (UnsignedTrailer) they stream.
type chunkReader struct {
	in         *bufio.Reader
	chain      *chunkChain // nil: chunks are not signed
	payload    *Payload
	hasTrailer bool
	left       int64 // decoded bytes still to come
	chunk      int64 // bytes left in an unsigned chunk
	verified   []byte
	buffer     []byte // backs verified, reused
	memory     Memory // budget for buffer, may be nil
	held       int64  // bytes taken from memory
}

// badFraming returns the S3 error of malformed aws-chunked framing, with the reason.
func badFraming(reason string) *s3err.Error {
	return s3err.IncompleteBody.About("Reason", reason)
}

// reserve takes memory for a chunk of size bytes.
func (c *chunkReader) reserve(size int64) error {
	if c.memory == nil || size <= c.held {
		return nil
	}
	if !c.memory.Acquire(size - c.held) {
		return s3err.SlowDown
	}
	c.held = size
	return nil
}

func (c *chunkReader) release() {
	if c.held > 0 {
		c.memory.Release(c.held)
		c.held = 0
	}
}

func (c *chunkReader) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for len(c.verified) == 0 && c.chunk == 0 {
		if err := c.nextChunk(); err != nil {
			return 0, err
		}
	}
	if c.chain != nil {
		n := copy(b, c.verified)
		c.verified = c.verified[n:]
		return n, nil
	}
	n, err := c.in.Read(b[:min(int64(len(b)), c.chunk)])
	c.chunk -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && c.chunk == 0 {
		err = c.newline()
	}
	return n, err
}

// nextChunk reads a chunk header and, for a signed one, its bytes. It returns
// io.EOF after the last chunk and the trailer were verified.
func (c *chunkReader) nextChunk() error {
	line, err := c.line()
	if err != nil {
		return err
	}
	sizeText, extension, _ := strings.Cut(line, ";")
	size, err := strconv.ParseUint(sizeText, 16, 62)
	if err != nil {
		return badFraming("malformed chunk header")
	}
	signature, signed := strings.CutPrefix(extension, "chunk-signature=")
	if signed != (c.chain != nil) || signed && len(signature) != 2*sha256.Size {
		return badFraming("the chunks are not of the kind that x-amz-content-sha256 announces")
	}
	if int64(size) > c.left || size == 0 && c.left > 0 {
		return s3err.IncompleteBody.With("You did not provide the number of bytes specified by the Content-Length HTTP header").About("Header", "x-amz-decoded-content-length")
	}
	c.left -= int64(size)
	if size == 0 {
		return c.end(signature)
	}
	if c.chain == nil {
		c.chunk = int64(size)
		return nil
	}
	return c.signedChunk(int(size), signature)
}

func (c *chunkReader) signedChunk(size int, signature string) error {
	if size > maxSignedChunk {
		return s3err.InvalidRequest.With("A signed chunk may have at most 16 MiB.")
	}
	if err := c.reserve(int64(size)); err != nil {
		return err
	}
	if cap(c.buffer) < size {
		// Grow the buffer by what arrives, not by what the header announces.
		grown := bytes.NewBuffer(c.buffer[:0])
		n, err := io.CopyN(grown, c.in, int64(size))
		if err != nil || int(n) != size {
			return io.ErrUnexpectedEOF
		}
		c.buffer = grown.Bytes()
	} else if _, err := io.ReadFull(c.in, c.buffer[:size]); err != nil {
		return io.ErrUnexpectedEOF
	}
	data := c.buffer[:size]
	if err := c.newline(); err != nil {
		return err
	}
	if err := c.chain.verifyChunk(data, signature); err != nil {
		return err
	}
	c.verified = data
	return nil
}

// end handles what follows the empty last chunk.
func (c *chunkReader) end(signature string) error {
	if c.chain != nil {
		if err := c.chain.verifyChunk(nil, signature); err != nil {
			return err
		}
	}
	canonical, trailerSignature, err := c.readTrailer()
	if err != nil {
		return err
	}
	for _, name := range c.payload.TrailerNames {
		if c.payload.trailer.Get(name) == "" {
			return s3err.MalformedTrailer
		}
	}
	if c.hasTrailer && c.chain != nil {
		if err := c.chain.verifyTrailer(canonical, trailerSignature); err != nil {
			return err
		}
	}
	return io.EOF
}

// readTrailer reads "name:value" lines to the end of the body. SDKs differ in
// the blank lines that they put between them, so those are skipped.
func (c *chunkReader) readTrailer() (canonical []byte, signature string, err error) {
	rest, err := io.ReadAll(io.LimitReader(c.in, maxTrailer+1))
	if err != nil {
		return nil, "", err
	}
	switch {
	case len(rest) > maxTrailer:
		return nil, "", s3err.MalformedTrailer
	case string(rest) != "\r\n" && !strings.HasSuffix(string(rest), "\r\n\r\n"):
		return nil, "", badFraming("the body does not end with an empty line")
	}
	for line := range strings.Lines(string(rest)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		switch complete := len(c.payload.trailer) == len(c.payload.TrailerNames); {
		case !ok || !c.hasTrailer || signature != "":
			return nil, "", s3err.MalformedTrailer
		case c.chain != nil && name == "x-amz-trailer-signature":
			signature = value
		case c.chain != nil && complete || strings.Contains(line, "\r"):
			return nil, "", badFraming("the trailer does not end with its signature")
		case !c.announced(name) || c.payload.trailer.Get(name) != "":
			return nil, "", s3err.MalformedTrailer
		default:
			c.payload.trailer.Set(name, value)
			canonical = append(canonical, name+":"+value+"\n"...)
		}
	}
	if signature != "" && len(signature) != 2*sha256.Size {
		return nil, "", badFraming("the trailer does not end with its signature")
	}
	return canonical, signature, nil
}

func (c *chunkReader) announced(name string) bool {
	for _, n := range c.payload.TrailerNames {
		if n == name {
			return true
		}
	}
	return false
}

// line reads up to CRLF, without it.
func (c *chunkReader) line() (string, error) {
	raw, err := c.in.ReadSlice('\n')
	if err == bufio.ErrBufferFull || len(raw) > maxChunkLine {
		return "", badFraming("malformed chunk header")
	}
	if err != nil {
		return "", io.ErrUnexpectedEOF
	}
	text, ok := strings.CutSuffix(string(raw), "\r\n")
	if !ok {
		return "", badFraming("malformed chunk header")
	}
	return text, nil
}

func (c *chunkReader) newline() error {
	var crlf [2]byte
	if _, err := io.ReadFull(c.in, crlf[:]); err != nil {
		return io.ErrUnexpectedEOF
	}
	if crlf != [2]byte{'\r', '\n'} {
		return badFraming("a chunk does not end where its header says")
	}
	return nil
}
