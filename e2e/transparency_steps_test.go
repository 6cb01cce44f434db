package e2e

import (
	"crypto/md5"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"hash/crc32"
	"net/http"
	"net/url"
	"strings"

	"github.com/minio/crc64nvme"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// step is one request of the comparison. {names} in it are replaced with values kept by earlier
// steps.
type step struct {
	name, method, path, query string
	header                    http.Header
	body                      string
	// keep names values of the response to keep: "upload=<UploadId>" takes an element, "etag=Etag"
	// a header.
	keep []string
}

func b64(b []byte) string { return base64.StdEncoding.EncodeToString(b) }

// bigEndian encodes a sum in n bytes, as S3 writes it.
func bigEndian(sum uint64, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(sum >> (8 * (n - 1 - i)))
	}
	return b64(b)
}

// steps is the sequence: whatever an S3 client may send, right or wrong.
func steps() []step {
	var all []step
	add := func(name, method, path, query string, header http.Header, body string, keep ...string) {
		all = append(all, step{name, method, path, query, header, body, keep})
	}
	h := func(pairs ...string) http.Header {
		out := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			out[http.CanonicalHeaderKey(pairs[i])] = []string{pairs[i+1]}
		}
		return out
	}
	bucketSteps(add, h)
	objectSteps(add, h)
	readSteps(add, h)
	checksumSteps(add, h)
	copySteps(add, h)
	multipartSteps(add, h)
	listSteps(add, h)
	subresourceSteps(add, h)
	versionSteps(add, h)
	mistakeSteps(add, h)
	deleteSteps(add, h)
	return all
}

type adder func(name, method, path, query string, header http.Header, body string, keep ...string)

type headers func(pairs ...string) http.Header

func bucketSteps(add adder, h headers) {
	add("CreateBucket", "PUT", "/bucket-one", "", nil, "")
	add("CreateBucket again", "PUT", "/bucket-one", "", nil, "")
	add("CreateBucket, second", "PUT", "/bucket-two", "", nil, "")
	add("HeadBucket", "HEAD", "/bucket-one", "", nil, "")
	add("HeadBucket, absent", "HEAD", "/bucket-none", "", nil, "")
	add("GetBucketLocation", "GET", "/bucket-one", "location", nil, "")
	add("ListBuckets", "GET", "/", "", nil, "")
	add("GetBucketAcl", "GET", "/bucket-one", "acl", nil, "")
	for _, name := range []string{"ab", "Bucket", "bucket_underscore", "-bucket", "bucket-", "192.168.5.4", "xn--bucket", "bucket..dots", strings.Repeat("b", 64), "bucket-s3alias"} {
		add("CreateBucket named "+name, "PUT", "/"+name, "", nil, "")
	}
	add("CreateBucket with malformed XML", "PUT", "/bucket-three", "", nil, "<CreateBucket")
	add("DeleteBucket, absent", "DELETE", "/bucket-none", "", nil, "")
	add("ListObjectsV2, absent bucket", "GET", "/bucket-none", "list-type=2", nil, "")
	add("ListObjects, absent bucket", "GET", "/bucket-none", "", nil, "")
	add("ListObjectVersions, absent bucket", "GET", "/bucket-none", "versions", nil, "")
	add("GetBucketPolicy, absent", "GET", "/bucket-one", "policy", nil, "")
	add("GetBucketCors, absent", "GET", "/bucket-one", "cors", nil, "")
	add("GetBucketTagging, absent", "GET", "/bucket-one", "tagging", nil, "")
	add("GetBucketVersioning", "GET", "/bucket-one", "versioning", nil, "")
	add("GetBucketOwnershipControls", "GET", "/bucket-one", "ownershipControls", nil, "")
	add("GetObjectLockConfiguration, absent", "GET", "/bucket-one", "object-lock", nil, "")
}

// transparentKeys are accepted by every upstream of the comparison.
var transparentKeys = []string{"plain", "a/b/c", "with space", "plus+plus", "percent%41", "ümlaut", "漢字", "quote'quote", "colon:semicolon;", "at@sign", "amp&ersand", "equals=", "star*", "(parens)",
	"exclaim!", "dollar$", "comma,", "tilde~", "dots..dots", "dash-_.", "caret^", "brackets[1]", "hash#tag", "question?mark", strings.Repeat("long", 50)}

