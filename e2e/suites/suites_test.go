// Package suites runs the acceptance suites of other projects, unchanged, against an S3 service.
// TestSuites of package e2e builds it once, runs it directly against an upstream and through the
// gateway, and compares the results. It is a package of its own because the suites bring many
// dependencies, and 128 MiB of random bytes that one of them makes at start.
//
// kopia's test of its S3 provider is not among them: its packages are internal to kopia, so that
// nothing outside can import them.
package suites

import (
	"context"
	"net/http"
	"net/url"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	distribution "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"github.com/go-kit/log"
	"github.com/thanos-io/objstore"
	"github.com/thanos-io/objstore/providers/s3"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
	"gocloud.dev/blob/s3blob"
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

// TestDistribution is the suite of the storage drivers of github.com/distribution/distribution, which is
// the registry of container images.
func TestDistribution(t *testing.T) {
	s := under(t)
	testsuites.Driver(t, func() (storagedriver.StorageDriver, error) {
		return distribution.FromParameters(t.Context(), map[string]any{
			"regionendpoint": s.endpoint, "region": region, "bucket": s.bucket, "accesskey": s.accessKey, "secretkey": s.secretKey,
			"secure": false, "forcepathstyle": true, "rootdirectory": "/distribution",
		})
	}, false)
}

// TestGocloud is the conformance test of gocloud.dev/blob, with both ways to list.
func TestGocloud(t *testing.T) {
	s := under(t)
	for _, lists := range []string{"v2", "v1"} {
		t.Run(lists, func(t *testing.T) {
			h := harness{s, &s3blob.Options{UseLegacyList: lists == "v1"}}
			drivertest.RunConformanceTests(t, func(context.Context, *testing.T) (drivertest.Harness, error) { return h, nil }, nil)
		})
	}
}

// harness implements drivertest.Harness.
type harness struct {
	service
	options *s3blob.Options
}

func (h harness) MakeDriver(ctx context.Context) (driver.Bucket, error) { return h.open(ctx, h.bucket) }

func (h harness) MakeDriverForNonexistentBucket(ctx context.Context) (driver.Bucket, error) {
	return h.open(ctx, "no-such-bucket-of-the-suite")
}

func (h harness) open(ctx context.Context, bucket string) (driver.Bucket, error) {
	client := awss3.New(awss3.Options{BaseEndpoint: aws.String(h.endpoint), UsePathStyle: true, Region: region,
		Credentials: credentials.NewStaticCredentialsProvider(h.accessKey, h.secretKey, "")})
	b, err := s3blob.OpenBucket(ctx, client, bucket, h.options)
	if err != nil {
		return nil, err
	}
	return driverOf(b), nil
}

// driverOf returns the driver in a bucket. The suite tests drivers, and the package does not export
// how to make one.
func driverOf(b *blob.Bucket) driver.Bucket {
	field := reflect.ValueOf(b).Elem().FieldByName("b")
	return reflect.NewAt(field.Type(), field.Addr().UnsafePointer()).Elem().Interface().(driver.Bucket)
}

func (h harness) HTTPClient() *http.Client { return &http.Client{} }

func (h harness) SupportsCopy() bool { return true }

func (h harness) SupportsNonSlashDelimiters() bool { return true }

func (h harness) Close() {}
