package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

// Mode is how a request declares its body: the kinds of values of x-amz-content-sha256.
type Mode int

// The modes.
const (
	Undeclared       Mode = iota // no value: anonymous
	Digest                       // the hex SHA-256 of the body
	Unsigned                     // UNSIGNED-PAYLOAD
	StreamingSigned              // aws-chunked, each chunk signed
	StreamingTrailer             // the same, and a signed trailer
	UnsignedTrailer              // aws-chunked, unsigned, and a trailer
)

// streaming reports whether the body comes aws-chunked.
func (m Mode) streaming() bool {
	return m == StreamingSigned || m == StreamingTrailer || m == UnsignedTrailer
}

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

// modes are the values of x-amz-content-sha256 besides a digest.
var modes = map[string]Mode{
	unsignedPayload: Unsigned, streamingSigned: StreamingSigned, streamingTrailer: StreamingTrailer, unsignedTrailer: UnsignedTrailer,
}

// Payload is the body of a verified request, without aws-chunked framing. A read returns io.EOF
// only after the length, the digest, every chunk signature and the trailer signature have been
// verified; otherwise it fails with an *s3err.Error. A caller must not publish the bytes before
// that. It is for one goroutine.
type Payload struct {
	// Length is the body's length in bytes without framing, -1 if unknown.
	Length int64
	// SHA256 is the hex digest that the client signed, "" in other modes.
	SHA256 string
	// Mode is what the client declared.
	Mode Mode
	// TrailerNames are the lower-case names announced by x-amz-trailer.
	TrailerNames []string

	body    io.Reader
	trailer http.Header
	err     error // sticky, io.EOF at the end
	release func()
}

// Close gives back the memory that the payload holds. The payload must not be read after it.
func (p *Payload) Close() {
	if p.release != nil {
		p.release()
	}
}

// Trailer returns the trailing headers; complete once Read has returned
// io.EOF, empty before.
func (p *Payload) Trailer() http.Header {
	if p.err != io.EOF {
		return nil
	}
	return p.trailer
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

// incomplete returns the S3 error of a body that net/http could not read to its end.
func incomplete(err error) error {
	var coded *s3err.Error
	if err == io.EOF || errors.As(err, &coded) {
		return err
	}
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return s3err.IncompleteBody
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s3err.RequestTimeout
	}
	return s3err.IncompleteBody.With("The request body could not be read to its end.")
}

// payloadMode returns the mode and the declared value, with which the
// canonical request ends.
func payloadMode(h http.Header, query url.Values, place Place) (Mode, string, error) {
	declared := first(h["X-Amz-Content-Sha256"])
	switch {
	case declared == "" && place == Query && query.Has("X-Amz-Content-Sha256"):
		declared = query.Get("X-Amz-Content-Sha256")
	case declared == "" && place == Query:
		return Unsigned, unsignedPayload, nil
	case declared == "":
		return Undeclared, "", s3err.InvalidRequest.With("Missing required header for this request: x-amz-content-sha256")
	}
	if mode, ok := modes[declared]; ok {
		return mode, declared, nil
	}
	if declared != emptySHA256 && !hexDigest(declared) {
		message := "x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-UNSIGNED-PAYLOAD-TRAILER, STREAMING-AWS4-HMAC-SHA256-PAYLOAD, STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD, STREAMING-AWS4-ECDSA-P256-SHA256-PAYLOAD-TRAILER or a valid sha256 value."
		if strings.HasPrefix(declared, "STREAMING-AWS4-ECDSA-") {
			message = "Signature version 4A is not supported here: " + declared
		}
		return Undeclared, "", s3err.InvalidArgument.With(message).About("ArgumentName", "x-amz-content-sha256").About("ArgumentValue", declared)
	}
	return Digest, declared, nil
}

// hexDigest reports whether s is a SHA-256 in lower-case hex.
func hexDigest(s string) bool {
	for i := range len(s) {
		if c := s[i]; !('0' <= c && c <= '9' || 'a' <= c && c <= 'f') {
			return false
		}
	}
	return len(s) == 2*sha256.Size
}

// anonymousPayload returns the body of a request without credentials, which nothing verifies. An
// aws-chunked one is refused: that framing belongs to a signature.
func anonymousPayload(r *http.Request) (*Payload, error) {
	if modes[r.Header.Get("X-Amz-Content-Sha256")].streaming() {
		return nil, s3err.AccessDenied
	}
	return &Payload{Length: r.ContentLength, body: bodyOf(r)}, nil
}

func bodyOf(r *http.Request) io.Reader {
	if r.Body == nil {
		return http.NoBody
	}
	return r.Body
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
