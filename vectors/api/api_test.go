package api

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/wire"
)

// fake is an engine in memory, for one goroutine.
type fake struct {
	buckets map[string]vectors.Bucket
	indexes map[string]vectors.Index // by BUCKET/INDEX
	rows    map[string]map[string]vectors.Vector
	changes int
	down    error
}

func newFake() *fake {
	return &fake{buckets: map[string]vectors.Bucket{}, indexes: map[string]vectors.Index{}, rows: map[string]map[string]vectors.Vector{}}
}

var created = time.UnixMilli(1_764_555_555_120)

func (f *fake) CreateBucket(_ context.Context, b vectors.Bucket) (vectors.Bucket, error) {
	if _, ok := f.buckets[b.Name]; ok {
		return b, vectors.Errorf(vectors.Conflict, "exists")
	}
	b.Incarnation, b.Created = vectors.NewIncarnation(), created
	f.buckets[b.Name] = b
	f.changes++
	return b, nil
}

func (f *fake) Bucket(name string) (vectors.Bucket, error) {
	b, ok := f.buckets[name]
	if f.down != nil {
		return b, f.down
	}
	if !ok {
		return b, vectors.Errorf(vectors.NotFound, "no bucket %s", name)
	}
	return b, nil
}

func pageOf[T any](all map[string]T, prefix, after string, limit int) (page []T, more bool) {
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if strings.HasPrefix(name, prefix) && name > after {
			if len(page) == limit {
				return page, true
			}
			page = append(page, all[name])
		}
	}
	return page, false
}

func (f *fake) Buckets(prefix, after string, limit int) ([]vectors.Bucket, bool, error) {
	page, more := pageOf(f.buckets, prefix, after, limit)
	return page, more, nil
}

func (f *fake) DeleteBucket(_ context.Context, name string) error {
	_, err := f.Bucket(name)
	if err == nil {
		delete(f.buckets, name)
		f.changes++
	}
	return err
}

func (f *fake) SetPolicy(_ context.Context, bucket, text string) error {
	b, err := f.Bucket(bucket)
	if err == nil {
		b.Policy = text
		f.buckets[bucket] = b
		f.changes++
	}
	return err
}

func (f *fake) CreateIndex(_ context.Context, i vectors.Index) (vectors.Index, error) {
	if _, err := f.Bucket(i.Bucket); err != nil {
		return i, err
	}
	i.Incarnation, i.Created = vectors.NewIncarnation(), created
	f.indexes[i.Bucket+"/"+i.Name], f.rows[i.Bucket+"/"+i.Name] = i, map[string]vectors.Vector{}
	f.changes++
	return i, nil
}

func (f *fake) Index(bucket, name string) (vectors.Index, error) {
	i, ok := f.indexes[bucket+"/"+name]
	if !ok {
		return i, vectors.Errorf(vectors.NotFound, "no index %s", name)
	}
	return i, nil
}

func (f *fake) Indexes(bucket, prefix, after string, limit int) ([]vectors.Index, bool, error) {
	if after != "" {
		after = bucket + "/" + after
	}
	page, more := pageOf(f.indexes, bucket+"/"+prefix, after, limit)
	return page, more, nil
}

func (f *fake) DeleteIndex(_ context.Context, bucket, name string) error {
	_, err := f.Index(bucket, name)
	if err == nil {
		delete(f.indexes, bucket+"/"+name)
		f.changes++
	}
	return err
}

func (f *fake) Tag(_ context.Context, bucket, index string, set map[string]string, remove []string) error {
	b, err := f.Bucket(bucket)
	if err != nil {
		return err
	}
	tags := b.Tags
	i, err := f.Index(bucket, index)
	if index != "" {
		if err != nil {
			return err
		}
		tags = i.Tags
	}
	tags = maps.Clone(tags)
	if tags == nil {
		tags = map[string]string{}
	}
	maps.Copy(tags, set)
	for _, key := range remove {
		delete(tags, key)
	}
	if b.Tags, i.Tags = tags, tags; index == "" {
		f.buckets[bucket] = b
	} else {
		f.indexes[bucket+"/"+index] = i
	}
	f.changes++
	return nil
}

func (f *fake) Put(_ context.Context, bucket, index string, vs []vectors.Vector) error {
	for _, v := range vs {
		f.rows[bucket+"/"+index][v.Key] = v
	}
	f.changes++
	return nil
}

func (f *fake) Delete(_ context.Context, bucket, index string, keys []string) error {
	if _, err := f.Index(bucket, index); err != nil {
		return err
	}
	for _, key := range keys {
		delete(f.rows[bucket+"/"+index], key)
	}
	f.changes++
	return nil
}

func (f *fake) Get(_ context.Context, bucket, index string, keys []string) (found []vectors.Vector, err error) {
	if _, err := f.Index(bucket, index); err != nil {
		return nil, err
	}
	for _, key := range keys {
		if v, ok := f.rows[bucket+"/"+index][key]; ok {
			found = append(found, v)
		}
	}
	return found, nil
}

func (f *fake) List(_ context.Context, bucket, index string, after *vectors.Hash, last vectors.Hash, limit int, yield func(vectors.Vector) bool) (more bool, err error) {
	rows := slices.Collect(maps.Values(f.rows[bucket+"/"+index]))
	hash := func(i int) []byte { h := vectors.HashKey(rows[i].Key); return h[:] }
	sort.Slice(rows, func(i, j int) bool { return bytes.Compare(hash(i), hash(j)) < 0 })
	for i := range rows {
		if after != nil && bytes.Compare(hash(i), after[:]) <= 0 || bytes.Compare(hash(i), last[:]) > 0 {
			continue
		}
		if limit == 0 || !yield(rows[i]) {
			return true, nil
		}
		limit--
	}
	return false, nil
}

