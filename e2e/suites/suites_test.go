// Package suites runs the acceptance suites of other projects, unchanged, against an S3 service.
// TestSuites of package e2e builds it once, runs it directly against an upstream and through the
// gateway, and compares the results. It is a package of its own because the suites bring many
// dependencies, and 128 MiB of random bytes that one of them makes at start.
//
// Only objstore's suite, which TestSuites runs, is built by default. The others need the build tag
// "suites", which TestLongSuites sets, so that make test does not compile their dependencies.
//
// kopia's test of its S3 provider is not among them: its packages are internal to kopia, so that
// nothing outside can import them.
package suites

import (
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/s3"
)

const region = "us-east-1"

// service is where the suites run.
type service struct {
	endpoint  string // with its scheme
	host      string
	bucket    string // it exists, and is empty
	accessKey string
	secretKey string
}

// under returns the service of AKIGW_SUITES, which is a URL: http://KEY:SECRET@HOST/BUCKET. Without
// it the test is skipped.
func under(t *testing.T) service {
	t.Helper()
	text := os.Getenv("AKIGW_SUITES")
	if text == "" {
		t.Skip("run by TestSuites and TestLongSuites of package e2e")
	}
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	return service{endpoint: u.Scheme + "://" + u.Host, host: u.Host, bucket: strings.Trim(u.Path, "/"), accessKey: u.User.Username(), secretKey: secret}
}

// TestObjstore is the acceptance test of github.com/thanos-io/objstore: for a bucket, which has to be
// empty, and for a prefix of it, which is listed with ListObjects instead of ListObjectsV2.
func TestObjstore(t *testing.T) {
	s := under(t)
	open := func(lists string) objstore.Bucket {
		config := s3.DefaultConfig
		config.Bucket, config.Endpoint, config.Region, config.Insecure = s.bucket, s.host, region, true
		config.AccessKey, config.SecretKey, config.ListObjectsVersion = s.accessKey, s.secretKey, lists
		bucket, err := s3.NewBucketWithConfig(log.NewNopLogger(), config, "suites", nil)
		if err != nil {
			t.Fatal(err)
		}
		return bucket
	}
	t.Run("bucket", func(t *testing.T) { objstore.AcceptanceTest(t, open("v2")) })
	t.Run("prefix", func(t *testing.T) { objstore.AcceptanceTest(t, objstore.NewPrefixedBucket(open("v1"), "prefix")) })
}
