package api

import (
	"cmp"
	"context"
	"net/http"
	"slices"

	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/vectors"
)

// target is what the members of an operation name.
type target int

const (
	noTarget        target = iota
	bucketTarget           // by vectorBucketName or vectorBucketArn
	newBucketTarget        // by vectorBucketName
	indexTarget            // by vectorBucketName and indexName, or by indexArn
	newIndexTarget         // its bucket like bucketTarget, and indexName
)

// operation is one row of the table of operations.
type operation struct {
	// name is that of the operation in the service's model; its action is the same.
	name, method, path string
	target             target
	// members are those that the body may have besides the names of the target.
	members  []string
	required []string
	run      func(a *API, ctx context.Context, c *call) (document, error)
}

// operations are all operations of S3 Vectors.
var operations = table(
	operation{name: "CreateVectorBucket", target: newBucketTarget, members: []string{"encryptionConfiguration", "tags"}, run: (*API).createBucket},
	operation{name: "GetVectorBucket", target: bucketTarget, run: (*API).getBucket},
	operation{name: "ListVectorBuckets", members: []string{"maxResults", "nextToken", "prefix"}, run: (*API).listBuckets},
	operation{name: "DeleteVectorBucket", target: bucketTarget, run: (*API).deleteBucket},
	operation{name: "PutVectorBucketPolicy", target: bucketTarget, members: []string{"policy"}, required: []string{"policy"}, run: (*API).putPolicy},
	operation{name: "GetVectorBucketPolicy", target: bucketTarget, run: (*API).getPolicy},
	operation{name: "DeleteVectorBucketPolicy", target: bucketTarget, run: (*API).deletePolicy},
	operation{name: "CreateIndex", target: newIndexTarget, members: []string{"dataType", "dimension", "distanceMetric", "metadataConfiguration", "encryptionConfiguration", "tags"},
		required: []string{"indexName", "dataType", "dimension", "distanceMetric"}, run: (*API).createIndex},
	operation{name: "GetIndex", target: indexTarget, run: (*API).getIndex},
	operation{name: "ListIndexes", target: bucketTarget, members: []string{"maxResults", "nextToken", "prefix"}, run: (*API).listIndexes},
	operation{name: "DeleteIndex", target: indexTarget, run: (*API).deleteIndex},
	operation{name: "PutVectors", target: indexTarget, members: []string{"vectors"}, required: []string{"vectors"}, run: (*API).putVectors},
	operation{name: "GetVectors", target: indexTarget, members: []string{"keys", "returnData", "returnMetadata"}, required: []string{"keys"}, run: (*API).getVectors},
	operation{name: "DeleteVectors", target: indexTarget, members: []string{"keys"}, required: []string{"keys"}, run: (*API).deleteVectors},
	operation{name: "ListVectors", target: indexTarget, members: []string{"maxResults", "nextToken", "segmentCount", "segmentIndex", "returnData", "returnMetadata"}, run: (*API).listVectors},
	operation{name: "QueryVectors", target: indexTarget, members: []string{"topK", "queryVector", "filter", "returnMetadata", "returnDistance"}, required: []string{"topK", "queryVector"}, run: (*API).queryVectors},
	operation{name: "ListTagsForResource", method: http.MethodGet, path: tagsPath, run: (*API).listTags},
	operation{name: "TagResource", path: tagsPath, members: []string{"tags"}, required: []string{"tags"}, run: (*API).tag},
	operation{name: "UntagResource", method: http.MethodDelete, path: tagsPath, run: (*API).untag},
)

// table completes the rows: most operations are a POST to a path that is their name.
func table(rows ...operation) []operation {
	naming := map[target][]string{
		bucketTarget: {"vectorBucketName", "vectorBucketArn"}, newBucketTarget: {"vectorBucketName"},
		indexTarget: {"vectorBucketName", "indexName", "indexArn"}, newIndexTarget: {"vectorBucketName", "vectorBucketArn", "indexName"},
	}
	for i := range rows {
		o := &rows[i]
		o.method, o.path = cmp.Or(o.method, http.MethodPost), cmp.Or(o.path, "/"+o.name)
		o.members = slices.Concat(o.members, naming[o.target])
	}
	return rows
}

