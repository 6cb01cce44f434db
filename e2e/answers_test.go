package e2e

import (
	"crypto/md5"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/s3xml"
	"github.com/akidb/akigw/internal/testing/s3client"
)

// botoControls lists, deletes and uploads keys that XML 1.0 cannot represent.
const botoControls = `
import boto3, botocore
from botocore.config import Config
s3 = boto3.client('s3', config=Config(retries={'total_max_attempts': 1}))
keys = sorted(['a\x01b', 'c\rd', 'e\nf', 'g\x1f/h', 'i\tj'])
for key in keys:
    s3.put_object(Bucket='controls', Key=key, Body=b'x')
for operation in ('list_objects_v2', 'list_objects'):
    pages = s3.get_paginator(operation).paginate(Bucket='controls', PaginationConfig={'PageSize': 2})
    got = [o['Key'] for page in pages for o in page['Contents']]
    assert sorted(got) == keys, (operation, got)
got = s3.list_objects_v2(Bucket='controls', Delimiter='\x1f')['CommonPrefixes']
assert got == [{'Prefix': 'g\x1f'}], got

# botocore's parser wants XML 1.0, and so refuses what S3 answers here.
for call in (lambda: s3.create_multipart_upload(Bucket='controls', Key='m\x07'), lambda: s3.list_objects_v2(Bucket='controls', EncodingType='')):
    try:
        call()
        assert False, 'botocore reads control characters now'
    except (botocore.parsers.ResponseParserError, botocore.exceptions.ClientError):
        pass
uploads = s3.list_multipart_uploads(Bucket='controls', EncodingType='url')['Uploads']
assert uploads and all(u['Key'] == 'm%07' for u in uploads), uploads
for u in uploads:
    s3.abort_multipart_upload(Bucket='controls', Key='m\x07', UploadId=u['UploadId'])

# It writes line ends as references, and other control characters as they are, which S3 refuses.
done = s3.delete_objects(Bucket='controls', Delete={'Objects': [{'Key': 'c\rd'}, {'Key': 'e\nf'}, {'Key': 'i\tj'}]})
assert sorted(o['Key'] for o in done['Deleted']) == ['c\rd', 'e\nf', 'i\tj'], done
try:
    s3.delete_objects(Bucket='controls', Delete={'Objects': [{'Key': 'a\x01b'}]})
    assert False, 'a bare control character was accepted'
except botocore.exceptions.ClientError as e:
    assert e.response['Error']['Code'] == 'MalformedXML', e
got = [o['Key'] for o in s3.list_objects_v2(Bucket='controls')['Contents']]
assert got == ['a\x01b', 'g\x1f/h'], got
print('done')
`

// TestControlCharacterKeys: real clients that use keys which XML 1.0 cannot represent get the same
// responses as from S3, through the gateway and from its journal.
func TestControlCharacterKeys(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	need(t, "aws")
	for name, config := range map[string]string{"through": "", "back": "[[rule]]\nwrite = \"back\"\n"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := startGateway(t, options{plain: true, upstream: embedded(t), config: config})
			client := &s3client.Client{Endpoint: g.endpoint}
			client.Must(t, "PUT", "/controls", "", nil, nil)
			if out := g.must("python3", "-c", botoControls); !strings.Contains(out, "done") {
				t.Error(out)
			}
			// Without encoding-type, as for a reader that accepts every character reference.
			list := func(query string) (names []string) {
				t.Helper()
				a := client.Must(t, "GET", "/controls", query, nil, nil)
				var page struct {
					Contents []struct{ Key string }
				}
				if err := s3xml.Unmarshal(a.Body, &page); err != nil || a.Status != 200 {
					t.Errorf("%d %v %q", a.Status, err, a.Body)
				}
				for _, o := range page.Contents {
					names = append(names, o.Key)
				}
				return names
			}
			if got := list("list-type=2"); !slices.Equal(got, []string{"a\x01b", "g\x1f/h"}) {
				t.Errorf("listed %q", got)
			}
			if out := g.must("aws", "s3api", "list-objects-v2", "--bucket", "controls", "--query", "Contents[].Key", "--output", "json"); !strings.Contains(out, `a\u0001b`) || !strings.Contains(out, `g\u001f/h`) {
				t.Errorf("aws s3api list-objects-v2: %s", out)
			}
			g.must("aws", "s3", "rm", "--recursive", "--exclude", "*", "--include", "g*", "s3://controls")
			if got := list(""); !slices.Equal(got, []string{"a\x01b"}) {
				t.Errorf("aws s3 rm left %q", got)
			}
			document := "<Delete><Object><Key>a&#x1;b</Key></Object></Delete>"
			sum := md5.Sum([]byte(document))
			a := client.Must(t, "POST", "/controls", "delete", http.Header{"Content-Md5": {b64(sum[:])}}, []byte(document))
			if a.Status != 200 || !strings.Contains(string(a.Body), "<Deleted><Key>a&#x1;b</Key></Deleted>") || len(list("")) > 0 {
				t.Errorf("DeleteObjects: %d %s, %q left", a.Status, a.Body, list(""))
			}
		})
	}
}

