package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestRules: rules of the configuration file determine the freshness of reads. The command line
// explains them, and the running gateway applies changes to them.
func TestRules(t *testing.T) {
	t.Parallel()
	config := writeFile(t, filepath.Join(t.TempDir(), "akigw.toml"), []byte("[[rule]]\nkey = \"still/*\"\nfreshness = \"immutable\"\n"))
	up := versity(t)
	g := startGateway(t, options{plain: true, upstream: up, env: []string{"AKIGW_CONFIG=" + config}})
	through := g.sdk(pair{AccessKeyId: accessKey, SecretAccessKey: secretKey})
	behind := (&gateway{t: t, endpoint: up.endpoint}).sdk(pair{AccessKeyId: upstreamAccessKey, SecretAccessKey: upstreamSecretKey})
	if _, err := through.CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String("rules")}); err != nil {
		t.Fatal(err)
	}
	put := func(key, body string) {
		t.Helper()
		if _, err := behind.PutObject(t.Context(), &s3.PutObjectInput{Bucket: aws.String("rules"), Key: aws.String(key), Body: strings.NewReader(body)}); err != nil {
			t.Fatal(err)
		}
	}
	get := func(key string) string {
		t.Helper()
		out, err := through.GetObject(t.Context(), &s3.GetObjectInput{Bucket: aws.String("rules"), Key: aws.String(key)})
		if err != nil {
			t.Fatal(err)
		}
		return string(readAll(t, out.Body))
	}
	explain := func() string {
		t.Helper()
		cmd := exec.Command(g.binary, "rules", "explain", "rules/still/k")
		cmd.Env = append(os.Environ(), "AKIGW_CONFIG="+config, "AKIGW_CACHE_FRESHNESS=strict")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	for _, key := range []string{"still/k", "k"} {
		put(key, "old")
		if got := get(key); got != "old" {
			t.Fatal(got)
		}
		put(key, "new")
	}
	if still, other := get("still/k"), get("k"); still != "old" || other != "new" {
		t.Errorf("immutable: %s, strict: %s", still, other)
	}
	if text := explain(); !strings.Contains(text, `"immutable"`) || !strings.Contains(text, config+":3") || !strings.Contains(text, "default") {
		t.Errorf("explained as\n%s", text)
	}
	writeFile(t, config, []byte("[[rule]]\nkey = \"other/*\"\nfreshness = \"immutable\"\n"))
	eventually(t, "the changed file was not applied", func() bool { return get("still/k") == "new" })
	if text := explain(); strings.Contains(text, "immutable") {
		t.Errorf("explained as\n%s", text)
	}
}