func (f *fake) Query(_ context.Context, bucket, index string, vector []float32, topK int, filter *meta.Filter) (hits []vectors.Hit, err error) {
	for _, v := range f.rows[bucket+"/"+index] {
		if filter != nil && !filter.Match(v.Metadata) {
			continue
		}
		d := v.Data[0] - vector[0]
		hits = append(hits, vectors.Hit{Vector: v, Distance: d * d})
	}
	slices.SortFunc(hits, func(a, b vectors.Hit) int { return cmp.Compare(a.Distance, b.Distance) })
	return hits[:min(topK, len(hits))], nil
}

// identity returns the identity of a key that signed a request: only a verifier makes one.
func identity(t testing.TB, name string) sigv4.Identity {
	t.Helper()
	v := &sigv4.Verifier{Region: "us-east-1", Keys: sigv4.StaticKeys{name: "secret"}}
	r, err := http.NewRequest("GET", "http://h/bucket", nil)
	if err != nil {
		t.Fatal(err)
	}
	(&sigv4.Signer{Region: "us-east-1"}).Sign(r, url.Values{}, sigv4.KeyPair{AccessKey: name, Secret: "secret"}, "", time.Now())
	id, _, err := v.Verify(r, r.URL.Path, url.Values{})
	if err != nil {
		t.Fatal(err)
	}
	return id
}

// people are users by access key, which is their name.
type people map[string]*policy.Policy

func (p people) PolicyOf(id sigv4.Identity) *policy.Policy { return p[id.AccessKey()] }
func (p people) UserOf(id sigv4.Identity) string           { return id.AccessKey() }

func statement(effect, action, resource string) string {
	return fmt.Sprintf(`{"Statement":{"Effect":%q,"Action":%s,"Resource":%q}}`, effect, action, resource)
}

