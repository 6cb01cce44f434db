package sigv4

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// KeyPair is what a Signer signs with.
type KeyPair struct {
	AccessKey, Secret string
	// Token is the session token of temporary credentials, "" for others.
	Token string
}

// Signer signs requests to S3 in the Authorization header. Its methods may be called from any
// goroutine; Region must not change after the first call.
//
// It keeps the derived key of the last secret and day that it signed with: the keys of one account
// change with a rotation and at midnight UTC. Requests that alternate between secrets are signed
// correctly, but derive a key each.
type Signer struct {
	// Region is the region of the credential scope, such as "us-east-1".
	Region string

	newest atomic.Pointer[datedKey]
}

// datedKey is a signing key and the day, YYYYMMDD, that it is for.
type datedKey struct {
	*signingKey
	day string
}

// Sign signs r, at a time, in place. It sets the query to query and encodes it and r.URL.Path in the
// canonical form, so that what is sent is what is signed. digest is the SHA-256 of the body in
// lower-case hex; "" leaves the body unsigned (UNSIGNED-PAYLOAD). A nil body is always signed.
//
// All headers are signed but those that proxies change: Accept-Encoding, Expect and User-Agent. No
// signed header may change afterwards. Headers of an earlier signature are replaced. The values that
// r.Header gets must not be changed in place.
func (s *Signer) Sign(r *http.Request, query url.Values, keys KeyPair, digest string, at time.Time) {
	switch {
	case r.Body == nil:
		digest = emptySHA256
	case digest == "":
		digest = unsignedPayload
	}
	s.sign(r, query, keys, digest, at)
}

func (s *Signer) sign(r *http.Request, query url.Values, keys KeyPair, declared string, at time.Time) {
	date := at.UTC().Format(timeFormat)
	key := s.key(keys.Secret, date[:8])
	own := []string{declared, date, keys.Token, ""} // the values of four headers in one allocation
	r.Header["X-Amz-Content-Sha256"], r.Header["X-Amz-Date"] = own[0:1:1], own[1:2:2]
	if keys.Token != "" {
		r.Header["X-Amz-Security-Token"] = own[2:3:3]
	} else {
		delete(r.Header, "X-Amz-Security-Token")
	}
	space := signings.Get().(*signing)
	defer signings.Put(space)
	digest, signedHeaders := space.canonical(r, query, declared)

	start := len(space.text)
	b := appendStringToSign(space.text, algorithm, date, key.day, s.Region, service)
	b = hex.AppendEncode(b, digest[:])
	b = key.appendSum(b, b[start:])
	signature := b[len(b)-sha256.Size:]
	start = len(b)
	b = append(b, algorithm+" Credential="...)
	b = append(b, keys.AccessKey...)
	b = append(b, '/')
	b = appendScope(b, key.day, s.Region, service)
	b = append(b, ", SignedHeaders="...)
	b = append(b, signedHeaders...)
	b = append(b, ", Signature="...)
	b = hex.AppendEncode(b, signature)
	own[3] = string(b[start:])
	r.Header["Authorization"] = own[3:4:4]
	space.text = b
}

// signing is the space in which a request is signed.
type signing struct {
	text  []byte
	names []string
}

var signings = sync.Pool{New: func() any { return &signing{text: make([]byte, 0, 4096), names: make([]string, 0, 32)} }}

// canonical builds the canonical request in s.text, and gives r the path and the query that are in it. It
// returns its digest and the list of signed headers, which is a part of s.text.
func (s *signing) canonical(r *http.Request, query url.Values, declared string) (digest [sha256.Size]byte, signedHeaders []byte) {
	r.URL.RawPath = encodePath(r.URL.Path)
	names := appendSignedNames(s.names[:0], r.Header)
	b := append(s.text[:0], r.Method...)
	b = append(b, '\n')
	b = append(b, cmp.Or(r.URL.RawPath, "/")...)
	b = append(b, '\n')
	start := len(b)
	b = appendQuery(b, query)
	r.URL.RawQuery = string(b[start:])
	b = append(b, '\n')
	b = appendSignedHeaders(b, r, names)
	b = append(b, '\n')
	start = len(b)
	b = appendNames(b, names)
	end := len(b)
	b = append(b, '\n')
	b = append(b, declared...)
	clear(names) // they may be parts of a client's request
	s.text, s.names = b, names
	return sha256.Sum256(b), b[start:end]
}

// key returns the signing key of a secret and a day.
func (s *Signer) key(secret, day string) *datedKey {
	if key := s.newest.Load(); key != nil && key.day == day && key.secret == secret {
		return key
	}
	key := &datedKey{newSigningKey(secret, day, s.Region, service), day}
	s.newest.Store(key)
	return key
}

// hostName stands for the host among the names of headers. net/http sends Request.Host in that
// header, whatever Request.Header has.
const hostName = "Host"

// appendSignedNames appends the names of the headers to sign, as they are in h, sorted as their
// lower-case forms are.
func appendSignedNames(names []string, h http.Header) []string {
	names = append(names, hostName)
	for name := range h {
		switch name {
		case hostName, "Accept-Encoding", "Authorization", "Expect", "User-Agent":
		default:
			names = append(names, name)
		}
	}
	slices.SortFunc(names, compareLower)
	return names
}

func appendSignedHeaders(b []byte, r *http.Request, names []string) []byte {
	for _, name := range names {
		b = appendLower(b, name)
		b = append(b, ':')
		if name == hostName {
			b = append(b, cmp.Or(r.Host, r.URL.Host)...)
			b = append(b, '\n')
			continue
		}
		for i, value := range r.Header[name] {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendFields(b, value)
		}
		b = append(b, '\n')
	}
	return b
}

// appendNames appends the list of signed headers.
func appendNames(b []byte, names []string) []byte {
	for i, name := range names {
		if i > 0 {
			b = append(b, ';')
		}
		b = appendLower(b, name)
	}
	return b
}

// appendFields appends a value without white space at its ends, and with one space in place of all
// white space between two words. Signers differ in tabs (aws-sdk-go-v2 leaves those inside a value as
// they are, botocore and minio-go do not); this is what MinIO verifies.
func appendFields(b []byte, value string) []byte {
	start := len(b)
	for field := range strings.FieldsSeq(value) {
		if len(b) > start {
			b = append(b, ' ')
		}
		b = append(b, field...)
	}
	return b
}

// appendLower appends a header name in lower case.
func appendLower(b []byte, name string) []byte {
	for i := range len(name) {
		b = append(b, lower(name[i]))
	}
	return b
}

// compareLower compares the lower-case forms of two header names.
func compareLower(x, y string) int {
	for i := range min(len(x), len(y)) {
		if x[i] != y[i] && lower(x[i]) != lower(y[i]) {
			return cmp.Compare(lower(x[i]), lower(y[i]))
		}
	}
	return cmp.Compare(len(x), len(y))
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// encodePath encodes a path; it returns the same string where nothing has to be encoded.
func encodePath(path string) string {
	for i := range len(path) {
		if c := path[i]; !unreserved[c] && c != '/' {
			return string(appendEncoded(make([]byte, 0, 2*len(path)), path, true))
		}
	}
	return path
}
