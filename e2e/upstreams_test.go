package e2e

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
)

// TestSeveralUpstreams: requests go to the upstream that owns the bucket, for one of them with keys
// from a credentials file. ListBuckets returns the buckets of all upstreams. When a bucket moves to
// another upstream, its cached data is dropped.
func TestSeveralUpstreams(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	first, second := versity(t), versity(t)
	dir := t.TempDir()
	keys := writeFile(t, filepath.Join(dir, "credentials"), fmt.Appendf(nil, "[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", upstreamAccessKey, upstreamSecretKey))
	configuration := func(buckets string) string {
		return string(fmt.Appendf(nil, "[[upstreams]]\nname = \"second\"\nbuckets = %q\nurl = %q\ncredentials = \"file\"\ncredentials_file = %q\n\n[[rule]]\nfreshness = \"immutable\"\n", buckets, second.endpoint, keys))
	}
	config := writeFile(t, filepath.Join(dir, "akigw.toml"), []byte(configuration("media-*, archive")))
	g := startGateway(t, options{plain: true, upstream: first, env: []string{"AKIGW_CONFIG=" + config}})
	for _, bucket := range []string{"plain", "media-a", "archive"} {
		g.must("aws", "s3", "mb", "s3://"+bucket)
		g.must("aws", "s3", "cp", "--only-show-errors", keys, "s3://"+bucket+"/k")
		if out := g.must("aws", "s3", "cp", "s3://"+bucket+"/k", "-"); !strings.Contains(out, "aws_access_key_id") {
			t.Errorf("%s: %q", bucket, out)
		}
	}
	listed := func(endpoint string) string {
		p := pair{AccessKeyId: upstreamAccessKey, SecretAccessKey: upstreamSecretKey}
		out, err := (&gateway{t: t, endpoint: endpoint}).sdk(p).ListBuckets(t.Context(), &s3.ListBucketsInput{})
		if err != nil {
			t.Fatal(err)
		}
		names := []string{}
		for _, b := range out.Buckets {
			names = append(names, aws.ToString(b.Name))
		}
		return strings.Join(names, " ")
	}
	if a, b := listed(first.endpoint), listed(second.endpoint); a != "plain" || b != "archive media-a" {
		t.Errorf("the first has %q, the second %q", a, b)
	}
	if out := g.must("aws", "s3api", "list-buckets", "--query", "Buckets[].Name", "--output", "text"); strings.Join(strings.Fields(out), " ") != "archive media-a plain" {
		t.Errorf("through the gateway: %q", out)
	}
	if _, err := g.run("aws", "s3api", "copy-object", "--bucket", "plain", "--key", "copy", "--copy-source", "archive/k"); err == nil || !strings.Contains(err.Error(), "different upstreams") {
		t.Errorf("a copy from one upstream to the other: %v", err)
	}
	g.must("aws", "s3api", "copy-object", "--bucket", "media-a", "--key", "copy", "--copy-source", "archive/k")

	// The bucket "archive" now belongs to the first upstream, which does not have it.
	g.stop()
	writeFile(t, config, []byte(configuration("media-*")))
	g.start()
	if _, err := g.run("aws", "s3", "cp", "s3://archive/k", "-"); err == nil {
		t.Error("an object of the other upstream is still served")
	}
	if out := g.must("aws", "s3", "cp", "s3://media-a/k", "-"); !strings.Contains(out, "aws_access_key_id") || g.objectGets() != 0 {
		t.Errorf("a bucket that was not moved: %q, %d GETs upstream", out, g.objectGets())
	}
}
