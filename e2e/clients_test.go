package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/minio/minio-go/v7"
	miniocredentials "github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// Every client does the same sequence: put, get, range, list, multipart, copy, delete. big exceeds
// the multipart threshold of all of them.
var (
	small = testkit.Bytes(1, 10_000)
	big   = testkit.Bytes(2, 17<<20)
)

// TestLongClients runs every client in front of every upstream.
func TestLongClients(t *testing.T) {
	long(t)
	for name, test := range map[string]func(*testing.T){"aws": TestAWSCLI, "boto3": TestBoto3, "aws-sdk-go-v2": TestAWSSDKGoV2, "minio-go": TestMinioGo, "s3cmd": TestS3cmd, "rclone": TestRclone,
		"restic": TestRestic, "s3fs": TestS3fs, "javascript": TestJavaScript} {
		t.Run(name, test)
	}
}

func TestAWSCLI(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	program, _ := exec.LookPath("aws")
	other := "/usr/bin/aws" // Debian's version 2, besides another one
	if _, err := os.Stat(other); err == nil && program != other {
		t.Run("version 2", func(t *testing.T) { awsCLI(t, other) })
		if os.Getenv("AKIGW_PROOF") == "" && os.Getenv("AKIGW_LONG") == "" {
			return // each of them starts Python two hundred times; the older one is for make quick
		}
	}
	t.Run("on the path", func(t *testing.T) { awsCLI(t, program) })
}

func awsCLI(t *testing.T, program string) {
	inFrontOf(t, starters{versity}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		aws := func(args ...string) string {
			t.Helper()
			return g.must(program, append([]string{"--endpoint-url", g.endpoint}, args...)...)
		}
		one, two := writeFile(t, filepath.Join(dir, "in", "a file+1.txt"), small), writeFile(t, filepath.Join(dir, "in", "sub", "big.bin"), big)
		back := filepath.Join(dir, "back")
		aws("s3", "mb", "s3://clibucket")
		aws("s3", "cp", one, "s3://clibucket/x/")
		aws("s3", "sync", filepath.Join(dir, "in"), "s3://clibucket/sync")
		aws("s3", "sync", "s3://clibucket/sync", back)
		if !bytes.Equal(readFile(t, filepath.Join(back, "a file+1.txt")), small) || !bytes.Equal(readFile(t, filepath.Join(back, "sub", "big.bin")), big) {
			t.Error("sync returned wrong bytes")
		}
		if out := aws("s3", "ls", "--recursive", "s3://clibucket"); strings.Count(out, "\n") != 3 || !strings.Contains(out, "sync/a file+1.txt") {
			t.Errorf("ls: %s", out)
		}
		part := filepath.Join(dir, "part")
		aws("s3api", "get-object", "--bucket", "clibucket", "--key", "sync/sub/big.bin", "--range", "bytes=1000000-2000000", part)
		if !bytes.Equal(readFile(t, part), big[1000000:2000001]) {
			t.Error("the wrong range was returned")
		}
		aws("s3", "cp", "s3://clibucket/x/a file+1.txt", "s3://clibucket/copy of it")
		aws("s3", "cp", "s3://clibucket/sync/sub/big.bin", "s3://clibucket/bigcopy")
		aws("s3", "cp", "s3://clibucket/bigcopy", part)
		if !bytes.Equal(readFile(t, part), big) {
			t.Error("the copy has wrong bytes")
		}
		url := strings.TrimSpace(aws("s3", "presign", "s3://clibucket/copy of it"))
		resp, err := http.Get(url)
		if err != nil || resp.StatusCode != 200 || !bytes.Equal(readAll(t, resp.Body), small) {
			t.Errorf("presigned GET: %v %v", err, resp)
		}
		aws("s3api", "put-object", "--bucket", "clibucket", "--key", "checked", "--body", two, "--checksum-algorithm", "SHA256")
		aws("s3", "mv", "s3://clibucket/checked", "s3://clibucket/moved")
		aws("s3", "rm", "--recursive", "s3://clibucket")
		if out := aws("s3", "ls", "--recursive", "s3://clibucket"); out != "" {
			t.Errorf("left after rm: %s", out)
		}
		aws("s3", "rb", "s3://clibucket")
		if _, err := g.run(program, "--endpoint-url", g.endpoint, "s3", "ls", "s3://clibucket"); err == nil || !strings.Contains(err.Error(), "NoSuchBucket") {
			t.Errorf("ls of a removed bucket: %v", err)
		}
	})
}

