package e2e

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/aws/smithy-go/logging"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/sigv4"
)

// canonicalOf captures the canonical request that the SDK's signer logs.
type canonicalOf struct{ text string }

// Logf implements logging.Logger.
func (c *canonicalOf) Logf(_ logging.Classification, format string, v ...any) {
	text := fmt.Sprintf(format, v...)
	_, rest, ok := strings.Cut(text, "CANONICAL STRING  ]-----------------------------\n")
	if !ok {
		return
	}
	c.text, _, _ = strings.Cut(rest, "\n---[ STRING TO SIGN")
}

// TestAgainstTheSDK signs random requests with aws-sdk-go-v2, in headers and in URLs. It compares
// the canonical requests, and the verifier must accept each request.
//
// Scenarios: S13.
func TestAgainstTheSDK(t *testing.T) { differential(t, 20_000) }

// TestLongSigV4 is the same with a million requests.
func TestLongSigV4(t *testing.T) {
	long(t)
	differential(t, 1_000_000)
}

func differential(t *testing.T, n int) {
	random := testkit.Random(t)
	pick := func(from ...string) string { return testkit.Pick(random, from...) }
	text := func(n int) string { return testkit.Text(random, n) }
	now := time.Now().UTC().Truncate(time.Second)
	verifier := &sigv4.Verifier{Region: region, Keys: sigv4.StaticKeys{accessKey: secretKey}, Now: func() time.Time { return now }}
	credentials := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	for i := range n {
		var logged canonicalOf
		signer := v4.NewSigner(func(o *v4.SignerOptions) {
			o.DisableURIPathEscaping, o.LogSigning, o.Logger = true, true, &logged
		})
		path := "/bucket/" + text(30)
		query := url.Values{}
		for range random.IntN(5) {
			query.Set(pick("prefix", "marker", "acl", "list-type", "list-typf", "uploadId", "partNumber", "versionId", "x-id", "response-content-type", "max-keys", "A", "b", "tagging"), text(15))
		}
		r := &http.Request{Method: pick("GET", "PUT", "POST", "DELETE", "HEAD"), Header: http.Header{}, Host: pick("127.0.0.1:9000", "s3.example.com", "bucket.s3.example.com:8443"),
			URL: &url.URL{Scheme: "https", Path: path, RawPath: awsPath(path), RawQuery: strings.ReplaceAll(query.Encode(), "+", "%20")}}
		r.URL.Host = r.Host
		for range random.IntN(6) {
			name := pick("Content-Type", "X-Amz-Meta-Note", "X-Amz-Acl", "Range", "Content-Md5", "If-Match", "X-Amz-Storage-Class", "Cache-Control", "X-Amz-Tagging", "Amz-Sdk-Request", "Accept")
			r.Header.Set(name, strings.Map(func(c rune) rune {
				if c < ' ' && c != '\t' {
					return '?'
				}
				return c
			}, text(25)))
		}
		payload := pick("UNSIGNED-PAYLOAD", "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD")
		var err error
		var signed []string
		if random.IntN(2) == 0 {
			r.Header.Set("X-Amz-Content-Sha256", payload)
			if payload == "STREAMING-AWS4-HMAC-SHA256-PAYLOAD" {
				r.Header.Set("X-Amz-Decoded-Content-Length", "0")
			}
			if random.IntN(2) == 0 {
				r.ContentLength = int64(random.IntN(1000))
			}
			err = signer.SignHTTP(context.Background(), credentials, r, payload, "s3", region, now)
			signed = sigv4.SignedHeaders(r)
		} else {
			payload = "UNSIGNED-PAYLOAD"
			r.URL.RawQuery += "&X-Amz-Expires=" + strconv.Itoa(1+random.IntN(604800))
			var target string
			var headers http.Header
			target, headers, err = signer.PresignHTTP(context.Background(), credentials, r, payload, "s3", region, now)
			if err == nil {
				r.URL, err = url.Parse(target)
			}
			if err == nil {
				signed = strings.Split(r.URL.Query().Get("X-Amz-SignedHeaders"), ";")
				for name := range r.Header { // as the client would send it
					if !slices.Contains(signed, strings.ToLower(name)) {
						r.Header.Del(name)
					}
				}
				for name, values := range headers {
					if name != "Host" {
						r.Header[name] = values
					}
				}
			}
		}
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		received, err := url.ParseRequestURI(r.URL.RequestURI()) // as a server sees it
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		r.URL = received
		parsed, err := url.ParseQuery(received.RawQuery)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if ours := string(sigv4.CanonicalRequest(r, received.Path, parsed, signed, payload)); ours != logged.text || ours == "" {
			t.Fatalf("request %d: we have\n%q\nand the SDK has\n%q", i, ours, logged.text)
		}
		if id, _, err := verifier.Verify(r, received.Path, parsed); err != nil || id.AccessKey() != accessKey {
			t.Fatalf("request %d: %v\n%q", i, err, logged.text)
		}
	}
}

// awsPath encodes a path as the SDK's S3 client does.
func awsPath(path string) string {
	var b strings.Builder
	for _, c := range []byte(path) {
		if c < 0x80 && strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/", rune(c)) {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	return b.String()
}
