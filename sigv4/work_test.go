package sigv4

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw/internal/s3err"
)

// TestRefusalsAreTheSameWork: the cost of refusing a wrong signature does not reveal whether an access
// key exists or was used today. Each refusal derives exactly one key, and none of them is cached.
func TestRefusalsAreTheSameWork(t *testing.T) {
	v := &Verifier{Region: "us-east-1", Keys: credentials{
		"busy":    {Secret: "secretsecret"},
		"idle":    {Secret: "secretsecret"},
		"expired": {Secret: "secretsecret", Token: "token"},
	}}
	ask := func(key, secret string) error {
		u := &url.URL{Scheme: "http", Host: "127.0.0.1:9000", Path: "/bucket/key"}
		r := http.Request{Method: "GET", URL: u, Host: u.Host, Header: http.Header{"X-Amz-Content-Sha256": {emptySHA256}}}
		_, _, err := verify(v, signer.SignV4(r, key, secret, "", "us-east-1"))
		return err
	}
	for range 3 {
		if err := ask("busy", "secretsecret"); err != nil {
			t.Fatal(err)
		}
	}
	if n := v.signing.derived.Load(); n != 1 {
		t.Errorf("three requests of one key derived %d keys, want 1", n)
	}
	for _, key := range []string{"busy", "idle", "expired", "unknown"} {
		for n := range 3 {
			before := v.signing.derived.Load()
			if err := ask(key, "another-secret"); !errors.Is(err, s3err.SignatureDoesNotMatch) {
				t.Fatal(err)
			}
			if work := v.signing.derived.Load() - before; work != 1 {
				t.Errorf("%s, refusal %d: %d keys derived, want 1", key, n+1, work)
			}
		}
	}
	for n := range 2 * maxSigningKeys {
		if err := ask(fmt.Sprintf("invented-%d", n), "another-secret"); err == nil {
			t.Fatal("an invented key was taken")
		}
	}
	before := v.signing.derived.Load()
	if err := ask("busy", "secretsecret"); err != nil || v.signing.derived.Load() != before {
		t.Errorf("after a flood of invented keys the real one is derived anew: %v", err)
	}
	if n := len(v.signing.keys); n != 1 {
		t.Errorf("%d keys are remembered, want 1", n)
	}
}
