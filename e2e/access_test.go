package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// akigw runs a command as the gateway's operator.
func (g *gateway) akigw(args ...string) (string, error) {
	out, err := g.command(args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("akigw %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// command returns an akigw command, with the environment of the gateway's operator. A keyring that was
// sealed with the race detector can only be opened with it; what needs no keyring runs without it, which is
// quicker.
func (g *gateway) command(args ...string) *exec.Cmd {
	binary := g.binary
	if g.race && g.key.AccessKeyId != "" && !slices.Contains([]string{"keys", "users"}, args[0]) {
		binary = build(g.t, plain)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey, "AKIGW_DATA="+g.dir,
		"AKIGW_LISTEN="+strings.TrimPrefix(g.endpoint, "http://"), "AKIGW_ADMIN_LISTEN="+strings.TrimPrefix(g.admin, "http://"))
	if g.key.AccessKeyId != "" {
		cmd.Env = append(cmd.Env, "AKIGW_ADMIN_ACCESS_KEY="+g.key.AccessKeyId, "AKIGW_ADMIN_SECRET_KEY="+g.key.SecretAccessKey)
	}
	if g.upstream.endpoint != "" {
		cmd.Env = append(cmd.Env, "AKIGW_UPSTREAM="+g.upstream.endpoint, "AKIGW_UPSTREAM_ACCESS_KEY="+upstreamAccessKey, "AKIGW_UPSTREAM_SECRET_KEY="+upstreamSecretKey)
	}
	return cmd
}

func (g *gateway) mustAkigw(args ...string) string {
	g.t.Helper()
	out, err := g.akigw(args...)
	if err != nil {
		g.t.Fatal(err)
	}
	return out
}

// pair is what "keys create --output json" prints.
type pair struct{ AccessKeyId, SecretAccessKey, SessionToken, Expiration string }

func (g *gateway) newKey(args ...string) (p pair) {
	g.t.Helper()
	out := g.mustAkigw(append([]string{"keys", "create", "--output", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		g.t.Fatalf("%v: %s", err, out)
	}
	return p
}

// as runs the AWS CLI with a key pair.
func (g *gateway) as(p pair, args ...string) (string, error) {
	cmd := exec.Command("aws", args...)
	cmd.Env = append(g.clientEnv(), "AWS_ACCESS_KEY_ID="+p.AccessKeyId, "AWS_SECRET_ACCESS_KEY="+p.SecretAccessKey)
	if p.SessionToken != "" {
		cmd.Env = append(cmd.Env, "AWS_SESSION_TOKEN="+p.SessionToken)
	}
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// sdk returns an S3 client of the AWS SDK with a key pair.
func (g *gateway) sdk(p pair) *s3.Client {
	return s3.New(s3.Options{BaseEndpoint: aws.String(g.endpoint), UsePathStyle: true, Region: region, RetryMaxAttempts: 1,
		Credentials: credentials.NewStaticCredentialsProvider(p.AccessKeyId, p.SecretAccessKey, p.SessionToken)})
}

// The operations of the users. Each returns an error as the service does.
func (g *gateway) list(p pair, prefix string) error {
	_, err := g.sdk(p).ListObjectsV2(g.t.Context(), &s3.ListObjectsV2Input{Bucket: aws.String("shared"), Prefix: aws.String(prefix)})
	return err
}

func (g *gateway) put(p pair, key string) error {
	_, err := g.sdk(p).PutObject(g.t.Context(), &s3.PutObjectInput{Bucket: aws.String("shared"), Key: aws.String(key), Body: strings.NewReader("hello")})
	return err
}

func (g *gateway) get(p pair, key string) error {
	out, err := g.sdk(p).GetObject(g.t.Context(), &s3.GetObjectInput{Bucket: aws.String("shared"), Key: aws.String(key)})
	if err == nil {
		readAll(g.t, out.Body)
	}
	return err
}

func (g *gateway) copy(p pair, from, to string) error {
	_, err := g.sdk(p).CopyObject(g.t.Context(), &s3.CopyObjectInput{Bucket: aws.String("shared"), Key: aws.String(to), CopySource: aws.String("shared/" + from)})
	return err
}

func (g *gateway) remove(p pair, key string) error {
	_, err := g.sdk(p).DeleteObject(g.t.Context(), &s3.DeleteObjectInput{Bucket: aws.String("shared"), Key: aws.String(key)})
	return err
}

func (g *gateway) buckets(p pair) error {
	_, err := g.sdk(p).ListBuckets(g.t.Context(), &s3.ListBucketsInput{})
	return err
}

// codeIn returns the service's error code, or "" if there is none.
func codeIn(err error) string {
	var coded smithy.APIError
	if errors.As(err, &coded) {
		return coded.ErrorCode()
	}
	return ""
}

// eventually repeats a check for some seconds, because a running gateway applies changes within one
// second.
func eventually(t *testing.T, what string, try func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !try(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

const tenantPolicy = `{"Version":"2012-10-17","Statement":[
	{"Effect":"Allow","Action":["s3:GetObject","s3:PutObject","s3:DeleteObject"],"Resource":"arn:aws:s3:::shared/NAME/*"},
	{"Effect":"Allow","Action":"s3:ListBucket","Resource":"arn:aws:s3:::shared","Condition":{"StringLike":{"s3:prefix":"NAME/*"}}}]}`

// TestUsers manages users, keys, temporary credentials and anonymous rules with the command line
// and the AWS SDK, while the gateway keeps running.
func TestUsers(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true})
	if _, err := g.sdk(pair{AccessKeyId: accessKey, SecretAccessKey: secretKey}).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("shared")}); err != nil {
		t.Fatal(err)
	}
	keys := map[string]pair{}
	for _, name := range []string{"alice", "bob"} {
		policy := writeFile(t, filepath.Join(t.TempDir(), "policy.json"), []byte(strings.ReplaceAll(tenantPolicy, "NAME", name)))
		g.mustAkigw("users", "set", name, "--policy", policy)
		keys[name] = g.newKey("--user", name)
	}
	eventually(t, "the keys are not in effect", func() bool {
		return g.put(keys["alice"], "alice/f") == nil && g.list(keys["bob"], "bob/") == nil
	})
	alice, bob := keys["alice"], keys["bob"]
	for name, c := range map[string]struct {
		err  error
		code string
	}{
		"alice lists her own":           {g.list(alice, "alice/"), ""},
		"alice lists everything":        {g.list(alice, ""), "AccessDenied"},
		"alice lists buckets":           {g.buckets(alice), "AccessDenied"},
		"bob reads alice's":             {g.get(bob, "alice/f"), "AccessDenied"},
		"bob reads what alice has not":  {g.get(bob, "alice/none"), "AccessDenied"},
		"bob copies alice's":            {g.copy(bob, "alice/f", "bob/f"), "AccessDenied"},
		"bob copies onto alice's":       {g.copy(bob, "bob/f", "alice/f"), "AccessDenied"},
		"bob deletes alice's":           {g.remove(bob, "alice/f"), "AccessDenied"},
		"bob writes his own":            {g.put(bob, "bob/f"), ""},
		"bob reads his own, and is hot": {g.get(bob, "bob/f"), ""},
	} {
		if codeIn(c.err) != c.code || (c.code == "") != (c.err == nil) {
			t.Errorf("%s: %v, want %q", name, c.err, c.code)
		}
	}

	// Temporary credentials.
	short := g.newKey("--user", "alice", "--expires", "5s")
	made := time.Now()
	if short.SessionToken == "" || short.Expiration == "" {
		t.Fatalf("%+v", short)
	}
	eventually(t, "the temporary key is not in effect", func() bool {
		return g.get(short, "alice/f") == nil
	})
	stolen := short
	stolen.SessionToken = ""
	if err := g.list(stolen, "alice/"); codeIn(err) != "InvalidToken" {
		t.Errorf("a temporary key without its token: %v", err)
	}
	time.Sleep(time.Until(made.Add(6 * time.Second)))
	if err := g.list(short, "alice/"); codeIn(err) != "ExpiredToken" {
		t.Errorf("an expired key: %v", err)
	}

	// Anonymous.
	get := func(path string) int {
		resp, err := http.Get(g.endpoint + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	if code := get("/shared/alice/f"); code != 403 {
		t.Errorf("without a rule: %d", code)
	}
	rule := writeFile(t, filepath.Join(t.TempDir(), "rule.json"), []byte(`{"Statement":{"Effect":"Allow","Action":"s3:GetObject","Resource":"arn:aws:s3:::shared/alice/*"}}`))
	g.mustAkigw("users", "set", "anonymous", "--policy", rule)
	eventually(t, "the rule is not in effect", func() bool { return get("/shared/alice/f") == 200 })
	if a, b := get("/shared/bob/f"), get("/shared/alice/none"); a != 403 || b != 404 {
		t.Errorf("beyond the rule: %d, absent: %d", a, b)
	}

	// Admin keys cannot use S3, and S3 keys cannot use the admin API.
	g.mustAkigw("users", "set", "operator", "--admin")
	operator := g.newKey("--user", "operator")
	admin := func(p pair) int {
		r, _ := http.NewRequest("GET", g.admin+"/metrics", nil)
		r.SetBasicAuth(p.AccessKeyId, p.SecretAccessKey)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	eventually(t, "the admin key is not in effect", func() bool { return admin(operator) == 200 })
	if code := admin(keys["alice"]); code != 403 {
		t.Errorf("an S3 key at the admin listener: %d", code)
	}
	if err := g.buckets(operator); codeIn(err) != "SignatureDoesNotMatch" {
		t.Errorf("an admin key can use S3: %v", err)
	}

	// Deleted keys stop working, and restarts change nothing.
	g.mustAkigw("keys", "delete", keys["bob"].AccessKeyId)
	eventually(t, "the deleted key still works", func() bool { return g.list(bob, "bob/") != nil })
	g.stop()
	g.start()
	if err := g.list(alice, "alice/"); err != nil {
		t.Errorf("after a restart: %v", err)
	}
	if list := g.mustAkigw("keys", "list"); strings.Contains(list, keys["alice"].SecretAccessKey) || !strings.Contains(list, keys["alice"].AccessKeyId) {
		t.Errorf("keys list: %s", list)
	}
}

// TestCanary runs clients at debug level with secrets that occur nowhere else, and looks for those
// secrets in everything that the gateway writes or shows.
//
// Scenarios: S45, S46.
func TestCanary(t *testing.T) {
	need(t, "aws")
	t.Parallel()
	g := startGateway(t, options{plain: true, upstream: versity(t), env: []string{"AKIGW_LOG_LEVEL=debug"}})
	policy := writeFile(t, filepath.Join(t.TempDir(), "policy.json"), []byte(`{"Statement":{"Effect":"Allow","Action":"s3:*","Resource":"*"}}`))
	g.mustAkigw("users", "set", "canary", "--policy", policy)
	lasting := g.newKey("--user", "canary")
	temporary := g.newKey("--user", "canary", "--expires", "1h")
	file := writeFile(t, filepath.Join(t.TempDir(), "f"), testkit.Bytes(1, 9<<20))
	var shown bytes.Buffer
	run := func(p pair, args ...string) {
		out, _ := g.as(p, args...) // failed output counts too
		shown.WriteString(out)
	}
	eventually(t, "the keys are not in effect", func() bool { return g.buckets(temporary) == nil })
	run(lasting, "s3", "mb", "s3://canary-bucket")
	signatures := map[string]string{}
	for _, p := range []pair{lasting, temporary} {
		run(p, "s3", "cp", file, "s3://canary-bucket/multipart")
		run(p, "s3", "cp", "s3://canary-bucket/multipart", "-")
		run(p, "s3api", "get-object", "--bucket", "canary-bucket", "--key", "none", "/dev/null")
		out, err := g.as(p, "s3", "presign", "s3://canary-bucket/multipart")
		if err != nil {
			t.Fatal(err)
		}
		v4, err := s3.NewPresignClient(g.sdk(p)).PresignGetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("canary-bucket"), Key: aws.String("multipart")})
		if err != nil {
			t.Fatal(err)
		}
		for _, presigned := range []string{strings.TrimSpace(out), v4.URL} { // version 1 of the command line signs with version 2
			fetch(t, presigned)
			shown.Write(fetch(t, strings.Replace(presigned, "Signature=", "Signature=0", 1)))
			_, signature, _ := strings.Cut(presigned, "Signature=")
			signature, _, _ = strings.Cut(signature, "&")
			decoded, err := url.QueryUnescape(signature)
			if err != nil {
				t.Fatal(err)
			}
			signatures["signature "+signature], signatures["decoded signature "+signature] = signature, decoded
		}
		wrong := p
		wrong.AccessKeyId += "x"
		shown.WriteString(fmt.Sprint(g.buckets(wrong)))
	}
	customer := strings.Repeat("K", 32)
	run(lasting, "s3api", "put-object", "--bucket", "canary-bucket", "--key", "ssec", "--sse-customer-algorithm", "AES256", "--sse-customer-key", customer)
	for _, path := range []string{"/metrics", "/debug/pprof/heap?debug=1", "/debug/pprof/goroutine?debug=2", "/debug/pprof/allocs?debug=1", "/debug/pprof/cmdline"} {
		shown.Write(fetch(t, g.admin+path))
	}
	g.stop()
	shown.WriteString(g.stderr.String())
	if !strings.Contains(g.stderr.String(), `"msg":"request"`) || g.stderr.Len() < 5000 {
		t.Fatalf("nothing was logged, so the test proves nothing (%d bytes)", g.stderr.Len())
	}
	files := testkit.ReadTree(t, g.dir)
	if len(files) < 4 {
		t.Fatalf("%d files", len(files))
	}
	for name, raw := range files {
		shown.WriteString(name)
		shown.Write(raw)
	}
	secrets := map[string]string{"root secret": secretKey, "upstream secret": upstreamSecretKey, "user's secret": lasting.SecretAccessKey, "temporary secret": temporary.SecretAccessKey,
		"session token": temporary.SessionToken, "customer key": customer}
	maps.Copy(secrets, signatures)
	for name, secret := range secrets {
		if len(secret) < 8 {
			t.Fatalf("no %s, so the test proves nothing", name)
		}
		if i := bytes.Index(shown.Bytes(), []byte(secret)); i >= 0 {
			t.Errorf("%s found in %q", name, shown.Bytes()[max(0, i-100):min(shown.Len(), i+100)])
		}
	}
}

func fetch(t *testing.T, url string) []byte {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body) // whatever there is
	return body
}

// TestNoOperationIsMissing compares the coverage page with the operations that the AWS SDK knows.
func TestNoOperationIsMissing(t *testing.T) {
	page := string(readFile(t, "../docs/s3-coverage.md"))
	client := reflect.TypeFor[*s3.Client]()
	n := 0
	for i := range client.NumMethod() {
		m := client.Method(i)
		if m.Type.NumIn() < 3 || m.Type.NumOut() != 2 || !strings.HasSuffix(m.Type.In(2).String(), m.Name+"Input") {
			continue
		}
		n++
		if !strings.Contains(page, "| "+m.Name+" ") && !strings.Contains(page, "also "+m.Name+")") {
			t.Errorf("%s has no row", m.Name)
		}
	}
	if n < 100 {
		t.Errorf("the SDK has only %d operations", n)
	}
}
