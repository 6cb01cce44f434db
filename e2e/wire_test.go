package e2e

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestTLSAndVirtualHosts uses the SDK over TLS, with the bucket in the host name and the trailing
// checksums that the SDK sends over TLS. It renews the certificate meanwhile.
func TestTLSAndVirtualHosts(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	pool := x509.NewCertPool()
	pool.AddCert(testkit.Certify(t, certFile, keyFile, "first", "localhost", "*.localhost"))
	g := startGateway(t, options{env: []string{"AKIGW_TLS_CERT=" + certFile, "AKIGW_TLS_KEY=" + keyFile}})
	addr := strings.TrimPrefix(g.endpoint, "http://")
	_, port, _ := net.SplitHostPort(addr)
	var served string
	transport := &http.Transport{
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) { // BUCKET.localhost does not resolve everywhere
			return (&net.Dialer{}).DialContext(ctx, network, addr)
		},
		TLSClientConfig: &tls.Config{RootCAs: pool, VerifyConnection: func(s tls.ConnectionState) error {
			served = s.PeerCertificates[0].Subject.CommonName
			return nil
		}},
	}
	defer transport.CloseIdleConnections()
	client := s3.New(s3.Options{Region: region, BaseEndpoint: aws.String("https://localhost:" + port), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")})
	if _, err := client.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("hosted")}); err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{10, 300_000} {
		body := testkit.Bytes(uint64(byte(size)), size)
		if _, err := client.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("hosted"), Key: aws.String("a//b c"), Body: io.MultiReader(strings.NewReader(string(body))), ContentLength: aws.Int64(int64(size))}); err != nil {
			t.Fatal(err)
		}
		out, err := client.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("hosted"), Key: aws.String("a//b c")})
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, out.Body); string(got) != string(body) {
			t.Errorf("%d bytes, want %d", len(got), size)
		}
	}
	if served != "first" {
		t.Errorf("served %q", served)
	}
	pool.AddCert(testkit.Certify(t, certFile, keyFile, "second", "localhost", "*.localhost"))
	eventually(t, "the new certificate is not in use", func() bool {
		transport.CloseIdleConnections()
		_, err := client.HeadBucket(t.Context(), &s3.HeadBucketInput{Bucket: aws.String("hosted")})
		return err == nil && served == "second"
	})
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	old := tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS11})
	if err := old.Handshake(); err == nil {
		t.Error("S1: TLS 1.1 is accepted")
	}
}

// TestFloods: slow heads are cut off in time, connections over the limit are refused, and a good
// client notices neither.
//
// Scenarios: E1, E3.
func TestFloods(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{env: []string{"AKIGW_MAX_CONNECTIONS=200"}})
	good := g.sdk(pair{AccessKeyId: accessKey, SecretAccessKey: secretKey})
	if _, err := good.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("shared")}); err != nil {
		t.Fatal(err)
	}
	put := func() error {
		_, err := good.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("shared"), Key: aws.String("k"), Body: strings.NewReader("hello")})
		return err
	}
	if err := put(); err != nil {
		t.Fatal(err)
	}
	var wait sync.WaitGroup
	var mu sync.Mutex
	cut, refused := 0, 0
	start := time.Now()
	for range 300 {
		wait.Go(func() {
			conn, err := net.Dial("tcp", strings.TrimPrefix(g.endpoint, "http://"))
			if err != nil {
				return
			}
			defer conn.Close()
			conn.SetDeadline(time.Now().Add(40 * time.Second))
			go func() {
				for range 60 {
					if _, err := io.WriteString(conn, "G"); err != nil {
						return
					}
					time.Sleep(500 * time.Millisecond)
				}
			}()
			_, err = io.ReadAll(conn)
			mu.Lock()
			defer mu.Unlock()
			if took := time.Since(start); took < 5*time.Second {
				refused++
			} else if err == nil || !os.IsTimeout(err) {
				cut++
			}
		})
	}
	for range 30 { // on its open connection
		if err := put(); err != nil {
			t.Errorf("a good client: %v", err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	wait.Wait()
	if cut < 150 || refused < 80 || time.Since(start) > 20*time.Second {
		t.Errorf("%d cut, %d refused, after %v", cut, refused, time.Since(start))
	}
	if err := put(); err != nil {
		t.Errorf("afterwards: %v", err)
	}
	if n := g.metric("akigw_wire_refused_connections_total"); n < 80 {
		t.Errorf("%v connections were counted as refused", n)
	}
}