const botoRound = `
import boto3, hashlib, os, sys
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
s3 = boto3.client('s3')
small, big = open(sys.argv[1], 'rb').read(), open(sys.argv[2], 'rb').read()
b = 'botobucket'
s3.create_bucket(Bucket=b)
r = s3.put_object(Bucket=b, Key='k/ü +%', Body=small, Metadata={'color': 'blue'}, ContentType='text/x-test', CacheControl='max-age=7')
assert r['ETag'] == '"%s"' % hashlib.md5(small).hexdigest(), r
for i in range(2):
    g = s3.get_object(Bucket=b, Key='k/ü +%')
    body = g['Body'].read()
    assert len(body) == len(small), len(body)
    assert body == small
    assert g['Metadata'] == {'color': 'blue'} and g['ContentType'] == 'text/x-test' and g['CacheControl'] == 'max-age=7', g
    h = s3.head_object(Bucket=b, Key='k/ü +%')
    assert h['ContentLength'] == len(small) and h['ETag'] == r['ETag'], h
assert s3.get_object(Bucket=b, Key='k/ü +%', Range='bytes=10-19')['Body'].read() == small[10:20]
try:
    s3.get_object(Bucket=b, Key='k/ü +%', IfNoneMatch=r['ETag']); assert False
except ClientError as e:
    assert e.response['ResponseMetadata']['HTTPStatusCode'] == 304
try:
    s3.get_object(Bucket=b, Key='none'); assert False
except ClientError as e:
    assert e.response['Error']['Code'] == 'NoSuchKey', e
config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
s3.upload_file(sys.argv[2], b, 'big', Config=config)
s3.download_file(b, 'big', sys.argv[2] + '.back', Config=config)
assert open(sys.argv[2] + '.back', 'rb').read() == big
assert '-4' in s3.head_object(Bucket=b, Key='big')['ETag']
s3.copy_object(Bucket=b, Key='copy', CopySource={'Bucket': b, 'Key': 'k/ü +%'})
assert s3.get_object(Bucket=b, Key='copy')['Body'].read() == small
s3.copy_object(Bucket=b, Key='copy', CopySource={'Bucket': b, 'Key': 'copy'}, MetadataDirective='REPLACE', Metadata={'color': 'red'})
assert s3.head_object(Bucket=b, Key='copy')['Metadata'] == {'color': 'red'}
for i in range(7):
    s3.put_object(Bucket=b, Key='list/%d/x' % i, Body=b'')
pages = list(s3.get_paginator('list_objects_v2').paginate(Bucket=b, Prefix='list/', Delimiter='/', PaginationConfig={'PageSize': 3}))
assert [p['Prefix'] for page in pages for p in page.get('CommonPrefixes', [])] == ['list/%d/' % i for i in range(7)], pages
pages = list(s3.get_paginator('list_objects').paginate(Bucket=b, PaginationConfig={'PageSize': 4}))
keys = [o['Key'] for page in pages for o in page['Contents']]
assert keys == sorted(keys) and len(keys) == 10 and 'k/ü +%' in keys, keys
up = s3.create_multipart_upload(Bucket=b, Key='aborted')['UploadId']
s3.upload_part(Bucket=b, Key='aborted', UploadId=up, PartNumber=1, Body=small)
assert len(s3.list_parts(Bucket=b, Key='aborted', UploadId=up)['Parts']) == 1
assert up in [u['UploadId'] for u in s3.list_multipart_uploads(Bucket=b)['Uploads']]
s3.abort_multipart_upload(Bucket=b, Key='aborted', UploadId=up)
d = s3.delete_objects(Bucket=b, Delete={'Objects': [{'Key': k} for k in keys]})
assert len(d['Deleted']) == 10 and not d.get('Errors'), d
assert s3.list_objects_v2(Bucket=b)['KeyCount'] == 0
s3.delete_bucket(Bucket=b)
print('done')
`

