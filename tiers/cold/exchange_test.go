package cold

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/sigv4"
)

// TestSignedWithTheKeysOfTheMoment: an upstream accepts only the keys that its account has at the moment.
// Requests are signed with those after midnight, and after a rotation that leaves the access key as it is:
// a derived key is not used for another secret or another day.
//
// Scenarios: A14, A18.
func TestSignedWithTheKeysOfTheMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		value := func(n int) credentials.Value {
			return credentials.Value{AccessKeyID: "KEY", SecretAccessKey: fmt.Sprint("secret-number-", n), SessionToken: fmt.Sprint("token-", n), Expiration: time.Now().Add(time.Hour)}
		}
		var current atomic.Int64
		s := &source{hand: func(_ context.Context, n int) (credentials.Value, error) {
			current.Store(int64(n))
			return value(n), nil
		}}
		u := scripted(t, func(r *http.Request) (*http.Response, error) {
			now := sigv4.Credential{Secret: value(int(current.Load())).SecretAccessKey, Token: value(int(current.Load())).SessionToken}
			v := sigv4.Verifier{Region: "us-east-1", Keys: oneKey{now}}
			if _, _, err := v.Verify(r, r.URL.Path, r.URL.Query()); err != nil {
				return nil, err
			}
			return status(200)
		}, func(c *Config) { c.Region = "us-east-1" })
		defer u.Close()
		u.keyring = newKeyringOf(s, false, nil, newCounters(nil))
		days := map[string]bool{}
		for n := range 300 {
			if code, err, _ := try(u, t.Context()); code != 200 {
				t.Fatalf("request %d at %v: %v", n, time.Now().UTC(), err)
			}
			days[time.Now().UTC().Format(time.DateOnly)] = true
			time.Sleep(31 * time.Minute) // after the second one the keys have expired, and the next request waits for others
		}
		if current.Load() != 150 || len(days) < 6 {
			t.Errorf("%d rotations on %d days", current.Load(), len(days))
		}
	})
}

// oneKey has one credential, whatever the access key.
type oneKey struct{ sigv4.Credential }

func (k oneKey) Lookup(string) (sigv4.Credential, bool) { return k.Credential, true }

// BenchmarkExchange sends requests through all layers to a transport that responds at once: what the
// gateway adds to each upstream request.
func BenchmarkExchange(b *testing.B) {
	instant := script(func(r *http.Request) (*http.Response, error) {
		if r.Body != nil {
			if _, err := io.Copy(io.Discard, r.Body); err != nil {
				return nil, err
			}
			r.Body.Close()
		}
		return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Date": {"Mon, 01 Jan 2024 00:00:00 GMT"}}, Body: http.NoBody}, nil
	})
	data := make([]byte, 4096)
	for _, c := range []struct {
		name string
		r    Request
	}{
		{"PutObject", Request{Op: "PutObject", Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "a/typical/key.parquet"}, Header: http.Header{"Content-Type": {"application/octet-stream"}, "X-Amz-Meta-Mtime": {"1700000000.25"}}, Length: int64(len(data))}},
		{"UploadPart", Request{Op: "UploadPart", Method: "PUT", Key: akigw.Key{Bucket: "bucket", Name: "a/typical/key.parquet"}, Query: url.Values{"partNumber": {"7"}, "uploadId": {"VXBsb2FkIElE"}}, Length: int64(len(data))}},
		{"GetObject", Request{Op: "GetObject", Method: "GET", Key: akigw.Key{Bucket: "bucket", Name: "a/typical/key.parquet"}, Header: http.Header{"Range": {"bytes=0-65535"}}}},
	} {
		b.Run(c.name, func(b *testing.B) {
			u := scripted(b, instant, func(c *Config) { c.Region = "us-east-1" })
			defer u.Close()
			body := bytes.NewReader(data)
			b.ReportAllocs()
			for b.Loop() {
				r := c.r
				if r.Length > 0 {
					body.Reset(data)
					r.Body = body
				}
				resp, err := u.Do(context.Background(), &r)
				if err != nil {
					b.Fatal(err)
				}
				resp.Body.Close()
			}
		})
	}
}