// botoProxied sends its requests in absolute form, as to a proxy. Signature version 2 signs a path as it is
// sent, so that the URL could not be written in another way.
const botoProxied = `
import boto3, os
from botocore.config import Config
endpoint = os.environ['AWS_ENDPOINT_URL']
s3 = boto3.client('s3', config=Config(signature_version='s3v4', proxies={'http': endpoint}, s3={'addressing_style': 'path'}))
s3.put_object(Bucket='targets', Key='a;b c', Body=b'hello')
got = s3.get_object(Bucket='targets', Key='a;b c', ResponseContentDisposition='attachment; filename=x')
assert got['Body'].read() == b'hello' and got['ContentDisposition'] == 'attachment; filename=x', got
assert [o['Key'] for o in s3.list_objects_v2(Bucket='targets', Prefix='a;')['Contents']] == ['a;b c']
print(s3.generate_presigned_url('get_object', Params={'Bucket': 'targets', 'Key': 'a;b c', 'ResponseContentDisposition': 'attachment; filename=x'}))
`

// TestTargetsOfRealClients: absolute-form targets from boto3 and curl, which were told to use a
// proxy, and bare semicolons in a presigned URL.
func TestTargetsOfRealClients(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	need(t, "curl")
	g := startGateway(t, options{plain: true, upstream: embedded(t)})
	client := &s3client.Client{Endpoint: g.endpoint}
	client.Must(t, "PUT", "/targets", "", nil, nil)
	presigned := strings.TrimSpace(g.must("python3", "-c", botoProxied))
	if bare := strings.ReplaceAll(presigned, "%3B", ";"); bare == presigned {
		t.Errorf("no semicolon in %s", presigned)
	} else {
		for _, args := range [][]string{{bare}, {"-x", g.endpoint, bare}, {"-x", g.endpoint, presigned}} {
			if out := g.must("curl", append([]string{"-sSi", "--noproxy", "none"}, args...)...); !strings.Contains(out, "200 OK") || !strings.HasSuffix(out, "hello") || !strings.Contains(out, "attachment; filename=x") {
				t.Errorf("curl %q: %s", args, out)
			}
		}
	}
	if out := g.must("curl", "-sSi", "--noproxy", "none", "-x", g.endpoint, "http://example.com/targets/k"); !strings.Contains(out, "403 Forbidden") {
		t.Errorf("a request whose target and Host header both name another host: %s", out)
	}
	if out := g.must("curl", "-sSi", "--request-target", "http://example.com/targets/k", g.endpoint+"/targets/k"); !strings.Contains(out, "400 Bad Request") {
		t.Errorf("a target for another host than the Host header's: %s", out)
	}
	if out := fmt.Sprint(client.Must(t, "GET", "/targets", "list-type=2&prefix=a%3B", nil, nil)); !strings.Contains(out, "200") {
		t.Error(out)
	}
}
