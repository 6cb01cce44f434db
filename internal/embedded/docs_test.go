package embedded

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/checksum"
)

var update = flag.Bool("update", false, "rewrite docs/embedded.md")

const pageHead = `# The embedded upstream

Without ` + "`upstream.url`" + ` the gateway starts an S3 service of its own, for trials. It keeps buckets and objects in ` + "`embedded/`" + ` of the data directory and listens
on loopback only, for this gateway only. ` + "`akigw fakes3`" + ` is the same service in memory, for tests ([faults.md](faults.md)). Do not store data that matters in it: it is
one directory on one disk, without versions, ACLs, tags, encryption or locks.

It is [gofakes3](https://github.com/johannesboyne/gofakes3), a library for tests, over that directory, behind a table of what is honoured. gofakes3 answers
the operations that it implements as S3 does. akigw's own code answers the others, and three requests that gofakes3 cannot handle: a ListBuckets with parameters, an
empty part, and a bucket name with fewer than three characters between two dots.

It refuses what it cannot do. The table lists every operation that it supports, and the query parameters and headers that each of them honours. A request
with another parameter, or with another header that has a meaning in S3, gets 501 NotImplemented and changes nothing. So does a request with an unknown element in
its document.

- Objects and uploads survive a restart and a crash of the process, also in the middle of a write: the key then holds either the old object or the new one.
- Every key that S3 allows is accepted: up to 1,024 bytes of UTF-8 without NUL. Keys are not used as file names, so ` + "`..`, `//`, `\\`" + `, ` + "`a`" + ` beside ` + "`a/b`" + ` and long segments have no special meaning.
- A checksum is kept if the client sends one, in a header or as a trailer, or asks for one. For an upload in parts it has the type that the
  upload was created with, COMPOSITE or FULL_OBJECT. No checksum is computed if the client does not ask for one.
- Some headers are accepted only with the values that hold anyway: ` + "`x-amz-acl`" + ` is private or bucket-owner-full-control, ` + "`x-amz-storage-class`" + ` is
  STANDARD (another one gets 400 InvalidStorageClass), ` + "`x-amz-object-ownership`" + ` is BucketOwnerEnforced, ` + "`versionId`" + ` is null.
- GetObjectTagging answers that there are no tags, and GetBucketVersioning that versioning was never enabled.

There are %d operations. This page is generated from the table in the code and checked by a test. In the table, "digests" stands for Content-MD5, x-amz-trailer,
x-amz-sdk-checksum-algorithm and the x-amz-checksum-* headers of %s; "description" stands for Cache-Control, Content-Disposition,
Content-Encoding, Content-Language, Content-Type, Expires, x-amz-meta-*, x-amz-acl, x-amz-storage-class and x-amz-website-redirect-location.

| operation | request | by | parameters | headers |
|---|---|---|---|---|
`

// TestDocumented compares docs/embedded.md with the table of operations.
func TestDocumented(t *testing.T) {
	const path = "../../docs/embedded.md"
	var algorithms []string
	for _, a := range checksum.Algorithms {
		algorithms = append(algorithms, a.Name)
	}
	var page strings.Builder
	fmt.Fprintf(&page, pageHead, len(operations), strings.Join(algorithms, ", "))
	for _, op := range operations {
		fmt.Fprintf(&page, "| %s | %s `%s` | %s | %s | %s |\n", op.name, op.method, op.target(), op.by(), strings.Join(op.params, ", "), strings.Join(op.documented(), ", "))
	}
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := os.ReadFile(path); err != nil || string(written) != page.String() {
		t.Errorf("%s is not what the table says: go test ./internal/embedded -run Documented -update (%v)", path, err)
	}
}

// target returns the request line of an operation, as the page shows it.
func (op *operation) target() string {
	target := map[level]string{serviceLevel: "/", bucketLevel: "/BUCKET", objectLevel: "/BUCKET/KEY"}[op.level]
	if len(op.selects) > 0 {
		target += "?" + strings.Join(op.selects, "&")
	}
	if op.copies {
		target += ", x-amz-copy-source"
	}
	return target
}

// by returns who implements an operation: gofakes3 or akigw.
func (op *operation) by() string {
	if op.fake {
		return "gofakes3"
	}
	return "akigw"
}

// documented returns the headers of an operation, with the names of sets that several operations share.
func (op *operation) documented() (names []string) {
	sums := checksumHeaders()
	has := func(set []string) bool {
		return !slices.ContainsFunc(set, func(name string) bool { return !slices.Contains(op.headers, name) })
	}
	for _, name := range op.headers {
		switch {
		case has(digests()) && slices.Contains(digests(), name):
			name = "digests"
		case has(sums) && slices.Contains(sums, name):
			name = "x-amz-checksum-*"
		case has(stored()) && slices.Contains(stored(), name):
			name = "description"
		default:
			name = strings.ToLower(name)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names
}
