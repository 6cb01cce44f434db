// Package sigv4 verifies and makes signatures of AWS Signature Version 4 for S3. Where its settings allow
// it, it also verifies those of version 2. A Verifier is the only constructor of Identity: a handler that
// asks for an Identity cannot be reached without a verified signature. A Signer signs requests to an
// upstream.
//
// The Verifier covers header authentication, presigned URLs, session tokens and the aws-chunked payload
// modes. It hands out the request body only as a Payload, which does not end cleanly before everything
// that was signed about the body has been verified. A request without any credentials gets the anonymous
// Identity, which has only the rights that a policy gives it. The package does not authorise, does
// not look at the object, and copies no header anywhere.
package sigv4

import (
	"crypto/sha256"
	"net/http"
	"net/url"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// Verifier checks requests against a set of keys. Its methods may be called
// from any goroutine; its fields must not change after the first call.
type Verifier struct {
	// Region must match the credential scope of every request.
	Region string
	Keys   Keys
	// V2 says which signatures of version 2 are accepted.
	V2 V2
	// Now is the local clock; nil means time.Now.
	Now func() time.Time

	signing signingKeys
}

// Verify authenticates r. query must be the parsed r.URL.RawQuery (see ParseQuery) and path the
// percent-decoded request path. The caller goes on to use both, so that what was verified and what
// is executed cannot differ.
//
// Errors are *s3err.Error. An unknown key and a wrong signature give the same error after the same
// work. Signed chunks of the body are held in memory without a bound; VerifyWithin has one.
func (v *Verifier) Verify(r *http.Request, path string, query url.Values) (Identity, *Payload, error) {
	return v.VerifyWithin(nil, r, "", path, query)
}

// VerifyWithin is Verify with a budget for the signed chunks that the payload holds; nil means no
// bound. Payload.Close gives the memory back. bucket is the one that the host name stands for
// (virtual-hosted style), "" if the path has it: version 4 signs the host, version 2 the bucket.
func (v *Verifier) VerifyWithin(memory Memory, r *http.Request, bucket, path string, query url.Values) (Identity, *Payload, error) {
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
	if cred.v2 {
		return v.verifyV2(r, bucket, path, query, &cred)
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
	return Identity{accessKey: cred.accessKey, place: cred.place, version: 4, verified: true}, payload, nil
}

func (v *Verifier) now() time.Time {
	if v.Now != nil {
		return v.Now()
	}
	return time.Now()
}

// noSecret stands for the secret of an unknown access key.
const noSecret = "no such key; verified anyway to take the same time"

// lookup returns the credential of an access key. For an unknown one it returns a secret that takes the
// same work.
func (v *Verifier) lookup(accessKey string) (stored Credential, known bool) {
	if len(accessKey) <= maxAccessKey {
		stored, known = v.Keys.Lookup(accessKey)
	}
	if !known {
		stored.Secret = noSecret
	}
	return stored, known
}

// checkSignature compares the signature first, and then checks what else the key demands.
func (v *Verifier) checkSignature(r *http.Request, path string, query url.Values, cred *credential, declared string, now time.Time) (*signingKey, error) {
	stored, known := v.lookup(cred.accessKey)
	key := v.signing.cached(cred.accessKey, stored.Secret, cred.day, cred.service)
	cached := key != nil
	if !cached {
		key = v.signing.derive(stored.Secret, cred.day, v.Region, cred.service)
	}
	if !key.signedRequest(r, path, query, cred, v.Region, declared) || !known {
		if cached { // each refusal derives one key, whether or not the access key exists or was used today
			v.signing.derive(stored.Secret, cred.day, v.Region, cred.service)
		}
		return nil, s3err.SignatureDoesNotMatch
	}
	if !cached {
		v.signing.remember(cred.accessKey, cred.day, cred.service, key)
	}
	return key, stored.admits(cred.token, now)
}

func (v *Verifier) newPayload(memory Memory, r *http.Request, mode Mode, declared string, c *credential, key *signingKey) (*Payload, error) {
	p := &Payload{Mode: mode, Length: r.ContentLength, body: bodyOf(r)}
	if mode.streaming() {
		return p, p.decodeChunks(r.Header, mode, &chunkChain{key: key, time: c.time, day: c.day, region: v.Region, previous: c.signature}, memory)
	}
	if len(r.Header["X-Amz-Trailer"]) > 0 {
		return nil, s3err.InvalidRequest.With("x-amz-trailer needs one of the STREAMING values of x-amz-content-sha256.")
	}
	if mode == Digest {
		p.SHA256 = declared
		if p.Length != 0 || declared != emptySHA256 {
			p.body = &digestReader{body: p.body, hash: sha256.New(), want: declared}
		}
	}
	return p, nil
}
