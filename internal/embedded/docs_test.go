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

Without ` + "`upstream.url`" + ` the gateway starts an S3 service of its own, for trials: it keeps buckets and objects in ` + "`embedded/`" + ` of the data directory and listens
on loopback only, for this gateway only. ` + "`akigw fakes3`" + ` is the same service in memory, for tests ([faults.md](faults.md)). It is no storage for data
that matters: one directory on one disk, no versions, no ACLs, no tags, no encryption, no locks.

It is [gofakes3](https://github.com/johannesboyne/gofakes3), a library for tests, over that directory, behind a table of what is honoured. gofakes3 answers
the operations that it does as S3 does; akigw's own code answers the others, and three requests that gofakes3 cannot: a ListBuckets with parameters, an
empty part, and a bucket name with fewer than three characters between two dots.

What it cannot do it refuses. The table has every operation that there is, and the query parameters and headers that each of them honours. A request
with another parameter, or with another header that S3 gives a meaning to, gets 501 NotImplemented and changes nothing; so does an unknown element of
a document.

- Objects and uploads survive a restart and a crash of the process, in the middle of a write too: a key holds the object before or the one after.
- Any key of S3's is taken: up to 1,024 bytes of UTF-8 without NUL. Keys are no file names, so ` + "`..`, `//`, `\\`" + `, ` + "`a`" + ` beside ` + "`a/b`" + ` and long segments mean nothing special.
- A checksum is kept if the client sends one, in a header or behind the body, or asks for one. For an upload in parts it is of the type that the
  upload was created with, COMPOSITE or FULL_OBJECT. None is made if nobody asks.
- Some headers have only values that describe what is there anyway: ` + "`x-amz-acl`" + ` is private or bucket-owner-full-control, ` + "`x-amz-storage-class`" + ` is
  STANDARD (another one gets 400 InvalidStorageClass), ` + "`x-amz-object-ownership`" + ` is BucketOwnerEnforced, ` + "`versionId`" + ` is null.
- GetObjectTagging answers that there are no tags, GetBucketVersioning that there never were versions.

%d operations. This page is generated from the table in the code and checked by a test. "digests" stands for Content-MD5, x-amz-trailer,
x-amz-sdk-checksum-algorithm and the x-amz-checksum-* headers of %s; "description" for Cache-Control, Content-Disposition,
Content-Encoding, Content-Language, Content-Type, Expires, x-amz-meta-*, x-amz-acl, x-amz-storage-class and x-amz-website-redirect-location.

| operation | request | by | parameters | headers |
|---|---|---|---|---|
`

// TestDocumented keeps docs/embedded.md what the table of operations is.
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

// target is the request line of an operation, as the page shows it.
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

// by says who answers an operation.
func (op *operation) by() string {
	if op.fake {
		return "gofakes3"
	}
	return "akigw"
}

// documented are the headers of an operation, with names for the sets that several of them share.
func (op *operation) documented() (names []string) {
	sums := checksumHeaders()
	has := func(set []string) bool {
		return !slices.ContainsFunc(set, func(name string) bool { return !slices.Contains(op.headers, name) })
	}
	for _, name := range op.headers {
		switch {
		case has(digests) && slices.Contains(digests, name):
			name = "digests"
		case has(sums) && slices.Contains(sums, name):
			name = "x-amz-checksum-*"
		case has(stored) && slices.Contains(stored, name):
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