// done is the response of operations that return nothing.
func done(err error) (document, error) {
	if err != nil {
		return nil, err
	}
	return document("{}"), nil
}

func (a *API) createBucket(ctx context.Context, c *call) (document, error) {
	if _, err := a.Engine.CreateBucket(ctx, vectors.Bucket{Name: c.bucket, SSE: c.create.sse, Tags: c.tags}); err != nil {
		return nil, err
	}
	return append(document("{").member("vectorBucketArn", a.Names.BucketARN(c.bucket)), '}'), nil
}

// aes256 is the encryption that is in force where none was asked for.
const aes256 = "AES256"

func (d document) encryption(sse ...string) document {
	return append(append(d.name("encryptionConfiguration"), '{').member("sseType", cmp.Or(cmp.Or(sse...), aes256)), '}')
}

func (a *API) getBucket(_ context.Context, c *call) (document, error) {
	b, err := a.Engine.Bucket(c.bucket)
	if err != nil {
		return nil, err
	}
	d := a.bucketMembers(append(document("{").name("vectorBucket"), '{'), b).encryption(b.SSE)
	return append(d, "}}"...), nil
}

// bucketMembers appends the members of a VectorBucketSummary.
func (a *API) bucketMembers(d document, b vectors.Bucket) document {
	return d.member("vectorBucketName", b.Name).member("vectorBucketArn", a.Names.BucketARN(b.Name)).time("creationTime", b.Created)
}

// maxListPage is the largest and the default page of buckets and of indexes.
const maxListPage = 500

// pageAfter returns the size of a page of names, and the name that it begins after.
func (c *call) pageAfter(about ...string) (limit int, after string, err error) {
	if c.page.max > maxListPage {
		return 0, "", vectors.Invalid("/maxResults", "must be an integer from 1 to %d", maxListPage)
	}
	if c.page.token == "" {
		return cmp.Or(c.page.max, maxListPage), "", nil
	}
	name, err := openToken(c.page.token, append(about, c.page.prefix)...)
	return cmp.Or(c.page.max, maxListPage), string(name), err
}

// nextPage appends the token of the next page of names.
func (c *call) nextPage(d document, more bool, last string, about ...string) document {
	if more && last != "" {
		d = d.member("nextToken", sealToken([]byte(last), append(about, c.page.prefix)...))
	}
	return append(d, '}')
}

func (a *API) listBuckets(_ context.Context, c *call) (document, error) {
	limit, after, err := c.pageAfter("ListVectorBuckets")
	if err != nil {
		return nil, err
	}
	page, more, err := a.Engine.Buckets(c.page.prefix, after, limit)
	if err != nil {
		return nil, err
	}
	d, last := append(document("{").name("vectorBuckets"), '['), ""
	for i, b := range page {
		if i > 0 {
			d = append(d, ',')
		}
		d, last = append(a.bucketMembers(append(d, '{'), b), '}'), b.Name
	}
	return c.nextPage(append(d, ']'), more, last, "ListVectorBuckets"), nil
}

func (a *API) deleteBucket(ctx context.Context, c *call) (document, error) {
	return done(a.Engine.DeleteBucket(ctx, c.bucket))
}

func (a *API) putPolicy(ctx context.Context, c *call) (document, error) {
	if _, err := policy.ParseBucket([]byte(c.policy), a.Names.BucketARN(c.bucket), a.Names.Account); err != nil {
		return nil, vectors.Invalid("/policy", "is not accepted: %v", err)
	}
	return done(a.Engine.SetPolicy(ctx, c.bucket, c.policy))
}

func (a *API) getPolicy(_ context.Context, c *call) (document, error) {
	b, err := a.Engine.Bucket(c.bucket)
	if err == nil && b.Policy == "" {
		err = vectors.Errorf(vectors.NotFound, "The vector bucket %s has no policy.", c.bucket)
	}
	if err != nil {
		return nil, err
	}
	return append(document("{").member("policy", b.Policy), '}'), nil
}

