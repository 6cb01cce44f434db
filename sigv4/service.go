package sigv4

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

// ServiceOf returns the service in the credential scope that a request claims, "" if it claims none:
// that of the Authorization header, or else of a presigned URL. It verifies nothing.
func ServiceOf(r *http.Request) string {
	scope, presigned := "", false
	if auth := r.Header["Authorization"]; len(auth) > 0 {
		_, scope, _ = strings.Cut(auth[0], "Credential=")
		scope, _, _ = cut(scope, ',')
	} else if _, scope, presigned = strings.Cut(r.URL.RawQuery, "X-Amz-Credential="); presigned {
		scope, _, _ = cut(scope, '&')
		scope, _ = url.QueryUnescape(scope) // "" for what is malformed
	}
	for range 3 { // the access key, the day and the region
		_, scope, _ = cut(scope, '/')
	}
	scope, _, _ = cut(scope, '/')
	return scope
}

// Body is the whole body of a verified request. It is for one goroutine.
type Body struct {
	// Bytes are valid until Close.
	Bytes []byte

	memory   Memory
	acquired int64
}

// Close gives back the memory of the body. The bytes must not be used after it.
func (b *Body) Close() {
	if b.memory != nil {
		b.memory.Release(b.acquired)
	}
	b.Bytes, b.memory, b.acquired = nil, nil, 0
}

// VerifyWhole authenticates a request to another service than S3, and reads its body, of at most limit
// bytes. query must be the parsed r.URL.RawQuery (see ParseQuery). The rules differ from those of S3:
//
//   - The path is encoded twice: what was signed is the path as it arrived, encoded once more.
//   - x-amz-content-sha256 may be absent: then the digest of the body is signed all the same.
//   - The signature is in the Authorization header, of version 4, and covers the body. Requests
//     without credentials and presigned URLs are refused, and so are unsigned and aws-chunked bodies.
//
// Errors are *s3err.Error, for the caller to translate. A body that is too large is EntityTooLarge,
// one that memory has no room for SlowDown. memory may be nil for no bound; it is acquired as the
// bytes arrive. The caller closes the body, which is nil after an error.
func (v *Verifier) VerifyWhole(memory Memory, r *http.Request, service string, query url.Values, limit int64) (Identity, *Body, error) {
	cred, err := parseOnlyHeader(r, query, v.Region, service)
	if err != nil {
		return Identity{}, nil, err
	}
	now := v.now()
	if err := cred.checkTime(now, query); err != nil {
		return Identity{}, nil, err
	}
	if err := cred.checkSignedHeaders(r.Header); err != nil {
		return Identity{}, nil, err
	}
	declared := first(r.Header["X-Amz-Content-Sha256"])
	if declared != "" && !hexDigest(declared) {
		return Identity{}, nil, s3err.InvalidRequest.With("The body must be signed: x-amz-content-sha256 may only be the SHA-256 of the body in lower-case hex.")
	}
	if r.ContentLength > limit {
		return Identity{}, nil, s3err.EntityTooLarge
	}
	check := func() error {
		_, err := v.checkSignature(r, arrivedPath(r), query, &cred, declared, now)
		return err
	}
	if declared != "" { // then no byte of the body is held for a client without a key
		if err := check(); err != nil {
			return Identity{}, nil, err
		}
	}
	body, digest, err := readWhole(memory, r, limit)
	if err != nil {
		return Identity{}, nil, err
	}
	switch {
	case declared == "":
		declared = digest
		err = check()
	case declared != digest:
		err = s3err.ContentSHA256Mismatch.About("ClientComputedContentSHA256", declared).About("S3ComputedContentSHA256", digest)
	}
	if err != nil {
		body.Close()
		return Identity{}, nil, err
	}
	return Identity{accessKey: cred.accessKey, place: Header, version: 4, verified: true}, body, nil
}

// parseOnlyHeader returns the credential in the Authorization header.
func parseOnlyHeader(r *http.Request, query url.Values, region, service string) (credential, error) {
	auth := r.Header["Authorization"]
	for name := range query {
		if authenticates(name) || name == "AWSAccessKeyId" || name == "Signature" {
			return credential{}, s3err.AccessDenied.With("Presigned URLs are not supported here: sign in the Authorization header.")
		}
	}
	switch len(auth) {
	case 0:
		return credential{}, s3err.AccessDenied.With(missingAuthentication)
	case 1:
	default:
		return credential{}, sentTwice("Authorization")
	}
	cred, err := fromHeader(auth[0], r.Header, region, service)
	if err == nil && cred.v2 {
		err = s3err.InvalidRequest.With(badMechanism)
	}
	return cred, err
}

const missingAuthentication = "The request has no signature: sign it with AWS4-HMAC-SHA256."

// arrivedPath returns the path of a request as it was sent.
func arrivedPath(r *http.Request) string {
	path := r.URL.RawPath
	if path == "" {
		path = r.URL.EscapedPath()
	}
	if path == "" {
		return "/" // RFC 9110 §4.2.3
	}
	return path
}

// bodyStep is how much of a body is read before more memory is asked for.
const bodyStep = 64 << 10

// readWhole reads a body of at most limit bytes, and returns its digest in hex. Memory is acquired in
// growing steps: a client occupies no more than twice what it has sent.
func readWhole(memory Memory, r *http.Request, limit int64) (*Body, string, error) {
	b := &Body{memory: memory}
	hash, source := sha256.New(), bodyOf(r)
	for size := min(bodyStep, limit+1); ; size = min(2*size, limit+1) {
		if r.ContentLength >= 0 && r.ContentLength < size {
			size = r.ContentLength + 1 // one more, to see the end
		}
		if memory != nil {
			if !memory.Acquire(size - b.acquired) {
				b.Close()
				return nil, "", s3err.SlowDown.With("There is no memory for the body now.")
			}
			b.acquired = size
		}
		b.Bytes = append(make([]byte, 0, size), b.Bytes...)
		var err error
		for int64(len(b.Bytes)) < size && err == nil {
			var n int
			n, err = source.Read(b.Bytes[len(b.Bytes):size])
			hash.Write(b.Bytes[len(b.Bytes) : len(b.Bytes)+n])
			b.Bytes = b.Bytes[:len(b.Bytes)+n]
		}
		switch {
		case int64(len(b.Bytes)) > limit:
			b.Close()
			return nil, "", s3err.EntityTooLarge
		case err == io.EOF:
			return b, hex.EncodeToString(hash.Sum(nil)), nil
		case err != nil:
			b.Close()
			return nil, "", incomplete(err)
		}
	}
}
