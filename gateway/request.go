package gateway

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers/cold"
)

// call is one parsed and verified request. It has what was signed: handlers do not read the URL
// again.
type call struct {
	*http.Request
	requestID string
	path      string // decoded once
	key       akigw.Key
	query     url.Values
	identity  sigv4.Identity
	rights    *policy.Policy
	payload   *sigv4.Payload
	body      *body   // that check has prepared, until it is used
	source    *source // of a copy
	route     *Route
	touched   []akigw.Key  // other keys that the request concerns
	memory    budget.Taker // of request bodies; nil before it is known whose they are
	reserved  int64        // bytes of it
	held      []func()     // ends of holds of keys
	pace      limits.Pace  // bandwidth limits of its bodies
	flow      cold.FlowContext
	deadline  deadline
	localOnly bool // fast path: it is given up if it cannot be answered locally
}

// close gives back what the call holds.
func (c *call) close() {
	c.deadline.release()
	if c.payload != nil {
		c.payload.Close()
	}
	if c.memory != nil {
		c.memory.Release(c.reserved)
	}
	for _, release := range c.held {
		release()
	}
}

// Context is the request's context. It says on whose behalf the upstream is asked, and
// ends when the call meets its deadline.
func (c *call) Context() context.Context { return &c.flow }

// maxParameters bounds the query (no S3 operation has a tenth of it).
const maxParameters = 100

// parse splits the target into bucket, key and query: the one place that does.
func parse(r *http.Request, domains []string) (*call, error) {
	c := &call{Request: r, path: r.URL.Path}
	c.deadline.Context = r.Context()
	c.flow.Context = &c.deadline
	if r.URL.Host != "" { // an absolute-form target, which wire has compared with the Host header
		if r.URL.Host != r.Host || r.URL.User != nil {
			return nil, s3err.InvalidURI
		}
		if c.path == "" {
			c.path = "/" // RFC 9110 §4.2.3
		}
	}
	if r.URL.Opaque != "" || !strings.HasPrefix(c.path, "/") {
		return nil, s3err.InvalidURI
	}
	if r.URL.RawQuery != "" {
		if strings.Count(r.URL.RawQuery, "&") >= maxParameters {
			return nil, s3err.InvalidURI.With("The request has too many query parameters.")
		}
		query, err := sigv4.ParseQuery(r.URL.RawQuery)
		if err != nil {
			return nil, s3err.InvalidURI
		}
		for name, values := range query {
			if len(values) > 1 {
				return nil, s3err.InvalidArgument.With("The query parameter "+name+" was sent more than once.").About("ArgumentName", name)
			}
		}
		c.query = query
	}
	bucket, name, _ := strings.Cut(c.path[1:], "/")
	if host, ok := virtualBucket(r.Host, domains); ok {
		bucket, name = host, c.path[1:]
	}
	if bucket == "" {
		if name != "" {
			return nil, s3err.InvalidBucketName
		}
		return c, nil
	}
	if err := akigw.CheckBucketName(bucket); err != nil {
		return nil, s3err.InvalidBucketName.About("BucketName", bucket)
	}
	c.key = akigw.Key{Bucket: bucket, Name: name}
	return c, akigw.CheckKeyName(name)
}

// virtualBucket finds the bucket in the host name of a virtual-hosted-style
// request ("Virtual hosting of general purpose buckets"): what stands before
// one of our domains.
func virtualBucket(host string, domains []string) (bucket string, ok bool) {
	if len(domains) == 0 {
		return "", false
	}
	if i := strings.LastIndexByte(host, ':'); i >= 0 && !strings.HasSuffix(host, "]") {
		host = host[:i]
	}
	for _, domain := range domains {
		if n := len(host) - len(domain) - 1; n > 0 && host[n] == '.' && strings.EqualFold(host[n+1:], domain) {
			return strings.ToLower(host[:n]), true
		}
	}
	return "", false
}

// maxMetadata is the limit on user-defined metadata (S3: 2 KB, the sum of the
// bytes of names and values).
const maxMetadata = 2 << 10

// check refuses what S3 refuses before it looks at the body.
func (c *call) check(route *Route) error {
	if !route.admits(c.identity.Place(), c.payload.Mode) {
		return s3err.InvalidRequest.With("The value of x-amz-content-sha256 header is invalid.").
			About("ArgumentName", "x-amz-content-sha256").About("ArgumentValue", c.Header.Get("X-Amz-Content-Sha256"))
	}
	if route.Body == Document && c.ContentLength > maxDocument {
		return errTooBig
	}
	if err := c.checkOverrides(); err != nil {
		return err
	}
	size := 0
	for name, values := range c.Header {
		if meta, ok := strings.CutPrefix(name, metadataPrefix); ok {
			size += len(meta)
			for _, v := range values {
				size += len(v)
			}
		}
	}
	if size > maxMetadata {
		return s3err.MetadataTooLarge.About("Size", strconv.Itoa(size)).About("MaxSizeAllowed", strconv.Itoa(maxMetadata))
	}
	if err := c.checkCounts(); err != nil {
		return err
	}
	if c.route.Op == "UploadPartCopy" {
		if _, ok := copyRange(c.Header.Get(copyRangeHeader)); !ok {
			return s3err.InvalidArgument.With("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy").
				About("ArgumentName", "x-amz-copy-source-range").About("ArgumentValue", c.Header.Get(copyRangeHeader))
		}
	}
	if c.query.Has("partNumber") {
		if n, err := strconv.Atoi(c.query.Get("partNumber")); err != nil || n < 1 || n > maxParts {
			return s3err.InvalidArgument.With("Part number must be an integer between 1 and 10000, inclusive.").About("ArgumentName", "partNumber").About("ArgumentValue", c.query.Get("partNumber"))
		}
		if c.Header.Get("Range") != "" && (c.Method == http.MethodGet || c.Method == http.MethodHead) {
			return s3err.InvalidRequest.With("Cannot specify both Range header and partNumber query parameter")
		}
	}
	if route.Body != Content {
		return nil
	}
	var err error
	if c.body, err = newBody(c); err == nil && c.payload.Length < 0 {
		err = s3err.MissingContentLength
	}
	return err
}

// maxParts is the largest part number (S3: 10,000).
const maxParts = 10000

var countParameters = [...]string{"max-keys", "max-uploads", "max-parts", "max-buckets"}

// checkCounts refuses page sizes that are no such numbers.
func (c *call) checkCounts() error {
	for _, name := range countParameters {
		v := c.query.Get(name)
		if v == "" {
			continue
		}
		message := ""
		switch n, err := strconv.ParseInt(v, 10, 32); {
		case name == "max-buckets" && (err != nil || n < 1 || n > maxBuckets):
			message = "Argument max-buckets must be an integer between 1 and 10000."
		case err != nil:
			message = "Provided " + name + " not an integer or within integer range"
		case n < 0:
			message = "Argument " + name + " must be an integer between 0 and 2147483647"
		}
		if message != "" {
			return s3err.InvalidArgument.With(message).About("ArgumentName", name).About("ArgumentValue", v)
		}
	}
	return nil
}

// maxBuckets is the largest page of buckets (ListBuckets).
const maxBuckets = 10000
