package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// embeddedRound tests what the embedded upstream promises, through the gateway and over TLS, where
// boto3 sends the checksum of a streamed body as a trailer.
const embeddedRound = `
import base64, boto3, hashlib, io, os, zlib
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError
s3 = boto3.client('s3')
b = 'embedded-bucket'
def refused(code, f, **k):
    try:
        f(Bucket=b, **k)
    except ClientError as e:
        assert e.response['Error']['Code'] == code, (code, k.keys(), e)
        return
    assert False, 'not refused: %s %s' % (code, k)
def sums(r):
    return {k: v for k, v in r.items() if k.startswith('Checksum')}
def digest(algorithm, body):
    return base64.b64encode(zlib.crc32(body).to_bytes(4, 'big') if algorithm == 'CRC32' else hashlib.new(algorithm, body).digest()).decode()
s3.create_bucket(Bucket=b)
for size in (0, 1000, 3 << 20):
    for algorithm in ('CRC32', 'SHA1', 'SHA256'):
        body = os.urandom(size)
        want = {'Checksum' + algorithm: digest(algorithm, body), 'ChecksumType': 'FULL_OBJECT'}
        r = s3.put_object(Bucket=b, Key='k', Body=io.BytesIO(body), ChecksumAlgorithm=algorithm)
        assert sums(r) == want, (size, 'put', sums(r), want)
        for i in range(2):
            assert sums(s3.head_object(Bucket=b, Key='k', ChecksumMode='ENABLED')) == want
            g = s3.get_object(Bucket=b, Key='k', ChecksumMode='ENABLED')
            assert sums(g) == want and g['Body'].read() == body, (size, 'get', sums(g), want)
big = os.urandom(12 << 20)
config = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20)
chunks = [big[i:i + (5 << 20)] for i in range(0, len(big), 5 << 20)]
for algorithm in ('CRC32', 'SHA1', 'SHA256'):
    s3.upload_fileobj(io.BytesIO(big), b, 'big', ExtraArgs={'ChecksumAlgorithm': algorithm}, Config=config)
    joined = b''.join(base64.b64decode(digest(algorithm, c)) for c in chunks)
    want = {'Checksum' + algorithm: digest(algorithm, joined) + '-3', 'ChecksumType': 'COMPOSITE'}
    h = s3.head_object(Bucket=b, Key='big', ChecksumMode='ENABLED')
    assert sums(h) == want, (sums(h), want)
    assert s3.get_object(Bucket=b, Key='big', ChecksumMode='ENABLED')['Body'].read() == big
    a = s3.get_object_attributes(Bucket=b, Key='big', ObjectAttributes=['Checksum', 'ObjectParts'])
    assert a['Checksum'] == want and [sums(p) for p in a['ObjectParts']['Parts']] == [{'Checksum' + algorithm: digest(algorithm, c)} for c in chunks], a
s3.upload_fileobj(io.BytesIO(big), b, 'big', ExtraArgs={'ChecksumAlgorithm': 'CRC32', 'ChecksumType': 'FULL_OBJECT'}, Config=config)
assert sums(s3.head_object(Bucket=b, Key='big', ChecksumMode='ENABLED')) == {'ChecksumCRC32': digest('CRC32', big), 'ChecksumType': 'FULL_OBJECT'}
refused('InvalidRequest', s3.copy_object, Key='big', CopySource={'Bucket': b, 'Key': 'big'})
s3.copy_object(Bucket=b, Key='big', CopySource={'Bucket': b, 'Key': 'big'}, MetadataDirective='REPLACE', Metadata={'a': 'b'})
up = s3.create_multipart_upload(Bucket=b, Key='parts', ChecksumAlgorithm='SHA256')
assert sums(up) == {'ChecksumAlgorithm': 'SHA256', 'ChecksumType': 'COMPOSITE'}, up
part = dict(Key='parts', UploadId=up['UploadId'], PartNumber=1, CopySource={'Bucket': b, 'Key': 'big'})
for r in ('bytes=0-%d' % len(big), 'bytes=0-', 'bytes=-5', 'bytes=5-4', '0-5', 'bytes=0-1,3-4'):
    refused('InvalidArgument', s3.upload_part_copy, CopySourceRange=r, **part)
p = s3.upload_part_copy(Bucket=b, CopySourceRange='bytes=0-%d' % ((5 << 20) - 1), **part)['CopyPartResult']
assert sums(p) == {'ChecksumSHA256': digest('SHA256', chunks[0])}, p
done = {'Parts': [{'PartNumber': 1, 'ETag': p['ETag'], 'ChecksumSHA256': p['ChecksumSHA256']}]}
there = s3.put_object(Bucket=b, Key='parts', Body=b'there')['ETag']
complete = dict(Key='parts', UploadId=up['UploadId'], MultipartUpload=done)
refused('PreconditionFailed', s3.complete_multipart_upload, IfNoneMatch='*', **complete)
refused('PreconditionFailed', s3.complete_multipart_upload, IfMatch='"x"', **complete)
refused('InvalidRequest', s3.complete_multipart_upload, MpuObjectSize=1, **complete)
assert s3.get_object(Bucket=b, Key='parts')['Body'].read() == b'there'
s3.complete_multipart_upload(Bucket=b, IfMatch=there, **complete)
assert s3.get_object(Bucket=b, Key='parts')['Body'].read() == chunks[0]
for k in (dict(ACL='public-read'), dict(Tagging='a=b'), dict(ServerSideEncryption='AES256'), dict(ObjectLockLegalHoldStatus='ON'), dict(ExpectedBucketOwner='123456789012')):
    refused('NotImplemented', s3.put_object, Key='parts', Body=b'x', **k)
refused('InvalidStorageClass', s3.put_object, Key='parts', Body=b'x', StorageClass='STANDARD_IA')
assert s3.get_object(Bucket=b, Key='parts')['Body'].read() == chunks[0]
print('done')
`

// TestEmbeddedUpstream: requests that the embedded upstream supports succeed for the client, and
// the others are refused.
func TestEmbeddedUpstream(t *testing.T) {
	needPython(t, "boto3")
	t.Parallel()
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	testkit.Certify(t, cert, key, "gateway", "localhost")
	for name, env := range map[string][]string{"tls": {"AKIGW_TLS_CERT=" + cert, "AKIGW_TLS_KEY=" + key}, "plain": nil} {
		g := startGateway(t, options{upstream: embedded(t), env: env})
		if env != nil {
			g.endpoint = strings.Replace(g.endpoint, "http://127.0.0.1", "https://localhost", 1)
		}
		script := "import os; os.environ['AWS_CA_BUNDLE'] = " + `"` + cert + `"` + "\n" + embeddedRound
		if out := g.must("python3", "-c", script); !strings.Contains(out, "done") {
			t.Errorf("%s: %s", name, out)
		}
	}
}
