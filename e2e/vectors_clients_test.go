package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors"
	"github.com/aws/aws-sdk-go-v2/service/s3vectors/document"
	vectortypes "github.com/aws/aws-sdk-go-v2/service/s3vectors/types"
	"github.com/aws/smithy-go"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// startVectors starts a gateway with vector collections, over the embedded upstream, and returns it when
// it serves them. With listen they have a listener of their own, which endpoint is then the address of.
func startVectors(t *testing.T, listen bool) (g *gateway, endpoint string) {
	t.Helper()
	env := []string{"AKIGW_VECTORS_BUCKET=collections"}
	own := testkit.FreeAddr(t)
	if listen {
		env = append(env, "AKIGW_VECTORS_LISTEN="+own)
	}
	g = startGateway(t, options{env: env, plain: true})
	if endpoint = g.endpoint; listen {
		endpoint = "http://" + own
	}
	g.must("python3", "-c", "import boto3; boto3.client('s3').create_bucket(Bucket='collections')")
	client := vectorsClient(endpoint, accessKey, secretKey)
	deadline := time.Now().Add(time.Minute)
	for {
		_, err := client.ListVectorBuckets(context.Background(), &s3vectors.ListVectorBucketsInput{})
		if err == nil {
			return g, endpoint
		}
		if time.Now().After(deadline) {
			t.Fatalf("vector collections are not served: %v\n%s", err, g.stderr)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func vectorsClient(endpoint, accessKey, secret string) *s3vectors.Client {
	return s3vectors.New(s3vectors.Options{Region: region, BaseEndpoint: &endpoint, RetryMaxAttempts: 1, Credentials: credentials.NewStaticCredentialsProvider(accessKey, secret, "")})
}

// botoVectors does every operation of S3 Vectors with boto3, and some that are refused.
const botoVectors = `
import boto3, datetime, json, sys
from botocore.config import Config
from botocore.exceptions import ClientError
c = boto3.client('s3vectors', endpoint_url=sys.argv[1], config=Config(retries={'total_max_attempts': 1}))
b, i = 'boto.bucket', 'boto-index'
def refused(code, status, f, **kw):
    try:
        f(**kw)
    except ClientError as e:
        assert e.response['Error']['Code'] == code and e.response['ResponseMetadata']['HTTPStatusCode'] == status, (kw, e.response)
        assert e.response['ResponseMetadata']['RequestId'], e.response
        return e.response
    raise AssertionError('%s was not refused' % kw)
arn = c.create_vector_bucket(vectorBucketName=b, tags={'team': 'a b'})['vectorBucketArn']
refused('ConflictException', 409, c.create_vector_bucket, vectorBucketName=b)
got = c.get_vector_bucket(vectorBucketName=b)['vectorBucket']
assert got['vectorBucketArn'] == arn and got['encryptionConfiguration']['sseType'] == 'AES256', got
assert abs((datetime.datetime.now(datetime.timezone.utc) - got['creationTime']).total_seconds()) < 60, got
assert c.get_vector_bucket(vectorBucketArn=arn)['vectorBucket'] == got
assert [x['vectorBucketName'] for x in c.list_vector_buckets(prefix='boto.')['vectorBuckets']] == [b]
index = c.create_index(vectorBucketName=b, indexName=i, dataType='float32', dimension=3, distanceMetric='euclidean',
    metadataConfiguration={'nonFilterableMetadataKeys': ['text']}, tags={'k': 'v'})['indexArn']
assert index == arn + '/index/' + i, index
got = c.get_index(indexArn=index)['index']
assert got['dimension'] == 3 and got['distanceMetric'] == 'euclidean' and got['metadataConfiguration'] == {'nonFilterableMetadataKeys': ['text']}, got
for n in range(5):
    c.create_index(vectorBucketArn=arn, indexName='page-%d' % n, dataType='float32', dimension=1, distanceMetric='cosine')
names = [x['indexName'] for page in c.get_paginator('list_indexes').paginate(vectorBucketName=b, prefix='page', PaginationConfig={'PageSize': 2}) for x in page['indexes']]
assert names == ['page-%d' % n for n in range(5)], names
vectors = [{'key': 'k%d' % n, 'data': {'float32': [n, 0.5, -n / 3]}, 'metadata': {'n': n, 'even': n % 2 == 0, 'tags': ['a', 'é'], 'text': 'x' * 100}} for n in range(200)]
c.put_vectors(vectorBucketName=b, indexName=i, vectors=vectors)
refused('ValidationException', 400, c.put_vectors, indexArn=index, vectors=[{'key': 'nan', 'data': {'float32': [float('nan'), 1, 2]}}])
refused('ValidationException', 400, c.put_vectors, indexArn=index, vectors=[{'key': 'inf', 'data': {'float32': [float('-inf'), 1, 2]}}])
e = refused('ValidationException', 400, c.put_vectors, indexArn=index, vectors=[{'key': 'short', 'data': {'float32': [1, 2]}}])
assert e['fieldList'][0]['path'].startswith('/vectors/0/data'), e
refused('ValidationException', 400, c.put_vectors, indexArn=index, vectors=[vectors[0], vectors[0]])
got = c.get_vectors(indexArn=index, keys=['k7', 'nan', 'none'], returnData=True, returnMetadata=True)['vectors']
assert len(got) == 1 and got[0]['key'] == 'k7' and got[0]['metadata'] == vectors[7]['metadata'], got
assert all(abs(x - y) < 1e-6 for x, y in zip(got[0]['data']['float32'], vectors[7]['data']['float32'])), got
q = c.query_vectors(indexArn=index, topK=3, queryVector={'float32': [7, 0.5, -7 / 3]}, returnDistance=True, returnMetadata=True)
assert q['distanceMetric'] == 'euclidean' and [v['key'] for v in q['vectors']][0] == 'k7' and q['vectors'][0]['distance'] < 1e-5, q
q = c.query_vectors(indexArn=index, topK=10, queryVector={'float32': [7, 0.5, -7 / 3]}, filter={'$and': [{'even': True}, {'n': {'$lt': 9}}]})
assert sorted(v['key'] for v in q['vectors']) == ['k0', 'k2', 'k4', 'k6', 'k8'], q
refused('ValidationException', 400, c.query_vectors, indexArn=index, topK=1, queryVector={'float32': [1, 2, 3]}, filter={'text': 'x'})
refused('ValidationException', 400, c.query_vectors, indexArn=index, topK=101, queryVector={'float32': [1, 2, 3]})
keys = [v['key'] for segment in range(4) for page in c.get_paginator('list_vectors').paginate(indexArn=index, segmentCount=4, segmentIndex=segment, PaginationConfig={'PageSize': 30}) for v in page['vectors']]
assert sorted(keys) == sorted(v['key'] for v in vectors), len(keys)
listed = c.list_vectors(vectorBucketName=b, indexName=i, returnData=True, returnMetadata=True)['vectors']
assert len(listed) == 200 and 'data' in listed[0] and 'metadata' in listed[0], len(listed)
refused('ValidationException', 400, c.list_vectors, indexArn=index, nextToken='garbage')
c.delete_vectors(indexArn=index, keys=['k%d' % n for n in range(100)] + ['none'])
assert len(c.list_vectors(indexArn=index)['vectors']) == 100
assert c.list_tags_for_resource(resourceArn=index)['tags'] == {'k': 'v'}
c.tag_resource(resourceArn=index, tags={'x': 'y', 'k': 'w'})
c.untag_resource(resourceArn=index, tagKeys=['x', 'none'])
assert c.list_tags_for_resource(resourceArn=index)['tags'] == {'k': 'w'}
assert c.list_tags_for_resource(resourceArn=arn)['tags'] == {'team': 'a b'}
refused('NotFoundException', 404, c.get_vector_bucket_policy, vectorBucketName=b)
policy = json.dumps({'Version': '2012-10-17', 'Statement': [{'Effect': 'Deny', 'Principal': '*', 'Action': 's3vectors:DeleteIndex', 'Resource': arn + '/index/*'}]})
c.put_vector_bucket_policy(vectorBucketArn=arn, policy=policy)
assert c.get_vector_bucket_policy(vectorBucketName=b)['policy'] == policy
refused('AccessDeniedException', 403, c.delete_index, indexArn=index)
refused('ValidationException', 400, c.put_vector_bucket_policy, vectorBucketName=b, policy='{}')
c.delete_vector_bucket_policy(vectorBucketName=b)
refused('ConflictException', 409, c.delete_vector_bucket, vectorBucketName=b)
c.delete_index(indexArn=index)
refused('NotFoundException', 404, c.get_index, indexArn=index)
for n in range(5):
    c.delete_index(vectorBucketName=b, indexName='page-%d' % n)
c.delete_vector_bucket(vectorBucketName=b)
refused('NotFoundException', 404, c.get_vector_bucket, vectorBucketName=b)
wrong = boto3.client('s3vectors', endpoint_url=sys.argv[1], aws_access_key_id=sys.argv[2], aws_secret_access_key='wrong-secret-key', config=Config(retries={'total_max_attempts': 1}))
refused('InvalidSignatureException', 403, wrong.list_vector_buckets)
print('done')
`

// TestVectorsBoto3: boto3 does every operation, on both listeners. S3 does not show the objects.
func TestVectorsBoto3(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	for name, listen := range map[string]bool{"S3 listener": false, "own listener": true} {
		t.Run(name, func(t *testing.T) {
			g, endpoint := startVectors(t, listen)
			if out := g.must("python3", "-c", botoVectors, endpoint, accessKey); !strings.Contains(out, "done") {
				t.Error(out)
			}
			out := g.must("python3", "-c", `
import boto3
from botocore.exceptions import ClientError
s3 = boto3.client('s3')
assert s3.list_objects_v2(Bucket='collections')['KeyCount'] == 0
assert 'CommonPrefixes' not in s3.list_objects_v2(Bucket='collections', Delimiter='/')
for f, kw in [(s3.get_object, {'Key': 'vectors/owner.json'}), (s3.put_object, {'Key': 'vectors/x', 'Body': b'x'}), (s3.delete_bucket, {})]:
    try:
        f(Bucket='collections', **kw); assert False, kw
    except ClientError as e:
        assert e.response['Error']['Code'] == 'AccessDenied', e
print('hidden')`)
			if !strings.Contains(out, "hidden") {
				t.Error(out)
			}
		})
	}
}

// TestVectorsAWSCLI: the aws command line does every operation.
func TestVectorsAWSCLI(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	g, endpoint := startVectors(t, false)
	if out, err := g.run("aws", "s3vectors", "help"); err != nil && strings.Contains(out, "invalid choice") {
		t.Skip("this aws command line does not know s3vectors")
	}
	do := func(operation string, args ...string) (answer map[string]any) {
		t.Helper()
		out := g.must("aws", append([]string{"--endpoint-url", endpoint, "--output", "json", "s3vectors", operation}, args...)...)
		if strings.TrimSpace(out) != "" {
			if err := json.Unmarshal([]byte(out), &answer); err != nil {
				t.Fatalf("%s: %v: %s", operation, err, out)
			}
		}
		return answer
	}
	index := []string{"--vector-bucket-name", "cli-bucket", "--index-name", "cli-index"}
	arn := do("create-vector-bucket", "--vector-bucket-name", "cli-bucket")["vectorBucketArn"].(string)
	do("create-index", append(index, "--data-type", "float32", "--dimension", "2", "--distance-metric", "cosine")...)
	do("put-vectors", append(index, "--vectors", `[{"key":"a","data":{"float32":[1,0]},"metadata":{"genre":"drama"}},{"key":"b","data":{"float32":[0,1]}}]`)...)
	if got := do("query-vectors", append(index, "--top-k", "1", "--query-vector", `{"float32":[1,0.1]}`, "--filter", `{"genre":"drama"}`, "--return-distance", "--return-metadata")...); len(got["vectors"].([]any)) != 1 || got["distanceMetric"] != "cosine" {
		t.Errorf("query: %v", got)
	}
	if got := do("get-vectors", append(index, "--keys", "a", "b", "--return-data")...)["vectors"].([]any); len(got) != 2 {
		t.Errorf("get: %v", got)
	}
	if got := do("list-vectors", append(index, "--max-items", "10")...)["vectors"].([]any); len(got) != 2 {
		t.Errorf("list: %v", got)
	}
	do("delete-vectors", append(index, "--keys", "a")...)
	if got := do("get-index", index...)["index"].(map[string]any); got["dimension"] != float64(2) {
		t.Errorf("get-index: %v", got)
	}
	if got := do("get-vector-bucket", "--vector-bucket-name", "cli-bucket")["vectorBucket"].(map[string]any); got["vectorBucketArn"] != arn {
		t.Errorf("get-vector-bucket: %v", got)
	}
	if buckets, indexes := do("list-vector-buckets")["vectorBuckets"].([]any), do("list-indexes", "--vector-bucket-arn", arn)["indexes"].([]any); len(buckets) != 1 || len(indexes) != 1 {
		t.Errorf("lists: %v %v", buckets, indexes)
	}
	do("tag-resource", "--resource-arn", arn, "--tags", "a=b,c=d")
	do("untag-resource", "--resource-arn", arn, "--tag-keys", "a")
	if got := do("list-tags-for-resource", "--resource-arn", arn)["tags"].(map[string]any); len(got) != 1 || got["c"] != "d" {
		t.Errorf("tags: %v", got)
	}
	policy := fmt.Sprintf(`{"Statement":[{"Effect":"Allow","Principal":{"AWS":"arn:aws:iam::000000000000:user/alice"},"Action":"s3vectors:QueryVectors","Resource":"%s/*"}]}`, arn)
	do("put-vector-bucket-policy", "--vector-bucket-name", "cli-bucket", "--policy", policy)
	if got := do("get-vector-bucket-policy", "--vector-bucket-name", "cli-bucket")["policy"]; got != policy {
		t.Errorf("policy: %v", got)
	}
	do("delete-vector-bucket-policy", "--vector-bucket-name", "cli-bucket")
	do("delete-index", index...)
	do("delete-vector-bucket", "--vector-bucket-name", "cli-bucket")
}

// TestVectorsSDKGoV2: aws-sdk-go-v2 does every operation, and understands the errors.
func TestVectorsSDKGoV2(t *testing.T) {
	t.Parallel()
	needPython(t, "boto3")
	_, endpoint := startVectors(t, false)
	ctx := context.Background()
	c := vectorsClient(endpoint, accessKey, secretKey)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	bucket, name := aws.String("sdk.bucket"), aws.String("sdk-index")
	made, err := c.CreateVectorBucket(ctx, &s3vectors.CreateVectorBucketInput{VectorBucketName: bucket, EncryptionConfiguration: &vectortypes.EncryptionConfiguration{SseType: vectortypes.SseTypeAes256}})
	check(err)
	index, err := c.CreateIndex(ctx, &s3vectors.CreateIndexInput{VectorBucketArn: made.VectorBucketArn, IndexName: name, DataType: vectortypes.DataTypeFloat32, Dimension: aws.Int32(2), DistanceMetric: vectortypes.DistanceMetricCosine})
	check(err)
	var vs []vectortypes.PutInputVector
	for i := range 50 {
		vs = append(vs, vectortypes.PutInputVector{Key: aws.String(fmt.Sprintf("key %d+%%", i)), Data: &vectortypes.VectorDataMemberFloat32{Value: []float32{float32(i), 1}}, Metadata: document.NewLazyDocument(map[string]any{"n": i})})
	}
	_, err = c.PutVectors(ctx, &s3vectors.PutVectorsInput{IndexArn: index.IndexArn, Vectors: vs})
	check(err)
	got, err := c.GetVectors(ctx, &s3vectors.GetVectorsInput{IndexArn: index.IndexArn, Keys: []string{*vs[3].Key}, ReturnData: true, ReturnMetadata: true})
	check(err)
	var metadata struct{ N int }
	if len(got.Vectors) != 1 || !slices.Equal(got.Vectors[0].Data.(*vectortypes.VectorDataMemberFloat32).Value, []float32{3, 1}) || got.Vectors[0].Metadata.UnmarshalSmithyDocument(&metadata) != nil {
		t.Errorf("%+v", got.Vectors)
	}
	found, err := c.QueryVectors(ctx, &s3vectors.QueryVectorsInput{IndexArn: index.IndexArn, TopK: aws.Int32(2), QueryVector: &vectortypes.VectorDataMemberFloat32{Value: []float32{0, 1}}, ReturnDistance: true, Filter: document.NewLazyDocument(map[string]any{"n": map[string]any{"$lt": 5}})})
	check(err)
	if len(found.Vectors) != 2 || *found.Vectors[0].Key != *vs[0].Key || *found.Vectors[0].Distance > 1e-6 {
		t.Errorf("%+v", found.Vectors)
	}
	keys := map[string]bool{}
	for pages := s3vectors.NewListVectorsPaginator(c, &s3vectors.ListVectorsInput{IndexArn: index.IndexArn, MaxResults: aws.Int32(7)}); pages.HasMorePages(); {
		page, err := pages.NextPage(ctx)
		check(err)
		for _, v := range page.Vectors {
			keys[*v.Key] = true
		}
	}
	if len(keys) != 50 {
		t.Errorf("listed %q", slices.Sorted(maps.Keys(keys)))
	}
	_, err = c.DeleteVectors(ctx, &s3vectors.DeleteVectorsInput{IndexArn: index.IndexArn, Keys: []string{*vs[3].Key}})
	check(err)
	described, err := c.GetIndex(ctx, &s3vectors.GetIndexInput{VectorBucketName: bucket, IndexName: name})
	check(err)
	if *described.Index.Dimension != 2 || time.Since(*described.Index.CreationTime).Abs() > time.Minute {
		t.Errorf("%+v", described.Index)
	}
	_, err = c.GetVectorBucket(ctx, &s3vectors.GetVectorBucketInput{VectorBucketName: bucket})
	check(err)
	buckets, err := c.ListVectorBuckets(ctx, &s3vectors.ListVectorBucketsInput{Prefix: aws.String("sdk")})
	check(err)
	indexes, err := c.ListIndexes(ctx, &s3vectors.ListIndexesInput{VectorBucketName: bucket})
	check(err)
	if len(buckets.VectorBuckets) != 1 || len(indexes.Indexes) != 1 {
		t.Errorf("%+v %+v", buckets.VectorBuckets, indexes.Indexes)
	}
	_, err = c.TagResource(ctx, &s3vectors.TagResourceInput{ResourceArn: index.IndexArn, Tags: map[string]string{"a": "b", "c": "d"}})
	check(err)
	_, err = c.UntagResource(ctx, &s3vectors.UntagResourceInput{ResourceArn: index.IndexArn, TagKeys: []string{"a", "x"}})
	check(err)
	tags, err := c.ListTagsForResource(ctx, &s3vectors.ListTagsForResourceInput{ResourceArn: index.IndexArn})
	check(err)
	if !maps.Equal(tags.Tags, map[string]string{"c": "d"}) {
		t.Errorf("%v", tags.Tags)
	}
	policy := aws.String(`{"Statement":{"Effect":"Allow","Principal":"*","Action":"s3vectors:Get*","Resource":"*"}}`)
	_, err = c.PutVectorBucketPolicy(ctx, &s3vectors.PutVectorBucketPolicyInput{VectorBucketName: bucket, Policy: policy})
	check(err)
	kept, err := c.GetVectorBucketPolicy(ctx, &s3vectors.GetVectorBucketPolicyInput{VectorBucketName: bucket})
	check(err)
	if *kept.Policy != *policy {
		t.Errorf("%s", *kept.Policy)
	}
	_, err = c.DeleteVectorBucketPolicy(ctx, &s3vectors.DeleteVectorBucketPolicyInput{VectorBucketName: bucket})
	check(err)

	var conflict *vectortypes.ConflictException
	if _, err = c.DeleteVectorBucket(ctx, &s3vectors.DeleteVectorBucketInput{VectorBucketName: bucket}); !errors.As(err, &conflict) {
		t.Errorf("a bucket with an index: %v", err)
	}
	var invalid *vectortypes.ValidationException
	_, err = c.PutVectors(ctx, &s3vectors.PutVectorsInput{IndexArn: index.IndexArn, Vectors: []vectortypes.PutInputVector{{Key: aws.String("k"), Data: &vectortypes.VectorDataMemberFloat32{Value: []float32{0, 0}}}}})
	if !errors.As(err, &invalid) || len(invalid.FieldList) != 1 || !strings.HasPrefix(*invalid.FieldList[0].Path, "/vectors/0/data") {
		t.Errorf("a zero vector: %v", err)
	}
	var missing *vectortypes.NotFoundException
	if _, err = c.GetIndex(ctx, &s3vectors.GetIndexInput{VectorBucketName: bucket, IndexName: aws.String("none")}); !errors.As(err, &missing) {
		t.Errorf("no index: %v", err)
	}
	var coded smithy.APIError
	if _, err = vectorsClient(endpoint, accessKey, "wrong-secret-key").ListVectorBuckets(ctx, &s3vectors.ListVectorBucketsInput{}); !errors.As(err, &coded) || coded.ErrorCode() != "InvalidSignatureException" {
		t.Errorf("a wrong secret: %v", err)
	}
	_, err = c.DeleteIndex(ctx, &s3vectors.DeleteIndexInput{IndexArn: index.IndexArn})
	check(err)
	_, err = c.DeleteVectorBucket(ctx, &s3vectors.DeleteVectorBucketInput{VectorBucketArn: made.VectorBucketArn})
	check(err)
	if r, err := http.Get(endpoint + "/GetIndex"); err != nil || r.StatusCode != http.StatusForbidden && r.StatusCode != http.StatusBadRequest {
		t.Errorf("without a signature: %v %v", r, err)
	} else {
		r.Body.Close()
	}
}
