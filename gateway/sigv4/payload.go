package sigv4

import (
	"bufio"
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

// The values of x-amz-content-sha256 besides a hex digest.
const (
	unsignedPayload  = "UNSIGNED-PAYLOAD"
	streamingSigned  = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
	streamingTrailer = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
	unsignedTrailer  = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"

	emptySHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

	// maxSignedChunk bounds the memory that one signed chunk can ask for: its
	// bytes are released only after its signature was verified.
	maxSignedChunk = 16 << 20
	// maxTrailer bounds the bytes behind the last chunk.
	maxTrailer = 16 << 10
	// maxChunkLine bounds a chunk header line.
	maxChunkLine = 256
)

// Payload is the body of a verified request, without transfer framing. A read
// returns io.EOF only after the length, the digest, every chunk signature and
// the trailer signature were found right; otherwise it fails with an
// *s3err.Error. Bytes before that are not to be trusted. It is for one
// goroutine.
type Payload struct {
	// Length is the body's length in bytes without framing, -1 if unknown.
	Length int64
	// SHA256 is the hex digest that the client signed, "" in other modes.
	SHA256 string
	// Streaming reports that the body came aws-chunked.
	Streaming bool
	// TrailerNames are the lower-case names announced by x-amz-trailer.
	TrailerNames []string

	body    io.Reader
	trailer http.Header
	err     error // sticky, io.EOF at the end
}

// Trailer returns the trailing headers; complete once Read has returned
// io.EOF, empty before.
func (p *Payload) Trailer() http.Header {
	if p.err != io.EOF {
		return nil
	}
	return p.trailer
}

// Err returns the error that ended the payload: nil while it is being read and
// after a clean end.
func (p *Payload) Err() error {
	if p.err == io.EOF {
		return nil
	}
	return p.err
}

// Read implements io.Reader.
func (p *Payload) Read(b []byte) (int, error) {
	if p.err != nil {
		return 0, p.err
	}
	n, err := p.body.Read(b)
	if err != nil {
		p.err = incomplete(err)
	}
	if n > 0 && p.err == io.EOF {
		return n, nil // the end comes with the next read
	}
	return n, p.err
}

// incomplete turns the ways in which net/http reports a cut body into S3's.
func incomplete(err error) error {
	var coded *s3err.Error
	if err == io.EOF || errors.As(err, &coded) {
		return err
	}
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return s3err.IncompleteBody
	}
	return s3err.IncompleteBody.With("The request body could not be read to its end.")
}

// payloadMode returns the value that the canonical request ends with.
func payloadMode(h http.Header, query url.Values, presigned bool) (string, error) {
	mode := h.Get("X-Amz-Content-Sha256")
	switch {
	case mode == "" && presigned && query.Has("X-Amz-Content-Sha256"):
		mode = query.Get("X-Amz-Content-Sha256")
	case mode == "" && presigned:
		return unsignedPayload, nil
	case mode == "":
		return "", s3err.InvalidRequest.With("Missing required header for this request: x-amz-content-sha256")
	}
	switch mode {
	case unsignedPayload, streamingSigned, streamingTrailer, unsignedTrailer:
		return mode, nil
	}
	if raw, err := hex.DecodeString(mode); err != nil || len(raw) != sha256.Size || strings.ToLower(mode) != mode {
		return "", s3err.InvalidArgument.With("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-UNSIGNED-PAYLOAD-TRAILER or a valid sha256 value.")
	}
	return mode, nil
}

func newPayload(r *http.Request, mode string, chain *chunkChain) (*Payload, error) {
	p := &Payload{Length: r.ContentLength, body: r.Body, trailer: http.Header{}}
	if r.Body == nil {
		p.body = http.NoBody
	}
	if mode == streamingSigned || mode == streamingTrailer || mode == unsignedTrailer {
		return p, p.decodeChunks(r.Header, mode, chain)
	}
	if len(r.Header["X-Amz-Trailer"]) > 0 {
		return nil, s3err.InvalidRequest.With("x-amz-trailer needs one of the STREAMING values of x-amz-content-sha256.")
	}
	if mode != unsignedPayload {
		p.SHA256 = mode
		p.body = &digestReader{body: p.body, hash: sha256.New(), want: mode}
	}
	return p, nil
}