func TestBoto3(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	inFrontOf(t, starters{embedded, moto, versity}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		one, two := writeFile(t, filepath.Join(dir, "one"), small), writeFile(t, filepath.Join(dir, "two"), big)
		if out := g.must("python3", "-c", botoRound, one, two); !strings.Contains(out, "done") {
			t.Error(out)
		}
	})
}

// botoPresigned uses presigned URLs of a client without any settings but the endpoint. boto3 signs them with version 2.
const botoPresigned = `
import boto3, http.client, sys, time
from urllib.parse import urlsplit
s3 = boto3.client('s3', endpoint_url=sys.argv[1])
b, key = 'presigned', 'k/ü +%'
s3.create_bucket(Bucket=b)
def ask(method, url, body=None, **headers):
    u = urlsplit(url)
    c = http.client.HTTPConnection(u.netloc)
    c.request(method, u.path + '?' + u.query, body, {k.replace('_', '-'): v for k, v in headers.items()})
    r = c.getresponse()
    return r.status, r.headers, r.read()
def url(op, expires=60, **params):
    u = s3.generate_presigned_url(op, Params={'Bucket': b, 'Key': key, **params}, ExpiresIn=expires)
    assert 'AWSAccessKeyId=' in u and 'X-Amz-' not in u, u
    return u
assert ask('PUT', url('put_object'), b'body')[0] == 200
for i in range(2):
    status, headers, body = ask('GET', url('get_object'))
    assert (status, body) == (200, b'body'), (status, body)
for i in range(600): # a write-back object is read from the overlay until it is flushed
    if headers['x-akigw-cache'] != 'overlay':
        break
    time.sleep(0.05)
    status, headers, body = ask('GET', url('get_object'))
assert headers['x-akigw-cache'] == 'hot', headers
assert ask('GET', url('get_object'), Range='bytes=1-2')[2] == b'od'
assert ask('GET', url('get_object', ResponseContentType='text/x-other; a="b&c"'))[1]['Content-Type'] == 'text/x-other; a="b&c"'
assert ask('HEAD', url('head_object'))[1]['Content-Length'] == '4'
typed = url('put_object', ContentType='text/x-test', Metadata={'color': 'blue'})
for headers in ({}, {'Content_Type': 'text/x-test'}, {'Content_Type': 'text/x-test', 'x_amz_meta_color': 'blue'}):
    assert ask('PUT', typed, b'typed', **headers)[0] == 200, headers
    h = s3.head_object(Bucket=b, Key=key)
    assert (h['ContentType'], h['Metadata']) == ('text/x-test', {'color': 'blue'}), h
for name, want in {'Content_Type': b'SignatureDoesNotMatch', 'x_amz_acl': b'SignatureDoesNotMatch', 'Cache_Control': b'AccessDenied'}.items():
    status, _, body = ask('PUT', typed, b'evil', **{name: 'public-read'})
    assert status == 403 and b'<Code>' + want in body, (name, status, body)
part = s3.create_multipart_upload(Bucket=b, Key=key)['UploadId']
status, headers, _ = ask('PUT', url('upload_part', UploadId=part, PartNumber=1), b'a part')
assert status == 200
s3.complete_multipart_upload(Bucket=b, Key=key, UploadId=part, MultipartUpload={'Parts': [{'PartNumber': 1, 'ETag': headers['ETag']}]})
assert ask('GET', url('get_object'))[2] == b'a part'
for u in (url('get_object', expires=0), url('get_object', expires=8*24*3600), url('get_object') + '&x=1'):
    assert ask('GET', u)[0] == 403, u
assert ask('GET', url('get_object').replace('presigned/', 'presigned/x'))[0] == 403
assert ask('GET', s3.generate_presigned_url('list_objects_v2', Params={'Bucket': b}))[0] == 400
assert ask('DELETE', url('delete_object'))[0] == 204
assert ask('GET', url('get_object'))[0] == 404
s3.put_object(Bucket=b, Key=key, Body=b'for the command line')
print('done')
`