func mustPolicy(t testing.TB, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var names = vectors.Names{Region: "us-east-1", Account: "000000000000"}

// rig is an API over a fake engine.
type rig struct {
	*API
	engine *fake
	ids    map[string]sigv4.Identity
}

func newRig(t testing.TB) *rig {
	t.Helper()
	who := people{access.Root: policy.Everything, "alice": mustPolicy(t, statement("Allow", `"s3:*"`, "*"))}
	f := newFake()
	g := &rig{New(Options{Engine: f, Users: who, Names: names}), f, map[string]sigv4.Identity{}}
	for name := range who {
		g.ids[name] = identity(t, name)
	}
	return g
}

// ask sends a request, and returns the status, the name of the error and the body.
func (g *rig) ask(t testing.TB, who, method, target, body string) (status int, code string, answer map[string]any) {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	w := httptest.NewRecorder()
	if _, err := g.ServeVectors(w, r, g.ids[who], []byte(body)); err != nil {
		wire.Write(w, wire.Translate(err))
	}
	if err := json.Unmarshal(w.Body.Bytes(), &answer); err != nil {
		t.Fatalf("%s %s: %q: %v", method, target, w.Body, err)
	}
	return w.Code, w.Header().Get("X-Amzn-Errortype"), answer
}

func (g *rig) must(t testing.TB, op, body string) map[string]any {
	t.Helper()
	status, code, answer := g.ask(t, access.Root, "POST", "/"+op, body)
	if status != 200 {
		t.Fatalf("%s %s: %d %s %v", op, clip(body), status, code, answer)
	}
	return answer
}

// movies returns a rig with an index of two dimensions.
func movies(t testing.TB) *rig {
	t.Helper()
	g := newRig(t)
	g.must(t, "CreateVectorBucket", `{"vectorBucketName":"movies","tags":{"team":"a b"}}`)
	g.must(t, "CreateIndex", `{"vectorBucketName":"movies","indexName":"plots","dataType":"float32","dimension":2,"distanceMetric":"cosine","metadataConfiguration":{"nonFilterableMetadataKeys":["text"]}}`)
	return g
}

const at = `"vectorBucketName":"movies","indexName":"plots"`

func text(v any) string {
	b, _ := json.Marshal(v)
	return string(b)
}

// TestOperations: each operation does what it is for, and answers in the service's shapes.
func TestOperations(t *testing.T) {
	g := movies(t)
	arn := url.PathEscape(names.IndexARN("movies", "plots"))
	for _, c := range []struct{ method, target, body, want string }{
		{"POST", "/GetVectorBucket", `{"vectorBucketName":"movies"}`, `{"vectorBucket":{"creationTime":1764555555.12,"encryptionConfiguration":{"sseType":"AES256"},"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies","vectorBucketName":"movies"}}`},
		{"POST", "/GetVectorBucket", `{"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies","unknown":{"a":[1]},"vectorBucketName":null}`, `{"vectorBucket":{"creationTime":1764555555.12,"encryptionConfiguration":{"sseType":"AES256"},"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies","vectorBucketName":"movies"}}`},
		{"POST", "/ListVectorBuckets", ``, `{"vectorBuckets":[{"creationTime":1764555555.12,"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies","vectorBucketName":"movies"}]}`},
		{"POST", "/ListVectorBuckets", `{"prefix":"n"}`, `{"vectorBuckets":[]}`},
		{"POST", "/GetIndex", `{` + at + `}`, `{"index":{"creationTime":1764555555.12,"dataType":"float32","dimension":2,"distanceMetric":"cosine","encryptionConfiguration":{"sseType":"AES256"},"indexArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies/index/plots","indexName":"plots","metadataConfiguration":{"nonFilterableMetadataKeys":["text"]},"vectorBucketName":"movies"}}`},
		{"POST", "/ListIndexes", `{"vectorBucketName":"movies"}`, `{"indexes":[{"creationTime":1764555555.12,"indexArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies/index/plots","indexName":"plots","vectorBucketName":"movies"}]}`},
		{"POST", "/PutVectors", `{` + at + `,"vectors":[{"key":"a","data":{"float32":[1,2.5]},"metadata":{ "n" : 1.10, "g":["x","y"]}},{"key":"b\u00e9\"","data":{"float32":[ 1e-7 , -3 ]}}]}`, `{}`},
		{"POST", "/GetVectors", `{` + at + `,"keys":["b\u00e9\"","none","a","a"],"returnData":true,"returnMetadata":true}`, `{"vectors":[{"data":{"float32":[1e-7,-3]},"key":"bé\""},{"data":{"float32":[1,2.5]},"key":"a","metadata":{"g":["x","y"],"n":1.1}}]}`},
		{"POST", "/GetVectors", `{"indexArn":"` + names.IndexARN("movies", "plots") + `","keys":["a"]}`, `{"vectors":[{"key":"a"}]}`},
		{"POST", "/QueryVectors", `{` + at + `,"topK":1,"queryVector":{"float32":[1,0]},"returnDistance":true,"returnMetadata":true}`, `{"distanceMetric":"cosine","vectors":[{"distance":0,"key":"a","metadata":{"g":["x","y"],"n":1.1}}]}`},
		{"POST", "/QueryVectors", `{` + at + `,"topK":100,"queryVector":{"float32":[1,0]},"filter":{"g":"z"}}`, `{"distanceMetric":"cosine","vectors":[]}`},
		{"POST", "/ListVectors", `{` + at + `,"maxResults":1000}`, `{"vectors":[{"key":"bé\""},{"key":"a"}]}`},
		{"POST", "/DeleteVectors", `{` + at + `,"keys":["a","none"]}`, `{}`},
		{"POST", "/GetVectors", `{` + at + `,"keys":["a"]}`, `{"vectors":[]}`},
		{"GET", "/tags/" + url.PathEscape(names.BucketARN("movies")), ``, `{"tags":{"team":"a b"}}`},
		{"POST", "/tags/" + arn, `{"tags":{"k":"v","l":""}}`, `{}`},
		{"DELETE", "/tags/" + arn + "?tagKeys=k&tagKeys=none", ``, `{}`},
		{"GET", "/tags/" + arn, ``, `{"tags":{"l":""}}`},
		{"POST", "/PutVectorBucketPolicy", `{"vectorBucketName":"movies","policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3vectors:DeleteIndex\",\"Resource\":\"*\"}}"}`, `{}`},
		{"POST", "/GetVectorBucketPolicy", `{"vectorBucketName":"movies"}`, `{"policy":"{\"Statement\":{\"Effect\":\"Deny\",\"Principal\":\"*\",\"Action\":\"s3vectors:DeleteIndex\",\"Resource\":\"*\"}}"}`},
		{"POST", "/DeleteVectorBucketPolicy", `{"vectorBucketName":"movies"}`, `{}`},
		{"POST", "/DeleteIndex", `{` + at + `}`, `{}`},
		{"POST", "/DeleteVectorBucket", `{"vectorBucketName":"movies"}`, `{}`},
		{"POST", "/CreateVectorBucket", `{"vectorBucketName":"my.bucket","encryptionConfiguration":{"sseType":"AES256"}}`, `{"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/my.bucket"}`},
	} {
		status, code, answer := g.ask(t, access.Root, c.method, c.target, c.body)
		if status != 200 || text(answer) != c.want {
			t.Errorf("%s %s %s: %d %s\n%s\nwant\n%s", c.method, c.target, c.body, status, code, text(answer), c.want)
		}
	}
}

// TestRefused: what is not valid is refused by its path, and changes nothing.
func TestRefused(t *testing.T) {
	g := movies(t)
	keys := func(n int) string {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, `,"k%d"`, i)
		}
		return "[" + b.String()[1:] + "]"
	}
	put := func(vector string) string { return `{` + at + `,"vectors":[` + vector + `]}` }
	index := func(member string) string {
		body := map[string]any{"vectorBucketName": "movies", "indexName": "other", "dataType": "float32", "dimension": 2, "distanceMetric": "cosine"}
		if err := json.Unmarshal([]byte("{"+member+"}"), &body); err != nil {
			t.Fatal(err)
		}
		return text(body)
	}
	query := func(member string) string {
		body := map[string]any{"vectorBucketName": "movies", "indexName": "plots", "topK": 1, "queryVector": map[string]any{"float32": []int{1, 2}}}
		if err := json.Unmarshal([]byte("{"+member+"}"), &body); err != nil {
			t.Fatal(err)
		}
		return text(body)
	}
	many := strings.Repeat(`{"key":"k","data":{"float32":[1,2]}},`, 501)
	const ok = `"data":{"float32":[1,2]}`
	for _, c := range []struct{ op, body, path string }{
		{"CreateVectorBucket", `{}`, "/vectorBucketName"},
		{"CreateVectorBucket", `{"vectorBucketName":"ab"}`, "/vectorBucketName"},
		{"CreateVectorBucket", `{"vectorBucketName":"Movies"}`, "/vectorBucketName"},
		{"CreateVectorBucket", `{"vectorBucketName":"-movies"}`, "/vectorBucketName"},
		{"CreateVectorBucket", `{"vectorBucketName":7}`, "/vectorBucketName"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","encryptionConfiguration":{"sseType":"aws:kms"}}`, "/encryptionConfiguration/sseType"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","encryptionConfiguration":{"kmsKeyArn":"arn:aws:kms:us-east-1:000000000000:key/a"}}`, "/encryptionConfiguration/kmsKeyArn"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","encryptionConfiguration":[]}`, "/encryptionConfiguration"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","tags":{"":"x"}}`, "/tags/"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","tags":{"aws:x":"x"}}`, "/tags/aws:x"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","tags":{"a":"<"}}`, "/tags/a"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","tags":{"a":1}}`, "/tags/a"},
		{"GetVectorBucket", `{}`, "/vectorBucketName"},
		{"GetVectorBucket", `{"vectorBucketName":"movies","vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies"}`, "/vectorBucketArn"},
		{"GetVectorBucket", `{"vectorBucketArn":"movies"}`, "/vectorBucketArn"},
		{"GetVectorBucket", `{"vectorBucketArn":"arn:aws:s3vectors:us-east-1:000000000000:bucket/movies/index/plots"}`, "/vectorBucketArn"},
		{"GetVectorBucket", `{"vectorBucketArn":"arn:aws:s3vectors:us-east-1:111111111111:bucket/movies"}`, "/vectorBucketArn"},
		{"GetVectorBucket", `{"vectorBucketArn":"arn:aws:s3vectors:eu-west-1:000000000000:bucket/movies"}`, "/vectorBucketArn"},
		{"GetVectorBucket", `{"vectorBucketArn":"arn:aws-cn:s3vectors:us-east-1:000000000000:bucket/movies"}`, "/vectorBucketArn"},
		{"ListVectorBuckets", `{"maxResults":0}`, "/maxResults"},
		{"ListVectorBuckets", `{"maxResults":501}`, "/maxResults"},
		{"ListVectorBuckets", `{"maxResults":"5"}`, "/maxResults"},
		{"ListVectorBuckets", `{"maxResults":1.5}`, "/maxResults"},
		{"ListVectorBuckets", `{"prefix":""}`, "/prefix"},
		{"ListVectorBuckets", `{"prefix":"` + strings.Repeat("a", 64) + `"}`, "/prefix"},
		{"ListVectorBuckets", `{"nextToken":"x"}`, "/nextToken"},
		{"ListIndexes", `{"vectorBucketName":"movies","nextToken":"AQID"}`, "/nextToken"},
		{"PutVectorBucketPolicy", `{"vectorBucketName":"movies"}`, "/policy"},
		{"PutVectorBucketPolicy", `{"vectorBucketName":"movies","policy":"{}"}`, "/policy"},
		{"PutVectorBucketPolicy", `{"vectorBucketName":"movies","policy":"{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":{\"AWS\":\"1\"},\"Action\":\"*\",\"Resource\":\"*\"}}"}`, "/policy"},
		{"CreateIndex", index(`"indexName":null`), "/indexName"},
		{"CreateIndex", index(`"indexName":"a"`), "/indexName"},
		{"CreateIndex", index(`"dataType":null`), "/dataType"},
		{"CreateIndex", index(`"dataType":"float16"`), "/dataType"},
		{"CreateIndex", index(`"dimension":0`), "/dimension"},
		{"CreateIndex", index(`"dimension":4097`), "/dimension"},
		{"CreateIndex", index(`"dimension":null`), "/dimension"},
		{"CreateIndex", index(`"distanceMetric":"dot"`), "/distanceMetric"},
		{"CreateIndex", index(`"metadataConfiguration":{}`), "/metadataConfiguration/nonFilterableMetadataKeys"},
		{"CreateIndex", index(`"metadataConfiguration":{"nonFilterableMetadataKeys":[]}`), "/metadataConfiguration/nonFilterableMetadataKeys"},
		{"CreateIndex", index(`"metadataConfiguration":{"nonFilterableMetadataKeys":["a","a"]}`), "/metadataConfiguration/nonFilterableMetadataKeys/1"},
		{"CreateIndex", index(`"metadataConfiguration":{"nonFilterableMetadataKeys":[""]}`), "/metadataConfiguration/nonFilterableMetadataKeys/0"},
		{"CreateIndex", index(`"metadataConfiguration":{"nonFilterableMetadataKeys":["1","2","3","4","5","6","7","8","9","10","11"]}`), "/metadataConfiguration/nonFilterableMetadataKeys"},
		{"GetIndex", `{"indexName":"plots"}`, "/vectorBucketName"},
		{"GetIndex", `{"vectorBucketName":"movies"}`, "/indexName"},
		{"GetIndex", `{"vectorBucketName":"movies","indexArn":"` + names.IndexARN("movies", "plots") + `"}`, "/indexArn"},
		{"GetIndex", `{"indexName":"plots","indexArn":"` + names.IndexARN("movies", "plots") + `"}`, "/indexArn"},
		{"GetIndex", `{"indexArn":"` + names.BucketARN("movies") + `"}`, "/indexArn"},
		{"PutVectors", `{` + at + `}`, "/vectors"},
		{"PutVectors", `{` + at + `,"vectors":[]}`, "/vectors"},
		{"PutVectors", put(strings.TrimSuffix(many, ",")), "/vectors/1/key"},
		{"PutVectors", put(`{` + ok + `}`), "/vectors/0/key"},
		{"PutVectors", put(`{"key":"a"}`), "/vectors/0/data"},
		{"PutVectors", put(`{"key":"a","data":null}`), "/vectors/0/data"},
		{"PutVectors", put(`{"key":"","data":{"float32":[1,2]}}`), "/vectors/0/key"},
		{"PutVectors", put(`{"key":"` + strings.Repeat("é", 513) + `",` + ok + `}`), "/vectors/0/key"},
		{"PutVectors", put(`{"key":"a","data":{}}`), "/vectors/0/data/float32"},
		{"PutVectors", put(`{"key":"a","data":{"float64":[1,2]}}`), "/vectors/0/data"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[]}}`), "/vectors/0/data/float32"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1]}}`), "/vectors/0/data"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1,2,3]}}`), "/vectors/0/data"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1,"NaN"]}}`), "/vectors/0/data/float32/1"},
		{"PutVectors", put(`{"key":"a","data":{"float32":["-Infinity",1]}}`), "/vectors/0/data/float32/0"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1,1e39]}}`), "/vectors/0/data/float32/1"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1,-3.5e38]}}`), "/vectors/0/data/float32/1"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[1,null]}}`), "/vectors/0/data/float32"},
		{"PutVectors", put(`{"key":"a","data":{"float32":[0,1e-60]}}`), "/vectors/0/data"}, // zero after rounding
		{"PutVectors", put(`{"key":"a","data":{"float32":"x"}}`), "/vectors/0/data/float32"},
		{"PutVectors", put(`{"key":"a",` + ok + `},{"key":"b",` + ok + `},{"key":"a",` + ok + `}`), "/vectors/2/key"},
		{"PutVectors", put(`{"key":"a",` + ok + `},{"key":"b",` + ok + `,"metadata":[1]}`), "/vectors/1/metadata"},
		{"PutVectors", put(`{"key":"a",` + ok + `,"metadata":{"x":{"y":1}}}`), "/vectors/0/metadata/x"},
		{"PutVectors", put(`7`), "/vectors/0"},
		{"GetVectors", `{` + at + `}`, "/keys"},
		{"GetVectors", `{` + at + `,"keys":[]}`, "/keys"},
		{"GetVectors", `{` + at + `,"keys":` + keys(101) + `}`, "/keys"},
		{"GetVectors", `{` + at + `,"keys":[1]}`, "/keys/0"},
		{"GetVectors", `{` + at + `,"keys":["a"],"returnData":"true"}`, "/returnData"},
		{"DeleteVectors", `{` + at + `,"keys":` + keys(501) + `}`, "/keys"},
		{"ListVectors", `{` + at + `,"maxResults":1001}`, "/maxResults"},
		{"ListVectors", `{` + at + `,"segmentCount":4}`, "/segmentIndex"},
		{"ListVectors", `{` + at + `,"segmentIndex":0}`, "/segmentIndex"},
		{"ListVectors", `{` + at + `,"segmentCount":4,"segmentIndex":4}`, "/segmentIndex"},
		{"ListVectors", `{` + at + `,"segmentCount":17,"segmentIndex":1}`, "/segmentCount"},
		{"ListVectors", `{` + at + `,"nextToken":"????"}`, "/nextToken"},
		{"ListVectors", `{` + at + `,"nextToken":""}`, "/nextToken"},
		{"QueryVectors", query(`"topK":0`), "/topK"},
		{"QueryVectors", query(`"topK":101`), "/topK"},
		{"QueryVectors", query(`"topK":null`), "/topK"},
		{"QueryVectors", query(`"queryVector":null`), "/queryVector"},
		{"QueryVectors", query(`"queryVector":{"float32":[1]}`), "/queryVector/float32"},
		{"QueryVectors", query(`"queryVector":{"float32":[0,0]}`), "/queryVector/float32"},
		{"QueryVectors", query(`"queryVector":{"float32":["NaN",0]}`), "/queryVector/float32/0"},
		{"QueryVectors", query(`"filter":{"a":{"$near":1}}`), "/filter/a/$near"},
		{"QueryVectors", query(`"filter":{"text":"x"}`), "/filter/text"},
		{"QueryVectors", query(`"filter":[]`), "/filter"},
	} {
		before := g.engine.changes
		status, code, answer := g.ask(t, access.Root, "POST", "/"+c.op, c.body)
		path := ""
		if list, _ := answer["fieldList"].([]any); len(list) == 1 {
			path, _ = list[0].(map[string]any)["path"].(string)
		}
		if status != 400 || code != "ValidationException" || path != c.path || answer["message"] == "" {
			t.Errorf("%s %s: %d %s %s, want a ValidationException about %s", c.op, clip(c.body), status, code, text(answer), c.path)
		}
		if g.engine.changes != before {
			t.Errorf("%s %s changed something", c.op, clip(c.body))
		}
	}
}

// TestMalformed: a body that is not one JSON object is refused.
func TestMalformed(t *testing.T) {
	g := movies(t)
	for _, body := range []string{`{`, `[]`, `7`, `null`, `{} {}`, `{}x`, `{"a":1,"a":2}`, `{"vectorBucketName":"movies","vectorBucketName":"movies"}`, `{"a":01}`, `{"a":.5}`, `{"a":1.}`, `{"a":1e}`, `{"a":+1}`,
		`{"a":NaN}`, `{'a':1}`, `{"a":"\x"}`, "{\"a\":\"\x01\"}", "{\"a\":\"\xff\"}", `{"a":"\ud800"}`, `{a:1}`, `{"a" 1}`, `{"a":1,}`, `{"a":[1,]}`, `{"a":tru}`, `{"a":"`, "\xef\xbb\xbf{}",
		`{"a":` + strings.Repeat("[", 100) + strings.Repeat("]", 100) + `}`} {
		status, code, answer := g.ask(t, access.Root, "POST", "/ListVectorBuckets", body)
		if status != 400 || code != "ValidationException" {
			t.Errorf("%s: %d %s %v", body, status, code, answer)
		}
	}
	for _, c := range [][2]string{{"GET", "/GetIndex"}, {"POST", "/"}, {"POST", "/getIndex"}, {"POST", "/GetIndex/"}, {"PUT", "/tags/x"}, {"GET", "/bucket/key"}, {"POST", "//GetIndex"}} {
		if status, code, _ := g.ask(t, access.Root, c[0], c[1], "{}"); status != 404 || code != "UnknownOperationException" {
			t.Errorf("%s %s: %d %s", c[0], c[1], status, code)
		}
	}
	for _, c := range [][2]string{{"GET", "/tags/"}, {"GET", "/tags/arn%3Aaws%3As3%3A%3A%3Ab"}, {"DELETE", "/tags/" + url.PathEscape(names.BucketARN("movies"))},
		{"DELETE", "/tags/" + url.PathEscape(names.BucketARN("movies")) + "?tagKeys="}, {"POST", "/tags/" + url.PathEscape(names.BucketARN("movies"))}} {
		if status, code, _ := g.ask(t, access.Root, c[0], c[1], ""); status != 400 || code != "ValidationException" {
			t.Errorf("%s %s: %d %s", c[0], c[1], status, code)
		}
	}
	for op, body := range map[string]string{"GetVectorBucket": `{"vectorBucketName":"none-here"}`, "GetIndex": `{"vectorBucketName":"movies","indexName":"none"}`, "GetVectorBucketPolicy": `{"vectorBucketName":"movies"}`,
		"PutVectors": `{"vectorBucketName":"movies","indexName":"none","vectors":[{"key":"a","data":{"float32":[1]}}]}`, "ListVectors": `{"vectorBucketName":"movies","indexName":"none"}`} {
		if status, code, _ := g.ask(t, access.Root, "POST", "/"+op, body); status != 404 || code != "NotFoundException" {
			t.Errorf("%s: %d %s", op, status, code)
		}
	}
}

