// Package sigv4 verifies AWS Signature Version 4 for S3. It is the one place
// that does so, and the only constructor of Identity: a handler that asks for
// an Identity cannot be reached without a verified signature.
//
// It covers header authentication, presigned URLs, session tokens and the
// aws-chunked payload modes, and it hands out the request body only through a
// Payload, which refuses to end cleanly before everything that was signed about
// the body has been checked. A request that carries no credentials at all gets
// the anonymous Identity, which nobody but a policy gives any rights to. It
// does not authorise, does not look at the object, and never copies a header
// to anywhere.
package sigv4

import (
	"crypto/hmac"
	"net/http"
	"net/url"
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
)

// Identity is who sent a request. Only a Verifier makes one; the zero value is nobody, and has no
// rights.
type Identity struct {
	accessKey string
	place     Place
	verified  bool
}

// AccessKey is the access key id that signed the request, "" for an anonymous
// one.
func (id Identity) AccessKey() string { return id.accessKey }

// Anonymous reports whether the request came without credentials.
func (id Identity) Anonymous() bool { return id.verified && id.place == Nowhere }

// Verified reports whether a Verifier made this identity.
func (id Identity) Verified() bool { return id.verified }

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

// Keys finds access keys. Its methods may be called from any goroutine.
type Keys interface {
	// Lookup returns the credential of an access key id, or false if there is
	// no such key.
	Lookup(accessKey string) (Credential, bool)
}

// Verifier checks requests against a set of keys. Its methods may be called
// from any goroutine; its fields must not change after the first call.
type Verifier struct {
	// Region must match the credential scope of every request.
	Region string
	Keys   Keys
	// Now is the local clock; nil means time.Now.
	Now func() time.Time

	signing signingKeys
}

// Memory is a budget of bytes.
type Memory interface {
	// Acquire takes n bytes, or reports that there are not enough.
	Acquire(n int64) bool
	// Release gives n bytes back.
	Release(n int64)
}

// Verify authenticates r. query must be the parsed r.URL.RawQuery (see ParseQuery) and path the
// percent-decoded request path. The caller goes on to use both, so that what was verified and what
// is executed cannot differ.
//
// Errors are *s3err.Error. An unknown key and a wrong signature give the same error after the same
// work. Signed chunks of the body are held in memory without a bound; VerifyWithin has one.
func (v *Verifier) Verify(r *http.Request, path string, query url.Values) (Identity, *Payload, error) {
	return v.VerifyWithin(nil, r, path, query)
}

// VerifyWithin is Verify with a budget for the signed chunks that the payload holds; nil means no
// bound. Payload.Close gives the memory back.
func (v *Verifier) VerifyWithin(memory Memory, r *http.Request, path string, query url.Values) (Identity, *Payload, error) {
	cred, err := parseCredential(r.Header, query, v.Region)
	if err != nil {
		return Identity{}, nil, err
	}
	if cred.place == Nowhere {
		payload, err := anonymousPayload(r)
		if err != nil {
			return Identity{}, nil, err
		}
		return Identity{verified: true}, payload, nil
	}
	now := v.now()
	if err := cred.checkTime(now, query); err != nil {
		return Identity{}, nil, err
	}
	if err := cred.checkSignedHeaders(r.Header); err != nil {
		return Identity{}, nil, err
	}
	mode, declared, err := payloadMode(r.Header, query, cred.place)
	if err != nil {
		return Identity{}, nil, err
	}
	key, err := v.checkSignature(r, path, query, &cred, declared, now)
	if err != nil {
		return Identity{}, nil, err
	}
	payload, err := v.newPayload(memory, r, mode, declared, &cred, key)
	if err != nil {
		return Identity{}, nil, err
	}
	return Identity{accessKey: cred.accessKey, place: cred.place, verified: true}, payload, nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// checkSignature compares the signature first. Only a client that has the secret is told about the
// token and the expiry of the key.
func (v *Verifier) checkSignature(r *http.Request, path string, query url.Values, cred *credential, declared string, now time.Time) (*signingKey, error) {
	stored, known := v.Keys.Lookup(cred.accessKey)
	if !known {
		stored.Secret = "no such key, and the same work as for one that exists"
	}
	key := v.signing.cached(cred.accessKey, stored.Secret, cred.day)
	cached := key != nil
	if !cached {
		key = v.signing.derive(stored.Secret, cred.day, v.Region)
	}
	if !key.signedRequest(r, path, query, cred, v.Region, declared) || !known {
		if cached { // each refusal derives one key, whether or not the access key exists or was used today
			v.signing.derive(stored.Secret, cred.day, v.Region)
		}
		return nil, s3err.SignatureDoesNotMatch
	}
	if !cached {
		v.signing.remember(cred.accessKey, cred.day, key)
	}
	switch {
	case !hmac.Equal([]byte(stored.Token), []byte(cred.token)):
		return nil, s3err.InvalidToken
	case !stored.Expires.IsZero() && !now.Before(stored.Expires):
		return nil, s3err.ExpiredToken
	}
	return key, nil
}