// TestPresignedWithoutSettings: presigned URLs of boto3 and of both versions of the aws command line work for
// clients that know nothing but endpoint and keys.
//
// Scenarios: S6.
func TestPresignedWithoutSettings(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	inFrontOf(t, starters{embedded}, func(t *testing.T, g *gateway) {
		if out := g.must("python3", "-c", botoPresigned, g.endpoint); !strings.Contains(out, "done") {
			t.Fatal(out)
		}
		for _, program := range []string{"aws", "/usr/bin/aws"} {
			version, err := g.run(program, "--version")
			if err != nil {
				t.Logf("no %s", program)
				continue
			}
			url := strings.TrimSpace(g.must(program, "--endpoint-url", g.endpoint, "s3", "presign", "s3://presigned/k/ü +%"))
			if strings.HasPrefix(version, "aws-cli/1.") != strings.Contains(url, "AWSAccessKeyId=") {
				t.Errorf("%s presigned %s", version, url)
			}
			resp, err := http.Get(url)
			if err != nil || resp.StatusCode != 200 || string(readAll(t, resp.Body)) != "for the command line" {
				t.Errorf("%s: GET %s: %v %v", version, url, err, resp)
			}
		}
	})
}

func TestAWSSDKGoV2(t *testing.T) {
	t.Parallel()
	inFrontOf(t, starters{embedded, versity}, func(t *testing.T, g *gateway) {
		ctx := context.Background()
		client := s3.New(s3.Options{Region: region, BaseEndpoint: &g.endpoint, UsePathStyle: true, Credentials: credentials.NewStaticCredentialsProvider(accessKey, secretKey, "")})
		bucket := aws.String("sdkbucket")
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		_, err := client.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: bucket})
		check(err)
		for _, algorithm := range []types.ChecksumAlgorithm{"", types.ChecksumAlgorithmCrc32c, types.ChecksumAlgorithmSha256, types.ChecksumAlgorithmCrc64nvme} {
			key := aws.String("put-" + string(algorithm))
			_, err = client.PutObject(ctx, &s3.PutObjectInput{Bucket: bucket, Key: key, Body: bytes.NewReader(small), ChecksumAlgorithm: algorithm})
			check(err)
			for range 2 {
				got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: key, ChecksumMode: types.ChecksumModeEnabled})
				check(err)
				if !bytes.Equal(readAll(t, got.Body), small) {
					t.Errorf("%s: other bytes", *key)
				}
			}
		}
		up, err := client.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: bucket, Key: aws.String("multi"), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
		check(err)
		var parts []types.CompletedPart
		for i, chunk := range slices.Collect(slices.Chunk(big, 6<<20)) {
			n := aws.Int32(int32(i + 1))
			p, err := client.UploadPart(ctx, &s3.UploadPartInput{Bucket: bucket, Key: up.Key, UploadId: up.UploadId, PartNumber: n, Body: bytes.NewReader(chunk), ChecksumAlgorithm: types.ChecksumAlgorithmCrc32})
			check(err)
			parts = append(parts, types.CompletedPart{PartNumber: n, ETag: p.ETag, ChecksumCRC32: p.ChecksumCRC32})
		}
		_, err = client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{Bucket: bucket, Key: up.Key, UploadId: up.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts}})
		check(err)
		for range 2 {
			got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: up.Key})
			check(err)
			if !bytes.Equal(readAll(t, got.Body), big) {
				t.Error("multipart: other bytes")
			}
		}
		got, err := client.GetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: up.Key, Range: aws.String("bytes=-1000")})
		check(err)
		if !bytes.Equal(readAll(t, got.Body), big[len(big)-1000:]) {
			t.Error("suffix range: other bytes")
		}
		_, err = client.CopyObject(ctx, &s3.CopyObjectInput{Bucket: bucket, Key: aws.String("copy"), CopySource: aws.String("sdkbucket/multi")})
		check(err)
		presigned, err := s3.NewPresignClient(client).PresignGetObject(ctx, &s3.GetObjectInput{Bucket: bucket, Key: aws.String("copy"), ResponseContentType: aws.String("image/png")})
		check(err)
		resp, err := http.Get(presigned.URL)
		check(err)
		if body := readAll(t, resp.Body); !bytes.Equal(body, big) || resp.Header.Get("Content-Type") != "image/png" {
			t.Errorf("presigned: %d %v", len(body), resp.Header)
		}
		list, err := client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: bucket})
		check(err)
		if len(list.Contents) < 6 {
			t.Errorf("listed %d objects", len(list.Contents))
		}
		for _, o := range list.Contents {
			_, err = client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: bucket, Key: o.Key})
			check(err)
			if _, err := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: bucket, Key: o.Key}); err == nil {
				t.Errorf("%s still exists after its deletion", *o.Key)
			}
		}
		_, err = client.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: bucket})
		check(err)
	})
}

