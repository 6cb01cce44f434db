package gateway

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"encoding/hex"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

// inMemory is the size in bytes of the largest body that is read completely before it is sent
// upstream. Such a body is verified before the upstream gets any of it, and can be sent again if
// the pooled connection turns out to be dead.
const inMemory = 64 << 10

// body is a request body on its way to the upstream. What the client claims about it (length,
// Content-MD5, x-amz-checksum-*, and in the payload below it the signed digest and chunk
// signatures) is verified while it streams. The last byte is withheld until everything has been
// verified: an upstream that knows the length stores nothing before it has the last byte.
type body struct {
	payload *sigv4.Payload
	digests []digest
	trailer *checksum.Algorithm // checksum that arrives as a trailer
	sum     http.Header         // its value, set at the end

	clock *deadline // of the call; it stops while the body is read

	held    byte
	holding bool
	small   []byte // a body in memory

	mu      sync.Mutex
	tee     func([]byte) // guarded by mu
	stopped bool         // guarded by mu
	ended   bool         // all of it was read and verified; guarded by mu
	err     error        // of reading it; guarded by mu
}

// digest is one claim about the body.
type digest struct {
	hash.Hash
	name string
	want func() ([]byte, bool) // for a trailer, known only at the end
}

// mismatch returns the S3 error of a digest that does not match.
func (d *digest) mismatch(want, got []byte) error {
	if d.name == contentMD5 {
		return s3err.BadDigest.With("The Content-MD5 you specified did not match what we received.").
			About("ExpectedDigest", hex.EncodeToString(want)).About("CalculatedDigest", base64.StdEncoding.EncodeToString(got))
	}
	return s3err.BadDigest.With("The " + d.name + " you specified did not match the calculated checksum.")
}

const contentMD5 = "Content-MD5"

// newBody prepares the verification that the headers of a call ask for. The first call returns the
// body that check has prepared.
func newBody(c *call) (*body, error) {
	if b := c.body; b != nil {
		c.body = nil
		return b, nil
	}
	b := &body{payload: c.payload, clock: &c.deadline}
	if c.payload.Length > akigw.MaxObjectBytes {
		return nil, s3err.EntityTooLarge
	}
	if values, ok := c.Header["Content-Md5"]; ok {
		want, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil || len(want) != md5.Size {
			return nil, s3err.InvalidDigest.About(contentMD5, values[0])
		}
		b.expect(contentMD5, md5.New(), want)
	}
	if c.route.Op == "CompleteMultipartUpload" { // its checksum headers describe the object
		return b, nil
	}
	return b, b.expectChecksum(c.Header)
}

func (b *body) expect(name string, h hash.Hash, want []byte) {
	b.digests = append(b.digests, digest{h, name, func() ([]byte, bool) { return want, true }})
}

