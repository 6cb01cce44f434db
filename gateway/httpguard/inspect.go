package httpguard

import (
	"bytes"
	"net/http"
	"net/url"
	"slices"
	"strconv"

	"github.com/akidb/akigw/internal/s3err"
)

func tooLarge(limit int) *s3err.Error {
	return s3err.RequestHeaderSectionTooLarge.About("MaxSizeAllowed", strconv.Itoa(limit))
}

func malformed(message string) *s3err.Error { return s3err.InvalidRequest.With(message) }

// What makes a head malformed, as the client is told.
const (
	badLineFeed = "A line of the request head ends with a bare line feed."
	badReturn   = "The request head has a carriage return inside a line."
	badFold     = "A header of the request is folded over several lines."
	badLine     = "The request line is malformed."
	// badAuthority: the client and a proxy in front of the gateway may mean different hosts.
	badAuthority = "The host in the request target must be that of the Host header."
	badField     = "A header of the request is malformed."
	badHost      = "The request must have exactly one valid Host header."
	badLength    = "The Content-Length header is malformed or was sent more than once."
	badEncoding  = "The only Transfer-Encoding is chunked, and only in HTTP/1.1."
	badLengths   = "The request has both Content-Length and Transfer-Encoding."
	badFields    = "The request has too many headers."
)

// maxFields is the largest number of header lines.
const maxFields = 128

// malformedSoFar returns what is wrong with the complete lines of a head that has no end yet. A
// malformed head may never end in a way that is recognised here.
func malformedSoFar(b []byte) *s3err.Error {
	for i, c := range b {
		if c == '\n' && (i == 0 || b[i-1] != '\r') {
			return malformed(badLineFeed)
		}
	}
	return nil
}

// inspect checks a whole head strictly (RFC 9112 §2 to §6) and returns the length of the body that
// follows it in bytes, -1 for a chunked one. It hides expectations in it that are ignored.
func inspect(head []byte) (body int64, refusal *s3err.Error) {
	lines := head[:len(head)-2]
	line, rest := cutLine(lines)
	oldVersion, authority, refusal := inspectRequestLine(line)
	if refusal != nil {
		return 0, refusal
	}
	f := fields{length: -1}
	for count := 0; len(rest) > 0; count++ {
		line, rest = cutLine(rest)
		if count >= maxFields {
			return 0, malformed(badFields)
		}
		if refusal := f.add(line); refusal != nil {
			return 0, refusal
		}
	}
	switch {
	case f.hosts != 1:
		return 0, malformed(badHost)
	case authority != "" && authority != string(f.host):
		return 0, malformed(badAuthority)
	case f.chunked && f.length >= 0:
		return 0, malformed(badLengths)
	case f.chunked && oldVersion:
		return 0, malformed(badEncoding)
	case f.chunked:
		return -1, nil
	}
	return max(f.length, 0), nil
}

// cutLine cuts off the first line. It does not cut at a bare line feed, so that plain finds it.
func cutLine(b []byte) (line, rest []byte) {
	if i := bytes.IndexByte(b, '\n'); i > 0 && b[i-1] == '\r' {
		return b[:i-1], b[i+1:]
	}
	return b, nil
}

// inspectRequestLine checks "METHOD /target HTTP/1.1". authority is that of a target in
// absolute form, "" for any other target.
func inspectRequestLine(line []byte) (oldVersion bool, authority string, refusal *s3err.Error) {
	if refusal := plain(line); refusal != nil {
		return false, "", refusal
	}
	method, rest, ok1 := bytes.Cut(line, []byte(" "))
	target, version, ok2 := bytes.Cut(rest, []byte(" "))
	switch {
	case !ok1 || !ok2 || !Token(method):
		return false, "", malformed(badLine)
	case string(version) == "HTTP/1.0":
		oldVersion = true
	case string(version) != "HTTP/1.1" && bytes.HasPrefix(version, []byte("HTTP/")) && bytes.IndexByte(version, ' ') < 0:
		return false, "", s3err.VersionNotSupported.Err()
	case string(version) != "HTTP/1.1":
		return false, "", malformed(badLine)
	}
	for _, c := range target {
		if c <= ' ' || c >= 0x7f {
			return false, "", malformed(badLine)
		}
	}
	if len(target) == 0 || target[0] != '/' {
		authority, refusal = absolute(target)
	}
	return oldVersion, authority, refusal
}

