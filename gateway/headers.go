package gateway

import (
	"net/http"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// isSent reports whether a request header that does not begin with x-amz- has a meaning in S3. Only these
// and the known x-amz-* headers are sent to the upstream.
func isSent(header string) bool {
	switch header {
	case "Cache-Control", "Content-Disposition", "Content-Language", "Content-Md5", "Content-Type", "Expires",
		"If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range", "Range",
		"Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers":
		return true
	default:
		return false
	}
}

// amzHeader says how the gateway treats an x-amz-* request header.
type amzHeader struct {
	// own: it is about this connection, and the gateway sends its own to the upstream.
	own bool
	// cached: a read with this header can be answered from the cache.
	cached bool
	// object and bucket are the actions that the header needs in addition to the operation's, on a
	// path of that level.
	object, bucket string
	// uncached: the object will not have the body that was sent, or not for every reader.
	uncached bool
}

// acl applies to each header that sets an access control list.
var acl = amzHeader{object: "s3:PutObjectAcl", bucket: "s3:PutBucketAcl"}

// amzHeaders are the x-amz-* request headers of S3's API, apart from x-amz-meta-*. Any other one
// asks for something that the gateway does not know: it is refused, never ignored.
var amzHeaders = map[string]amzHeader{
	"X-Amz-Content-Sha256":         {own: true, cached: true},
	"X-Amz-Date":                   {own: true, cached: true},
	"X-Amz-Decoded-Content-Length": {own: true},
	"X-Amz-Security-Token":         {own: true, cached: true},
	"X-Amz-Trailer":                {own: true},
	"X-Amz-User-Agent":             {own: true, cached: true},
	"X-Amz-Te":                     {own: true, cached: true}, // the AWS SDK for Java offers to read an MD5 after the body
	"X-Amz-Cf-Id":                  {own: true, cached: true}, // CloudFront's request id
	"X-Amz-Copy-Source":            {own: true},               // sent on in the gateway's own encoding
	"X-Amz-Checksum-Mode":          {cached: true},

	"X-Amz-Acl": acl, "X-Amz-Grant-Full-Control": acl, "X-Amz-Grant-Read": acl, "X-Amz-Grant-Read-Acp": acl, "X-Amz-Grant-Write": acl, "X-Amz-Grant-Write-Acp": acl,
	"X-Amz-Tagging":                               {object: "s3:PutObjectTagging"},
	"X-Amz-Object-Lock-Mode":                      {object: "s3:PutObjectRetention"},
	"X-Amz-Object-Lock-Retain-Until-Date":         {object: "s3:PutObjectRetention"},
	"X-Amz-Object-Lock-Legal-Hold":                {object: "s3:PutObjectLegalHold"},
	"X-Amz-Object-Lock-Event-Hold":                {object: "s3:PutObjectRetention"},
	"X-Amz-Object-Lock-Event-Hold-Duration-Days":  {object: "s3:PutObjectRetention"},
	"X-Amz-Object-Lock-Event-Hold-Duration-Years": {object: "s3:PutObjectRetention"},
	"X-Amz-Bypass-Governance-Retention":           {object: "s3:BypassGovernanceRetention", bucket: "s3:BypassGovernanceRetention"},
	"X-Amz-Bucket-Object-Lock-Enabled":            {bucket: "s3:PutBucketObjectLockConfiguration"},
	"X-Amz-Object-Ownership":                      {bucket: "s3:PutBucketOwnershipControls"},

	"X-Amz-Write-Offset-Bytes":                                    {uncached: true},
	"X-Amz-Server-Side-Encryption-Customer-Algorithm":             {uncached: true},
	"X-Amz-Server-Side-Encryption-Customer-Key":                   {uncached: true},
	"X-Amz-Server-Side-Encryption-Customer-Key-Md5":               {uncached: true},
	"X-Amz-Copy-Source-If-Match":                                  {},
	"X-Amz-Copy-Source-If-Modified-Since":                         {},
	"X-Amz-Copy-Source-If-None-Match":                             {},
	"X-Amz-Copy-Source-If-Unmodified-Since":                       {},
	"X-Amz-Copy-Source-Range":                                     {},
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Algorithm": {},
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key":       {},
	"X-Amz-Copy-Source-Server-Side-Encryption-Customer-Key-Md5":   {},

	"X-Amz-Bucket-Namespace": {}, "X-Amz-Bucket-Object-Lock-Token": {}, "X-Amz-Bucket-Region": {}, "X-Amz-Client-Token": {},
	"X-Amz-Confirm-Remove-Self-Bucket-Access": {}, "X-Amz-Expected-Bucket-Owner": {}, "X-Amz-If-Match-Initiated-Time": {},
	"X-Amz-If-Match-Last-Modified-Time": {}, "X-Amz-If-Match-Size": {}, "X-Amz-Max-Parts": {}, "X-Amz-Metadata-Directive": {}, "X-Amz-Mfa": {},
	"X-Amz-Mp-Object-Size": {}, "X-Amz-Object-Annotation-Directive": {}, "X-Amz-Object-If-Match": {}, "X-Amz-Object-Attributes": {}, "X-Amz-Optional-Object-Attributes": {}, "X-Amz-Part-Number-Marker": {},
	"X-Amz-Request-Payer": {}, "X-Amz-Restore-Output-Path": {}, "X-Amz-Skip-Destination-Validation": {}, "X-Amz-Source-Expected-Bucket-Owner": {},
	"X-Amz-Storage-Class": {}, "X-Amz-Tagging-Directive": {}, "X-Amz-Transition-Default-Minimum-Object-Size": {}, "X-Amz-Website-Redirect-Location": {},
	"X-Amz-Server-Side-Encryption": {}, "X-Amz-Server-Side-Encryption-Aws-Kms-Key-Id": {}, "X-Amz-Server-Side-Encryption-Bucket-Key-Enabled": {},
	"X-Amz-Server-Side-Encryption-Context": {},

	"X-Amz-Sdk-Checksum-Algorithm": {}, "X-Amz-Checksum-Algorithm": {}, "X-Amz-Checksum-Type": {},
	"X-Amz-Checksum-Crc32": {}, "X-Amz-Checksum-Crc32c": {}, "X-Amz-Checksum-Crc64nvme": {}, "X-Amz-Checksum-Md5": {}, "X-Amz-Checksum-Sha1": {},
	"X-Amz-Checksum-Sha256": {}, "X-Amz-Checksum-Sha512": {}, "X-Amz-Checksum-Xxhash3": {}, "X-Amz-Checksum-Xxhash64": {}, "X-Amz-Checksum-Xxhash128": {},
}

const (
	amzPrefix      = "X-Amz-"
	metadataPrefix = "X-Amz-Meta-"
)

// checkHeaders refuses unknown x-amz-* headers. A header that was sent in several lines becomes one
// (RFC 9110 §5.3).
func (c *call) checkHeaders() error {
	for name, values := range c.Header {
		if len(values) > 1 {
			c.Header[name] = []string{strings.Join(values, ",")}
		}
		if strings.HasPrefix(name, amzPrefix) && !strings.HasPrefix(name, metadataPrefix) {
			if _, known := amzHeaders[name]; !known && strings.HasPrefix(name, "X-Amz-Checksum-") {
				return s3err.InvalidRequest.With("The algorithm type you specified in x-amz-checksum- header is invalid.")
			} else if !known {
				return s3err.NotImplemented.With("A header you provided implies functionality that is not implemented").About("Header", strings.ToLower(name))
			}
		}
	}
	return nil
}

// hoist turns x-amz-* query parameters into headers: when SDKs presign a request, they move headers
// into the query, which is signed. With signature version 2 they also move Content-MD5 and
// Content-Type; a header may then have been sent in both places, with the same value.
func (c *call) hoist() error {
	v2 := c.identity.Version() == 2
	for name, values := range c.query {
		if !hoisted(name) && !(v2 && movedV2(name)) {
			continue
		}
		header := http.CanonicalHeaderKey(name)
		if _, twice := c.Header[header]; twice {
			if v2 {
				continue
			}
			return s3err.InvalidArgument.With("The header " + strings.ToLower(name) + " was also sent as a query parameter.")
		}
		if hasControl(values[0]) { // httpguard would have refused it as a header
			return s3err.InvalidArgument.With("The value of "+strings.ToLower(name)+" contains control characters.").About("ArgumentName", name)
		}
		c.Header[header] = values
	}
	for name := range c.query {
		if bookkeeping(name) || v2 && (movedV2(name) || authenticatesV2(name)) {
			delete(c.query, name)
		}
	}
	return nil
}

// hasControl reports whether s contains a control character, which could end a header line.
func hasControl(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// hoisted reports whether a query parameter is a header that was moved into the query.
func hoisted(name string) bool {
	return len(name) > 6 && strings.EqualFold(name[:6], "x-amz-") && !authenticates(name)
}

// bookkeeping reports whether a query parameter belongs to the signature or an SDK instead of the
// operation.
func bookkeeping(name string) bool {
	return name == "x-id" || len(name) > 6 && strings.EqualFold(name[:6], "x-amz-")
}

// authenticates reports whether the verifier reads a parameter of a presigned URL.
func authenticates(parameter string) bool {
	switch parameter {
	case "X-Amz-Algorithm", "X-Amz-Credential", "X-Amz-Date", "X-Amz-Expires",
		"X-Amz-SignedHeaders", "X-Amz-Signature", "X-Amz-Security-Token", "X-Amz-Content-Sha256":
		return true
	default:
		return false
	}
}

// authenticatesV2 reports whether a parameter is part of the credential of a URL that is presigned with
// signature version 2.
func authenticatesV2(parameter string) bool {
	return parameter == "AWSAccessKeyId" || parameter == "Expires" || parameter == "Signature"
}

// movedV2 reports whether a parameter of such a URL is a header that does not begin with x-amz-.
func movedV2(parameter string) bool {
	return strings.EqualFold(parameter, "Content-MD5") || strings.EqualFold(parameter, "Content-Type")
}

// cacheable reports whether a read can be answered from the cache: no header asks for something
// that only the upstream can give, such as a CORS response, or forbids storing.
func (c *call) cacheable() bool {
	for name := range c.Header {
		if strings.HasPrefix(name, amzPrefix) && !amzHeaders[name].cached || name == "If-Range" || name == "Origin" ||
			name == "Cache-Control" && akigw.NoStore(c.Header) {
			return false
		}
	}
	return true
}

// keepable reports whether later readers will get the body of a write as it was sent.
func (c *call) keepable() bool {
	for name := range c.Header {
		if strings.HasPrefix(name, amzPrefix) && amzHeaders[name].uncached {
			return false
		}
	}
	return true
}

const copySourceHeader = "X-Amz-Copy-Source"
