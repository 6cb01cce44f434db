package e2e

import (
	"context"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/sigv4"
)

// TestSignerAsTheSDK signs random requests with the gateway's signer of upstream requests and with
// aws-sdk-go-v2, and compares the whole heads: the target, every header, the signature. Three
// differences are known, and left out: the SDK signs Accept-Encoding, which proxies change; it signs the
// Content-Length of a request with a body; and tabs inside header values stay in its canonical request.
//
// Scenarios: S13.
func TestSignerAsTheSDK(t *testing.T) {
	random := testkit.Random(t)
	pick := func(from ...string) string { return testkit.Pick(random, from...) }
	text := func(n int) string { return testkit.Text(random, n) }
	shared := &sigv4.Signer{Region: region}
	for i := range 20_000 {
		at := time.Date(2026, 1, 1, 0, 0, random.IntN(3*24*3600), 0, time.UTC)
		keys := sigv4.KeyPair{AccessKey: pick("AKIA1", "AKIA2"), Secret: pick("secret-one", "secret-two"), Token: pick("", "", "IQoJb3JpZ2lu//token+with=signs==")}
		path := "/" + pick("", "bucket", "bucket/"+text(40), "bucket/"+pick("//", "/..", "/../", "a//b", "a%2Fb", "\xff\xfe")+text(10))
		query := url.Values{}
		for range random.IntN(6) {
			query.Add(pick("prefix", "acl", "list-type", "list-typf", "uploadId", "partNumber", "versionId", "A", "b", text(5)), pick("", text(15)))
		}
		query.Del("X-Amz-Signature")
		header := http.Header{"User-Agent": {"akigw"}, "Expect": {"100-continue"}}
		for range random.IntN(6) {
			name := pick("Content-Type", "X-Amz-Acl", "Range", "Content-Md5", "If-Match", "X-Amz-Meta-Note", "X-Amz-Meta-_", "X-Amz-Meta-Z", "X-Amz-Trailer")
			header.Add(name, strings.ReplaceAll(strings.Repeat(" ", random.IntN(3))+text(25)+pick("", "  ", "a   b"), "\t", " "))
		}
		unsigned := func() *http.Request {
			r := &http.Request{Method: "PUT", Header: header.Clone(), Host: "127.0.0.1:9000", URL: &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: path}}
			if i%2 == 0 {
				r.Body = io.NopCloser(strings.NewReader("hello"))
			}
			return r
		}
		digest := pick("", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824")
		ours, theirs := unsigned(), unsigned()
		shared.Sign(ours, query, keys, digest, at)
		declared := ours.Header.Get("X-Amz-Content-Sha256") // the SDK's signer is told
		theirs.URL.RawPath, theirs.URL.RawQuery = awsPath(path), query.Encode()
		theirs.Header.Set("X-Amz-Content-Sha256", declared)
		// One for each request, because it keeps a derived key by access key and day, whatever the secret.
		sdk := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
		credentials := aws.Credentials{AccessKeyID: keys.AccessKey, SecretAccessKey: keys.Secret, SessionToken: keys.Token}
		if err := sdk.SignHTTP(context.Background(), credentials, theirs, declared, "s3", region, at); err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		if ours.URL.RequestURI() != theirs.URL.RequestURI() {
			t.Fatalf("request %d: target\n%s, and the SDK's is\n%s", i, ours.URL.RequestURI(), theirs.URL.RequestURI())
		}
		all := ours.Header.Clone()
		maps.Copy(all, theirs.Header)
		for _, name := range slices.Sorted(maps.Keys(all)) {
			if !slices.Equal(ours.Header[name], theirs.Header[name]) {
				t.Fatalf("request %d: %s:\n%q, and the SDK's is\n%q", i, name, ours.Header[name], theirs.Header[name])
			}
		}
		if ours.Header.Get("Authorization") == "" {
			t.Fatalf("request %d is not signed", i)
		}
	}
}
