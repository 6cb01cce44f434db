// Package sigv4 verifies AWS Signature Version 4 for S3. It is the one place
// that does so, and the only constructor of Identity: a handler that asks for
// an Identity cannot be reached without a verified signature.
//
// It covers header authentication, presigned URLs and the three aws-chunked
// payload modes, and it hands out the request body only through a Payload,
// which refuses to end cleanly before everything that was signed about the
// body has been checked. It does not authorise, does not look at the object,
// and never copies a header to anywhere.
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
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

// Identity is who signed a request. Only Verify makes one that is valid.
type Identity struct {
	accessKey string
}

// AccessKey is the access key id that signed the request.
func (id Identity) AccessKey() string { return id.accessKey }

// Keys finds the secret of an access key id.
type Keys interface {
	// Secret returns the secret access key, or false if there is no such key.
	Secret(accessKey string) (secret string, ok bool)
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

// credential is what a request claims about itself, from either place.
type credential struct {
	accessKey     string
	day           string // YYYYMMDD of the scope
	region        string
	signedHeaders []string
	signature     string
	time          string // X-Amz-Date
	presigned     bool
}

// Verify authenticates r. query must be the parsed r.URL.RawQuery and path the
// percent-decoded request path; both are what the caller goes on to use, so
// that what was verified and what is executed cannot differ.
//
// Errors are *s3err.Error. The unknown key and the wrong signature give the
// same answer after the same work.
func (v *Verifier) Verify(r *http.Request, path string, query url.Values) (Identity, *Payload, error) {
	cred, err := v.parseCredential(r.Header, query)
	if err != nil {
		return Identity{}, nil, err
	}
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	signedAt, err := cred.checkTime(now(), query)
	if err != nil {
		return Identity{}, nil, err
	}
	if err := cred.checkSignedHeaders(r.Header); err != nil {
		return Identity{}, nil, err
	}
	mode, err := payloadMode(r.Header, query, cred.presigned)
	if err != nil {
		return Identity{}, nil, err
	}
	secret, known := v.Keys.Secret(cred.accessKey)
	if !known {
		secret = "no such key, and the same work as for one that exists"
	}
	key := v.signing.get(cred.accessKey, secret, cred.day, cred.region)
	digest := canonicalDigest(r, path, query, cred, mode)
	want := sign(key, stringToSign(algorithm, cred.time, cred.scope(), hex.EncodeToString(digest[:])))
	got, hexErr := hex.DecodeString(cred.signature)
	if !hmac.Equal(want, got) || hexErr != nil || !known {
		return Identity{}, nil, s3err.SignatureDoesNotMatch
	}
	chain := &chunkChain{key: key, time: signedAt.Format(timeFormat), scope: cred.scope(), previous: cred.signature}
	payload, err := newPayload(r, mode, chain)
	if err != nil {
		return Identity{}, nil, err
	}
	return Identity{accessKey: cred.accessKey}, payload, nil
}

func (c *credential) scope() string {
	return c.day + "/" + c.region + "/" + service + "/" + terminator
}

// uniqueHeaders are headers whose duplicates would make it unclear what was
// signed.
var uniqueHeaders = [...]string{"Authorization", "X-Amz-Date", "Date", "X-Amz-Content-Sha256", "X-Amz-Security-Token", "X-Amz-Decoded-Content-Length", "X-Amz-Copy-Source", "Content-Md5", "Content-Type"}

func (v *Verifier) parseCredential(h http.Header, query url.Values) (*credential, error) {
	for _, name := range uniqueHeaders {
		if len(h[name]) > 1 {
			return nil, s3err.InvalidArgument.With("The header " + strings.ToLower(name) + " was sent more than once.")
		}
	}
	inQuery := false
	for name, values := range query {
		if len(name) > 6 && strings.EqualFold(name[:6], "x-amz-") {
			if len(values) > 1 {
				return nil, s3err.InvalidArgument.With("The query parameter " + name + " was sent more than once.")
			}
			inQuery = inQuery || name == "X-Amz-Algorithm" || name == "X-Amz-Signature" || name == "X-Amz-Credential"
		}
	}
	if h.Get("X-Amz-Security-Token") != "" || query.Has("X-Amz-Security-Token") {
		return nil, s3err.InvalidToken // there are no temporary keys that it could belong to
	}
	if query.Has("AWSAccessKeyId") && query.Has("Signature") {
		return nil, signatureVersion()
	}
	auth := h["Authorization"]
	switch {
	case len(auth) > 0 && inQuery:
		return nil, s3err.InvalidArgument.With("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
	case len(auth) > 0:
		return v.fromHeader(auth[0], h)
	case inQuery:
		return v.fromQuery(query)
	}
	return nil, s3err.AccessDenied
}

func signatureVersion() error {
	return s3err.InvalidRequest.With("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")
}

// fromHeader parses "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=..." ("Authenticating Requests: Using the Authorization Header").
func (v *Verifier) fromHeader(auth string, h http.Header) (*credential, error) {
	rest, ok := strings.CutPrefix(auth, algorithm+" ")
	if !ok {
		return nil, signatureVersion()
	}
	var scope, headers, signature string
	for field := range strings.SplitSeq(rest, ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(field), "=")
		var target *string
		switch name {
		case "Credential":
			target = &scope
		case "SignedHeaders":
			target = &headers
		case "Signature":
			target = &signature
		}
		if target == nil || *target != "" || value == "" {
			return nil, s3err.AuthorizationHeaderMalformed
		}
		*target = value
	}
	if scope == "" || headers == "" || signature == "" {
		return nil, s3err.AuthorizationHeaderMalformed
	}
	c := &credential{signature: signature, signedHeaders: strings.Split(headers, ";")}
	if err := c.parseScope(scope, v.Region, s3err.AuthorizationHeaderMalformed); err != nil {
		return nil, err
	}
	switch {
	case len(h["X-Amz-Date"]) > 0:
		c.time = h["X-Amz-Date"][0]
	case len(h["Date"]) > 0:
		t, err := http.ParseTime(h["Date"][0])
		if err != nil {
			return nil, s3err.AccessDenied.With("AWS authentication requires a valid Date or x-amz-date header")
		}
		c.time = t.UTC().Format(timeFormat)
	default:
		return nil, s3err.AccessDenied.With("AWS authentication requires a valid Date or x-amz-date header")
	}
	return c, nil
}

// presignParameters are the query parameters of a presigned URL, all required
// ("Authenticating Requests: Using Query Parameters").
var presignParameters = [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}

func (v *Verifier) fromQuery(query url.Values) (*credential, error) {
	for _, name := range presignParameters {
		if query.Get(name) == "" {
			return nil, s3err.AuthorizationQueryParameters.With("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	if query.Get("X-Amz-Algorithm") != algorithm {
		return nil, s3err.AuthorizationQueryParameters.With("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
	}
	c := &credential{
		presigned:     true,
		signature:     query.Get("X-Amz-Signature"),
		signedHeaders: strings.Split(query.Get("X-Amz-SignedHeaders"), ";"),
		time:          query.Get("X-Amz-Date"),
	}
	return c, c.parseScope(query.Get("X-Amz-Credential"), v.Region, s3err.AuthorizationQueryParameters)
}

func (c *credential) parseScope(scope, region string, malformed *s3err.Error) error {
	parts := strings.Split(scope, "/")
	if len(parts) < 5 || parts[0] == "" {
		return malformed.With("The Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
	}
	// An access key id may itself contain a slash; the scope is the last four.
	tail := parts[len(parts)-4:]
	switch {
	case len(parts) > 5:
		return malformed.With("The Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
	case tail[1] != region:
		return malformed.With("The region '"+tail[1]+"' is wrong; expecting '"+region+"'").About("Region", region)
	case tail[2] != service:
		return malformed.With("The service '" + tail[2] + "' is wrong; expecting 's3'.")
	case tail[3] != terminator:
		return malformed.With("The terminator '" + tail[3] + "' is wrong; expecting 'aws4_request'.")
	}
	c.accessKey, c.day, c.region = parts[0], tail[0], tail[1]
	return nil
}

// checkTime enforces the time rules of both places and that the scope's day is
// the day of the request.
func (c *credential) checkTime(now time.Time, query url.Values) (time.Time, error) {
	malformed := s3err.AuthorizationHeaderMalformed
	if c.presigned {
		malformed = s3err.AuthorizationQueryParameters
	}
	t, err := time.Parse(timeFormat, c.time)
	if err != nil {
		if c.presigned {
			return t, malformed.With("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
		}
		return t, s3err.AccessDenied.With("AWS authentication requires a valid Date or x-amz-date header")
	}
	if c.day != c.time[:8] {
		return t, malformed.With("Invalid credential date \"" + c.day + "\". This date is not the same as X-Amz-Date: \"" + c.time[:8] + "\".")
	}
	if c.presigned {
		return t, checkExpiry(t, now, query.Get("X-Amz-Expires"))
	}
	if skew := now.Sub(t); skew > maxSkew || skew < -maxSkew {
		return t, s3err.RequestTimeTooSkewed.About("RequestTime", c.time).About("ServerTime", now.UTC().Format(time.RFC3339))
	}
	return t, nil
}

func checkExpiry(t, now time.Time, value string) error {
	seconds, err := strconv.ParseUint(value, 10, 31)
	switch {
	case err != nil:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires should be a number")
	case seconds < 1:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be non-negative")
	case seconds > maxExpires:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	case t.Sub(now) > maxSkew:
		return s3err.AccessDenied.With("Request is not yet valid")
	case now.After(t.Add(time.Duration(seconds) * time.Second)):
		return s3err.AccessDenied.With("Request has expired")
	}
	return nil
}

// checkSignedHeaders enforces that the list is well-formed and that it covers
// the host, every x-amz-* header and, in header authentication, Content-Type
// and Content-MD5: what is not signed could have been added by anyone.
func (c *credential) checkSignedHeaders(h http.Header) error {
	for i, name := range c.signedHeaders {
		if name == "" || name != strings.ToLower(name) || i > 0 && c.signedHeaders[i-1] >= name {
			if c.presigned {
				return s3err.AuthorizationQueryParameters.With("X-Amz-SignedHeaders must be a sorted list of lower-case header names")
			}
			return s3err.AuthorizationHeaderMalformed.With("SignedHeaders must be a sorted list of lower-case header names")
		}
	}
	missing := ""
	if !slices.Contains(c.signedHeaders, "host") {
		missing = "host"
	}
	for name, values := range h {
		if c.mustSign(name, values) && !slices.ContainsFunc(c.signedHeaders, func(s string) bool { return len(s) == len(name) && strings.EqualFold(s, name) }) {
			missing = strings.ToLower(name)
		}
	}
	if missing != "" {
		return s3err.AccessDenied.With("There were headers present in the request which were not signed").About("HeadersNotSigned", missing)
	}
	return nil
}

func (c *credential) mustSign(name string, values []string) bool {
	switch {
	case strings.HasPrefix(name, "X-Amz-"):
		// A presigned request is bound to UNSIGNED-PAYLOAD anyway.
		return !c.presigned || name != "X-Amz-Content-Sha256" || values[0] != unsignedPayload
	case name == "Content-Type" || name == "Content-Md5":
		return !c.presigned
	}
	return false
}

func stringToSign(kind, at, scope, digests string) string {
	return kind + "\n" + at + "\n" + scope + "\n" + digests
}

func sign(key []byte, s string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s))
	return mac.Sum(nil)
}
