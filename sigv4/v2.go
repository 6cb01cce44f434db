package sigv4

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/akidb/akigw/internal/s3err"
)

// V2 says which requests a Verifier accepts that are signed with signature version 2, an HMAC-SHA1 over
// fewer parts of a request than version 4 signs. The zero value accepts none.
type V2 string

// The values.
const (
	// V2None accepts none.
	V2None V2 = "none"
	// V2Presigned accepts presigned URLs of objects and browser forms, which some SDKs sign with
	// version 2 for every endpoint but Amazon's.
	V2Presigned V2 = "presigned"
	// V2All also accepts the Authorization header.
	V2All V2 = "all"
)

// Presigned reports whether presigned URLs are accepted: GET, HEAD, PUT and DELETE of an object.
func (v V2) Presigned() bool { return v == V2Presigned || v == V2All }

// Forms reports whether browser forms (POST Object) are accepted.
func (v V2) Forms() bool { return v == V2Presigned || v == V2All }

// Header reports whether the Authorization header is accepted, for any operation.
func (v V2) Header() bool { return v == V2All }

// accepts reports whether credentials in a place are accepted.
func (v V2) accepts(place Place) bool {
	if place == Query {
		return v.Presigned()
	}
	return v.Header()
}

// sumV2 returns the signature of a text with version 2.
func sumV2(secret, text string) string {
	mac := hmac.New(sha1.New, []byte(secret))
	mac.Write([]byte(text))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// verifyV2 authenticates a request whose credential c is one of version 2 ("Signing and authenticating
// REST requests", Signature Version 2, in the S3 user guide). Whatever version 2 leaves unsigned and would
// change what the request does is refused.
func (v *Verifier) verifyV2(r *http.Request, bucket, path string, query url.Values, c *credential) (Identity, *Payload, error) {
	if !v.V2.accepts(c.place) {
		return Identity{}, nil, s3err.InvalidRequest.With(badMechanism)
	}
	if c.place == Query && !presignable(r.Method, bucket, path) {
		return Identity{}, nil, s3err.InvalidRequest.With("A URL that is presigned with signature version 2 can only GET, HEAD, PUT or DELETE an object. Please use AWS4-HMAC-SHA256.")
	}
	if err := c.parseV2(query); err != nil {
		return Identity{}, nil, err
	}
	if err := c.checkParametersV2(r.Method, query); err != nil {
		return Identity{}, nil, err
	}
	headers, err := c.collectV2(r, query)
	if err != nil {
		return Identity{}, nil, err
	}
	now := v.now()
	if err := c.checkTimeV2(now, r.Header, query); err != nil {
		return Identity{}, nil, err
	}
	mode, declared, err := payloadMode(r.Header, query, Query) // optional, as in a presigned URL
	if err == nil && mode.streaming() {
		err = s3err.InvalidRequest.With("The aws-chunked values of x-amz-content-sha256 need signature version 4.")
	}
	if err != nil {
		return Identity{}, nil, err
	}
	c.token = headers.amz["x-amz-security-token"]
	if err := v.checkSignatureV2(c, headers.text(r, bucket, query, c.time), now); err != nil {
		return Identity{}, nil, err
	}
	payload, err := v.newPayload(nil, r, mode, declared, c, nil)
	if err != nil {
		return Identity{}, nil, err
	}
	return Identity{accessKey: c.accessKey, place: c.place, version: 2, verified: true}, payload, nil
}

// checkSignatureV2 is checkSignature for version 2. There is no key to derive, so an unknown access key and
// a wrong signature cause the same work.
func (v *Verifier) checkSignatureV2(c *credential, text string, now time.Time) error {
	stored, known := v.lookup(c.accessKey)
	if !hmac.Equal([]byte(sumV2(stored.Secret, text)), []byte(c.signature)) || !known {
		return s3err.SignatureDoesNotMatch
	}
	return stored.admits(c.token, now)
}

// presignable reports whether a request can be presigned with version 2.
func presignable(method, bucket, path string) bool {
	name := strings.TrimPrefix(path, "/")
	if bucket == "" {
		_, name, _ = cut(name, '/')
	}
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodDelete:
		return name != ""
	default:
		return false
	}
}

// parseV2 completes a credential: "KEY:SIGNATURE" behind "AWS ", or parameters of the query.
func (c *credential) parseV2(query url.Values) error {
	if c.place == Header {
		colon := strings.LastIndexByte(c.signature, ':')
		if colon < 1 || colon == len(c.signature)-1 {
			return notAuthorization("AWS authorization header is invalid.  Expected AwsAccessKeyId:signature", "AWS")
		}
		c.accessKey, c.signature = c.signature[:colon], c.signature[colon+1:]
		return nil
	}
	c.accessKey, c.signature = query.Get("AWSAccessKeyId"), query.Get("Signature")
	if c.accessKey == "" || c.signature == "" || query.Get("Expires") == "" {
		return s3err.AccessDenied.With("Query-string authentication requires the Signature, Expires and AWSAccessKeyId parameters")
	}
	return nil
}

