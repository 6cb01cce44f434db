package embedded

import (
	"bytes"
	"crypto/md5"
	"encoding/base64"
	"hash"
	"io"
	"net/http"
	"strings"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
)

// content is the body of a request. When Read returns io.EOF its digests have been verified.
type content struct {
	body    io.Reader
	digests []*digest
	sum     *digest // x-amz-checksum-*, nil if there is none
	sums    int     // number of checksums
}

// digest is a digest that a request declares for its body.
type digest struct {
	hash.Hash
	algorithm checksum.Algorithm
	// want returns the expected value, at the end of the body. It is nil if the digest is only
	// computed.
	want func() string
}

// value returns the digest as in a header.
func (d *digest) value() string { return base64.StdEncoding.EncodeToString(d.Sum(nil)) }

// content returns the body of a request, which is verified as it is read. It ignores an
// x-amz-checksum-* header of CompleteMultipartUpload, because that is the checksum of the object.
func (c *call) content() (*content, error) {
	b := &content{body: c.Body}
	if values, ok := c.Header["Content-Md5"]; ok {
		raw, err := base64.StdEncoding.DecodeString(values[0])
		if err != nil || len(raw) != md5.Size {
			return nil, s3err.InvalidDigest.About("Content-MD5", values[0])
		}
		b.digests = append(b.digests, &digest{Hash: md5.New(), want: func() string { return values[0] }})
	}
	if c.Method == http.MethodPost && c.query.Has("uploadId") {
		return b, nil
	}
	for _, a := range checksum.Algorithms {
		if value := c.Header.Get(a.Header); value != "" {
			if _, ok := a.Parse(value); !ok {
				return nil, s3err.InvalidRequest.With("Value for " + strings.ToLower(a.Header) + " header is invalid.")
			}
			b.add(&digest{a.New(), a, func() string { return value }})
		}
	}
	if name := c.Header.Get("X-Amz-Trailer"); name != "" {
		a, ok := checksum.ByHeader(name)
		if !ok {
			return nil, s3err.InvalidRequest.With("The value specified in the x-amz-trailer header is not supported")
		}
		b.add(&digest{a.New(), a, c.trailing(a.Header)})
	}
	return b, b.checkAlgorithm(c)
}

func (b *content) add(d *digest) {
	b.digests, b.sum = append(b.digests, d), d
	b.sums++
}

// trailing returns a function that returns the value of a trailing header. It is nil if there is none:
// then the code that removed the trailer has verified the body.
func (c *call) trailing(name string) func() string {
	body, ok := c.Body.(interface{ Trailer() http.Header })
	if !ok {
		return nil
	}
	return func() string { return body.Trailer().Get(name) }
}

// checkAlgorithm compares the headers that name an algorithm with the checksum of the request.
// x-amz-checksum-algorithm without a checksum requests that one is computed.
func (b *content) checkAlgorithm(c *call) error {
	if b.sums > 1 {
		return s3err.InvalidRequest.With("Expecting a single x-amz-checksum- header. Multiple checksum Types are not allowed.")
	}
	if name := c.Header.Get("X-Amz-Sdk-Checksum-Algorithm"); name != "" {
		switch {
		case b.sum == nil && c.ContentLength != 0:
			return s3err.InvalidRequest.With("x-amz-sdk-checksum-algorithm specified, but no corresponding x-amz-checksum-* or x-amz-trailer headers were found.")
		case b.sum != nil && !strings.EqualFold(name, b.sum.algorithm.Name):
			return s3err.InvalidRequest.With("Value for x-amz-sdk-checksum-algorithm header is invalid.")
		}
	}
	name := c.Header.Get("X-Amz-Checksum-Algorithm")
	if name == "" {
		return nil
	}
	a, err := algorithm(name)
	switch {
	case err != nil:
		return err
	case b.sum == nil:
		b.add(&digest{Hash: a.New(), algorithm: a})
	case a.Name != b.sum.algorithm.Name:
		return s3err.InvalidRequest.With("Value for x-amz-checksum-algorithm header is invalid.")
	}
	return nil
}

// algorithm finds a checksum algorithm by S3's name for it.
func algorithm(name string) (checksum.Algorithm, error) {
	a, ok := checksum.ByHeader("X-Amz-Checksum-" + name)
	if !ok {
		return a, s3err.InvalidRequest.With("Checksum algorithm provided is unsupported. Please try again with any of the valid types: [CRC32, CRC32C, CRC64NVME, SHA1, SHA256]")
	}
	return a, nil
}

// checksum is the checksum of the body, nil if none was declared or requested. It is complete at
// the end of the body.
func (b *content) checksum() *sum {
	if b.sum == nil {
		return nil
	}
	return &sum{Algorithm: b.sum.algorithm.Name, Value: b.sum.value()}
}

// Read implements io.Reader.
func (b *content) Read(p []byte) (int, error) {
	n, err := b.body.Read(p)
	for _, d := range b.digests {
		d.Write(p[:n])
	}
	if err == io.ErrUnexpectedEOF { // the client has disconnected
		return n, s3err.IncompleteBody
	}
	if err != io.EOF {
		return n, err
	}
	for _, d := range b.digests {
		if err := d.check(); err != nil {
			return 0, err
		}
	}
	return n, io.EOF
}

// Close implements io.Closer. The body is closed by its owner.
func (b *content) Close() error { return nil }

func (d *digest) check() error {
	if d.want == nil {
		return nil
	}
	want, err := base64.StdEncoding.DecodeString(d.want())
	switch {
	case err == nil && bytes.Equal(want, d.Sum(nil)):
		return nil
	case d.algorithm.Name == "":
		return s3err.BadDigest.With("The Content-MD5 you specified did not match what we received.")
	}
	return s3err.BadDigest.With("The " + d.algorithm.Name + " you specified did not match the calculated checksum.")
}
