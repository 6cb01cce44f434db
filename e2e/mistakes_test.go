package e2e

import (
	"bytes"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestMistakesOfNewUsers: each mistake causes a message that says how to fix it.
func TestMistakesOfNewUsers(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	up.Put(keyIn("bucket", "k"), []byte("body"))
	g := startGateway(t, options{upstream: behind, plain: true})
	binary := build(t, plain)
	// The program's output when it is started like this.
	starts := func(env []string, args ...string) string {
		t.Helper()
		cmd := exec.Command(binary, args...)
		cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "AKIGW_LISTEN=127.0.0.1:0", "AKIGW_ADMIN_LISTEN=127.0.0.1:0", "AKIGW_DATA=" + filepath.Join(t.TempDir(), "data")}, env...)
		var out bytes.Buffer
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		done := make(chan error, 1)
		go func() { done <- cmd.Wait() }()
		select {
		case err := <-done:
			if err == nil {
				t.Errorf("%v: it exited with 0: %s", args, &out)
			}
		case <-time.After(30 * time.Second):
			_ = cmd.Process.Kill()
			<-done
			t.Errorf("%v: it started: %s", args, &out)
		}
		return out.String()
	}
	// The response to a client.
	asks := func(accessKey, secret, region string, age time.Duration) string {
		t.Helper()
		r, err := http.NewRequest("GET", g.endpoint+"/bucket/k", nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("X-Amz-Content-Sha256", "UNSIGNED-PAYLOAD")
		key := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secret}
		if err := v4.NewSigner().SignHTTP(t.Context(), key, r, "UNSIGNED-PAYLOAD", "s3", region, time.Now().Add(-age)); err != nil {
			t.Fatal(err)
		}
		return send(t, http.DefaultClient, r)
	}
	config := func(text string, mode os.FileMode) string {
		path := filepath.Join(t.TempDir(), "akigw.toml")
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	cert, key := filepath.Join(t.TempDir(), "cert.pem"), filepath.Join(t.TempDir(), "key.pem")
	testkit.Certify(t, cert, key, "s3.example.com")
	secured := startGateway(t, options{upstream: behind, plain: true, env: []string{"AKIGW_TLS_CERT=" + cert, "AKIGW_TLS_KEY=" + key}})
	get := func(client *http.Client, url string) string {
		r, err := http.NewRequest("GET", url, nil)
		if err != nil {
			t.Fatal(err)
		}
		return send(t, client, r)
	}
	upstream := []string{"AKIGW_UPSTREAM_ACCESS_KEY=a", "AKIGW_UPSTREAM_SECRET_KEY=bbbbbbbb"}
	for _, c := range []struct {
		name string
		says func() string
		want []string
	}{
		{"unknown setting", func() string { return starts(nil, "serve", "--config", config("[cache]\nhot_byte = 1\n", 0o600)) }, []string{"cache.hot_byte", "did you mean cache.hot_bytes?"}},
		{"no TOML", func() string { return starts(nil, "serve", "--config", config("listen = \n", 0o600)) }, []string{"line 1"}},
		{"secret for everybody", func() string {
			return starts(nil, "serve", "--config", config("access_key = \"abcd\"\nsecret_key = \"abcdefghij\"\n", 0o644))
		}, []string{"can be read by others", "chmod 600"}},
		{"no such file", func() string { return starts(nil, "serve", "--config", "/no/such.toml") }, []string{"/no/such.toml", "no such file"}},
		{"port in use", func() string { return starts(nil, "serve", "--listen", busy.Addr().String()) }, []string{"is another process using the port? (--listen)"}},
		{"directory in use", func() string { return starts(nil, "serve", "--data", g.dir) }, []string{"in use by another akigw", "--data"}},
		{"open to the world", func() string { return starts(nil, "serve", "--listen", "0.0.0.0:0") }, []string{"tls_cert", "--allow-plaintext"}},
		{"well-known keys", func() string {
			return starts([]string{"AKIGW_ACCESS_KEY=minioadmin", "AKIGW_SECRET_KEY=minioadmin"}, "serve")
		}, []string{"well-known"}},
		{"upstream without a scheme", func() string { return starts(upstream, "serve", "--upstream", "s3.example.com") }, []string{"http://HOST"}},
		{"upstream without keys", func() string { return starts(nil, "serve", "--upstream", "http://127.0.0.1:1") }, []string{"AKIGW_UPSTREAM_SECRET_KEY"}},
		{"upstream that is not there", func() string {
			return starts(upstream, "doctor", "--upstream", "http://127.0.0.1:1")
		}, []string{"nothing listens on 127.0.0.1:1", "is it running?"}},
		{"https upstream that speaks http", func() string {
			return starts(upstream, "doctor", "--upstream", strings.Replace(g.endpoint, "http", "https", 1))
		}, []string{"speaks plain HTTP", `upstream.url = "http://`}},
		{"misspelt command", func() string { return starts(nil, "server") }, []string{`did you mean "serve"`}},
		{"no gateway runs", func() string { return starts(nil, "status", "--admin", "127.0.0.1:1") }, []string{"no response from a gateway at 127.0.0.1:1"}},
		{"no admin key", func() string { return starts(nil, "purge", "s3://bucket/x") }, []string{"akigw users set operator --admin"}},
		{"disk that is too small", func() string {
			return starts([]string{"AKIGW_CACHE_WARM_BYTES=900TiB", "AKIGW_CACHE_HOT_BYTES=90TiB"}, "doctor")
		}, []string{"cache.warm_bytes", "cache.hot_bytes ="}},

		{"wrong access key", func() string { return asks("nobody", secretKey, region, 0) }, []string{"403", "SignatureDoesNotMatch", "Check your key and signing method"}},
		{"wrong secret", func() string { return asks(accessKey, "another", region, 0) }, []string{"403", "SignatureDoesNotMatch", "Check your key and signing method"}},
		{"wrong region", func() string { return asks(accessKey, secretKey, "eu-west-1", 0) }, []string{"400", "AuthorizationHeaderMalformed", "the region &#34;eu-west-1&#34; is wrong; expecting &#34;us-east-1&#34;"}},
		{"wrong clock", func() string { return asks(accessKey, secretKey, region, time.Hour) }, []string{"403", "RequestTimeTooSkewed"}},
		{"https to a gateway without TLS", func() string {
			return get(&http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}, strings.Replace(g.endpoint, "http", "https", 1)+"/bucket/k")
		}, []string{"server gave HTTP response to HTTPS client"}},
		{"http to a gateway with TLS", func() string {
			return get(http.DefaultClient, secured.endpoint+"/bucket/k")
		}, []string{"400", "use https:// in the endpoint"}},
		{"S3 at the admin listener", func() string { return get(http.DefaultClient, g.admin+"/bucket/k") }, []string{"404", "This is the admin listener", "S3 listener has another address"}},
		{"no keys at all", func() string { return get(http.DefaultClient, g.endpoint+"/bucket/k") }, []string{"403", "AccessDenied"}},
	} {
		if said := c.says(); !containsAll(said, c.want) {
			t.Errorf("%s: not all of %q is in: %s", c.name, c.want, said)
		}
	}
}

// send sends a request. It returns the status and the body, or the error.
func send(t *testing.T, client *http.Client, r *http.Request) string {
	t.Helper()
	resp, err := client.Do(r)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	return resp.Status + " " + string(body)
}

func containsAll(text string, parts []string) bool {
	for _, p := range parts {
		if !strings.Contains(text, p) {
			return false
		}
	}
	return true
}