// TestRights: each operation needs its action on what it names, and some a second one.
func TestRights(t *testing.T) {
	const index, bucket = "arn:aws:s3vectors:us-east-1:000000000000:bucket/movies/index/plots", "arn:aws:s3vectors:us-east-1:000000000000:bucket/movies"
	vector := `"vectors":[{"key":"a","data":{"float32":[1,2]}}]`
	query := `"topK":1,"queryVector":{"float32":[1,2]}`
	for _, c := range []struct{ op, body, resource, actions string }{
		{"CreateVectorBucket", `{"vectorBucketName":"new-one"}`, bucket[:len(bucket)-6] + "new-one", "CreateVectorBucket"},
		{"CreateVectorBucket", `{"vectorBucketName":"new-one","tags":{"a":"b"}}`, bucket[:len(bucket)-6] + "new-one", "CreateVectorBucket TagResource"},
		{"GetVectorBucket", `{"vectorBucketName":"movies"}`, bucket, "GetVectorBucket"},
		{"ListVectorBuckets", `{}`, "*", "ListVectorBuckets"},
		{"DeleteVectorBucket", `{"vectorBucketName":"movies"}`, bucket, "DeleteVectorBucket"},
		{"PutVectorBucketPolicy", `{"vectorBucketName":"movies","policy":"{\"Statement\":{\"Effect\":\"Allow\",\"Principal\":\"*\",\"Action\":\"*\",\"Resource\":\"*\"}}"}`, bucket, "PutVectorBucketPolicy"},
		{"GetVectorBucketPolicy", `{"vectorBucketName":"policed"}`, bucket[:len(bucket)-6] + "policed", "GetVectorBucketPolicy"},
		{"DeleteVectorBucketPolicy", `{"vectorBucketName":"policed"}`, bucket[:len(bucket)-6] + "policed", "DeleteVectorBucketPolicy"},
		{"CreateIndex", `{"vectorBucketName":"movies","indexName":"new","dataType":"float32","dimension":1,"distanceMetric":"cosine"}`, bucket + "/index/new", "CreateIndex"},
		{"CreateIndex", `{"vectorBucketName":"movies","indexName":"new","dataType":"float32","dimension":1,"distanceMetric":"cosine","tags":{"a":"b"}}`, bucket + "/index/new", "CreateIndex TagResource"},
		{"GetIndex", `{` + at + `}`, index, "GetIndex"},
		{"ListIndexes", `{"vectorBucketName":"movies"}`, bucket, "ListIndexes"},
		{"DeleteIndex", `{` + at + `}`, index, "DeleteIndex"},
		{"PutVectors", `{` + at + `,` + vector + `}`, index, "PutVectors"},
		{"GetVectors", `{` + at + `,"keys":["a"],"returnData":true}`, index, "GetVectors"},
		{"DeleteVectors", `{` + at + `,"keys":["a"]}`, index, "DeleteVectors"},
		{"ListVectors", `{` + at + `}`, index, "ListVectors"},
		{"ListVectors", `{` + at + `,"returnData":true}`, index, "ListVectors GetVectors"},
		{"ListVectors", `{` + at + `,"returnMetadata":true}`, index, "ListVectors GetVectors"},
		{"QueryVectors", `{` + at + `,` + query + `,"returnDistance":true}`, index, "QueryVectors"},
		{"QueryVectors", `{` + at + `,` + query + `,"returnMetadata":true}`, index, "QueryVectors GetVectors"},
		{"QueryVectors", `{` + at + `,` + query + `,"filter":{"a":1}}`, index, "QueryVectors GetVectors"},
		{"GET /tags/" + url.PathEscape(index), ``, index, "ListTagsForResource"},
		{"POST /tags/" + url.PathEscape(bucket), `{"tags":{"a":"b"}}`, bucket, "TagResource"},
		{"DELETE /tags/" + url.PathEscape(index) + "?tagKeys=a", ``, index, "UntagResource"},
	} {
		method, target, ok := strings.Cut(c.op, " ")
		if !ok {
			method, target = "POST", "/"+c.op
		}
		actions := strings.Fields(c.actions)
		all := make([]string, len(actions))
		for i, a := range actions {
			all[i] = `"s3vectors:` + a + `"`
		}
		g := movies(t)
		g.engine.buckets["policed"] = vectors.Bucket{Name: "policed", Policy: `{"Statement":{"Effect":"Deny","Principal":{"AWS":"arn:aws:iam::000000000000:user/bob"},"Action":"*","Resource":"*"}}`}
		with := func(effect string, actions []string, resource string) int {
			g.Users.(people)["alice"] = mustPolicy(t, statement(effect, "["+strings.Join(actions, ",")+"]", resource))
			status, code, _ := g.ask(t, "alice", method, target, c.body)
			if status != 200 && code != "AccessDeniedException" {
				t.Errorf("%s %s: %d %s", c.op, c.body, status, code)
			}
			return status
		}
		for i := range all { // without one of them
			if rest := slices.Delete(slices.Clone(all), i, i+1); len(rest) > 0 && with("Allow", rest, c.resource) != 403 {
				t.Errorf("%s %s: allowed with %v alone", c.op, c.body, rest)
			}
		}
		if with("Allow", []string{`"s3:*"`}, "*") != 403 || with("Deny", []string{`"*"`}, "*") != 403 || c.resource != "*" && with("Allow", all, c.resource+"x") != 403 {
			t.Errorf("%s: allowed without rights", c.op)
		}
		if with("Allow", all, c.resource) != 200 {
			t.Errorf("%s %s: denied with %v on %s", c.op, c.body, all, c.resource)
		}
	}
}

