package sigv4

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw/internal/s3err"
)

// credential is what a request claims about itself, in a header or in the query.
type credential struct {
	accessKey     string
	day           string // YYYYMMDD of the scope
	signedHeaders string // "host;x-amz-date"
	signature     string
	time          string // X-Amz-Date
	token         string
	place         Place
	service       string // of the scope that is expected
	v2            bool   // signature version 2: verifyV2 parses the rest, which is in signature
}

// authenticates reports whether a query parameter belongs to a presigned URL. A URL with any of them counts as
// presigned.
func authenticates(parameter string) bool {
	switch parameter {
	case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
		"X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token":
		return true
	default:
		return false
	}
}

// parseCredential returns the one credential of a request, with place Nowhere if it has none.
func parseCredential(h http.Header, query url.Values, region string) (credential, error) {
	inQuery := false
	for name, values := range query {
		if len(name) < 6 || !strings.EqualFold(name[:6], "x-amz-") {
			continue
		}
		if len(values) > 1 {
			return credential{}, s3err.InvalidArgument.With("The query parameter " + name + " was sent more than once.")
		}
		inQuery = inQuery || authenticates(name)
	}
	auth := h["Authorization"]
	switch old := query.Has("AWSAccessKeyId") || query.Has("Signature"); {
	case len(auth) > 1:
		return credential{}, sentTwice("Authorization")
	case len(auth) > 0 && (inQuery || old), inQuery && old:
		return credential{}, s3err.InvalidArgument.With("Only one auth mechanism allowed; only the X-Amz-Algorithm query parameter, Signature query string parameter or the Authorization header should be specified")
	case old:
		return credential{place: Query, v2: true}, nil
	case len(auth) > 0:
		return fromHeader(auth[0], h, region, service)
	case inQuery:
		return fromQuery(h, query, region)
	case len(h["X-Amz-Security-Token"]) > 0:
		return credential{}, s3err.AccessDenied // a token without a signature is not a credential
	}
	return credential{}, nil
}

func sentTwice(header string) error {
	return s3err.InvalidArgument.With("The header " + strings.ToLower(header) + " was sent more than once.")
}

const badMechanism = "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256."

// fromHeader parses "AWS4-HMAC-SHA256 Credential=..., SignedHeaders=...,
// Signature=..." ("Authenticating Requests: Using the Authorization Header").
func fromHeader(auth string, h http.Header, region, service string) (credential, error) {
	kind, rest, ok := cut(auth, ' ')
	switch {
	case !ok:
		return credential{}, notAuthorization("Authorization header is invalid -- one and only one ' ' (space) required.", kind)
	case kind == "AWS":
		return credential{place: Header, v2: true, signature: rest}, nil
	case kind == asymmetric:
		return credential{}, s3err.InvalidRequest.With(badMechanism)
	case kind != algorithm:
		return credential{}, notAuthorization("Unsupported Authorization Type", kind)
	}
	c := credential{place: Header, service: service, token: first(h["X-Amz-Security-Token"])}
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
			return c, s3err.AccessDenied.With(noDate)
		}
		c.time = t.UTC().Format(timeFormat)
	default:
		return c, s3err.AccessDenied.With(noDate)
	}
	return c, nil
}

// parseFields parses the three fields behind the algorithm, and returns the scope of the
// Credential.
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

const noDate = "AWS authentication requires a valid Date or x-amz-date header."

// fromQuery returns the credential of a presigned URL ("Authenticating Requests: Using Query Parameters").
func fromQuery(h http.Header, query url.Values, region string) (credential, error) {
	for _, name := range [...]string{"X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders", "X-Amz-Signature"} {
		if query.Get(name) == "" {
			return credential{}, s3err.AuthorizationQueryParameters.With("Query-string authentication version 4 requires the X-Amz-Algorithm, X-Amz-Credential, X-Amz-Signature, X-Amz-Date, X-Amz-SignedHeaders, and X-Amz-Expires parameters.")
		}
	}
	switch query.Get("X-Amz-Algorithm") {
	case algorithm:
	case asymmetric:
		return credential{}, s3err.AuthorizationQueryParameters.With("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256\"")
	default: // S3 names both algorithms here, although it refuses the second
		return credential{}, s3err.AuthorizationQueryParameters.With("X-Amz-Algorithm only supports \"AWS4-HMAC-SHA256 and AWS4-ECDSA-P256-SHA256\"")
	}
	c := credential{
		place:         Query,
		service:       service,
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
	case gotService != c.service:
		return c.scopeError("incorrect service " + strconv.Quote(gotService) + ". This endpoint belongs to " + strconv.Quote(c.service) + ".")
	case !isDay(day):
		return c.scopeError("incorrect date format " + strconv.Quote(day) + ". This date in the credential must be in the format \"yyyyMMdd\".")
	case gotRegion != region:
		return c.scopeError("the region "+strconv.Quote(gotRegion)+" is wrong; expecting "+strconv.Quote(region)).About("Region", region)
	}
	c.accessKey, c.day = accessKey, day
	return nil
}

// scopeError returns the error of a malformed scope, with the code for its place.
func (c *credential) scopeError(message string) *s3err.Error {
	switch c.place {
	case Query:
		return s3err.AuthorizationQueryParameters.With("Error parsing the X-Amz-Credential parameter; " + message)
	case Form:
		return s3err.InvalidArgument.With(message)
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
