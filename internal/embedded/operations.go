package embedded

import (
	"net/http"
	"slices"
	"strings"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
)

// level is the kind of resource that the path of a request names.
type level int

const (
	serviceLevel level = iota
	bucketLevel
	objectLevel
)

// operation is a row of the table of supported operations.
type operation struct {
	name   string // S3 API name
	method string
	level  level
	// selects are the query parameters that identify this operation; if copies is true,
	// x-amz-copy-source does as well.
	selects []string
	copies  bool
	// params are the other query parameters, and headers the request headers, that the
	// operation honours. Every other parameter and every other header that S3 gives a meaning
	// to is refused.
	params, headers []string
	// fake is true if gofakes3 handles the operation. The handlers of all others say what gofakes3
	// lacks.
	fake   bool
	handle func(*Server, http.ResponseWriter, *call) error
}

// Sets of headers and parameters that several operations honour.
func readConditions() []string {
	return []string{"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range"}
}

func writeConditions() []string {
	return []string{"If-Match", "If-None-Match"}
}

func copyConditions() []string {
	return []string{"X-Amz-Copy-Source-If-Match", "X-Amz-Copy-Source-If-None-Match", "X-Amz-Copy-Source-If-Modified-Since", "X-Amz-Copy-Source-If-Unmodified-Since"}
}

// digests bind the body of a request. Content-MD5 is one of them.
func digests() []string {
	return append([]string{"Content-Md5", "X-Amz-Sdk-Checksum-Algorithm", "X-Amz-Trailer"}, checksumHeaders()...)
}

// stored describe a new object.
func stored() []string {
	return []string{"X-Amz-Meta-*", "X-Amz-Acl", "X-Amz-Storage-Class", "X-Amz-Website-Redirect-Location"}
}

func overrideParams() []string {
	return []string{"response-cache-control", "response-content-disposition", "response-content-encoding", "response-content-language", "response-content-type", "response-expires"}
}

func checksumHeaders() (names []string) {
	for _, a := range checksum.Algorithms {
		names = append(names, a.Header)
	}
	return names
}

