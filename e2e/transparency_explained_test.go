package e2e

// own is why an error document of the gateway differs from the upstream's, with the same status and
// code.
const own = "the gateway answers this error itself, with the same status and code, and with S3's message, resource and host id"

// explanations are the remaining differences and their reasons. The first match counts.
func explanations() []*explained {
	document := []string{"body", "content-type", "content-length"}
	// Entirely different responses, for a reason given by S3.
	s3 := func(upstream, step, why string) *explained { return explain(upstream, step, why, anything) }
	return []*explained{
		// Stricter than the upstream, as S3 is.
		s3("", "CreateBucket named (xn--bucket|bucket..dots|bucket-s3alias)", "reserved or malformed names, which S3 refuses and this upstream accepts"),
		s3("moto", "CreateBucket named (Bucket|bucket_underscore|-bucket|bucket-|192.168.5.4)", "malformed names, which S3 refuses and this upstream accepts"),
		s3("moto", "PutObject, (wrong|malformed) checksum .*|PutObject, (wrong|malformed) Content-MD5|PutObject, two checksums|PutObject, wrong digest|UploadPart, wrong Content-MD5|PutObject, checksum algorithm without a checksum", "this upstream verifies no digests; the gateway verifies them, as S3 does"),
		s3("moto", "GetObject, nothing stored", "this upstream has stored a body that did not match its digest"),
		s3("moto", "PutObject, (metadata too large|key too long)|DeleteObject, what a long key left", "limits of S3 that this upstream does not have"),
		s3("moto", "UploadPart 0|GetObject, partNumber 0|HeadObject, partNumber 0|GetObject, partNumber and Range", "part numbers that S3 refuses and this upstream accepts"),
		s3("moto", "ListObjects(V2)? .max-keys=(-1|x)", "numbers that S3 refuses; this upstream ignores one and fails on the other"),
		s3("moto", "CopyObject, source without a key|Complete, no XML|DeleteObjects, (empty|malformed)|PATCH|POST to an object", "this upstream fails with 500; the gateway answers 400 or 405, as S3 does"),
		s3("", "Complete, out of order", "the gateway checks the order first, as S3 does; this upstream checks the sizes first"),
		s3("versitygw", "DeleteObjects, (empty|malformed)", "two mistakes in one request: no digest header, and a malformed document. The upstream reports the first, the gateway the second"),

		explain("moto", "Complete", "the Location names the address that the client used; this upstream names Amazon's", "body", "content-length"),

		// Browsers.
		s3("", "Preflight, absent bucket", "a preflight is not signed, so the gateway refuses it in the same way whether the bucket exists or not"),
		s3("moto", "Preflight without an origin", "S3 refuses it; this upstream accepts it"),
		explain("versitygw", "Preflight.*", own, append([]string{"vary", "access-control-allow-origin", "access-control-allow-methods"}, document...)...),

		// Reads from the cache, by RFC 9110.
		s3("moto", "GetObject, Range (octets=0-1|bytes = 0-1|0-1)", "the gateway ignores malformed ranges, as S3 does; this upstream guesses, or fails"),
		s3("moto", "(GET|HEAD), If-Match (\\*|e4d7f1b4ed2e42d15898f4b27b019da4)", "this upstream supports neither * nor a tag without quotes"),
		s3("moto", "(GET|HEAD), If-None-Match \\*", "the same"),
		s3("moto", "(GET|HEAD), If-Modified-Since nonsense", "an invalid date is ignored (RFC 9110 §13.1.3); this upstream fails"),
		s3("moto", "(GET|HEAD), If-Match .* If-Unmodified-Since .*", "a true If-Match overrides If-Unmodified-Since (RFC 9110 §13.2.2, GetObject); this upstream evaluates both"),
		explain("", "(GET|HEAD), .*If-None-Match .*|GET, If-Modified-Since .*|HEAD, If-Modified-Since .*", "a 304 has those headers of the corresponding 200 that matter to caches, and no others (RFC 9110 §15.4.5)",
			"cache-control", "content-type", "etag", "expires", "last-modified", "accept-ranges", "content-disposition", "content-encoding", "content-language", "x-amz-meta-color", "x-amz-meta-two-words", "x-amz-content-sha256", "content-length"),
		explain("", "(GET|HEAD), If-(Match|Unmodified-Since) .*", "a 412 does not describe the object", "accept-ranges", "cache-control", "content-disposition", "content-encoding", "content-language", "etag", "expires", "last-modified", "x-amz-meta-color", "x-amz-meta-two-words", "x-amz-meta-empty", "x-amz-content-sha256", "body", "content-type", "content-length"),
		explain("", "GetObject, .*Range .*", "a 416 has the size of the object (RFC 9110 §15.5.17); "+own, append([]string{"content-range"}, document...)...),
		explain("moto", "GetObject, response-.*", "this upstream ignores response-* parameters of signed requests; S3 and the gateway do not", "content-type", "cache-control", "content-disposition", "content-encoding", "content-language", "expires"),

		// Errors in the gateway's words.
		explain("", "CreateBucket named .*|PutObject, (wrong|malformed|two|key|metadata|checksum).*|CopyObject, source without a key|UploadPart.*|Complete, .*|(GetObject|HeadObject), partNumber.*|ListObjects.*|DeleteObjects, .*|DeleteObject, what a long key left|PATCH|POST to an object", own, document...),
		explain("", "CopyObject, If-None-Match, wrong", "a 304 has no content, and so no content type", "content-type"),
		explain("", "HEAD.*|HeadObject.*|HeadBucket.*", "the length and type of an error document, which the response to a HEAD does not contain", "content-length", "content-type"),
	}
}
