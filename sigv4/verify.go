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

// Place is where a request carries its credentials.
type Place int

// The places.
const (
	Nowhere Place = iota // no credentials: anonymous
	Header               // the Authorization header
	Query                // a presigned URL
)

// Identity is who sent a request. Only Verify makes one; the zero value is
// nobody, and has no rights.
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

// Verified reports whether Verify made this identity.
func (id Identity) Verified() bool { return id.verified }

// Place is where the credentials were.
func (id Identity) Place() Place { return id.place }

// Credential is what the verifier has to know of an access key.
type Credential struct {
	Secret string
	// Token is the session token of a temporary key, "" for any other.
	Token string
	// Expires is when a temporary key ends; zero means never.
	Expires time.Time
}

// Keys finds access keys. An implementation may be asked from any goroutine.
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
	// Memory bounds what signed chunks may hold; nil means no bound.
	Memory Memory

	signing signingKeys
}

// Memory is a budget of bytes.
type Memory interface {
	// Acquire takes n bytes, or reports that there are not enough.
	Acquire(n int64) bool
	// Release gives n bytes back.
	Release(n int64)
}

// credential is what a request claims about itself, from either place.
type credential struct {
	accessKey     string
	day           string // YYYYMMDD of the scope
	signedHeaders string // "host;x-amz-date"
	signature     string
	time          string // X-Amz-Date
	token         string
	place         Place
}