// TestBucketPolicy: the policy of a bucket gives and takes rights, and root can always replace it.
func TestBucketPolicy(t *testing.T) {
	g := movies(t)
	set := func(effect, principal, action string) {
		t.Helper()
		g.must(t, "PutVectorBucketPolicy", `{"vectorBucketName":"movies","policy":`+text(fmt.Sprintf(`{"Statement":{"Effect":%q,"Principal":%s,"Action":%q,"Resource":"*"}}`, effect, principal, action))+`}`)
	}
	status := func(who, op, body string) int {
		status, _, _ := g.ask(t, who, "POST", "/"+op, body)
		return status
	}
	if got := status("alice", "GetIndex", `{`+at+`}`); got != 403 {
		t.Errorf("without a policy: %d", got)
	}
	set("Allow", `{"AWS":"arn:aws:iam::000000000000:user/alice"}`, "s3vectors:Get*")
	if got := status("alice", "GetIndex", `{`+at+`}`); got != 200 {
		t.Errorf("allowed by the bucket: %d", got)
	}
	if got := status("alice", "DeleteIndex", `{`+at+`}`); got != 403 {
		t.Errorf("another action: %d", got)
	}
	set("Deny", `"*"`, "*")
	if got := status(access.Root, "GetIndex", `{`+at+`}`); got != 403 {
		t.Errorf("root, who is denied: %d", got)
	}
	if got := status("alice", "GetVectorBucketPolicy", `{"vectorBucketName":"movies"}`); got != 403 {
		t.Errorf("the policy of one who is denied: %d", got)
	}
	g.must(t, "DeleteVectorBucketPolicy", `{"vectorBucketName":"movies"}`)
	b := g.engine.buckets["movies"]
	b.Policy = `{"Statement":{"Effect":"Allow","Principal":"*","Action":"*","Resource":"arn:aws:s3vectors:us-east-1:111111111111:bucket/movies"}}`
	g.engine.buckets["movies"] = b
	if got := status(access.Root, "GetIndex", `{`+at+`}`); got != 403 {
		t.Errorf("a policy of another account: %d", got)
	}
	g.must(t, "DeleteVectorBucketPolicy", `{"vectorBucketName":"movies"}`)
	if got := status(access.Root, "GetIndex", `{`+at+`}`); got != 200 {
		t.Errorf("without a policy again: %d", got)
	}
	g.engine.down = vectors.Errorf(vectors.Unavailable, "fenced")
	if got := status("alice", "GetIndex", `{`+at+`}`); got != 503 {
		t.Errorf("without an engine: %d", got)
	}
}

