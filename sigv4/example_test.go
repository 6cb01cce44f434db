package sigv4_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
)

// A handler verifies a request with a key store, and reads the body only through the Payload.
func Example() {
	verifier := &sigv4.Verifier{Region: "us-east-1", Keys: sigv4.StaticKeys{"AKIDEXAMPLE": "a-secret-of-the-user"}}
	handle := func(r *http.Request) {
		query, err := sigv4.ParseQuery(r.URL.RawQuery)
		if err != nil {
			fmt.Println("malformed query")
			return
		}
		identity, payload, err := verifier.Verify(r, r.URL.Path, query)
		if errors.Is(err, s3err.SignatureDoesNotMatch) {
			fmt.Println("wrong signature")
			return
		}
		defer payload.Close()
		body, err := io.ReadAll(payload) // fails unless everything that was signed about the body holds
		fmt.Printf("%s sends %q, %v\n", identity.AccessKey(), body, err)
	}

	r, _ := http.NewRequest("PUT", "http://127.0.0.1:9000/bucket/key", strings.NewReader("hello"))
	r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
	signed := signer.SignV4(*r, "AKIDEXAMPLE", "a-secret-of-the-user", "", "us-east-1")
	handle(signed)

	signed.Header.Set("X-Amz-Date", time.Now().Add(time.Minute).UTC().Format("20060102T150405Z"))
	handle(signed)
	// Output:
	// AKIDEXAMPLE sends "hello", <nil>
	// wrong signature
}

// A client signs a request just before it sends it. What a Verifier accepts is what was signed.
func ExampleSigner() {
	signer := &sigv4.Signer{Region: "us-east-1"}
	keys := sigv4.KeyPair{AccessKey: "AKIDEXAMPLE", Secret: "a-secret-of-the-user"}
	target := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: "/bucket/a key"}
	r := &http.Request{Method: "GET", URL: target, Header: http.Header{"Range": {"bytes=0-9"}}}
	signer.Sign(r, url.Values{"versionId": {"3/L4"}}, keys, "", time.Date(2013, 5, 24, 0, 0, 0, 0, time.UTC))
	fmt.Println(r.URL)
	credential, _, _ := strings.Cut(r.Header.Get("Authorization"), ", ")
	fmt.Println(credential, sigv4.SignedHeaders(r))
	// Output:
	// http://127.0.0.1:9000/bucket/a%20key?versionId=3%2FL4
	// AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20130524/us-east-1/s3/aws4_request [host range x-amz-content-sha256 x-amz-date]
}
