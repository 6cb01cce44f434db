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

// call is one parsed and verified request. It contains what was signed: handlers do not read the
// URL again.
type call struct {
	*http.Request
	path       string // decoded once
	hostBucket string // the bucket if the host name stands for it, "" if it is in the path
	key        akigw.Key
	query      url.Values
	identity   sigv4.Identity
	rights     *policy.Policy
	payload    *sigv4.Payload
	body       *body   // prepared by check, until it is used
	source     *source // of a copy
	form       *form   // of a browser upload
	route      *Route
	touched    []akigw.Key  // other keys that the request affects
	memory     budget.Taker // for its bodies; nil until the request is verified
	reserved   int64        // bytes of memory
	held       []func()     // release keys that accept no pending write meanwhile
	pace       limits.Pace  // bandwidth limits of its bodies
	flow       cold.FlowContext
	deadline   deadline
	shadow     *shadowed // set when the handler of a call in shadow mode begins
	localOnly  bool      // fast path: it is given up if it cannot be answered locally
}

// close releases the resources of the call.
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

// Context returns the request's context. It carries the flow for the upstream, and ends when the
// call exceeds its deadline.
func (c *call) Context() context.Context { return &c.flow }

// maxParameters is more than ten times the number of parameters of any S3 operation.
const maxParameters = 100

// parse parses a request into a call: the only place that splits the target into bucket, key and
// query.
func parse(r *http.Request, domains []string) (*call, error) {
	c := &call{}
	return c, c.parse(r, domains)
}

// parse is the function parse for an allocated call.
func (c *call) parse(r *http.Request, domains []string) error {
	c.Request, c.path = r, r.URL.Path
	c.deadline.Context = r.Context()
	c.flow.Context = &c.deadline
	if r.URL.Host != "" { // an absolute-form target, which httpguard has compared with the Host header
		if r.URL.Host != r.Host || r.URL.User != nil {
			return s3err.InvalidURI
		}
		if c.path == "" {
			c.path = "/" // RFC 9110 §4.2.3
		}
	}
	if r.URL.Opaque != "" || !strings.HasPrefix(c.path, "/") {
		return s3err.InvalidURI
	}
	if err := c.parseQuery(r.URL.RawQuery); err != nil {
		return err
	}
	bucket, name, _ := strings.Cut(c.path[1:], "/")
	if host, ok := virtualBucket(r.Host, domains); ok {
		bucket, name, c.hostBucket = host, c.path[1:], host
	}
	if bucket == "" {
		if name != "" {
			return s3err.InvalidBucketName
		}
		return nil
	}
	if err := akigw.CheckBucketName(bucket); err != nil {
		return s3err.InvalidBucketName.About("BucketName", bucket)
	}
	c.key = akigw.Key{Bucket: bucket, Name: name}
	return akigw.CheckKeyName(name)
}

// parseQuery parses a raw query. No parameter may be sent twice.
func (c *call) parseQuery(raw string) (err error) {
	if raw == "" {
		return nil
	}
	if strings.Count(raw, "&") >= maxParameters {
		return s3err.InvalidURI.With("The request has too many query parameters.")
	}
	if c.query, err = sigv4.ParseQuery(raw); err != nil {
		return s3err.InvalidURI
	}
	for name, values := range c.query {
		if len(values) > 1 {
			return s3err.InvalidArgument.With("The query parameter "+name+" was sent more than once.").About("ArgumentName", name)
		}
	}
	return nil
}

// virtualBucket returns the bucket of a virtual-hosted-style request ("Virtual hosting of general
// purpose buckets"): the part of the host name before one of the gateway's domains.
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

// check refuses what S3 refuses before it reads the body, and prepares the body.
func (c *call) check(route *Route) error {
	if !route.admits(c.identity.Place(), c.payload.Mode) {
		return s3err.InvalidRequest.With("The value of x-amz-content-sha256 header is invalid.").
			About("ArgumentName", "x-amz-content-sha256").About("ArgumentValue", c.Header.Get("X-Amz-Content-Sha256"))
	}
	if route.Body == Document && c.ContentLength > maxDocument {
		return s3err.MessageTooLong
	}
	for _, check := range [...]func(*call) error{(*call).checkOverrides, (*call).checkMetadata, (*call).checkCounts, (*call).checkCopyRange, (*call).checkPartNumber} {
		if err := check(c); err != nil {
			return err
		}
	}
	if route.Body != Content && route.Body != Form {
		return nil
	}
	var err error
	if c.body, err = newBody(c); err == nil && c.payload.Length < 0 {
		err = s3err.MissingContentLength
	}
	return err
}

// checkMetadata bounds user-defined metadata.
func (c *call) checkMetadata() error {
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
	return nil
}

// checkCopyRange refuses a malformed range of an UploadPartCopy.
func (c *call) checkCopyRange() error {
	if c.route.Op != "UploadPartCopy" {
		return nil
	}
	if _, ok := copyRange(c.Header.Get(copyRangeHeader)); !ok {
		return s3err.InvalidArgument.With("The x-amz-copy-source-range value must be of the form bytes=first-last where first and last are the zero-based offsets of the first and last bytes to copy").
			About("ArgumentName", "x-amz-copy-source-range").About("ArgumentValue", c.Header.Get(copyRangeHeader))
	}
	return nil
}

// checkPartNumber refuses part numbers that S3 does not have, and a part number together with a
// range.
func (c *call) checkPartNumber() error {
	if !c.query.Has("partNumber") {
		return nil
	}
	if n, err := strconv.Atoi(c.query.Get("partNumber")); err != nil || n < 1 || n > maxParts {
		return s3err.InvalidArgument.With("Part number must be an integer between 1 and 10000, inclusive.").About("ArgumentName", "partNumber").About("ArgumentValue", c.query.Get("partNumber"))
	}
	if c.Header.Get("Range") != "" && c.reads() {
		return s3err.InvalidRequest.With("Cannot specify both Range header and partNumber query parameter")
	}
	return nil
}

// maxParts is the largest part number (S3: 10,000).
const maxParts = 10000

// checkCounts refuses invalid page sizes.
func (c *call) checkCounts() error {
	for _, name := range [...]string{"max-keys", "max-uploads", "max-parts", "max-buckets"} {
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

func (c *call) level() Level {
	switch {
	case c.key.Bucket == "":
		return ServiceLevel
	case c.key.Name == "":
		return BucketLevel
	}
	return ObjectLevel
}

// reads reports whether the method of a call changes nothing.
func (c *call) reads() bool { return c.Method == http.MethodGet || c.Method == http.MethodHead }