func objectSteps(add adder, h headers) {
	for i, key := range transparentKeys {
		add("PutObject "+key[:min(len(key), 20)], "PUT", "/bucket-one/keys/"+key, "", nil, fmt.Sprintf("content %d", i))
		add("GetObject "+key[:min(len(key), 20)], "GET", "/bucket-one/keys/"+key, "", nil, "")
	}
	add("PutObject, all headers", "PUT", "/bucket-one/headers", "", h("Content-Type", "text/x; charset=utf-8", "Cache-Control", "max-age=9", "Content-Disposition", `attachment; filename="a b"`,
		"Content-Encoding", "x-none", "Content-Language", "de", "Expires", "Wed, 21 Oct 2026 07:28:00 GMT", "X-Amz-Meta-Color", "blue", "X-Amz-Meta-Two-Words", "a  b", "X-Amz-Meta-Empty", ""), "hello, world")
	for _, method := range []string{"GET", "GET", "HEAD", "HEAD"} {
		add(method+" all headers", method, "/bucket-one/headers", "", nil, "")
	}
	add("PutObject, empty", "PUT", "/bucket-one/empty", "", nil, "")
	add("GetObject, empty", "GET", "/bucket-one/empty", "", nil, "")
	add("GetObject, empty again", "GET", "/bucket-one/empty", "", nil, "")
	add("HeadObject, empty", "HEAD", "/bucket-one/empty", "", nil, "")
	big := string(testkit.Bytes(3, 1<<20))
	add("PutObject, 1 MiB", "PUT", "/bucket-one/big", "", h("Content-Type", "application/x-big"), big)
	add("GetObject, 1 MiB", "GET", "/bucket-one/big", "", nil, "")
	add("GetObject, 1 MiB again", "GET", "/bucket-one/big", "", nil, "")
	add("HeadObject, 1 MiB", "HEAD", "/bucket-one/big", "", nil, "")
	add("PutObject, overwrite", "PUT", "/bucket-one/plain", "", nil, "first")
	add("GetObject, before", "GET", "/bucket-one/plain", "", nil, "")
	add("PutObject, overwrite again", "PUT", "/bucket-one/plain", "", h("Content-Type", "text/second"), "second!")
	add("GetObject, after", "GET", "/bucket-one/plain", "", nil, "")
	add("PutObject, absent bucket", "PUT", "/bucket-none/k", "", nil, "x")
	add("PutObject, absent bucket, 1 MiB", "PUT", "/bucket-none/k", "", nil, big)
	add("GetObject, absent bucket", "GET", "/bucket-none/k", "", nil, "")
	add("GetObject, absent", "GET", "/bucket-one/none", "", nil, "")
	add("HeadObject, absent", "HEAD", "/bucket-one/none", "", nil, "")
	add("HeadObject, absent bucket", "HEAD", "/bucket-none/none", "", nil, "")
	add("PutObject, If-None-Match, there", "PUT", "/bucket-one/plain", "", h("If-None-Match", "*"), "x")
	add("PutObject, If-None-Match, absent", "PUT", "/bucket-one/conditional", "", h("If-None-Match", "*"), "x")
	add("PutObject, If-Match, wrong", "PUT", "/bucket-one/plain", "", h("If-Match", `"0123456789abcdef0123456789abcdef"`), "x")
	add("PutObject, If-Match, right", "PUT", "/bucket-one/conditional", "", h("If-Match", `"9dd4e461268c8034f5c8564e155c67a6"`), "y")
	add("GetObject, conditional", "GET", "/bucket-one/conditional", "", nil, "")
	add("PutObject, website redirect", "PUT", "/bucket-one/redirect", "", h("X-Amz-Website-Redirect-Location", "/elsewhere"), "x")
	add("GetObject, website redirect", "GET", "/bucket-one/redirect", "", nil, "")
	add("GetObject, website redirect again", "GET", "/bucket-one/redirect", "", nil, "")
	add("PutObject, storage class", "PUT", "/bucket-one/class", "", h("X-Amz-Storage-Class", "STANDARD"), "x")
	add("HeadObject, storage class", "HEAD", "/bucket-one/class", "", nil, "")
}