// checkParametersV2 refuses parameters that version 2 does not sign. The Authorization header signs none of
// those that select a page of a listing; that changes nothing in the bucket, and every client sends them.
func (c *credential) checkParametersV2(method string, query url.Values) error {
	for name, values := range query {
		switch {
		case len(values) > 1:
			return s3err.InvalidArgument.With("The query parameter " + name + " was sent more than once.")
		case c.place == Query && (authenticatesV2(name) || movedV2(strings.ToLower(name))):
		case signedByV2(name):
			if !unambiguous(values[0]) {
				return s3err.AccessDenied.With("Signature version 2 cannot tell the value of the query parameter " + name + " from further parameters. Use AWS4-HMAC-SHA256.")
			}
		case c.place == Header && (method == http.MethodGet || method == http.MethodHead) && selectsPage(name):
		default:
			return s3err.AccessDenied.With("Signature version 2 does not sign the query parameter " + name + ". Use AWS4-HMAC-SHA256.")
		}
	}
	return nil
}

// authenticatesV2 reports whether a query parameter is a part of the credential.
func authenticatesV2(parameter string) bool {
	return parameter == "AWSAccessKeyId" || parameter == "Expires" || parameter == "Signature"
}

// movedV2 reports whether a query parameter, in lower case, is a header that SDKs move into a presigned
// URL. They sign it as a header.
func movedV2(lower string) bool {
	return lower == "content-md5" || lower == "content-type" || strings.HasPrefix(lower, "x-amz-")
}

// signedByV2 reports whether a query parameter is a part of the canonicalized resource.
func signedByV2(parameter string) bool {
	switch parameter {
	case "accelerate", "acl", "analytics", "cors", "delete", "inventory", "lifecycle", "location", "logging", "metrics", "notification",
		"object-lock", "partNumber", "policy", "replication", "requestPayment", "restore", "select", "select-type", "tagging", "torrent",
		"uploadId", "uploads", "versionId", "versioning", "versions", "website",
		"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language",
		"response-content-type", "response-expires":
		return true
	default:
		return false
	}
}

// selectsPage reports whether a query parameter only selects what a listing contains.
func selectsPage(parameter string) bool {
	switch parameter {
	case "continuation-token", "delimiter", "encoding-type", "fetch-owner", "key-marker", "list-type", "marker", "max-buckets", "max-keys",
		"max-parts", "max-uploads", "part-number-marker", "prefix", "start-after", "upload-id-marker", "version-id-marker":
		return true
	default:
		return false
	}
}

// unambiguous reports whether a value, which is signed decoded, cannot be taken for a value and further
// signed parameters: who has a URL for "versionId=1&acl" must not be able to send "versionId=1%26acl".
func unambiguous(value string) bool {
	for _, rest, more := cut(value, '&'); more; {
		var part string
		part, rest, more = cut(rest, '&')
		if name, _, _ := cut(part, '='); signedByV2(name) {
			return false
		}
	}
	return !hasControl(value)
}

// hasControl reports whether s has a control character, which could end a line of the string to sign.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(c rune) bool { return c < ' ' || c == 0x7f })
}

// headersV2 are the headers that version 2 signs, wherever they were sent.
type headersV2 struct {
	md5, contentType string
	amz              map[string]string // by name in lower case
}

// collectV2 collects the signed headers of a request. It refuses headers that are ambiguous, and with a
// presigned URL those that are not signed and would be stored: anyone who has the URL could add them.
func (c *credential) collectV2(r *http.Request, query url.Values) (headersV2, error) {
	signed := headersV2{amz: map[string]string{}}
	var unsigned []string
	for name, values := range r.Header {
		amz := strings.HasPrefix(name, "X-Amz-")
		switch {
		case len(values) > 1 && (isUnique(name) || amz && !repeatable(name)):
			return signed, sentTwice(name)
		case c.place == Query && r.Method == http.MethodPut && storedUnsigned(name):
			unsigned = append(unsigned, strings.ToLower(name))
		case amz:
			signed.amz[strings.ToLower(name)] = joined(values)
		case name == "Content-Md5":
			signed.md5 = strings.Trim(values[0], " \t")
		case name == "Content-Type":
			signed.contentType = strings.Trim(values[0], " \t")
		}
	}
	if len(unsigned) > 0 {
		return signed, notSigned(unsigned)
	}
	if c.place == Query {
		return signed, signed.addMoved(r.Header, query)
	}
	return signed, nil
}