func (a *API) deletePolicy(ctx context.Context, c *call) (document, error) {
	return done(a.Engine.SetPolicy(ctx, c.bucket, ""))
}

func (a *API) createIndex(ctx context.Context, c *call) (document, error) {
	_, err := a.Engine.CreateIndex(ctx, vectors.Index{Bucket: c.bucket, Name: c.index, Dimension: c.create.dimension, Metric: vectors.Metric(c.create.metric),
		NonFilterable: c.create.nonFilterable, SSE: c.create.sse, Tags: c.tags})
	if err != nil {
		return nil, err
	}
	return append(document("{").member("indexArn", a.Names.IndexARN(c.bucket, c.index)), '}'), nil
}

func (a *API) getIndex(_ context.Context, c *call) (document, error) {
	b, err := a.Engine.Bucket(c.bucket)
	if err != nil {
		return nil, err
	}
	i, err := a.Engine.Index(c.bucket, c.index)
	if err != nil {
		return nil, err
	}
	d := a.indexMembers(append(document("{").name("index"), '{'), i).member("dataType", "float32").member("distanceMetric", string(i.Metric))
	d = append(d.name("dimension"), decimal(i.Dimension)...)
	if len(i.NonFilterable) > 0 {
		d = append(d.name("metadataConfiguration"), '{').name("nonFilterableMetadataKeys")
		for n, key := range i.NonFilterable {
			d = append(d, "[,"[min(n, 1)]).text(key)
		}
		d = append(d, "]}"...)
	}
	return append(d.encryption(i.SSE, b.SSE), "}}"...), nil
}

// indexMembers appends the members of an IndexSummary.
func (a *API) indexMembers(d document, i vectors.Index) document {
	return d.member("vectorBucketName", i.Bucket).member("indexName", i.Name).member("indexArn", a.Names.IndexARN(i.Bucket, i.Name)).time("creationTime", i.Created)
}

func (a *API) listIndexes(_ context.Context, c *call) (document, error) {
	b, err := a.Engine.Bucket(c.bucket)
	if err != nil {
		return nil, err
	}
	about := []string{"ListIndexes", string(b.Incarnation)}
	limit, after, err := c.pageAfter(about...)
	if err != nil {
		return nil, err
	}
	page, more, err := a.Engine.Indexes(c.bucket, c.page.prefix, after, limit)
	if err != nil {
		return nil, err
	}
	d, last := append(document("{").name("indexes"), '['), ""
	for n, i := range page {
		if n > 0 {
			d = append(d, ',')
		}
		d, last = append(a.indexMembers(append(d, '{'), i), '}'), i.Name
	}
	return c.nextPage(append(d, ']'), more, last, about...), nil
}

func (a *API) deleteIndex(ctx context.Context, c *call) (document, error) {
	return done(a.Engine.DeleteIndex(ctx, c.bucket, c.index))
}

func (a *API) listTags(_ context.Context, c *call) (document, error) {
	var tags map[string]string
	if c.index == "" {
		b, err := a.Engine.Bucket(c.bucket)
		if err != nil {
			return nil, err
		}
		tags = b.Tags
	} else {
		i, err := a.Engine.Index(c.bucket, c.index)
		if err != nil {
			return nil, err
		}
		tags = i.Tags
	}
	return append(document("{").tags("tags", tags), '}'), nil
}

func (a *API) tag(ctx context.Context, c *call) (document, error) {
	return done(a.Engine.Tag(ctx, c.bucket, c.index, c.tags, nil))
}

func (a *API) untag(ctx context.Context, c *call) (document, error) {
	keys := c.query["tagKeys"]
	if len(keys) == 0 {
		return nil, vectors.Invalid("/tagKeys", "must not be null")
	}
	for _, key := range keys {
		if err := checkTag(key, ""); err != nil {
			return nil, err
		}
	}
	return done(a.Engine.Tag(ctx, c.bucket, c.index, nil, keys))
}