// TestPages: buckets and indexes are listed in pages, each once, and tokens of other listings are refused.
func TestPages(t *testing.T) {
	g := movies(t)
	for i := range 25 {
		g.must(t, "CreateVectorBucket", fmt.Sprintf(`{"vectorBucketName":"bucket-%02d"}`, i))
		g.must(t, "CreateIndex", fmt.Sprintf(`{"vectorBucketName":"movies","indexName":"index-%02d","dataType":"float32","dimension":1,"distanceMetric":"euclidean"}`, i))
	}
	for _, c := range []struct{ op, more, list, name, prefix string }{
		{"ListVectorBuckets", "", "vectorBuckets", "vectorBucketName", "bucket-"},
		{"ListIndexes", `,"vectorBucketName":"movies"`, "indexes", "indexName", "index-"},
	} {
		var seen []string
		token := ""
		for range 10 {
			answer := g.must(t, c.op, `{"maxResults":10,"prefix":"`+c.prefix+`"`+c.more+token+`}`)
			for _, item := range answer[c.list].([]any) {
				seen = append(seen, item.(map[string]any)[c.name].(string))
			}
			next, ok := answer["nextToken"].(string)
			if !ok {
				break
			}
			token = `,"nextToken":"` + next + `"`
			if status, _, _ := g.ask(t, access.Root, "POST", "/"+c.op, `{"prefix":"x"`+c.more+token+`}`); status != 400 {
				t.Errorf("%s: the token of another prefix: %d", c.op, status)
			}
		}
		if len(seen) != 25 || !slices.IsSorted(seen) || seen[0] != c.prefix+"00" || len(slices.Compact(seen)) != 25 {
			t.Errorf("%s: %v", c.op, seen)
		}
	}
}