func TestMinioGo(t *testing.T) {
	t.Parallel()
	inFrontOf(t, starters{embedded, versity}, func(t *testing.T, g *gateway) {
		ctx := context.Background()
		client, err := minio.New(strings.TrimPrefix(g.endpoint, "http://"), &minio.Options{Creds: miniocredentials.NewStaticV4(accessKey, secretKey, ""), Region: region, TrailingHeaders: true})
		if err != nil {
			t.Fatal(err)
		}
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		const bucket = "miniobucket"
		check(client.MakeBucket(ctx, bucket, minio.MakeBucketOptions{}))
		_, err = client.PutObject(ctx, bucket, "a/small", bytes.NewReader(small), int64(len(small)), minio.PutObjectOptions{SendContentMd5: true, UserMetadata: map[string]string{"Color": "blue"}})
		check(err)
		_, err = client.PutObject(ctx, bucket, "a/big", bytes.NewReader(big), int64(len(big)), minio.PutObjectOptions{PartSize: 5 << 20})
		check(err)
		summed := big[:1<<20] // sent with a trailer
		_, err = client.PutObject(ctx, bucket, "a/summed", bytes.NewReader(summed), int64(len(summed)), minio.PutObjectOptions{Checksum: minio.ChecksumCRC32C})
		check(err)
		for name, want := range map[string][]byte{"a/small": small, "a/big": big, "a/summed": summed} {
			for range 2 {
				o, err := client.GetObject(ctx, bucket, name, minio.GetObjectOptions{})
				check(err)
				if !bytes.Equal(readAll(t, o), want) {
					t.Errorf("%s: other bytes", name)
				}
			}
		}
		var ranged minio.GetObjectOptions
		check(ranged.SetRange(5_000_000, 5_999_999))
		o, err := client.GetObject(ctx, bucket, "a/big", ranged)
		check(err)
		if !bytes.Equal(readAll(t, o), big[5_000_000:6_000_000]) {
			t.Error("range: other bytes")
		}
		_, err = client.CopyObject(ctx, minio.CopyDestOptions{Bucket: bucket, Object: "copy"}, minio.CopySrcOptions{Bucket: bucket, Object: "a/small"})
		check(err)
		info, err := client.StatObject(ctx, bucket, "copy", minio.StatObjectOptions{})
		check(err)
		if info.UserMetadata["Color"] != "blue" {
			t.Errorf("the copy's metadata is %v", info.UserMetadata)
		}
		count := 0
		for o := range client.ListObjects(ctx, bucket, minio.ListObjectsOptions{Recursive: true}) {
			check(o.Err)
			count++
			check(client.RemoveObject(ctx, bucket, o.Key, minio.RemoveObjectOptions{}))
		}
		if count != 4 {
			t.Errorf("listed %d objects", count)
		}
		check(client.RemoveBucket(ctx, bucket))
	})
}

