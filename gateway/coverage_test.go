package gateway

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw/access/policy"
	"github.com/akidb/akigw/sigv4"
)

var update = flag.Bool("update", false, "rewrite docs/s3-coverage.md")

// TestCoverageIsDocumented keeps docs/s3-coverage.md what the routing table
// says.
func TestCoverageIsDocumented(t *testing.T) {
	const path = "../docs/s3-coverage.md"
	want := coverage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v); run go test ./gateway -update", path, err)
	}
}

func coverage() string {
	count := map[Class]int{}
	var rows strings.Builder
	for _, r := range allRoutes {
		count[r.Class]++
		method, name := r.Method, r.Op
		if method == "" {
			method = "any"
		}
		if len(r.Also) > 0 {
			name += " (also " + strings.Join(r.Also, ", ") + ")"
		}
		target := map[Level]string{ServiceLevel: "/", BucketLevel: "/BUCKET", ObjectLevel: "/BUCKET/KEY", AnyLevel: "any"}[r.Level]
		if len(r.Query) > 0 {
			target += "?" + strings.Join(r.Query, "&")
		}
		if r.Header != "" {
			target += ", " + strings.ToLower(r.Header)
		}
		var actions []string
		for _, a := range []string{r.Action, r.VersionAction, r.Besides} {
			if a == policy.Unlisted {
				a = "*"
			}
			if a != "" {
				actions = append(actions, a)
			}
		}
		if r.VersionAction != "" {
			actions[1] += " (with versionId)"
		}
		fmt.Fprintf(&rows, "| %s | %s `%s` | %s | %s | %s |\n", name, method, target, r.Class, strings.Join(actions, ", "), r.Note)
	}
	return fmt.Sprintf(`# S3 coverage

This page lists every operation of the S3 API and what akigw does with it. *Accelerated* operations are answered from the cache or fill it. *Forwarded*
operations are authenticated, authorised, signed anew and carried out by the upstream; the cache entries that they change are fenced. *Refused* operations
are answered with 501. The action is the one that a policy must allow; [access.md](access.md) says more.

The table has %d rows: %d accelerated, %d forwarded, %d refused. This page is generated from the routing table and checked by a test; another test
checks that no operation of the AWS SDK is missing.

CORS preflights ("OPTIONS object") are forwarded without a signature, as browsers send them, and their answers reveal nothing but yes or no. Requests
with an Origin bypass the cache.

Ranges (GetObject, HeadObject): a single byte range (RFC 9110 §14.1.2) is answered with 206. Several ranges, malformed ranges and other units are
ignored. A range that begins after the last byte is answered with 416 InvalidRange, and so is every range of an empty object except a suffix
range: %s is answered with 200 and no bytes, as S3 does, whichever tier the object is in and however the upstream
answers it.

XML: a key may contain characters that XML 1.0 cannot represent. The gateway writes them as references (%s), as S3 does, unless the
client asks for encoding-type=url. It accepts them as references; unescaped ones are answered with 400 MalformedXML.

| operation | request | here | action | notes |
|---|---|---|---|---|
%s`, len(allRoutes), count[Accelerated], count[Forwarded], count[Refused], "`bytes=-1`", "`&#x1;`", rows.String())
}

// TestRoutes: the table is consistent with itself.
func TestRoutes(t *testing.T) {
	seen := map[string]bool{}
	for i, r := range allRoutes {
		last := i >= len(allRoutes)-2
		if seen[r.Op] && !last {
			t.Errorf("%s has two rows", r.Op)
		}
		seen[r.Op] = true
		if r.handle == nil || r.Any != last || last != (r.Method == "") {
			t.Errorf("%s: no handler, or takes everything", r.Op)
		}
		if r.Class == Refused != (r.Action == "" && r.Op != "DeleteObjects") || r.Class == Refused && r.Note == "" {
			t.Errorf("%s: refused without a reason, or done without an action", r.Op)
		}
		for _, a := range []string{r.Action, r.VersionAction, r.Besides} {
			if a != "" && a != policy.Unlisted && !slices.Contains(policy.Actions, a) {
				t.Errorf("%s needs %s, which policies do not know", r.Op, a)
			}
		}
		if r.VersionAction != "" && !slices.Contains(r.Options, "versionId") {
			t.Errorf("%s has an action for versions and takes none", r.Op)
		}
		if (r.Body == Content) != r.admits(sigv4.Header, sigv4.UnsignedTrailer) {
			t.Errorf("%s: aws-chunked is for contents", r.Op)
		}
	}
	for name, h := range amzHeaders {
		for _, a := range []string{h.object, h.bucket} {
			if a != "" && !slices.Contains(policy.Actions, a) {
				t.Errorf("%s needs %s, which policies do not know", name, a)
			}
		}
		if h.cached && (h.object != "" || h.uncached) {
			t.Errorf("%s: read from the cache and in need of a right", name)
		}
	}
}
