//go:build suites

package suites

import (
	"context"
	"net/http"
	"reflect"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	storagedriver "github.com/distribution/distribution/v3/registry/storage/driver"
	distribution "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/distribution/distribution/v3/registry/storage/driver/testsuites"
	"gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"
	"gocloud.dev/blob/s3blob"
)

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
