// Package api answers requests of Amazon S3 Vectors: the 19 operations of the service in REST-JSON. It
// decodes and checks requests, decides by the policies of the user and of the vector bucket whether they
// are allowed, and asks an Engine for the rest.
//
// It verifies no signatures and stores nothing: the gateway hands it verified requests with their
// bodies, and answers the errors that it returns in the form of the service.
package api

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
)

// Engine keeps vector buckets, indexes and vectors. All errors for clients are *vectors.Error, with
// NotFoundException for a bucket or an index that is not there. Its methods may be called from any
// goroutine. What it returns must not be changed, and what it is given is its own.
type Engine interface {
	CreateBucket(ctx context.Context, b vectors.Bucket) (vectors.Bucket, error)
	Bucket(name string) (vectors.Bucket, error)
	// Buckets returns up to limit buckets whose names begin with prefix and come after a name, in order.
	Buckets(prefix, after string, limit int) (page []vectors.Bucket, more bool, err error)
	DeleteBucket(ctx context.Context, name string) error
	// SetPolicy sets the policy of a bucket, "" for none.
	SetPolicy(ctx context.Context, bucket, policy string) error

	CreateIndex(ctx context.Context, i vectors.Index) (vectors.Index, error)
	Index(bucket, name string) (vectors.Index, error)
	Indexes(bucket, prefix, after string, limit int) (page []vectors.Index, more bool, err error)
	DeleteIndex(ctx context.Context, bucket, name string) error
	// Tag sets and removes tags of an index, or of a bucket if index is "".
	Tag(ctx context.Context, bucket, index string, set map[string]string, remove []string) error

	Put(ctx context.Context, bucket, index string, vs []vectors.Vector) error
	Delete(ctx context.Context, bucket, index string, keys []string) error
	Get(ctx context.Context, bucket, index string, keys []string) ([]vectors.Vector, error)
	// List yields the vectors whose hashes are above after (nil: all) and at most last, in order, at
	// most limit of them, until yield returns false. That vector counts as not yielded. more is
	// whether there are further ones.
	List(ctx context.Context, bucket, index string, after *vectors.Hash, last vectors.Hash, limit int, yield func(vectors.Vector) bool) (more bool, err error)
	// Query returns the nearest vectors that pass filter (nil: all), nearest first.
	Query(ctx context.Context, bucket, index string, vector []float32, topK int, filter *meta.Filter) ([]vectors.Hit, error)
}

// Users gives the names and the rights of identities.
type Users interface {
	// PolicyOf returns the rights of an identity, nil for none.
	PolicyOf(id sigv4.Identity) *policy.Policy
	// UserOf returns the name of its user, access.Root for the root key pair.
	UserOf(id sigv4.Identity) string
}

// Options configure an API. All fields are required.
type Options struct {
	Engine Engine
	Users  Users
	// Names form the ARNs.
	Names vectors.Names
}

// API answers requests of S3 Vectors. It is safe for concurrent use.
type API struct {
	Options
	policies sync.Map // string, the name of a bucket -> *parsedPolicy
}

// parsedPolicy is the policy of a bucket; policy is nil if text cannot be parsed.
type parsedPolicy struct {
	text   string
	policy *policy.BucketPolicy
}

// New returns an API.
func New(o Options) *API { return &API{Options: o} }

// call is one request.
type call struct {
	*request
	id sigv4.Identity
	// bucket and index are the resource that the request names, "" for none.
	bucket, index string
	query         url.Values
}

// tagsPath begins the paths of the operations on tags; the ARN of a resource follows, encoded.
const tagsPath = "/tags/"

