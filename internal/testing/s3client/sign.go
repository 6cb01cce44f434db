package s3client

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Signing signs requests with signature version 4, in the simplest way and independently of the
// product. Every part of a signature can be chosen, even wrongly: then the rest is signed as if it were
// right.
type Signing struct {
	AccessKey, Secret, Token string
	Region                   string    // "" means us-east-1
	Time                     time.Time // zero means now
	Presign                  bool
	Expires                  string // seconds that a presigned URL is valid; "" means 60
	// Payload is the value of x-amz-content-sha256. "" means the digest of Body or, for a presigned URL,
	// no header.
	Payload string
	Body    []byte

	Algorithm, Service, Terminator, Date, Day string   // "" means the right value
	SignedHeaders                             []string // nil means those that must be signed
}

const signingTime = "20060102T150405Z"

// Sign adds a body and a signature to r, which must have neither.
func (s Signing) Sign(r *http.Request) {
	or := func(value *string, standard string) {
		if *value == "" {
			*value = standard
		}
	}
	if s.Time.IsZero() {
		s.Time = time.Now()
	}
	or(&s.Region, "us-east-1")
	or(&s.Algorithm, "AWS4-HMAC-SHA256")
	or(&s.Service, "s3")
	or(&s.Terminator, "aws4_request")
	or(&s.Date, s.Time.UTC().Format(signingTime))
	or(&s.Day, s.Date[:min(8, len(s.Date))])
	or(&s.Expires, "60")
	if !s.Presign {
		or(&s.Payload, hexSum(s.Body))
	}
	scope := strings.Join([]string{s.Day, s.Region, s.Service, s.Terminator}, "/")
	if strings.HasPrefix(s.Payload, "STREAMING-") {
		r.Header.Set("X-Amz-Decoded-Content-Length", strconv.Itoa(len(s.Body)))
		if strings.HasSuffix(s.Payload, "-TRAILER") {
			r.Header.Set("X-Amz-Trailer", "x-amz-checksum-sha256")
		}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		panic(err)
	}
	if s.Payload != "" {
		r.Header.Set("X-Amz-Content-Sha256", s.Payload)
	}
	if !s.Presign {
		r.Header.Set("X-Amz-Date", s.Date)
		if s.Token != "" {
			r.Header.Set("X-Amz-Security-Token", s.Token)
		}
	}
	signed := s.SignedHeaders
	if signed == nil {
		signed = []string{"host"}
		for name := range r.Header {
			if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") || name == "content-type" || name == "content-md5" {
				signed = append(signed, name)
			}
		}
		slices.Sort(signed)
	}
	if s.Presign {
		for name, value := range map[string]string{"Algorithm": s.Algorithm, "Credential": s.AccessKey + "/" + scope, "Date": s.Date, "Expires": s.Expires,
			"SignedHeaders": strings.Join(signed, ";"), "Security-Token": s.Token} {
			if value != "" {
				query.Set("X-Amz-"+name, value)
			}
		}
	}
	payload := s.Payload
	or(&payload, "UNSIGNED-PAYLOAD")
	key := mac(mac(mac(mac([]byte("AWS4"+s.Secret), s.Day), s.Region), s.Service), s.Terminator)
	signature := hex.EncodeToString(mac(key, s.Algorithm+"\n"+s.Date+"\n"+scope+"\n"+hexSum([]byte(canonical(r, query, signed, payload)))))
	if s.Presign {
		query.Set("X-Amz-Signature", signature)
	} else {
		r.Header.Set("Authorization", fmt.Sprintf("%s Credential=%s/%s, SignedHeaders=%s, Signature=%s", s.Algorithm, s.AccessKey, scope, strings.Join(signed, ";"), signature))
	}
	r.URL.RawQuery = query.Encode()
	SetBody(r, s.frame(key, scope, signature))
}

// SetBody sets the body of r.
func SetBody(r *http.Request, body []byte) {
	r.Body, r.ContentLength = http.NoBody, 0
	if len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
}

func canonical(r *http.Request, query url.Values, signed []string, payload string) string {
	var pairs []string
	for name, values := range query {
		for _, value := range values {
			pairs = append(pairs, escape(name, "")+"="+escape(value, ""))
		}
	}
	slices.SortFunc(pairs, func(a, b string) int { // by name first, not by the whole pair
		return slices.Compare(strings.SplitN(a, "=", 2), strings.SplitN(b, "=", 2))
	})
	var headers strings.Builder
	for _, name := range signed {
		value := strings.Join(r.Header.Values(name), ",")
		if name == "host" {
			value = r.Host
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	return strings.Join([]string{r.Method, escape(r.URL.Path, "/"), strings.Join(pairs, "&"), headers.String(), strings.Join(signed, ";"), payload}, "\n")
}

// escape is AWS's UriEncode.
func escape(s, keep string) string {
	var b strings.Builder
	for _, c := range []byte(s) {
		if c < 0x80 && strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~"+keep, rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}

// frame adds the aws-chunked framing to the body if the payload mode has one.
func (s Signing) frame(key []byte, scope, previous string) []byte {
	if !strings.HasPrefix(s.Payload, "STREAMING-") {
		return s.Body
	}
	const emptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	chained := s.Payload != "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
	sign := func(kind, rest string) string {
		previous = hex.EncodeToString(mac(key, "AWS4-HMAC-SHA256-"+kind+"\n"+s.Date+"\n"+scope+"\n"+previous+"\n"+rest))
		return previous
	}
	var b bytes.Buffer
	for _, chunk := range [][]byte{s.Body, nil} {
		if len(s.Body) == 0 && chunk != nil {
			continue
		}
		fmt.Fprintf(&b, "%x", len(chunk))
		if chained {
			b.WriteString(";chunk-signature=" + sign("PAYLOAD", emptySum+"\n"+hexSum(chunk)))
		}
		b.WriteString("\r\n")
		b.Write(chunk)
		if len(chunk) > 0 {
			b.WriteString("\r\n")
		}
	}
	if strings.HasSuffix(s.Payload, "-TRAILER") {
		sum := sha256.Sum256(s.Body)
		trailer := "x-amz-checksum-sha256:" + base64.StdEncoding.EncodeToString(sum[:])
		b.WriteString(trailer + "\r\n")
		if chained {
			b.WriteString("x-amz-trailer-signature:" + sign("TRAILER", hexSum([]byte(trailer+"\n"))) + "\r\n")
		}
	}
	b.WriteString("\r\n")
	return b.Bytes()
}

func mac(key []byte, text string) []byte {
	m := hmac.New(sha256.New, key)
	m.Write([]byte(text))
	return m.Sum(nil)
}

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

// Hasher is the hasher that minio-go's streaming signer requires.
type Hasher struct{ hash.Hash }

// NewHasher returns a SHA-256.
func NewHasher() Hasher { return Hasher{sha256.New()} }

// Close does nothing.
func (Hasher) Close() {}