// TestListVectors: the segments together have each key once, pages end at 1 MB, and tokens hold for one
// incarnation and segment.
func TestListVectors(t *testing.T) {
	g := newRig(t)
	g.must(t, "CreateVectorBucket", `{"vectorBucketName":"movies"}`)
	create := func() {
		g.must(t, "CreateIndex", `{"vectorBucketName":"movies","indexName":"plots","dataType":"float32","dimension":1000,"distanceMetric":"euclidean"}`)
	}
	create()
	data := strings.TrimSuffix(strings.Repeat("0.12345678,", 1000), ",")
	for part := range 10 {
		var b strings.Builder
		for i := range 30 {
			fmt.Fprintf(&b, `,{"key":"k%d","data":{"float32":[%s]}}`, 30*part+i, data)
		}
		g.must(t, "PutVectors", `{`+at+`,"vectors":[`+b.String()[1:]+`]}`)
	}
	for _, segments := range []int{1, 2, 7, 16} {
		for _, wants := range []string{"", `,"returnData":true`, `,"maxResults":7`} {
			seen, pages := map[string]int{}, 0
			for segment := range segments {
				for token, last := "", false; !last; pages++ {
					more := fmt.Sprintf(`,"segmentCount":%d,"segmentIndex":%d`, segments, segment)
					answer := g.must(t, "ListVectors", `{`+at+wants+more+token+`}`)
					for _, item := range answer["vectors"].([]any) {
						seen[item.(map[string]any)["key"].(string)]++
					}
					if size := len(text(answer)); size > maxPageBytes+3000 {
						t.Fatalf("a page has %d bytes", size)
					}
					next, ok := answer["nextToken"].(string)
					token, last = `,"nextToken":"`+next+`"`, !ok
				}
			}
			if len(seen) != 300 || slices.Max(slices.Collect(maps.Values(seen))) != 1 || wants != "" && pages < 3 {
				t.Errorf("%d segments%s: %d keys in %d pages", segments, wants, len(seen), pages)
			}
		}
	}
	token := g.must(t, "ListVectors", `{`+at+`,"maxResults":1,"segmentCount":2,"segmentIndex":1}`)["nextToken"].(string)
	refused := func(body string) string {
		status, code, answer := g.ask(t, access.Root, "POST", "/ListVectors", body)
		if status != 400 || code != "ValidationException" {
			t.Errorf("%s: %d %s", body, status, code)
		}
		return text(answer)
	}
	refused(`{` + at + `,"nextToken":"` + token + `"}`)
	refused(`{` + at + `,"segmentCount":2,"segmentIndex":0,"nextToken":"` + token + `"}`)
	for i := range token {
		damaged := []byte(token)
		damaged[i] ^= 1
		if !strings.ContainsRune("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", rune(damaged[i])) {
			continue
		}
		refused(`{` + at + `,"segmentCount":2,"segmentIndex":1,"nextToken":"` + string(damaged) + `"}`)
	}
	g.must(t, "DeleteIndex", `{`+at+`}`)
	create()
	if got := refused(`{` + at + `,"segmentCount":2,"segmentIndex":1,"nextToken":"` + token + `"}`); !strings.Contains(got, "was deleted") {
		t.Error(got)
	}
}