// ServeVectors answers a verified request, see gateway.Vectors. It writes nothing if it returns an
// error.
func (a *API) ServeVectors(w http.ResponseWriter, r *http.Request, id sigv4.Identity, body []byte) (op string, err error) {
	path, resource := r.URL.EscapedPath(), ""
	if arn, ok := strings.CutPrefix(path, tagsPath); ok {
		path, resource = tagsPath, arn
	}
	o := find(r.Method, path)
	if o == nil {
		return "", vectors.Errorf(vectors.UnknownOperation, "%s %s is no operation of S3 Vectors.", clip(r.Method), clip(path))
	}
	answer, err := a.run(r, o, resource, id, body)
	if err != nil {
		return o.name, err
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(answer)))
	_, _ = w.Write(answer) // a client that has disconnected does not read it
	return o.name, nil
}

// run carries out an operation, and returns the response.
func (a *API) run(r *http.Request, o *operation, resource string, id sigv4.Identity, body []byte) (document, error) {
	if o.path == tagsPath && o.method != http.MethodPost {
		body = nil
	}
	in, err := decode(body, o.members, o.required)
	if err != nil {
		return nil, err
	}
	c := &call{request: in, id: id}
	if c.query, err = sigv4.ParseQuery(r.URL.RawQuery); err != nil {
		return nil, vectors.Errorf(vectors.Validation, "The query string is malformed.")
	}
	if o.path == tagsPath {
		err = a.nameResource(c, resource)
	} else {
		err = a.name(c, o.target)
	}
	if err != nil {
		return nil, err
	}
	for _, action := range c.actions(o) {
		if err := a.authorise(c, action); err != nil {
			return nil, err
		}
	}
	return o.run(a, r.Context(), c)
}

// nameResource sets the resource of a call on tags.
func (a *API) nameResource(c *call, encoded string) (err error) {
	arn, err := url.PathUnescape(encoded)
	if err != nil {
		return vectors.Invalid("/resourceArn", "is not encoded as in a URL")
	}
	c.bucket, c.index, err = a.parse("/resourceArn", arn)
	return err
}

// parse returns the names in an ARN of this account and region.
func (a *API) parse(path, arn string) (bucket, index string, err error) {
	bucket, index, own, err := a.Names.Parse(arn)
	switch {
	case err != nil:
		return "", "", vectors.Invalid(path, "must be the ARN of a vector bucket or an index, such as %s", a.Names.IndexARN("my-bucket", "my-index"))
	case !own:
		return "", "", vectors.Invalid(path, "must be in the account %s and the region %s of this gateway", a.Names.Account, a.Names.Region)
	}
	return bucket, index, nil
}

// name sets the resource that a call names: by names or by an ARN, never by both.
func (a *API) name(c *call, t target) (err error) {
	switch t {
	case noTarget:
		return nil
	case bucketTarget, newIndexTarget:
		if c.bucket, err = a.bucketOf(c); err == nil && t == newIndexTarget {
			c.index, err = checkName("/indexName", c.indexName)
		}
		return err
	case newBucketTarget:
		c.bucket, err = checkName("/vectorBucketName", c.bucketName)
		return err
	}
	named := c.seen["vectorBucketName"] || c.seen["indexName"]
	switch {
	case named && c.seen["indexArn"]:
		return vectors.Invalid("/indexArn", "must be absent if vectorBucketName or indexName is there")
	case c.seen["indexArn"]:
		if c.bucket, c.index, err = a.parse("/indexArn", c.indexARN); err == nil && c.index == "" {
			err = vectors.Invalid("/indexArn", "must be the ARN of an index")
		}
		return err
	case !c.seen["vectorBucketName"]:
		return vectors.Invalid("/vectorBucketName", "must not be null: name the index by vectorBucketName and indexName, or by indexArn")
	case !c.seen["indexName"]:
		return vectors.Invalid("/indexName", "must not be null: name the index by vectorBucketName and indexName, or by indexArn")
	}
	if c.bucket, err = checkName("/vectorBucketName", c.bucketName); err == nil {
		c.index, err = checkName("/indexName", c.indexName)
	}
	return err
}

