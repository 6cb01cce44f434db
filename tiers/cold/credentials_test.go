package cold

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
)

// signedBy sends a request with c and returns the access key and session token that it was signed
// with.
func signedBy(t *testing.T, u *Upstream, seen *http.Header) (key, token string) {
	t.Helper()
	resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	_, rest, _ := strings.Cut((*seen).Get("Authorization"), "Credential=")
	key, _, _ = strings.Cut(rest, "/")
	return key, (*seen).Get("X-Amz-Security-Token")
}

func capturing(t *testing.T, change func(c *Config)) (*Upstream, *http.Header) {
	seen := new(http.Header)
	u := scripted(t, func(r *http.Request) (*http.Response, error) {
		*seen = r.Header
		return status(200)
	}, func(c *Config) {
		c.AccessKey, c.SecretKey = "", ""
		change(c)
	})
	return u, seen
}

// TestCredentialSources: keys come from the configured source.
func TestCredentialSources(t *testing.T) {
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_ROLE_ARN",
		"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_ACCESS_KEY", "AWS_SECRET_KEY", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "credentials")
	write := func(path, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(file, "[default]\naws_access_key_id = FILEKEY\naws_secret_access_key = filesecret\n[other]\naws_access_key_id = OTHERKEY\naws_secret_access_key = othersecret\naws_session_token = othertoken\n")
	write(filepath.Join(dir, "token"), "the-web-identity-token")
	expires := time.Now().Add(time.Hour).UTC().Format(time.RFC3339)
	role := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == "PUT": // IMDSv2
			fmt.Fprint(w, "metadata-token")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/"):
			fmt.Fprint(w, "the-role")
		case strings.HasSuffix(r.URL.Path, "/security-credentials/the-role"):
			fmt.Fprintf(w, `{"Code":"Success","AccessKeyId":"ROLEKEY","SecretAccessKey":"rolesecret","Token":"roletoken","Expiration":%q}`, expires)
		case r.Method == "POST":
			if r.FormValue("WebIdentityToken") != "the-web-identity-token" || r.FormValue("RoleArn") != "arn:aws:iam::1:role/r" {
				http.Error(w, "no", 400)
				return
			}
			fmt.Fprintf(w, `<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>WEBKEY</AccessKeyId><SecretAccessKey>websecret</SecretAccessKey><SessionToken>webtoken</SessionToken><Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>`, expires)
		}
	}))
	defer role.Close()
	for _, c := range []struct {
		name       string
		change     func(c *Config)
		env        map[string]string
		key, token string
	}{
		{"static", func(c *Config) { c.AccessKey, c.SecretKey = "STATICKEY", "secretsecret" }, nil, "STATICKEY", ""},
		{"environment", func(c *Config) { c.Credentials = "environment" }, map[string]string{"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "s", "AWS_SESSION_TOKEN": "envtoken"}, "ENVKEY", "envtoken"},
		{"file", func(c *Config) { c.Credentials, c.CredentialsFile = "file", file }, nil, "FILEKEY", ""},
		{"profile", func(c *Config) { c.Credentials, c.CredentialsFile, c.CredentialsProfile = "file", file, "other" }, nil, "OTHERKEY", "othertoken"},
		{"instance", func(c *Config) { c.Credentials, c.CredentialsEndpoint = "instance", role.URL }, nil, "ROLEKEY", "roletoken"},
		{"web identity", func(c *Config) {
			c.Credentials, c.CredentialsEndpoint, c.WebIdentityTokenFile, c.RoleARN = "web-identity", role.URL, filepath.Join(dir, "token"), "arn:aws:iam::1:role/r"
		}, nil, "WEBKEY", "webtoken"},
		{"chain, first", func(c *Config) { c.Credentials, c.CredentialsFile = "chain", file }, map[string]string{"AWS_ACCESS_KEY_ID": "ENVKEY", "AWS_SECRET_ACCESS_KEY": "s"}, "ENVKEY", ""},
		{"chain, second", func(c *Config) { c.Credentials, c.CredentialsFile = "chain", file }, nil, "FILEKEY", ""},
		{"chain, last", func(c *Config) {
			c.Credentials, c.CredentialsFile, c.CredentialsEndpoint = "chain", filepath.Join(dir, "absent"), role.URL
		}, nil, "ROLEKEY", "roletoken"},
	} {
		t.Run(c.name, func(t *testing.T) {
			for name, value := range c.env {
				t.Setenv(name, value)
			}
			u, seen := capturing(t, c.change)
			if key, token := signedBy(t, u, seen); key != c.key || token != c.token {
				t.Errorf("signed by %q with token %q, want %q and %q", key, token, c.key, c.token)
			}
		})
	}
	t.Run("none", func(t *testing.T) {
		u, _ := capturing(t, func(c *Config) { c.Credentials, c.Retries = "environment", 0 })
		if _, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read}); err == nil || !strings.Contains(err.Error(), "credentials for the upstream") {
			t.Errorf("no keys anywhere: %v", err)
		}
	})
}