// TestSegments: the ranges of the segments are disjoint and leave nothing out.
func TestSegments(t *testing.T) {
	for segments := 1; segments <= vectors.MaxSegments; segments++ {
		var before *vectors.Hash
		for segment := range segments {
			after, last := segmentRange(segment, segments)
			if (after == nil) != (before == nil) || after != nil && *after != *before || after != nil && bytes.Compare(after[:], last[:]) >= 0 {
				t.Errorf("segment %d of %d begins after %x, the one before ends with %x", segment, segments, after, before)
			}
			before = &last
		}
		if *before != (vectors.Hash(bytes.Repeat([]byte{0xff}, 16))) {
			t.Errorf("%d segments end with %x", segments, *before)
		}
	}
}

// TestModel: the table has the operations, methods and paths of the service's model.
func TestModel(t *testing.T) {
	if len(operations) != 19 || len(policy.VectorActions) != 19 {
		t.Fatalf("%d operations, %d actions", len(operations), len(policy.VectorActions))
	}
	for _, o := range operations {
		if !slices.Contains(policy.VectorActions, "s3vectors:"+o.name) {
			t.Errorf("policies do not know %s", o.name)
		}
		for _, m := range slices.Concat(o.members, o.required) {
			if members[m] == nil {
				t.Errorf("%s: nothing decodes %s", o.name, m)
			}
		}
		if found := find(o.method, o.path); found == nil || found.name != o.name {
			t.Errorf("%s is not found", o.name)
		}
	}
}

// FuzzBody: no body makes the decoder panic, and what it accepts is JSON that the standard library accepts.
func FuzzBody(f *testing.F) {
	f.Add([]byte(`{` + at + `,"vectors":[{"key":"a","data":{"float32":[1,-2.5e3]},"metadata":{"x":[1,"é"]}}]}`))
	f.Add([]byte(`{` + at + `,"topK":3,"queryVector":{"float32":[1e38]},"filter":{"$or":[{"a":1},{"b":{"$gt":2}}]}}`))
	f.Add([]byte(`{"tags":{"a":"b"},"nextToken":"x","segmentCount":3,"returnData":true,"policy":"\ud83d\ude00"}`))
	f.Add([]byte(`{"encryptionConfiguration":{"sseType":"AES256"},"metadataConfiguration":{"nonFilterableMetadataKeys":["a"]}}`))
	every := slices.Collect(maps.Keys(members))
	f.Fuzz(func(t *testing.T, body []byte) {
		r, err := decode(body, every, nil)
		var coded *vectors.Error
		if err != nil {
			if !errors.As(err, &coded) || coded.Code != vectors.Validation {
				t.Fatalf("%v", err)
			}
			return
		}
		if len(bytes.TrimSpace(body)) > 0 && !json.Valid(body) {
			t.Fatalf("accepted %q", body)
		}
		for _, v := range r.vectors {
			if v.key == "" || len(v.data) == 0 || len(v.data) > vectors.MaxDimension || v.metadata != nil && !json.Valid(v.metadata) {
				t.Fatalf("accepted %+v", v)
			}
		}
	})
}

// FuzzToken: no token makes the parser panic, and only one that was made is accepted.
func FuzzToken(f *testing.F) {
	p := position{incarnation: "000102030405060708090a0b0c0d0e0f", segments: 16, segment: 3, last: vectors.HashKey("k")}
	f.Add(p.token())
	f.Add("")
	f.Add("AQ")
	f.Fuzz(func(t *testing.T, token string) {
		got, err := parsePosition(token, p)
		if err == nil && got.token() != token {
			t.Fatalf("%q is read as %+v, whose token is %q", token, got, got.token())
		}
	})
}

// BenchmarkPut decodes the largest PutVectors of a usual model: 500 vectors of 1,536 dimensions.
func BenchmarkPut(b *testing.B) {
	var body bytes.Buffer
	body.WriteString(`{` + at + `,"vectors":[`)
	for i := range 500 {
		if i > 0 {
			body.WriteByte(',')
		}
		fmt.Fprintf(&body, `{"key":"document-%d","data":{"float32":[`, i)
		for k := range 1536 {
			if k > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, "%g", float32(i*1536+k)*1.0000123e-5-3)
		}
		body.WriteString(`]},"metadata":{"genre":"drama","year":1999}}`)
	}
	body.WriteString(`]}`)
	o := find("POST", "/PutVectors")
	b.SetBytes(int64(body.Len()))
	for b.Loop() {
		if _, err := decode(body.Bytes(), o.members, o.required); err != nil {
			b.Fatal(err)
		}
	}
}