func (p *Payload) decodeChunks(h http.Header, mode string, chain *chunkChain) error {
	length, err := strconv.ParseInt(h.Get("X-Amz-Decoded-Content-Length"), 10, 64)
	if err != nil || length < 0 {
		return s3err.MissingContentLength.With("You must provide the x-amz-decoded-content-length HTTP header.")
	}
	for _, value := range h["X-Amz-Trailer"] {
		for name := range strings.SplitSeq(value, ",") {
			p.TrailerNames = append(p.TrailerNames, strings.ToLower(strings.TrimSpace(name)))
		}
	}
	if withTrailer := mode != streamingSigned; withTrailer != (len(p.TrailerNames) > 0) {
		return s3err.InvalidRequest.With("x-amz-trailer and the -TRAILER values of x-amz-content-sha256 need each other.")
	}
	p.Length, p.Streaming = length, true
	d := &chunkReader{in: bufio.NewReaderSize(p.body, 64<<10), left: length, payload: p, hasTrailer: mode != streamingSigned}
	if mode != unsignedTrailer {
		d.chain = chain
	}
	p.body = d
	return nil
}

// digestReader compares the SHA-256 of the body with what was signed.
type digestReader struct {
	body io.Reader
	hash hash.Hash
	want string
}

func (d *digestReader) Read(b []byte) (int, error) {
	n, err := d.body.Read(b)
	d.hash.Write(b[:n])
	if err == io.EOF {
		if got := hex.EncodeToString(d.hash.Sum(nil)); got != d.want {
			return n, s3err.ContentSHA256Mismatch.About("ClientComputedContentSHA256", d.want).About("S3ComputedContentSHA256", got)
		}
	}
	return n, err
}

// chunkChain verifies chunk signatures, each of which signs the one before
// ("Signature calculations for the Authorization header: transferring payload
// in multiple chunks").
type chunkChain struct {
	key         []byte
	time, scope string
	previous    string
}

func (c *chunkChain) verify(kind, digests, signature string) error {
	want := hex.EncodeToString(sign(c.key, stringToSign(kind, c.time, c.scope, c.previous+"\n"+digests)))
	if !hmac.Equal([]byte(want), []byte(signature)) {
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

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// chunkReader decodes aws-chunked framing. With a chain, a chunk's bytes are
// released only after its signature was verified; without one (the unsigned
// trailer mode) they stream.
type chunkReader struct {
	in         *bufio.Reader
	chain      *chunkChain // nil: chunks are not signed
	payload    *Payload
	hasTrailer bool
	left       int64 // decoded bytes still to come
	chunk      int64 // bytes left in an unsigned chunk
	verified   []byte
	buffer     []byte // backs verified, reused
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
		return s3err.InvalidRequest.With("The aws-chunked body has a malformed chunk header.")
	}
	signature, signed := strings.CutPrefix(extension, "chunk-signature=")
	if signed != (c.chain != nil) {
		return s3err.InvalidRequest.With("The aws-chunked body does not fit the announced x-amz-content-sha256.")
	}
	if int64(size) > c.left || size == 0 && c.left > 0 {
		return s3err.IncompleteBody.With("The aws-chunked body does not have the length of x-amz-decoded-content-length.")
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
	if cap(c.buffer) < size {
		// Grown by what arrives, not by what is announced.
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
	if c.hasTrailer && c.chain != nil {
		if err := c.chain.verifyTrailer(canonical, trailerSignature); err != nil {
			return err
		}
	}
	for _, name := range c.payload.TrailerNames {
		if c.payload.trailer.Get(name) == "" {
			return s3err.MalformedTrailer
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
	if len(rest) > maxTrailer {
		return nil, "", s3err.MalformedTrailer
	}
	for line := range strings.Lines(string(rest)) {
		line = strings.TrimRight(line, "\r\n")
		if line == "" {
			continue
		}
		name, value, ok := strings.Cut(line, ":")
		name, value = strings.ToLower(name), strings.TrimSpace(value)
		switch {
		case !ok || !c.hasTrailer || signature != "":
			return nil, "", s3err.MalformedTrailer
		case name == "x-amz-trailer-signature":
			signature = value
		case !c.announced(name) || c.payload.trailer.Get(name) != "":
			return nil, "", s3err.MalformedTrailer
		default:
			c.payload.trailer.Set(name, value)
			canonical = append(canonical, name+":"+value+"\n"...)
		}
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
		return "", s3err.InvalidRequest.With("The aws-chunked body has a malformed chunk header.")
	}
	if err != nil {
		return "", io.ErrUnexpectedEOF
	}
	text, ok := strings.CutSuffix(string(raw), "\r\n")
	if !ok {
		return "", s3err.InvalidRequest.With("The aws-chunked body has a malformed chunk header.")
	}
	return text, nil
}

func (c *chunkReader) newline() error {
	var crlf [2]byte
	if _, err := io.ReadFull(c.in, crlf[:]); err != nil {
		return io.ErrUnexpectedEOF
	}
	if crlf != [2]byte{'\r', '\n'} {
		return s3err.InvalidRequest.With("The aws-chunked body has a chunk that does not end where its header says.")
	}
	return nil
}