func readSteps(add adder, h headers) {
	for _, r := range []string{"bytes=0-0", "bytes=0-11", "bytes=1-4", "bytes=5-", "bytes=-4", "bytes=-100", "bytes=0-100", "bytes=12-", "bytes=100-200", "bytes=4-1", "bytes=-0", "bytes=", "bytes=a-b", "octets=0-1", "bytes=0-1,3-4", "bytes=11-11", "bytes = 0-1", "0-1"} {
		add("GetObject, Range "+r, "GET", "/bucket-one/headers", "", h("Range", r), "")
	}
	for _, r := range []string{"bytes=0-0", "bytes=-5", "bytes=5-"} {
		add("GetObject, empty, Range "+r, "GET", "/bucket-one/empty", "", h("Range", r), "")
	}
	for _, r := range []string{"bytes=262143-262144", "bytes=1000000-", "bytes=-1000", "bytes=524288-786431"} {
		add("GetObject, 1 MiB, Range "+r, "GET", "/bucket-one/big", "", h("Range", r), "")
	}
	const etag, other = `"e4d7f1b4ed2e42d15898f4b27b019da4"`, `"0123456789abcdef0123456789abcdef"`
	const past, future = "Mon, 01 Jan 2024 00:00:00 GMT", "Fri, 01 Jan 2100 00:00:00 GMT"
	for _, c := range [][]string{
		{"If-Match", etag}, {"If-Match", other}, {"If-Match", "*"}, {"If-Match", strings.Trim(etag, `"`)}, {"If-None-Match", etag}, {"If-None-Match", other}, {"If-None-Match", "*"},
		{"If-Modified-Since", past}, {"If-Modified-Since", "nonsense"}, {"If-Unmodified-Since", past}, {"If-Unmodified-Since", future},
		{"If-Match", etag, "If-Unmodified-Since", past}, {"If-None-Match", other, "If-Modified-Since", past}, {"If-Match", etag, "If-None-Match", etag},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			add(method+", "+strings.Join(c, " "), method, "/bucket-one/headers", "", h(c...), "")
		}
	}
	add("GetObject, Range and If-Match", "GET", "/bucket-one/headers", "", h("Range", "bytes=0-3", "If-Match", etag), "")
	for parameter, value := range map[string]string{"response-content-type": "image/png", "response-cache-control": "no-cache", "response-content-disposition": "inline", "response-content-encoding": "y",
		"response-content-language": "fr", "response-expires": "Thu, 01 Jan 2026 00:00:00 GMT"} {
		add("GetObject, "+parameter, "GET", "/bucket-one/headers", parameter+"="+url.QueryEscape(value), nil, "")
	}
	add("GetObject, absent, If-Match", "GET", "/bucket-one/none", "", h("If-Match", "*"), "")
	add("GetObject, absent, Range", "GET", "/bucket-one/none", "", h("Range", "bytes=0-1"), "")
	add("GetObject, checksum mode", "GET", "/bucket-one/headers", "", h("X-Amz-Checksum-Mode", "ENABLED"), "")
	add("HeadObject, checksum mode", "HEAD", "/bucket-one/headers", "", h("X-Amz-Checksum-Mode", "ENABLED"), "")
	add("GetObject, SDK's id", "GET", "/bucket-one/headers", "x-id=GetObject", nil, "")
}

func checksumSteps(add adder, h headers) {
	const body = "checked content"
	crc32c := crc32.Checksum([]byte(body), crc32.MakeTable(crc32.Castagnoli))
	sha, sha256sum := sha1.Sum([]byte(body)), sha256.Sum256([]byte(body))
	sums := map[string]string{
		"crc32":     bigEndian(uint64(crc32.ChecksumIEEE([]byte(body))), 4),
		"crc32c":    bigEndian(uint64(crc32c), 4),
		"crc64nvme": bigEndian(crc64nvme.Checksum([]byte(body)), 8),
		"sha1":      b64(sha[:]),
		"sha256":    b64(sha256sum[:]),
	}
	for _, name := range []string{"crc32", "crc32c", "crc64nvme", "sha1", "sha256"} {
		add("PutObject, checksum "+name, "PUT", "/bucket-one/sum-"+name, "", h("X-Amz-Checksum-"+name, sums[name]), body)
		add("GetObject, checksum "+name, "GET", "/bucket-one/sum-"+name, "", h("X-Amz-Checksum-Mode", "ENABLED"), "")
		add("GetObject, checksum "+name+" again", "GET", "/bucket-one/sum-"+name, "", h("X-Amz-Checksum-Mode", "ENABLED"), "")
		add("GetObject, checksum "+name+" not asked for", "GET", "/bucket-one/sum-"+name, "", nil, "")
		add("HeadObject, checksum "+name, "HEAD", "/bucket-one/sum-"+name, "", h("X-Amz-Checksum-Mode", "ENABLED"), "")
		add("PutObject, wrong checksum "+name, "PUT", "/bucket-one/sum-wrong", "", h("X-Amz-Checksum-"+name, sums[name]), "other content")
		add("PutObject, malformed checksum "+name, "PUT", "/bucket-one/sum-wrong", "", h("X-Amz-Checksum-"+name, "AAA="), body)
	}
	sum := md5.Sum([]byte(body))
	add("PutObject, Content-MD5", "PUT", "/bucket-one/sum-md5", "", h("Content-Md5", b64(sum[:])), body)
	add("PutObject, wrong Content-MD5", "PUT", "/bucket-one/sum-wrong", "", h("Content-Md5", b64(sum[:])), "other content")
	add("PutObject, malformed Content-MD5", "PUT", "/bucket-one/sum-wrong", "", h("Content-Md5", "AAAA"), body)
	add("PutObject, two checksums", "PUT", "/bucket-one/sum-wrong", "", h("X-Amz-Checksum-Crc32", sums["crc32"], "X-Amz-Checksum-Crc32c", sums["crc32c"]), body)
	add("GetObject, nothing stored", "GET", "/bucket-one/sum-wrong", "", nil, "")
	add("DeleteObject, nothing stored", "DELETE", "/bucket-one/sum-wrong", "", nil, "")
	add("GetObjectAttributes", "GET", "/bucket-one/sum-crc32", "attributes", h("X-Amz-Object-Attributes", "ETag,Checksum,ObjectSize,StorageClass"), "")
	add("GetObjectAttributes, absent", "GET", "/bucket-one/none", "attributes", h("X-Amz-Object-Attributes", "ETag"), "")
}