// TestRotatedKeysAreFetchedAgain: after a 403 the file is read again.
//
// Scenarios: A18.
func TestRotatedKeysAreFetchedAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "credentials")
	write := func(key string) {
		if err := os.WriteFile(file, fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = s\n", key), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("OLD")
	var seen string
	u := scripted(t, func(r *http.Request) (*http.Response, error) {
		if seen = r.Header.Get("Authorization"); strings.Contains(seen, "Credential=OLD/") {
			return status(403)
		}
		return status(200)
	}, func(c *Config) {
		c.AccessKey, c.SecretKey, c.Credentials, c.CredentialsFile = "", "", "file", file
	})
	for n, want := range []int{403, 200} {
		resp, err := u.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: read})
		if err != nil || resp.StatusCode != want {
			t.Fatalf("request %d: %v %v, want %d; signed %s", n, resp, err, want, seen)
		}
		write("NEW")
	}
}

// TestUpstreamsByBucket: the requests of each bucket go to the upstream that owns it.
func TestUpstreamsByBucket(t *testing.T) {
	further := func(name, buckets, url string) FurtherConfig {
		c := FurtherConfig{Name: name, Buckets: buckets}
		c.SetDefaults()
		c.URL, c.AccessKey, c.SecretKey = url, "key-of-"+name, "secretsecret"
		return c
	}
	standard := Config{URL: "http://default.example.com", AccessKey: "key-of-default", SecretKey: "secretsecret"}
	standard.SetDefaults()
	var host, authorization string
	us, err := NewUpstreams(standard, []FurtherConfig{further("logs", "logs-*, audit", "http://logs.example.com"), further("media", "logs-media, media", "http://media.example.com")},
		PoolConfig{PoolSize: 1, IdleTimeoutSecs: 1}, func(http.RoundTripper) http.RoundTripper {
			return script(func(r *http.Request) (*http.Response, error) {
				host, authorization = r.Host, r.Header.Get("Authorization")
				return status(200)
			})
		})
	if err != nil {
		t.Fatal(err)
	}
	defer us.Close()
	for bucket, want := range map[string]string{"logs-2026": "logs", "audit": "logs", "logs-media": "logs", "media": "media", "mediax": "default", "": "default"} {
		if got := us.Owner(bucket); got != want {
			t.Errorf("%q belongs to %s, want %s", bucket, got, want)
		}
		resp, err := us.Do(context.Background(), &Request{Op: "Test", Method: "GET", Key: akigw.Key{Bucket: bucket}})
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if host != want+".example.com" || !strings.Contains(authorization, "key-of-"+want) {
			t.Errorf("%q went to %s, signed %s", bucket, host, authorization)
		}
	}
	if us.Origin("media") == us.Origin("other") || us.Origin("logs-a") != us.Origin("audit") {
		t.Error("origins do not follow the endpoints")
	}
	resp, err := us.Do(context.Background(), &Request{Op: "Test", Method: "GET", Upstream: "media"})
	if err != nil || host != "media.example.com" {
		t.Errorf("by name: %v %v %s", resp, err, host)
	}
	if _, err := NewUpstreams(standard, []FurtherConfig{further("a", "x", "http://a"), further("a", "y", "http://b")}, PoolConfig{PoolSize: 1, IdleTimeoutSecs: 1}, nil); err == nil {
		t.Error("two upstreams with the same name were accepted")
	}
}