// absolute returns the authority of a target in absolute form, which a server must accept (RFC 9112
// §3.2.2). It uses the parser of net/http, so that both see the same authority. Both schemes are
// accepted, because TLS may end at a proxy in front of the gateway.
func absolute(target []byte) (authority string, refusal *s3err.Error) {
	u, err := url.ParseRequestURI(string(target))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
		return "", s3err.InvalidURI.With("The request target must start with a slash, or with http:// or https:// and the host.")
	}
	return u.Host, nil
}

// control has the bytes that no line may contain.
var control = func() (set [256]bool) {
	for c := range byte(' ') {
		set[c] = c != '\t'
	}
	set[0x7f] = true
	return set
}()

// plain refuses control characters: a line feed or carriage return inside a line, and any other
// that a parser may treat specially.
func plain(line []byte) *s3err.Error {
	i := slices.IndexFunc(line, func(c byte) bool { return control[c] })
	switch {
	case i < 0:
		return nil
	case line[i] == '\n':
		return malformed(badLineFeed)
	case line[i] == '\r':
		return malformed(badReturn)
	}
	return malformed(badField)
}

// fields collects what the headers say about the framing of the request.
type fields struct {
	hosts   int
	host    []byte // the last Host header
	length  int64  // -1: none
	chunked bool
}

// add checks one header line.
func (f *fields) add(line []byte) *s3err.Error {
	if refusal := plain(line); refusal != nil {
		return refusal
	}
	if len(line) > 0 && (line[0] == ' ' || line[0] == '\t') {
		return malformed(badFold)
	}
	colon := bytes.IndexByte(line, ':')
	if colon < 0 || !Token(line[:colon]) {
		return malformed(badField)
	}
	name, value := line[:colon], bytes.Trim(line[colon+1:], " \t")
	switch len(name) {
	case len("Host"):
		if bytes.EqualFold(name, []byte("Host")) {
			f.hosts++
			f.host = value
			if !host(value) {
				return malformed(badHost)
			}
		}
	case len("Expect"):
		if bytes.EqualFold(name, []byte("Expect")) {
			hideExpectation(name, value)
		}
	case len("Content-Length"):
		if bytes.EqualFold(name, []byte("Content-Length")) {
			n, ok := length(value)
			if !ok || f.length >= 0 {
				return malformed(badLength)
			}
			f.length = n
		}
	case len("Transfer-Encoding"):
		if bytes.EqualFold(name, []byte("Transfer-Encoding")) {
			if f.chunked || !bytes.EqualFold(value, []byte("chunked")) {
				return malformed(badEncoding)
			}
			f.chunked = true
		}
	}
	return nil
}

// hiddenExpect is a header name as long as Expect, which no client sends and net/http does not know.
const hiddenExpect = "~xpect"

// hideExpectation renames an Expect header without 100-continue, because net/http would answer it with 417.
// RFC 9110 §10.1.1 allows that and does not demand it; S3 ignores the header.
func hideExpectation(name, value []byte) {
	for expected := range bytes.SplitSeq(value, []byte(",")) {
		if bytes.EqualFold(bytes.Trim(expected, " \t"), []byte("100-continue")) {
			return
		}
	}
	copy(name, hiddenExpect)
}

// RestoreExpectation gives r the Expect header back that was hidden from net/http: it may be signed.
func RestoreExpectation(r *http.Request) {
	if values, ok := r.Header[hiddenExpect]; ok {
		r.Header["Expect"] = values
		delete(r.Header, hiddenExpect)
	}
}

// length parses a number that consists of digits only.
func length(value []byte) (n int64, ok bool) {
	if len(value) == 0 || len(value) > 18 {
		return 0, false
	}
	for _, c := range value {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

// host reports whether value can be a host name or address with a port
// (RFC 9112 §3.2, RFC 3986 §3.2.2).
func host(value []byte) bool {
	for _, c := range value {
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || bytes.IndexByte([]byte(".-_:[]%"), c) >= 0) {
			return false
		}
	}
	return len(value) > 0
}

var tokenChars = func() (set [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz") {
		set[c] = true
	}
	return set
}()

// Token reports whether b is a token (RFC 9110 §5.6.2).
func Token[T []byte | string](b T) bool {
	for i := range len(b) {
		if !tokenChars[b[i]] {
			return false
		}
	}
	return len(b) > 0
}