// bucketOf returns the bucket that a call names.
func (a *API) bucketOf(c *call) (string, error) {
	switch named, byARN := c.seen["vectorBucketName"], c.seen["vectorBucketArn"]; {
	case named && byARN:
		return "", vectors.Invalid("/vectorBucketArn", "must be absent if vectorBucketName is there")
	case byARN:
		bucket, index, err := a.parse("/vectorBucketArn", c.bucketARN)
		if err == nil && index != "" {
			err = vectors.Invalid("/vectorBucketArn", "must be the ARN of a vector bucket")
		}
		return bucket, err
	case !named:
		return "", vectors.Invalid("/vectorBucketName", "must not be null: name the bucket by vectorBucketName or by vectorBucketArn")
	}
	return checkName("/vectorBucketName", c.bucketName)
}

func checkName(path, name string) (string, error) {
	if !vectors.ValidName(name) {
		return "", vectors.Invalid(path, "must have 3 to 63 lower-case letters, digits, hyphens and dots, and begin and end with a letter or a digit")
	}
	return name, nil
}

// arn returns the ARN of the resource that a call names, policy.AllVectors for none.
func (a *API) arn(c *call) string {
	switch {
	case c.bucket == "":
		return policy.AllVectors
	case c.index == "":
		return a.Names.BucketARN(c.bucket)
	}
	return a.Names.IndexARN(c.bucket, c.index)
}

// actions returns the actions that a call needs.
func (c *call) actions(o *operation) []string {
	actions := []string{"s3vectors:" + o.name}
	if o.name != "GetVectors" && (c.wants.data || c.wants.metadata || c.filter != nil) {
		actions = append(actions, "s3vectors:GetVectors")
	}
	if o.target == newBucketTarget || o.target == newIndexTarget {
		if len(c.tags) > 0 {
			actions = append(actions, "s3vectors:TagResource")
		}
	}
	return actions
}

// authorise decides whether a call may do an action, whether or not its resource exists.
func (a *API) authorise(c *call, action string) error {
	rights, user, request := a.Users.PolicyOf(c.id), a.Users.UserOf(c.id), policy.Request{Action: action, Vectors: a.arn(c)}
	// The root key pair can always replace a policy that locks it out.
	own, readable, err := (*policy.BucketPolicy)(nil), true, error(nil)
	if c.bucket != "" && !(user == access.Root && strings.HasSuffix(action, "VectorBucketPolicy")) {
		if own, readable, err = a.policyOf(c.bucket); err != nil {
			return err
		}
	}
	if !readable || !rights.AllowsIn(own, user, request) {
		return vectors.Errorf(vectors.AccessDenied, "User: %s is not authorized to perform: %s on resource: %s", user, action, request.Vectors)
	}
	return nil
}

// policyOf returns the policy of a bucket, nil for none. It is not readable if it was stored for
// another account or region; then nobody is allowed anything in the bucket but to replace it.
func (a *API) policyOf(bucket string) (p *policy.BucketPolicy, readable bool, err error) {
	b, err := a.Engine.Bucket(bucket)
	var coded *vectors.Error
	switch {
	case errors.As(err, &coded) && coded.Code == vectors.NotFound:
		return nil, true, nil
	case err != nil:
		return nil, false, err
	case b.Policy == "":
		a.policies.Delete(bucket)
		return nil, true, nil
	}
	if kept, ok := a.policies.Load(bucket); ok && kept.(*parsedPolicy).text == b.Policy {
		p = kept.(*parsedPolicy).policy
		return p, p != nil, nil
	}
	p, err = policy.ParseBucket([]byte(b.Policy), a.Names.BucketARN(bucket), a.Names.Account)
	if err != nil {
		p = nil
	}
	a.policies.Store(bucket, &parsedPolicy{b.Policy, p})
	return p, err == nil, nil
}

// find returns the operation of a method and a path, nil for none.
func find(method, path string) *operation {
	i := slices.IndexFunc(operations, func(o operation) bool { return o.path == path && o.method == method })
	if i < 0 {
		return nil
	}
	return &operations[i]
}