// expectChecksum finds the one x-amz-checksum-* header or trailer.
func (b *body) expectChecksum(h http.Header) error {
	count := 0
	for _, a := range checksum.Algorithms {
		value := h.Get(a.Header)
		if value == "" {
			continue
		}
		want, ok := a.Parse(value)
		if !ok {
			return s3err.InvalidRequest.With("Value for " + strings.ToLower(a.Header) + " header is invalid.")
		}
		count++
		b.expect(a.Name, a.New(), want)
	}
	for _, name := range b.payload.TrailerNames {
		a, ok := checksum.ByHeader(name)
		if !ok {
			return s3err.InvalidRequest.With("The value specified in the x-amz-trailer header is not supported")
		}
		count++
		b.trailer = &a
		b.digests = append(b.digests, digest{a.New(), a.Name, func() ([]byte, bool) { return a.Parse(b.payload.Trailer().Get(a.Header)) }})
	}
	if count > 1 {
		return s3err.InvalidRequest.With("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	switch algorithm := h.Get("X-Amz-Sdk-Checksum-Algorithm"); {
	case algorithm == "":
	case count == 0 && b.payload.Length != 0:
		return s3err.InvalidRequest.With("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
	case count == 1 && !strings.EqualFold(algorithm, b.digests[len(b.digests)-1].name):
		return s3err.InvalidRequest.With("Value for x-amz-sdk-checksum-algorithm header is invalid.")
	}
	return nil
}

// Read implements io.Reader. It returns the last byte only after everything has been verified.
func (b *body) Read(p []byte) (int, error) {
	b.clock.pause()
	n, err := b.verified(p)
	if err != nil {
		b.clock.resume()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stopped {
		return 0, http.ErrBodyReadAfterClose
	}
	if b.tee != nil && n > 0 {
		b.tee(p[:n])
	}
	if err == io.EOF {
		b.ended = true
	} else if err != nil {
		b.err = err
	}
	return n, err
}

func (b *body) verified(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	var one [1]byte
	fresh := p
	if b.holding { // bytes are returned one byte late
		p[0] = b.held
		if fresh = p[1:]; len(fresh) == 0 {
			fresh = one[:]
		}
	}
	n, err := b.payload.Read(fresh)
	for _, d := range b.digests {
		d.Write(fresh[:n])
	}
	if err == io.EOF {
		if err := b.finish(); err != nil {
			return 0, err
		}
		if b.holding {
			b.holding = false
			n++
		}
		return min(n, len(p)), io.EOF
	}
	if err != nil || n == 0 {
		return 0, err
	}
	if !b.holding {
		b.held, b.holding = fresh[n-1], true
		return n - 1, nil
	}
	b.held = fresh[n-1]
	return n, nil
}

// finish compares the claims with the bytes that were read, and keeps a trailing checksum for the
// upstream.
func (b *body) finish() error {
	for _, d := range b.digests {
		want, ok := d.want()
		if !ok {
			return s3err.InvalidRequest.With("Value for " + strings.ToLower(b.trailer.Header) + " trailing header is invalid.")
		}
		if got := d.Sum(nil); !bytes.Equal(got, want) {
			return d.mismatch(want, got)
		}
	}
	if b.trailer != nil && b.sum != nil {
		b.sum.Set(b.trailer.Header, b.payload.Trailer().Get(b.trailer.Header))
	}
	return nil
}

// attach sets the body of r. A small body is read and verified at once.
func (b *body) attach(r *cold.Request) error {
	switch {
	case b.payload.Length < 0 && r.Method == http.MethodPut:
		return s3err.MissingContentLength
	case b.payload.Length < 0 || b.payload.Length <= inMemory:
		data, err := b.readAll(inMemory, s3err.MissingContentLength)
		if err != nil {
			return err
		}
		b.small = data
		if b.trailer != nil {
			r.Header.Set(b.trailer.Header, b.payload.Trailer().Get(b.trailer.Header))
		}
		r.Body, r.Length = bytes.NewReader(data), int64(len(data))
	default:
		r.Body, r.Length = b, b.payload.Length
		// With a condition, the upstream decides whether the client sends the body (100-continue).
		r.Expect = r.Header.Get("If-Match") != "" || r.Header.Get("If-None-Match") != ""
		if b.trailer != nil {
			b.sum = http.Header{b.trailer.Header: {strings.Repeat("A", b.trailer.EncodedLen())}}
			r.Trailer = b.sum
		}
	}
	r.SHA256 = b.payload.SHA256
	return nil
}

// stop ends the use of the body by the upstream connection, which may still read it for a moment
// after an early response. It reports whether all of it was read, and the error of reading it.
func (b *body) stop() (ended bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.stopped = true
	return b.ended, b.err
}

// readDocument reads and verifies a complete control document.
func (c *call) readDocument(limit int64) ([]byte, error) {
	b, err := newBody(c)
	if err != nil {
		return nil, err
	}
	size := c.payload.Length
	if size > limit {
		return nil, s3err.MessageTooLong
	}
	if size < 0 {
		size = limit
	}
	if err := c.reserve(parsedFactor * size); err != nil {
		return nil, err
	}
	return b.readAll(limit, s3err.MessageTooLong)
}

// readAll reads and verifies a body of at most limit bytes; for a longer one it returns tooLong. Where the
// client gave the length, one allocation of that size is enough.
func (b *body) readAll(limit int64, tooLong error) ([]byte, error) {
	in := bytes.NewBuffer(make([]byte, 0, min(max(b.payload.Length, 0), limit)+bytes.MinRead))
	_, err := in.ReadFrom(io.LimitReader(b, limit+1))
	data := in.Bytes()
	if err == nil && int64(len(data)) > limit {
		err = tooLong
	}
	return data, err
}