// Verify authenticates r. query must be the parsed r.URL.RawQuery and path the
// percent-decoded request path; both are what the caller goes on to use, so
// that what was verified and what is executed cannot differ.
//
// Errors are *s3err.Error. The unknown key and the wrong signature give the
// same answer after the same work.
func (v *Verifier) Verify(r *http.Request, path string, query url.Values) (Identity, *Payload, error) {
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
	payload, err := v.newPayload(r, mode, declared, &cred, key)
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

// checkSignature compares the signature first, and speaks of the key's token
// and expiry only to who has its secret.
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
		if cached { // every refusal derives one key, whether there is such an access key, and whether it was used today
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

// uniqueHeaders are headers whose duplicates would make it unclear what was
// meant, whether they are signed or not.
var uniqueHeaders = map[string]bool{
	"X-Amz-Date": true, "Date": true, "X-Amz-Content-Sha256": true, "X-Amz-Security-Token": true,
	"X-Amz-Decoded-Content-Length": true, "X-Amz-Copy-Source": true, "Content-Md5": true, "Content-Type": true,
	"Range": true, "If-Range": true, "If-Modified-Since": true, "If-Unmodified-Since": true,
}

// queryAuthentication are the query parameters of a presigned URL; any one of
// them claims to be one.
var queryAuthentication = map[string]bool{
	"X-Amz-Algorithm": true, "X-Amz-Credential": true, "X-Amz-Date": true, "X-Amz-Expires": true,
	"X-Amz-SignedHeaders": true, "X-Amz-Signature": true, "X-Amz-Security-Token": true,
}

var errTwoMechanisms = s3err.InvalidArgument.With("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")

// parseCredential finds the one credential of a request, or none.
func parseCredential(h http.Header, query url.Values, region string) (credential, error) {
	inQuery := false
	for name, values := range query {
		if len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") {
			continue
		}
		if len(values) > 1 {
			return credential{}, s3err.InvalidArgument.With("The query parameter " + name + " was sent more than once.")
		}
		inQuery = inQuery || queryAuthentication[name]
	}
	auth := h["Authorization"]
	switch old := query.Has("AWSAccessKeyId") || query.Has("Signature"); {
	case len(auth) > 1:
		return credential{}, sentTwice("Authorization")
	case len(auth) > 0 && (inQuery || old), inQuery && old:
		return credential{}, errTwoMechanisms
	case old:
		return credential{}, errSignatureVersion
	case len(auth) > 0:
		return fromHeader(auth[0], h, region)
	case inQuery:
		return fromQuery(h, query, region)
	case len(h["X-Amz-Security-Token"]) > 0:
		return credential{}, s3err.AccessDenied // a token is half of a credential
	}
	return credential{}, nil
}

func sentTwice(header string) error {
	return s3err.InvalidArgument.With("The header " + strings.ToLower(header) + " was sent more than once.")
}

var errSignatureVersion = s3err.InvalidRequest.With("The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.")

// fromHeader parses "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=..." ("Authenticating Requests: Using the Authorization Header").
func fromHeader(auth string, h http.Header, region string) (credential, error) {
	kind, rest, ok := cut(auth, ' ')
	switch {
	case !ok:
		return credential{}, notAuthorization("Authorization header is invalid -- one and only one ' ' (space) required.", kind)
	case kind == "AWS" || kind == asymmetric:
		return credential{}, errSignatureVersion
	case kind != algorithm:
		return credential{}, notAuthorization("Unsupported Authorization Type", kind)
	}
	c := credential{place: Header, token: first(h["X-Amz-Security-Token"])}
	scope, err := c.parseFields(rest)
	if err != nil {
		return c, err
	}
	if err := c.parseScope(scope, region); err != nil {
		return c, err
	}
	switch {
	case len(h["X-Amz-Date"]) > 0:
		c.time = h["X-Amz-Date"][0]
	case len(h["Date"]) > 0:
		t, err := http.ParseTime(h["Date"][0])
		if err != nil {
			return c, errNoDate
		}
		c.time = t.UTC().Format(timeFormat)
	default:
		return c, errNoDate
	}
	return c, nil
}

// parseFields reads the three fields behind the algorithm and returns the one
// that is not kept as it is.
func (c *credential) parseFields(rest string) (scope string, err error) {
	if strings.Count(rest, ",") != 2 {
		return "", headerMalformed("the authorization header requires three components: Credential, SignedHeaders, and Signature.")
	}
	for more := true; more; {
		var field string
		field, rest, more = cut(rest, ',')
		field = strings.Trim(field, " \t")
		name, value, ok := cut(field, '=')
		switch {
		case !ok:
			return "", headerMalformed("the authorization component " + strconv.Quote(field) + " is malformed.")
		case name == "Credential":
			scope = value
		case name == "SignedHeaders":
			c.signedHeaders = value
		case name == "Signature":
			c.signature = value
		}
	}
	switch {
	case scope == "":
		return "", headerMalformed("missing Credential.")
	case c.signedHeaders == "":
		return "", headerMalformed("missing SignedHeaders.")
	case c.signature == "":
		return "", headerMalformed("missing Signature.")
	}
	return scope, nil
}

// asymmetric is the algorithm of signature version 4A, which is not supported.
const asymmetric = "AWS4-ECDSA-P256-SHA256"

func notAuthorization(message, kind string) error {
	return s3err.InvalidArgument.With(message).About("ArgumentName", "Authorization").About("ArgumentValue", kind)
}

func headerMalformed(message string) *s3err.Error {
	return s3err.AuthorizationHeaderMalformed.With("The authorization header is malformed; " + message)
}

var errNoDate = s3err.AccessDenied.With("AWS authentication requires a valid Date or x-amz-date header.")

// presignParameters are the query parameters of a presigned URL that have to
// be there ("Authenticating Requests: Using Query Parameters").
var presignParameters = [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"}

func fromQuery(h http.Header, query url.Values, region string) (credential, error) {
	for _, name := range presignParameters {
		if query.Get(name) == "" {
			return credential{}, s3err.AuthorizationQueryParameters.With("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	switch query.Get("X-Amz-Algorithm") {
	case algorithm:
	case asymmetric:
		return credential{}, s3err.AuthorizationQueryParameters.With("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
	default: // S3 names both, and so refuses the one that is tried next
		return credential{}, s3err.AuthorizationQueryParameters.With("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"")
	}
	c := credential{
		place:         Query,
		signature:     query.Get("X-Amz-Signature"),
		signedHeaders: query.Get("X-Amz-SignedHeaders"),
		time:          query.Get("X-Amz-Date"),
		token:         query.Get("X-Amz-Security-Token"),
	}
	if header := first(h["X-Amz-Security-Token"]); header != "" {
		if c.token != "" {
			return c, s3err.InvalidArgument.With("The session token was sent twice, as a header and as a query parameter.")
		}
		c.token = header
	}
	return c, c.parseScope(query.Get("X-Amz-Credential"), region)
}

// cut is strings.Cut at a byte: this room cuts a lot.
func cut(s string, at byte) (before, after string, found bool) {
	if i := strings.IndexByte(s, at); i >= 0 {
		return s[:i], s[i+1:], true
	}
	return s, "", false
}

func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

func (c *credential) parseScope(scope, region string) error {
	accessKey, rest, _ := cut(scope, '/')
	day, rest, _ := cut(rest, '/')
	gotRegion, rest, _ := cut(rest, '/')
	gotService, end, ok := cut(rest, '/')
	switch {
	case !ok || accessKey == "" || len(accessKey) > maxAccessKey || strings.Contains(end, "/"):
		return c.scopeError("the Credential is mal-formed; expecting \"<YOUR-AKID>/YYYYMMDD/REGION/SERVICE/aws4_request\".")
	case end != terminator:
		return c.scopeError("incorrect terminal " + strconv.Quote(end) + ". This endpoint uses \"aws4_request\".")
	case gotService != service:
		return c.scopeError("incorrect service " + strconv.Quote(gotService) + ". This endpoint belongs to \"s3\".")
	case !isDay(day):
		return c.scopeError("incorrect date format " + strconv.Quote(day) + ". This date in the credential must be in the format \"yyyyMMdd\".")
	case gotRegion != region:
		return c.scopeError("the region "+strconv.Quote(gotRegion)+" is wrong; expecting "+strconv.Quote(region)).About("Region", region)
	}
	c.accessKey, c.day = accessKey, day
	return nil
}

// scopeError says what is wrong with a credential, in the words of its place.
func (c *credential) scopeError(message string) *s3err.Error {
	if c.place == Query {
		return s3err.AuthorizationQueryParameters.With("Error parsing the X-Amz-Credential parameter; " + message)
	}
	return headerMalformed(message)
}

// isDay reports whether s looks like YYYYMMDD.
func isDay(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) == 8
}

// checkTime enforces the time rules of both places and that the scope's day is
// the day of the request.
func (c *credential) checkTime(now time.Time, query url.Values) error {
	t, ok := parseTime(c.time)
	if !ok {
		if c.place == Query {
			return s3err.AuthorizationQueryParameters.With("X-Amz-Date must be in the ISO8601 Long Format \"yyyyMMdd'T'HHmmss'Z'\"")
		}
		return errNoDate
	}
	if c.day != c.time[:8] {
		message := "Invalid credential date \"" + c.day + "\". This date is not the same as X-Amz-Date: \"" + c.time[:8] + "\"."
		if c.place == Query {
			return s3err.AuthorizationQueryParameters.With(message)
		}
		return headerMalformed(message)
	}
	if c.place == Query {
		return checkExpiry(t, now, query.Get("X-Amz-Expires"))
	}
	if skew := now.Sub(t); skew > maxSkew || skew < -maxSkew {
		return s3err.RequestTimeTooSkewed.About("RequestTime", c.time).About("ServerTime", now.UTC().Format(time.RFC3339)).
			About("MaxAllowedSkewMilliseconds", strconv.FormatInt(maxSkew.Milliseconds(), 10))
	}
	return nil
}

// parseTime reads timeFormat, and nothing that is merely like it: time.Parse
// lets fractions of a second through.
func parseTime(s string) (time.Time, bool) {
	if len(s) != len(timeFormat) || s[8] != 'T' || s[15] != 'Z' {
		return time.Time{}, false
	}
	ok := true
	number := func(from, to int) (n int) {
		for i := from; i < to; i++ {
			ok = ok && '0' <= s[i] && s[i] <= '9'
			n = 10*n + int(s[i]-'0')
		}
		return n
	}
	year, month, day, hour, minute, second := number(0, 4), number(4, 6), number(6, 8), number(9, 11), number(11, 13), number(13, 15)
	t := time.Date(year, time.Month(month), day, hour, minute, second, 0, time.UTC)
	if h, m, s := t.Clock(); h != hour || m != minute || s != second || t.Day() != day || int(t.Month()) != month {
		ok = false // the 31st of February
	}
	return t, ok
}

func checkExpiry(t, now time.Time, value string) error {
	seconds, err := strconv.ParseInt(value, 10, 32)
	switch {
	case err != nil:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires should be a number")
	case seconds < 1:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be non-negative")
	case seconds > maxExpires:
		return s3err.AuthorizationQueryParameters.With("X-Amz-Expires must be less than a week (in seconds); that is, the given X-Amz-Expires must be less than 604800 seconds")
	case t.Sub(now) > maxSkew:
		return s3err.AccessDenied.With("Request is not valid yet.")
	}
	if end := t.Add(time.Duration(seconds) * time.Second); now.After(end) {
		return s3err.AccessDenied.With("Request has expired.").About("X-Amz-Expires", value).
			About("Expires", end.UTC().Format(time.RFC3339)).About("ServerTime", now.UTC().Format(time.RFC3339))
	}
	return nil
}

// checkSignedHeaders enforces that the list is well-formed, that each header in
// it came once, and that it covers the host, every x-amz-* header and, in
// header authentication, Content-Type and Content-MD5: what is not signed could
// have been added by anyone.
func (c *credential) checkSignedHeaders(h http.Header) error {
	host, previous := false, ""
	for name, rest, more := cut(c.signedHeaders, ';'); ; name, rest, more = cut(rest, ';') {
		if !lowerToken(name) || name <= previous {
			if c.place == Query {
				return s3err.AuthorizationQueryParameters.With("X-Amz-SignedHeaders must be a sorted list of lower-case header names")
			}
			return s3err.AuthorizationHeaderMalformed.With("SignedHeaders must be a sorted list of lower-case header names")
		}
		host = host || name == "host"
		previous = name
		if !more {
			break
		}
	}
	var missing []string
	if !host {
		missing = append(missing, "host")
	}
	for name, values := range h {
		if len(values) > 1 && (uniqueHeaders[name] || c.signs(name) && !repeatable(name)) {
			return sentTwice(name)
		}
		if c.mustSign(name, values) && !c.signs(name) {
			missing = append(missing, strings.ToLower(name))
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		return s3err.AccessDenied.With("There were headers present in the request which were not signed").About("HeadersNotSigned", strings.Join(missing, ", "))
	}
	return nil
}

// repeatable reports whether a signed header may come in several lines, which
// mean the same as one with their values between commas: user metadata
// ("Working with object metadata"), and lists.
func repeatable(name string) bool {
	return strings.HasPrefix(name, "X-Amz-Meta-") || name == "X-Amz-Object-Attributes" || name == "X-Amz-Optional-Object-Attributes"
}

// lowerToken reports whether name is a header name (RFC 9110 §5.6.2) without
// capitals.
func lowerToken(name string) bool {
	for i := range len(name) {
		c := name[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.' || strings.IndexByte("!#$%&'*+^`|~", c) >= 0) {
			return false
		}
	}
	return name != ""
}

func (c *credential) signs(name string) bool {
	for s, rest, more := cut(c.signedHeaders, ';'); ; s, rest, more = cut(rest, ';') {
		if len(s) == len(name) && strings.EqualFold(s, name) {
			return true
		}
		if !more {
			return false
		}
	}
}

// mustSign reports whether the signature has to cover a header. S3 asks for
// Content-Type, too, and takes it unsigned: AWS SDK for JavaScript 2, minio-js,
// Bun and older minio-go (restic, mc) leave it out of what they sign.
func (c *credential) mustSign(name string, values []string) bool {
	if strings.HasPrefix(name, "X-Amz-") {
		// A presigned request is bound to UNSIGNED-PAYLOAD anyway.
		return c.place == Header || name != "X-Amz-Content-Sha256" || values[0] != unsignedPayload
	}
	return name == "Content-Md5" && c.place == Header
}

// SignedHeaders returns the names that a request's signature covers, nil if it
// has none. It checks nothing.
func SignedHeaders(r *http.Request) []string {
	_, list, ok := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	if !ok {
		return nil
	}
	list, _, _ = cut(list, ',')
	return slices.DeleteFunc(strings.Split(list, ";"), func(s string) bool { return s == "" })
}
