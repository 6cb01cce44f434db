package akigw_test

import (
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite docs/scenarios.md and testdata/imports.txt")

// scenarios are the failures that the gateway is built to survive, by area: rows A1, A2 and so on.
var scenarios = []struct {
	area, title string
	rows        []string
}{
	{"A", "The upstream", []string{
		"it throttles some requests", "a half-open breaker lets few requests through", "no answer, whether the request was carried out or not", "200 with an error document to Complete", "Complete without an answer, then NoSuchUpload",
		"200 with an error document to a copy", "a body that ends early as if it were whole", "a body with wrong bytes", "a range other than the requested one", "an object replaced between two ranges", "HEAD and GET disagree",
		"no ETag", "an ETag that is not an MD5", "a request that waits longer than its signature is valid", "clocks that differ", "a body that must be sent again", "no support for trailing checksums", "refusals because of rotated keys or lost rights",
		"permanent refusals", "redirects", "compression in transit", "a listing that is cut off", "no answer to a validation", "a body that never ends"}},
	{"B", "A crash", []string{
		"while a body is received", "after the body, before the record", "after the record, before its sync", "after the sync, before the answer", "after the answer, before the upload", "between parts", "after all parts, before Complete",
		"after Complete, before the journal records it", "after that, before the body is removed", "in a deletion", "in a deletion that is written through", "in a copy of a pending object", "in CreateMultipartUpload", "in UploadPart", "in Complete", "in Abort",
		"when a segment is begun", "in a compaction", "in a snapshot", "in a cycle of moves", "in the recovery, again and again", "a power cut: unsynced data is lost", "a torn tail, damage in the middle", "two gateways on one directory"}},
	{"C", "A disk", []string{
		"full, for a body", "full, for a record", "full, under Badger", "full of pending writes", "read-only", "a sync that fails", "a sync that hangs", "a wrong bit in a cached block", "a wrong bit in a pending body", "a wrong bit in the catalog",
		"a damaged snapshot", "a memory-mapped file that shrinks", "a tier that does not open", "accounting that drifts", "space that is not reclaimed", "dropped entries that reappear", "no inodes", "a rename without a sync of its directory"}},
	{"D", "Concurrency", []string{
		"a fill and a PUT", "a fill and a DELETE", "PUTs of one key", "an old attempt after a newer write", "changes that replace each other", "reads during writes", "listings during writes", "moves between tiers and writes", "eviction and pending writes",
		"pins and quotas", "a fill whose first reader leaves", "many readers of one failure", "a client that disconnects during its upload", "a client that disconnects during its download", "a slow reader", "Complete twice", "Complete, Abort and parts",
		"clean-up and creation", "a reload under requests", "a dead letter and a new write", "one entry and two workers", "a checkpoint and the end of the process"}},
	{"E", "Clients and limits", []string{
		"slow headers", "slow bodies", "idle connections", "large headers", "large documents", "nested documents", "memory", "many large uploads", "ranges of all kinds", "a range and a part number", "keys as bytes", "paths that a router would clean",
		"control characters in listings", "pages and delimiters", "tokens of merged listings", "abandoned uploads", "an abort after its request", "aws-chunked stored as a content encoding", "an empty digest", "a wrong digest", "quotas and concurrent writes",
		"quotas and open uploads", "bucket limits and concurrent requests", "retries of requests that change something", "changes behind the cache", "the same ETag, another object", "HEAD and GET from one entry", "a copy onto itself", "versions and markers",
		"encryption keys of the client (SSE-C)", "100-continue", "a cached absence after a restart", "a panic", "a stop with many pending writes", "a clock that is set back", "faults in production"}},
}

var (
	testFunc  = regexp.MustCompile(`(?m)((?:^//.*\n)*)^func (Test\w+)\(`)
	rowInName = regexp.MustCompile(`^Test[A-EIS][0-9]+_`)
	rowsLine  = regexp.MustCompile(`(?m)^// Scenarios: (.*)\.$`)
	caseName  = regexp.MustCompile(`"([A-E][0-9]+)[ :]`)
)

// TestT16_Scenarios checks that each row has a test whose comment, or one of whose cases, names it, and
// that docs/scenarios.md says which. "go test . -run T16 -update" rewrites the page.
func TestT16_Scenarios(t *testing.T) {
	tests := map[string][]string{}
	note := func(row, test string) {
		if !slices.Contains(tests[row], test) {
			tests[row] = append(tests[row], test)
		}
	}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := testFunc.FindAllSubmatchIndex(source, -1)
		for i, m := range at {
			comment, name, end := source[m[2]:m[3]], string(source[m[4]:m[5]]), len(source)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			if rowInName.MatchString(name) {
				t.Errorf("%s: %s: the rows of a test are in its comment, as \"// Scenarios: C4, D9.\"", path, name)
			}
			for _, line := range rowsLine.FindAllSubmatch(comment, -1) {
				for _, row := range strings.Split(string(line[1]), ", ") {
					note(row, filepath.Dir(path)+" "+name)
				}
			}
			for _, row := range caseName.FindAllSubmatch(source[m[5]:end], -1) {
				note(string(row[1]), filepath.Dir(path)+" "+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString("# Scenarios\n\nThis page lists the failures that the gateway is built to survive, and the tests for each. The comment of a test\nnames its rows (\"Scenarios: C4, D9.\"), or a case of it begins with one. The page is written and checked by a test: `go test . -run T16 -update`.\n")
	rows := 0
	for _, s := range scenarios {
		fmt.Fprintf(&page, "\n## %s\n\n| row | what | tests |\n|---|---|---|\n", s.title)
		for i, what := range s.rows {
			row := fmt.Sprintf("%s%d", s.area, i+1)
			rows++
			named := tests[row]
			if len(named) == 0 {
				t.Errorf("%s, %s, has no test", row, what)
			}
			slices.Sort(named)
			fmt.Fprintf(&page, "| %s | %s | %s |\n", row, what, strings.Join(named, "; "))
		}
	}
	if rows != 124 {
		t.Errorf("%d rows", rows)
	}
	const path = "docs/scenarios.md"
	if *update {
		if err := os.WriteFile(path, []byte(page.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if written, err := os.ReadFile(path); err != nil || string(written) != page.String() {
		t.Errorf("%s is not what the tests are: go test . -run T16 -update (%v)", path, err)
	}
}