// operations are all supported operations. The first row that matches a request is used, so rows with
// more in selects come first.
var operations = []operation{
	{name: "ListBuckets", method: "GET", level: serviceLevel, params: []string{"prefix", "max-buckets", "continuation-token"}, fake: true, handle: (*Server).listBuckets},

	{name: "GetBucketLocation", method: "GET", level: bucketLevel, selects: []string{"location"}, handle: (*Server).bucketLocation},
	{name: "GetBucketVersioning", method: "GET", level: bucketLevel, selects: []string{"versioning"}, handle: (*Server).bucketVersioning},
	{name: "ListMultipartUploads", method: "GET", level: bucketLevel, selects: []string{"uploads"}, params: []string{"delimiter", "encoding-type", "key-marker", "max-uploads", "prefix", "upload-id-marker"}, handle: (*Server).listUploads},
	{name: "ListObjectsV2", method: "GET", level: bucketLevel, selects: []string{"list-type"}, params: []string{"continuation-token", "delimiter", "encoding-type", "fetch-owner", "max-keys", "prefix", "start-after"}, handle: (*Server).listObjects},
	{name: "ListObjects", method: "GET", level: bucketLevel, params: []string{"delimiter", "encoding-type", "marker", "max-keys", "prefix"}, handle: (*Server).listObjects},
	{name: "HeadBucket", method: "HEAD", level: bucketLevel, fake: true, handle: (*Server).headBucket},
	{name: "CreateBucket", method: "PUT", level: bucketLevel, headers: slices.Concat(digests(), []string{"X-Amz-Acl", "X-Amz-Object-Ownership", "X-Amz-Bucket-Object-Lock-Enabled"}), fake: true, handle: (*Server).createBucket},
	{name: "DeleteBucket", method: "DELETE", level: bucketLevel, fake: true, handle: (*Server).deleteBucket},
	{name: "DeleteObjects", method: "POST", level: bucketLevel, selects: []string{"delete"}, headers: digests(), handle: (*Server).deleteObjects},

	{name: "ListParts", method: "GET", level: objectLevel, selects: []string{"uploadId"}, params: []string{"max-parts", "part-number-marker"}, handle: (*Server).listParts},
	{name: "GetObjectAttributes", method: "GET", level: objectLevel, selects: []string{"attributes"}, params: []string{"versionId"}, headers: []string{"X-Amz-Object-Attributes", "X-Amz-Max-Parts", "X-Amz-Part-Number-Marker"}, handle: (*Server).objectAttributes},
	{name: "GetObjectTagging", method: "GET", level: objectLevel, selects: []string{"tagging"}, params: []string{"versionId"}, handle: (*Server).noTags},
	{name: "GetObject", method: "GET", level: objectLevel, params: slices.Concat(overrideParams(), []string{"partNumber", "versionId"}), headers: slices.Concat(readConditions(), []string{"X-Amz-Checksum-Mode"}), handle: (*Server).read},
	{name: "HeadObject", method: "HEAD", level: objectLevel, params: slices.Concat(overrideParams(), []string{"partNumber", "versionId"}), headers: slices.Concat(readConditions(), []string{"X-Amz-Checksum-Mode"}), handle: (*Server).read},
	{name: "UploadPartCopy", method: "PUT", level: objectLevel, selects: []string{"uploadId", "partNumber"}, copies: true, headers: slices.Concat(copyConditions(), []string{"X-Amz-Copy-Source-Range"}), handle: (*Server).copyPart},
	{name: "UploadPart", method: "PUT", level: objectLevel, selects: []string{"uploadId", "partNumber"}, headers: digests(), fake: true, handle: (*Server).uploadPart},
	{name: "CopyObject", method: "PUT", level: objectLevel, copies: true, headers: slices.Concat(copyConditions(), writeConditions(), stored(), []string{"X-Amz-Checksum-Algorithm", "X-Amz-Metadata-Directive", "X-Amz-Tagging-Directive"}), handle: (*Server).copyObject},
	{name: "PutObject", method: "PUT", level: objectLevel, headers: slices.Concat(digests(), writeConditions(), stored(), []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"}), fake: true, handle: (*Server).putObject},
	{name: "CreateMultipartUpload", method: "POST", level: objectLevel, selects: []string{"uploads"}, headers: slices.Concat(stored(), []string{"X-Amz-Checksum-Algorithm", "X-Amz-Checksum-Type"}), fake: true, handle: (*Server).createUpload},
	{name: "CompleteMultipartUpload", method: "POST", level: objectLevel, selects: []string{"uploadId"}, headers: slices.Concat(checksumHeaders(), writeConditions(), []string{"Content-Md5", "X-Amz-Checksum-Type", "X-Amz-Mp-Object-Size"}), handle: (*Server).completeUpload},
	{name: "AbortMultipartUpload", method: "DELETE", level: objectLevel, selects: []string{"uploadId"}, fake: true, handle: (*Server).abortUpload},
	{name: "DeleteObject", method: "DELETE", level: objectLevel, params: []string{"versionId"}, headers: []string{"If-Match"}, fake: true, handle: (*Server).deleteObject},
}

// everywhere reports whether any request may have an x-amz-* header. Such headers speak of the signature, of
// the connection or of the client, not of what is asked for, except x-amz-request-payer: no bucket
// here makes its requesters pay, and S3 ignores the header for such a bucket.
func everywhere(header string) bool {
	switch header {
	case "X-Amz-Content-Sha256", "X-Amz-Date", "X-Amz-Decoded-Content-Length", "X-Amz-Security-Token",
		"X-Amz-User-Agent", "X-Amz-Te", "X-Amz-Cf-Id", "X-Amz-Request-Payer":
		return true
	default:
		return false
	}
}

// presigned reports whether any request may have a query parameter: one of the signature, or the one
// with which SDKs name the operation.
func presigned(parameter string) bool {
	switch parameter {
	case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires", "X-Amz-SignedHeaders",
		"X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256", "x-id":
		return true
	default:
		return false
	}
}

// meaningful reports whether S3 gives a header outside x-amz-* a meaning beyond HTTP's. An operation that does
// not honour such a header refuses it like an unknown x-amz-* header. Content-*, Cache-Control and
// Expires are not among them: any HTTP client sends them.
func meaningful(header string) bool {
	switch header {
	case "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range", "Content-Md5":
		return true
	default:
		return false
	}
}

// accepted are the only values of a header or parameter that the embedded upstream can honour, with
// the error for other values.
var accepted = map[string]struct {
	values []string
	err    s3err.Code
}{
	// Every object is private and the bucket's owner has full control of it.
	"X-Amz-Acl":                        {[]string{"private", "bucket-owner-full-control"}, s3err.NotImplemented},
	"X-Amz-Object-Ownership":           {[]string{"BucketOwnerEnforced"}, s3err.NotImplemented},
	"X-Amz-Bucket-Object-Lock-Enabled": {[]string{"false", "False"}, s3err.NotImplemented},
	"X-Amz-Storage-Class":              {[]string{"STANDARD"}, s3err.InvalidStorageClass},
	"X-Amz-Request-Payer":              {[]string{"requester"}, s3err.InvalidArgument},
	"X-Amz-Checksum-Mode":              {[]string{"ENABLED", "enabled"}, s3err.InvalidArgument},
	"X-Amz-Checksum-Type":              {[]string{checksum.Composite, checksum.FullObject}, s3err.InvalidRequest},
	"X-Amz-Metadata-Directive":         {[]string{"COPY", "REPLACE"}, s3err.InvalidArgument},
	"X-Amz-Tagging-Directive":          {[]string{"COPY", "REPLACE"}, s3err.InvalidArgument}, // no object has tags, so both have the same effect
	"versionId":                        {[]string{"null"}, s3err.NotImplemented},             // S3's name for the version of a bucket without versioning
	"list-type":                        {[]string{"2"}, s3err.InvalidArgument},
	"encoding-type":                    {[]string{"url"}, s3err.InvalidArgument},
}

// operationOf finds the operation of a request. It refuses a request with a parameter or a
// header that the operation does not honour.
func operationOf(c *call) (*operation, error) {
	op := find(c)
	if op == nil {
		return nil, c.unknown()
	}
	for name, values := range c.query {
		switch {
		case !slices.Contains(op.selects, name) && !slices.Contains(op.params, name) && !presigned(name):
			return nil, refused(c.Method + " with ?" + name)
		case len(values) > 1:
			return nil, s3err.InvalidArgument.With("The query parameter was sent more than once.").About("ArgumentName", name)
		}
		if err := checkValue(name, values[0]); err != nil {
			return nil, err
		}
	}
	for name, values := range c.Header {
		if !op.honours(name) {
			return nil, refused(op.name + " with " + strings.ToLower(name))
		}
		if err := checkValue(name, values[0]); err != nil {
			return nil, err
		}
	}
	return op, nil
}

func find(c *call) *operation {
	copies := c.Header.Get("X-Amz-Copy-Source") != ""
	for i := range operations {
		op := &operations[i]
		if op.method == c.Method && op.level == c.level() && (copies || !op.copies) &&
			!slices.ContainsFunc(op.selects, func(name string) bool { return !c.query.Has(name) }) {
			return op
		}
	}
	return nil
}

// honours reports whether the operation honours a header, or the header affects no operation.
func (op *operation) honours(name string) bool {
	amz := strings.HasPrefix(name, "X-Amz-")
	switch {
	case !amz && !meaningful(name), everywhere(name), slices.Contains(op.headers, name):
		return true
	case strings.HasPrefix(name, "X-Amz-Meta-"):
		return slices.Contains(op.headers, "X-Amz-Meta-*")
	}
	return op.copies && name == "X-Amz-Copy-Source"
}

func refused(what string) error {
	return s3err.NotImplemented.With("The embedded trial upstream does not implement " + what + ". Use --upstream for a real one.")
}

// unknown returns the error for a request without a row in the table. S3 may support it, such as a POST
// of a form, unless it does not know the method.
func (c *call) unknown() error {
	switch c.Method {
	case http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete:
		return refused("this " + c.Method)
	}
	return s3err.MethodNotAllowed.About("Method", c.Method)
}

// checkValue refuses a value that the embedded upstream cannot honour.
func checkValue(name, value string) error {
	only, ok := accepted[name]
	if !ok || slices.Contains(only.values, value) {
		return nil
	}
	return only.err.With("The embedded trial upstream supports "+strings.ToLower(name)+" only with the value "+strings.Join(only.values, " or ")+".").
		About("ArgumentName", strings.ToLower(name)).About("ArgumentValue", value)
}