func copySteps(add adder, h headers) {
	const source = "X-Amz-Copy-Source"
	add("CopyObject", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/headers"), "")
	add("GetObject, copy", "GET", "/bucket-one/copy", "", nil, "")
	add("CopyObject to another bucket", "PUT", "/bucket-two/copy", "", h(source, "bucket-one/headers"), "")
	add("CopyObject, encoded source", "PUT", "/bucket-two/copy", "", h(source, "bucket-one/keys/with%20space"), "")
	add("GetObject, overwritten copy", "GET", "/bucket-two/copy", "", nil, "")
	add("CopyObject, new metadata", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/copy", "X-Amz-Metadata-Directive", "REPLACE", "X-Amz-Meta-New", "1", "Content-Type", "text/new"), "")
	add("GetObject, new metadata", "GET", "/bucket-one/copy", "", nil, "")
	add("CopyObject onto itself", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/copy"), "")
	add("CopyObject, absent source", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/none"), "")
	add("CopyObject, absent source bucket", "PUT", "/bucket-one/copy", "", h(source, "/bucket-none/none"), "")
	add("CopyObject, absent bucket", "PUT", "/bucket-none/copy", "", h(source, "/bucket-one/headers"), "")
	add("CopyObject, If-Match, right", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/headers", source+"-If-Match", `"e4d7f1b4ed2e42d15898f4b27b019da4"`), "")
	add("CopyObject, If-Match, wrong", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/headers", source+"-If-Match", `"0123456789abcdef0123456789abcdef"`), "")
	add("CopyObject, If-None-Match, wrong", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/headers", source+"-If-None-Match", `"e4d7f1b4ed2e42d15898f4b27b019da4"`), "")
	add("CopyObject, source without a key", "PUT", "/bucket-one/copy", "", h(source, "bucket-one"), "")
	add("CopyObject, strange directive", "PUT", "/bucket-one/copy", "", h(source, "/bucket-one/headers", "X-Amz-Metadata-Directive", "STRANGE"), "")
}

func multipartSteps(add adder, h headers) {
	first, last := string(testkit.Bytes(5, 5<<20)), "the last part"
	complete := func(parts ...string) string {
		var b strings.Builder
		for i := 0; i < len(parts); i += 2 {
			fmt.Fprintf(&b, "<Part><PartNumber>%s</PartNumber><ETag>%s</ETag></Part>", parts[i], parts[i+1])
		}
		return "<CompleteMultipartUpload>" + b.String() + "</CompleteMultipartUpload>"
	}
	add("CreateMultipartUpload", "POST", "/bucket-one/multi", "uploads", h("Content-Type", "text/multi", "X-Amz-Meta-A", "b"), "", "upload=<UploadId>")
	add("ListParts, none", "GET", "/bucket-one/multi", "uploadId={upload}", nil, "")
	add("UploadPart 1", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=1", nil, first, "etag1=Etag")
	add("UploadPart 2", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=2", nil, last, "etag2=Etag")
	add("UploadPart, wrong Content-MD5", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=2", h("Content-Md5", b64(make([]byte, 16))), last)
	add("UploadPart 2 again", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=2", nil, last)
	add("UploadPart 0", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=0", nil, last)
	add("UploadPart 10001", "PUT", "/bucket-one/multi", "uploadId={upload}&partNumber=10001", nil, last)
	add("UploadPart, absent upload", "PUT", "/bucket-one/multi", "uploadId=00000000-0000-4000-8000-000000000000&partNumber=1", nil, last)
	add("ListParts", "GET", "/bucket-one/multi", "uploadId={upload}", nil, "")
	add("ListParts, one", "GET", "/bucket-one/multi", "uploadId={upload}&max-parts=1", nil, "")
	add("ListParts, behind one", "GET", "/bucket-one/multi", "uploadId={upload}&part-number-marker=1", nil, "")
	add("ListMultipartUploads", "GET", "/bucket-one", "uploads", nil, "")
	add("ListMultipartUploads, prefix", "GET", "/bucket-one", "uploads&prefix=m", nil, "")
	add("Complete, out of order", "POST", "/bucket-one/multi", "uploadId={upload}", nil, complete("2", "{etag2}", "1", "{etag1}"))
	add("Complete, wrong ETag", "POST", "/bucket-one/multi", "uploadId={upload}", nil, complete("1", `"0123456789abcdef0123456789abcdef"`))
	add("Complete, absent part", "POST", "/bucket-one/multi", "uploadId={upload}", nil, complete("1", "{etag1}", "7", "{etag2}"))
	add("Complete, empty", "POST", "/bucket-one/multi", "uploadId={upload}", nil, "<CompleteMultipartUpload></CompleteMultipartUpload>")
	add("Complete, no XML", "POST", "/bucket-one/multi", "uploadId={upload}", nil, "nonsense")
	add("Complete", "POST", "/bucket-one/multi", "uploadId={upload}", nil, complete("1", "{etag1}", "2", "{etag2}"))
	for _, method := range []string{"HEAD", "GET", "GET"} {
		add(method+" multipart object", method, "/bucket-one/multi", "", nil, "")
	}
	add("GetObject, multipart, Range", "GET", "/bucket-one/multi", "", h("Range", "bytes=5242879-5242881"), "")
	for _, part := range []string{"1", "2", "3", "0"} {
		add("GetObject, partNumber "+part, "GET", "/bucket-one/multi", "partNumber="+part, nil, "")
		add("HeadObject, partNumber "+part, "HEAD", "/bucket-one/multi", "partNumber="+part, nil, "")
	}
	add("GetObject, partNumber and Range", "GET", "/bucket-one/multi", "partNumber=1", h("Range", "bytes=0-1"), "")
	add("GetObjectAttributes, parts", "GET", "/bucket-one/multi", "attributes", h("X-Amz-Object-Attributes", "ObjectParts,ObjectSize,ETag"), "")
	add("CreateMultipartUpload, copy", "POST", "/bucket-one/multi-copy", "uploads", nil, "", "upload=<UploadId>")
	add("UploadPartCopy", "PUT", "/bucket-one/multi-copy", "uploadId={upload}&partNumber=1", h("X-Amz-Copy-Source", "/bucket-one/big"), "", "etag1=<ETag>")
	add("UploadPartCopy, range", "PUT", "/bucket-one/multi-copy", "uploadId={upload}&partNumber=2", h("X-Amz-Copy-Source", "/bucket-one/big", "X-Amz-Copy-Source-Range", "bytes=0-9"), "")
	add("UploadPartCopy, absent source", "PUT", "/bucket-one/multi-copy", "uploadId={upload}&partNumber=2", h("X-Amz-Copy-Source", "/bucket-one/none"), "")
	add("AbortMultipartUpload", "DELETE", "/bucket-one/multi-copy", "uploadId={upload}", nil, "")
	add("AbortMultipartUpload again", "DELETE", "/bucket-one/multi-copy", "uploadId={upload}", nil, "")
	add("CreateMultipartUpload, absent bucket", "POST", "/bucket-none/multi", "uploads", nil, "")
}

func listSteps(add adder, h headers) {
	for _, version := range []string{"list-type=2&", ""} {
		name := map[bool]string{true: "ListObjectsV2", false: "ListObjects"}[version != ""]
		for _, q := range []string{"", "prefix=keys/", "prefix=keys/&delimiter=/", "delimiter=/", "max-keys=3", "max-keys=0", "max-keys=2000", "prefix=nothing", "prefix=sum-&max-keys=2", "encoding-type=url", "encoding-type=url&prefix=keys/&delimiter=e",
			"prefix=keys/%C3%BC", "delimiter=nothing", "max-keys=-1", "max-keys=x", "encoding-type=nonsense", "prefix=keys/a%26"} {
			add(name+" ?"+q, "GET", "/bucket-one", version+q, nil, "")
		}
	}
	add("ListObjectsV2, page 1", "GET", "/bucket-one", "list-type=2&max-keys=4&prefix=sum-", nil, "", "token=<NextContinuationToken>")
	add("ListObjectsV2, page 2", "GET", "/bucket-one", "list-type=2&max-keys=4&prefix=sum-&continuation-token={token}", nil, "")
	add("ListObjectsV2, start-after", "GET", "/bucket-one", "list-type=2&start-after=keys/z&max-keys=2", nil, "")
	add("ListObjectsV2, owner", "GET", "/bucket-one", "list-type=2&fetch-owner=true&max-keys=1", nil, "")
	add("ListObjectsV2, empty token", "GET", "/bucket-one", "list-type=2&continuation-token=", nil, "")
	add("ListObjects, marker", "GET", "/bucket-one", "marker=keys/z&max-keys=2", nil, "")
	add("ListObjects, page with delimiter", "GET", "/bucket-one", "delimiter=/&max-keys=2", nil, "")
	add("ListObjectVersions", "GET", "/bucket-two", "versions", nil, "")
}

func subresourceSteps(add adder, h headers) {
	tagging := func(pairs ...string) string {
		var b strings.Builder
		for i := 0; i < len(pairs); i += 2 {
			fmt.Fprintf(&b, "<Tag><Key>%s</Key><Value>%s</Value></Tag>", pairs[i], pairs[i+1])
		}
		return "<Tagging><TagSet>" + b.String() + "</TagSet></Tagging>"
	}
	md5of := func(body string) http.Header {
		sum := md5.Sum([]byte(body))
		return h("Content-Md5", b64(sum[:]))
	}
	add("GetObjectTagging, none", "GET", "/bucket-one/headers", "tagging", nil, "")
	add("PutObjectTagging", "PUT", "/bucket-one/headers", "tagging", md5of(tagging("k", "v")), tagging("k", "v"))
	add("GetObjectTagging", "GET", "/bucket-one/headers", "tagging", nil, "")
	add("GetObject, tagged", "GET", "/bucket-one/headers", "", nil, "")
	add("PutObjectTagging, malformed", "PUT", "/bucket-one/headers", "tagging", nil, "<Tagging")
	add("PutObjectTagging, absent", "PUT", "/bucket-one/none", "tagging", nil, tagging("k", "v"))
	add("DeleteObjectTagging", "DELETE", "/bucket-one/headers", "tagging", nil, "")
	add("GetObject, untagged", "GET", "/bucket-one/headers", "", nil, "")
	add("PutObject, tagged", "PUT", "/bucket-one/tagged", "", h("X-Amz-Tagging", "a=b"), "x")
	add("GetObject, put tagged", "GET", "/bucket-one/tagged", "", nil, "")
	add("GetObjectAcl", "GET", "/bucket-one/headers", "acl", nil, "")
	aclSteps(add, h, md5of)
	add("PutBucketTagging", "PUT", "/bucket-one", "tagging", md5of(tagging("k", "v")), tagging("k", "v"))
	add("GetBucketTagging", "GET", "/bucket-one", "tagging", nil, "")
	add("DeleteBucketTagging", "DELETE", "/bucket-one", "tagging", nil, "")
	cors := "<CORSConfiguration><CORSRule><AllowedMethod>GET</AllowedMethod><AllowedOrigin>*</AllowedOrigin></CORSRule></CORSConfiguration>"
	add("PutBucketCors", "PUT", "/bucket-one", "cors", md5of(cors), cors)
	add("GetBucketCors", "GET", "/bucket-one", "cors", nil, "")
	const origin, method = "Origin", "Access-Control-Request-Method"
	add("Preflight", "OPTIONS", "/bucket-one/headers", "", h(origin, "http://page.example", method, "GET"), "")
	add("Preflight of another method", "OPTIONS", "/bucket-one/headers", "", h(origin, "http://page.example", method, "PUT"), "")
	add("Preflight without an origin", "OPTIONS", "/bucket-one/headers", "", h(method, "GET"), "")
	add("Preflight, absent bucket", "OPTIONS", "/bucket-none/headers", "", h(origin, "http://page.example", method, "GET"), "")
	add("GetObject, Origin", "GET", "/bucket-one/headers", "", h(origin, "http://page.example"), "")
	add("GetObject, Origin again", "GET", "/bucket-one/headers", "", h(origin, "http://page.example"), "")
	add("DeleteBucketCors", "DELETE", "/bucket-one", "cors", nil, "")
	policy := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"arn:aws:s3:::bucket-one/public/*"}]}`
	add("PutBucketPolicy", "PUT", "/bucket-one", "policy", nil, policy)
	add("GetBucketPolicy", "GET", "/bucket-one", "policy", nil, "")
	add("PutBucketPolicy, malformed", "PUT", "/bucket-one", "policy", nil, "{")
	add("DeleteBucketPolicy", "DELETE", "/bucket-one", "policy", nil, "")
	ownership := "<OwnershipControls><Rule><ObjectOwnership>BucketOwnerPreferred</ObjectOwnership></Rule></OwnershipControls>"
	add("PutBucketOwnershipControls", "PUT", "/bucket-one", "ownershipControls", md5of(ownership), ownership)
	add("GetBucketOwnershipControls, set", "GET", "/bucket-one", "ownershipControls", nil, "")
	add("GetBucketWebsite", "GET", "/bucket-one", "website", nil, "")
	add("GetBucketLogging", "GET", "/bucket-one", "logging", nil, "")
	add("GetBucketLifecycle", "GET", "/bucket-one", "lifecycle", nil, "")
	add("GetObjectLegalHold, absent", "GET", "/bucket-one/headers", "legal-hold", nil, "")
	add("GetObjectRetention, absent", "GET", "/bucket-one/headers", "retention", nil, "")
}

func versionSteps(add adder, h headers) {
	enabled := "<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
	add("CreateBucket, versions", "PUT", "/bucket-versions", "", nil, "")
	add("PutBucketVersioning", "PUT", "/bucket-versions", "versioning", nil, enabled)
	add("GetBucketVersioning, enabled", "GET", "/bucket-versions", "versioning", nil, "")
	add("PutObject, version 1", "PUT", "/bucket-versions/k", "", nil, "version 1", "v1=X-Amz-Version-Id")
	add("PutObject, version 2", "PUT", "/bucket-versions/k", "", nil, "version two", "v2=X-Amz-Version-Id")
	add("GetObject, current", "GET", "/bucket-versions/k", "", nil, "")
	for _, v := range []string{"v1", "v2"} {
		for _, method := range []string{"GET", "GET", "HEAD"} {
			add(method+" version "+v, method, "/bucket-versions/k", "versionId={"+v+"}", nil, "")
		}
	}
	add("GetObject, version 1, Range", "GET", "/bucket-versions/k", "versionId={v1}", h("Range", "bytes=0-3"), "")
	add("GetObjectTagging, version 1", "GET", "/bucket-versions/k", "tagging&versionId={v1}", nil, "")
	add("CopyObject, version 1", "PUT", "/bucket-versions/copy", "", h("X-Amz-Copy-Source", "bucket-versions/k?versionId={v1}"), "", "v3=X-Amz-Version-Id")
	add("GetObject, copy of version 1", "GET", "/bucket-versions/copy", "", nil, "")
	add("DeleteObject, marker", "DELETE", "/bucket-versions/k", "", nil, "", "m1=X-Amz-Version-Id")
	add("GetObject, marker", "GET", "/bucket-versions/k", "", nil, "")
	add("HeadObject, marker", "HEAD", "/bucket-versions/k", "", nil, "")
	add("GetObject, marker by version", "GET", "/bucket-versions/k", "versionId={m1}", nil, "")
	add("GetObject, version 2 behind a marker", "GET", "/bucket-versions/k", "versionId={v2}", nil, "")
	add("ListObjectVersions, all", "GET", "/bucket-versions", "versions", nil, "")
	add("ListObjectVersions, one", "GET", "/bucket-versions", "versions&max-keys=1", nil, "")
	add("DeleteObject, the marker", "DELETE", "/bucket-versions/k", "versionId={m1}", nil, "")
	add("GetObject, back again", "GET", "/bucket-versions/k", "", nil, "")
	add("DeleteObject, version 1", "DELETE", "/bucket-versions/k", "versionId={v1}", nil, "")
	add("GetObject, deleted version", "GET", "/bucket-versions/k", "versionId={v1}", nil, "")
	add("GetObject, version that is none", "GET", "/bucket-versions/k", "versionId=01BX5ZZKBKACTAV9WEVGEMMVRZ", nil, "")
}

// aclSteps are requests about the ACLs of objects, in a bucket as it is and in one that has ACLs.
func aclSteps(add adder, h headers, md5of func(string) http.Header) {
	const owned = "<OwnershipControls><Rule><ObjectOwnership>ObjectWriter</ObjectOwnership></Rule></OwnershipControls>"
	const document = `<AccessControlPolicy xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Owner><ID>` + upstreamAccessKey + `</ID></Owner><AccessControlList><Grant><Grantee xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance" xsi:type="CanonicalUser"><ID>` + upstreamAccessKey + `</ID></Grantee><Permission>FULL_CONTROL</Permission></Grant></AccessControlList></AccessControlPolicy>`
	for _, bucket := range []string{"as it is", "with ACLs"} {
		for _, acl := range []string{"private", "public-read", "strange"} {
			add("PutObjectAcl, "+acl+", bucket "+bucket, "PUT", "/bucket-one/headers", "acl", h("X-Amz-Acl", acl), "")
			add("GetObjectAcl, "+acl+", bucket "+bucket, "GET", "/bucket-one/headers", "acl", nil, "")
			add("PutObject, "+acl+", bucket "+bucket, "PUT", "/bucket-one/acl", "", h("X-Amz-Acl", acl), "x")
			add("GetObjectAcl, put "+acl+", bucket "+bucket, "GET", "/bucket-one/acl", "acl", nil, "")
			add("GetObject, put "+acl+", bucket "+bucket, "GET", "/bucket-one/acl", "", nil, "")
			add("CopyObject, "+acl+", bucket "+bucket, "PUT", "/bucket-one/acl-copy", "", h("X-Amz-Acl", acl, "X-Amz-Copy-Source", "bucket-one/headers"), "")
		}
		add("PutObject, granted, bucket "+bucket, "PUT", "/bucket-one/acl", "", h("X-Amz-Grant-Read", `id="`+upstreamAccessKey+`"`), "x")
		add("PutObjectAcl, a document, bucket "+bucket, "PUT", "/bucket-one/headers", "acl", md5of(document), document)
		add("PutObjectAcl, malformed, bucket "+bucket, "PUT", "/bucket-one/headers", "acl", nil, "<AccessControlPolicy")
		add("PutObjectAcl, as boto3 sends it, bucket "+bucket, "PUT", "/bucket-one/headers", "acl", h("X-Amz-Acl", "private", "X-Amz-Sdk-Checksum-Algorithm", "CRC32", "X-Amz-Checksum-Crc32", "AAAAAA=="), "")
		add("PutObjectAcl, nothing, bucket "+bucket, "PUT", "/bucket-one/headers", "acl", nil, "")
		add("PutObjectAcl, absent, bucket "+bucket, "PUT", "/bucket-one/none", "acl", h("X-Amz-Acl", "private"), "")
		add("GetObjectAcl, absent, bucket "+bucket, "GET", "/bucket-one/none", "acl", nil, "")
		add("DeleteObject, "+bucket, "DELETE", "/bucket-one/acl", "", nil, "")
		add("DeleteObject, the copy, "+bucket, "DELETE", "/bucket-one/acl-copy", "", nil, "")
		add("PutBucketOwnershipControls, bucket "+bucket, "PUT", "/bucket-one", "ownershipControls", md5of(owned), owned)
	}
}

func mistakeSteps(add adder, h headers) {
	add("DeleteObjects without a digest of its own", "POST", "/bucket-one", "delete", nil, "<Delete><Object><Key>none</Key></Object></Delete>")
	add("DeleteObjects, empty", "POST", "/bucket-one", "delete", nil, "<Delete></Delete>")
	add("DeleteObjects, malformed", "POST", "/bucket-one", "delete", nil, "<Delete>")
	add("PutObject, metadata too large", "PUT", "/bucket-one/k", "", h("X-Amz-Meta-Big", strings.Repeat("x", 2100)), "x")
	add("PutObject, key too long", "PUT", "/bucket-one/"+strings.Repeat("k", 1025), "", nil, "x")
	add("PutObject, checksum algorithm without a checksum", "PUT", "/bucket-one/k", "", h("X-Amz-Sdk-Checksum-Algorithm", "CRC32"), "x")
	add("PutObject, strange storage class", "PUT", "/bucket-one/k", "", h("X-Amz-Storage-Class", "STRANGE"), "x")
	add("PutObject, strange ACL", "PUT", "/bucket-one/k", "", h("X-Amz-Acl", "strange"), "x")
	add("PutObject, wrong digest", "PUT", "/bucket-one/k", "", h("X-Amz-Content-Sha256", strings.Repeat("0", 64)), "x")
	add("DeleteObject, what mistakes left", "DELETE", "/bucket-one/k", "", nil, "")
	add("DeleteObject, what a long key left", "DELETE", "/bucket-one/"+strings.Repeat("k", 1025), "", nil, "")
	add("PUT without a meaning", "PUT", "/bucket-one", "nonsense", nil, "x")
	add("GET of an unknown subresource", "GET", "/bucket-one", "nonsense", nil, "")
	add("POST to an object", "POST", "/bucket-one/k", "", nil, "")
	add("PATCH", "PATCH", "/bucket-one/k", "", nil, "")
}

func deleteSteps(add adder, h headers) {
	document := "<Delete><Object><Key>sum-md5</Key></Object><Object><Key>none</Key></Object></Delete>"
	quiet := "<Delete><Quiet>true</Quiet><Object><Key>class</Key></Object></Delete>"
	sum, quietSum := md5.Sum([]byte(document)), md5.Sum([]byte(quiet))
	add("DeleteObjects", "POST", "/bucket-one", "delete", h("Content-Md5", b64(sum[:])), document)
	add("DeleteObjects, quiet", "POST", "/bucket-one", "delete", h("Content-Md5", b64(quietSum[:])), quiet)
	add("GetObject, deleted", "GET", "/bucket-one/sum-md5", "", nil, "")
	add("DeleteObject", "DELETE", "/bucket-one/headers", "", nil, "")
	add("DeleteObject again", "DELETE", "/bucket-one/headers", "", nil, "")
	add("GetObject, deleted object", "GET", "/bucket-one/headers", "", nil, "")
	add("HeadObject, deleted object", "HEAD", "/bucket-one/headers", "", nil, "")
	add("DeleteObject, absent bucket", "DELETE", "/bucket-none/k", "", nil, "")
	add("DeleteBucket, not empty", "DELETE", "/bucket-one", "", nil, "")
	add("DeleteObject, last", "DELETE", "/bucket-two/copy", "", nil, "")
	add("DeleteBucket", "DELETE", "/bucket-two", "", nil, "")
	add("GetObject, deleted bucket", "GET", "/bucket-two/copy", "", nil, "")
}