// storedUnsigned reports whether a header is stored with an object and not signed by version 2.
func storedUnsigned(name string) bool {
	switch name {
	case "Cache-Control", "Content-Disposition", "Content-Encoding", "Content-Language", "Expires":
		return true
	default:
		return false
	}
}

// joined returns the value of a header that was sent in several lines.
func joined(values []string) string {
	trimmed := make([]string, len(values))
	for i, value := range values {
		trimmed[i] = strings.Trim(value, " \t")
	}
	return strings.Join(trimmed, ",")
}

// addMoved adds the headers in the query of a presigned URL. A header that was sent in both places must
// have one value.
func (s *headersV2) addMoved(h http.Header, query url.Values) error {
	for name, values := range query {
		lower, value := strings.ToLower(name), strings.Trim(values[0], " \t")
		if !movedV2(lower) {
			continue
		}
		if !lowerToken(lower) || hasControl(value) {
			return s3err.InvalidArgument.With("The query parameter "+strconv.Quote(name)+" is not a header.").About("ArgumentName", name)
		}
		sent, twice := "", false
		switch lower {
		case "content-md5":
			sent, twice, s.md5 = s.md5, s.md5 != "" || h["Content-Md5"] != nil, value
		case "content-type":
			sent, twice, s.contentType = s.contentType, s.contentType != "" || h["Content-Type"] != nil, value
		default:
			sent, twice = s.amz[lower]
			s.amz[lower] = value
		}
		if twice && sent != value {
			return s3err.SignatureDoesNotMatch
		}
	}
	return nil
}

// text returns the string to sign. date is "" where x-amz-date takes its place.
func (s *headersV2) text(r *http.Request, bucket string, query url.Values, date string) string {
	var b strings.Builder
	for _, line := range [...]string{r.Method, s.md5, s.contentType, date} {
		b.WriteString(line)
		b.WriteByte('\n')
	}
	names := make([]string, 0, len(s.amz))
	for name := range s.amz {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b.WriteString(name + ":" + s.amz[name] + "\n")
	}
	if bucket != "" {
		b.WriteString("/" + bucket)
	}
	if path := r.URL.EscapedPath(); path != "" { // as it was sent: version 2 does not encode it anew
		b.WriteString(path)
	} else {
		b.WriteByte('/')
	}
	parameters := make([]string, 0, len(query))
	for name := range query {
		if signedByV2(name) {
			parameters = append(parameters, name)
		}
	}
	slices.Sort(parameters)
	for i, name := range parameters {
		b.WriteByte("?&"[min(i, 1)])
		b.WriteString(name)
		if value := query.Get(name); value != "" {
			b.WriteString("=" + value)
		}
	}
	return b.String()
}

// checkTimeV2 checks the expiry of a presigned URL or the date of a request, and sets the time that is
// signed.
func (c *credential) checkTimeV2(now time.Time, h http.Header, query url.Values) error {
	if c.place == Query {
		c.time = query.Get("Expires")
		return checkExpiryV2(c.time, now)
	}
	date := first(h["Date"])
	c.time = date
	if len(h["X-Amz-Date"]) > 0 {
		date, c.time = h["X-Amz-Date"][0], ""
	}
	t, ok := parseDateV2(date)
	if !ok || t.Unix() < 0 {
		return s3err.AccessDenied.With(noDate)
	}
	return checkSkew(t, now, date)
}

// parseDateV2 parses the date of a request (RFC 9110 §5.6.7), also with a numeric zone as in the examples
// of the user guide, or as version 4 writes it.
func parseDateV2(date string) (t time.Time, ok bool) {
	if t, err := http.ParseTime(date); err == nil {
		return t, true
	}
	if t, err := time.Parse(time.RFC1123Z, date); err == nil {
		return t, true
	}
	return parseTime(date)
}

// checkExpiryV2 checks when a presigned URL expires, in Unix seconds: not later than a week from now. The
// clock of the signer may be as far ahead as that of any client.
func checkExpiryV2(value string, now time.Time) error {
	seconds, err := strconv.ParseUint(value, 10, 63)
	if err != nil {
		return s3err.AccessDenied.With("Invalid date (should be seconds since epoch): " + value)
	}
	if int64(seconds)-now.Unix() > maxExpires+int64(maxSkew.Seconds()) { // before it becomes a time, which would overflow
		return s3err.AccessDenied.With("Expires must be at most a week from now; that is, 604800 seconds")
	}
	if end := time.Unix(int64(seconds), 0); !now.Before(end) {
		return s3err.AccessDenied.With("Request has expired").About("Expires", end.UTC().Format(time.RFC3339)).About("ServerTime", now.UTC().Format(time.RFC3339))
	}
	return nil
}