func TestS3cmd(t *testing.T) {
	t.Parallel()
	need(t, "s3cmd")
	inFrontOf(t, starters{moto}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		host := strings.TrimPrefix(g.endpoint, "http://")
		config := writeFile(t, filepath.Join(dir, "s3cfg"), fmt.Appendf(nil, "[default]\naccess_key = %s\nsecret_key = %s\nhost_base = %s\nhost_bucket = %s\nuse_https = False\nbucket_location = %s\n", accessKey, secretKey, host, host, region))
		s3cmd := func(args ...string) string {
			t.Helper()
			return g.must("s3cmd", append([]string{"-c", config, "--no-progress", "--multipart-chunk-size-mb=5"}, args...)...)
		}
		one, two, back := writeFile(t, filepath.Join(dir, "one file"), small), writeFile(t, filepath.Join(dir, "two"), big), filepath.Join(dir, "back")
		s3cmd("mb", "s3://s3cmdbucket")
		s3cmd("put", one, "s3://s3cmdbucket/a/one file")
		s3cmd("put", two, "s3://s3cmdbucket/a/two")
		for remote, want := range map[string][]byte{"a/one file": small, "a/two": big} {
			s3cmd("get", "--force", "s3://s3cmdbucket/"+remote, back)
			if !bytes.Equal(readFile(t, back), want) {
				t.Errorf("%s: other bytes", remote)
			}
		}
		writeFile(t, back, big[:1_000_000])
		s3cmd("get", "--continue", "s3://s3cmdbucket/a/two", back) // a range
		if !bytes.Equal(readFile(t, back), big) {
			t.Error("continued download: wrong bytes")
		}
		s3cmd("cp", "s3://s3cmdbucket/a/one file", "s3://s3cmdbucket/copy")
		if out := s3cmd("ls", "--recursive", "s3://s3cmdbucket"); strings.Count(out, "s3://") != 3 {
			t.Errorf("ls: %s", out)
		}
		s3cmd("del", "--recursive", "--force", "s3://s3cmdbucket")
		s3cmd("rb", "s3://s3cmdbucket")
	})
}

func TestRclone(t *testing.T) {
	t.Parallel()
	need(t, "rclone")
	inFrontOf(t, starters{embedded}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		config := writeFile(t, filepath.Join(dir, "rclone.conf"), fmt.Appendf(nil, "[gw]\ntype = s3\nprovider = Other\naccess_key_id = %s\nsecret_access_key = %s\nendpoint = %s\nregion = %s\nchunk_size = 5Mi\nupload_cutoff = 6Mi\n", accessKey, secretKey, g.endpoint, region))
		rclone := func(args ...string) string {
			t.Helper()
			return g.must("rclone", append([]string{"--config", config}, args...)...)
		}
		writeFile(t, filepath.Join(dir, "in", "one file"), small)
		writeFile(t, filepath.Join(dir, "in", "sub", "two"), big)
		rclone("mkdir", "gw:rclonebucket")
		rclone("sync", filepath.Join(dir, "in"), "gw:rclonebucket/x")
		rclone("check", "--download", filepath.Join(dir, "in"), "gw:rclonebucket/x")
		rclone("copy", "gw:rclonebucket/x", filepath.Join(dir, "back"))
		if !bytes.Equal(readFile(t, filepath.Join(dir, "back", "sub", "two")), big) {
			t.Error("wrong bytes were returned")
		}
		if out := rclone("cat", "--offset", "1000", "--count", "500", "gw:rclonebucket/x/sub/two"); out != string(big[1000:1500]) {
			t.Error("the wrong range was returned")
		}
		rclone("copyto", "gw:rclonebucket/x/one file", "gw:rclonebucket/copy")
		if out := rclone("lsf", "-R", "--files-only", "gw:rclonebucket"); strings.Count(out, "\n") != 3 {
			t.Errorf("lsf: %s", out)
		}
		rclone("delete", "gw:rclonebucket")
		rclone("rmdir", "gw:rclonebucket")
	})
}

