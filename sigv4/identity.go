package sigv4

import (
	"crypto/hmac"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

const (
	algorithm  = "AWS4-HMAC-SHA256"
	service    = "s3"
	terminator = "aws4_request"
	timeFormat = "20060102T150405Z"

	// maxSkew is how far a request's time may lie from ours, both ways.
	maxSkew = 15 * time.Minute
	// maxExpires is the longest validity of a presigned URL (S3: 7 days).
	maxExpires = 604800
)

// Place is where a request has its credentials.
type Place int

// The places.
const (
	Nowhere Place = iota // no credentials: anonymous
	Header               // the Authorization header
	Query                // a presigned URL
	Form                 // the fields of a browser upload
)

// Identity is who sent a request. Only a Verifier makes one; the zero value is nobody, and has no
// rights.
type Identity struct {
	accessKey string
	place     Place
	version   int
	verified  bool
}

// AccessKey is the access key id that signed the request, "" for an anonymous
// one.
func (id Identity) AccessKey() string { return id.accessKey }

// Anonymous reports whether the request came without credentials.
func (id Identity) Anonymous() bool { return id.verified && id.place == Nowhere }

// Verified reports whether a Verifier made this identity.
func (id Identity) Verified() bool { return id.verified }

// Version returns the version of the signature, 2 or 4, or 0 for an anonymous request.
func (id Identity) Version() int { return id.version }

// Place returns where the credentials were.
func (id Identity) Place() Place { return id.place }

// Credential is what a Verifier has to know about an access key.
type Credential struct {
	Secret string
	// Token is the session token of a temporary key, "" for any other.
	Token string
	// Expires is when a temporary key ends; zero means never.
	Expires time.Time
}

// admits checks the session token and the expiry. Only a client that has the secret is told about them.
func (c *Credential) admits(token string, now time.Time) error {
	switch {
	case !hmac.Equal([]byte(c.Token), []byte(token)):
		return s3err.InvalidToken
	case !c.Expires.IsZero() && !now.Before(c.Expires):
		return s3err.ExpiredToken
	}
	return nil
}

// Keys finds access keys. Its methods may be called from any goroutine.
type Keys interface {
	// Lookup returns the credential of an access key id, or false if there is
	// no such key.
	Lookup(accessKey string) (Credential, bool)
}

// Memory is a budget of bytes.
type Memory interface {
	// Acquire takes n bytes, or reports that there are not enough.
	Acquire(n int64) bool
	// Release gives n bytes back.
	Release(n int64)
}