func TestRestic(t *testing.T) {
	t.Parallel()
	need(t, "restic")
	inFrontOf(t, starters{moto}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		password := writeFile(t, filepath.Join(dir, "password"), []byte("x"))
		restic := func(args ...string) string {
			t.Helper()
			return g.must("restic", append([]string{"--repo", "s3:" + g.endpoint + "/resticbucket", "--password-file", password, "--no-cache"}, args...)...)
		}
		in := filepath.Join(dir, "in")
		writeFile(t, filepath.Join(in, "one file"), small)
		writeFile(t, filepath.Join(in, "sub", "two"), big)
		restic("init")
		restic("backup", in)
		writeFile(t, filepath.Join(in, "one file"), big[:1000])
		restic("backup", in)
		restic("forget", "--keep-last", "1", "--prune")
		restic("check", "--read-data")
		restic("restore", "latest", "--target", filepath.Join(dir, "back"))
		if back := filepath.Join(dir, "back", in); !bytes.Equal(readFile(t, filepath.Join(back, "one file")), big[:1000]) || !bytes.Equal(readFile(t, filepath.Join(back, "sub", "two")), big) {
			t.Error("wrong bytes were returned")
		}
	})
}

// TestS3fs uses a bucket as a file system directory.
func TestS3fs(t *testing.T) {
	t.Parallel()
	need(t, "s3fs", "fusermount")
	needPython(t, "boto3")
	if fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0); err != nil {
		t.Skip("no file system in user space: ", err)
	} else {
		fuse.Close()
	}
	inFrontOf(t, starters{moto}, func(t *testing.T, g *gateway) {
		dir := t.TempDir()
		keys := writeFile(t, filepath.Join(dir, "keys"), []byte(accessKey+":"+secretKey))
		if err := os.Chmod(keys, 0o600); err != nil {
			t.Fatal(err)
		}
		mount := filepath.Join(dir, "mount")
		if err := os.Mkdir(mount, 0o700); err != nil {
			t.Fatal(err)
		}
		g.must("python3", "-c", "import boto3; boto3.client('s3').create_bucket(Bucket='fsbucket')")
		g.must("s3fs", "fsbucket", mount, "-o", "passwd_file="+keys+",url="+g.endpoint+",use_path_request_style,endpoint="+region+",multipart_size=5")
		defer g.must("fusermount", "-u", "-z", mount)
		sub := filepath.Join(mount, "sub")
		if err := os.Mkdir(sub, 0o700); err != nil {
			t.Fatal(err)
		}
		writeFile(t, filepath.Join(mount, "one file"), small)
		writeFile(t, filepath.Join(sub, "two"), big)
		if err := os.Rename(filepath.Join(sub, "two"), filepath.Join(mount, "moved")); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(readFile(t, filepath.Join(mount, "one file")), small) || !bytes.Equal(readFile(t, filepath.Join(mount, "moved")), big) {
			t.Error("wrong bytes were returned")
		}
		if err := os.RemoveAll(sub); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(mount); err != nil || len(left) != 2 {
			t.Errorf("%v left over, %v", left, err)
		}
	})
}

func TestJavaScript(t *testing.T) {
	t.Parallel()
	need(t, "node")
	if _, err := os.Stat("js/node_modules"); err != nil {
		t.Skip("npm install --prefix e2e/js has not been run")
	}
	inFrontOf(t, starters{embedded}, func(t *testing.T, g *gateway) {
		if out := g.must("node", "js/clients.mjs", g.endpoint); !strings.Contains(out, "done") {
			t.Error(out)
		}
	})
}
