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

var update = flag.Bool("update", false, "rewrite docs/scenarios.md")

// scenarios are the ways to fail that the gateway is built against, by area: rows A1, A2 and so on.
var scenarios = []struct {
	area, title string
	rows        []string
}{
	{"A", "The upstream", []string{
		"throttles a part of the requests", "a breaker that is half open lets few through", "no answer, and it was done or not", "200 with an error document to Complete", "Complete without an answer, then NoSuchUpload",
		"200 with an error document to a copy", "a body that ends early as if whole", "a body with wrong bytes", "another range than asked for", "an object replaced between two ranges", "HEAD and GET disagree",
		"no ETag", "an ETag that is no MD5", "a request that waits longer than its signature lasts", "clocks that differ", "a body that has to be sent again", "no trailing checksums", "refused for new keys or lost rights",
		"refused for good", "redirects", "compression on the way", "a listing that breaks off", "no answer about what is cached", "a body that never ends"}},
	{"B", "A crash", []string{
		"while a body comes in", "after the body, before the record", "after the record, before its sync", "after the sync, before the answer", "after the answer, before the upload", "between parts", "after all parts, before Complete",
		"after Complete, before it is noted", "after that, before the body goes", "in a deletion", "in a deletion that goes through", "in a copy of what is pending", "in CreateMultipartUpload", "in UploadPart", "in Complete", "in Abort",
		"when a segment is begun", "in a compaction", "in a snapshot", "in a cycle of moves", "in the recovery, again and again", "of the power: what was not synced is gone", "a torn end, damage in the middle", "two gateways on one directory"}},
	{"C", "A disk", []string{
		"full, for a body", "full, for a record", "full, under Badger", "full of what is pending", "read-only", "a sync that fails", "a sync that hangs", "a wrong bit in a cached block", "a wrong bit in a pending body", "a wrong bit in the catalog",
		"a damaged snapshot", "a file that shrinks under a map", "a tier that does not open", "accounting that drifts", "space that does not come back", "dropped entries that come back", "no inodes", "a rename without a sync of its directory"}},
	{"D", "Together", []string{
		"a fill and a PUT", "a fill and a DELETE", "PUTs of one key", "an old try after a newer write", "changes that replace each other", "reads during writes", "listings during writes", "moves and writes", "eviction and what is pending",
		"pins and quotas", "a fill whose first reader leaves", "many readers of one failure", "a client that leaves its upload", "a client that leaves its download", "a slow reader", "Complete twice", "Complete, Abort and parts",
		"clean-up and creation", "a reload under requests", "a dead letter and a new write", "one entry and two workers", "a checkpoint and the end"}},
	{"E", "Clients and limits", []string{
		"slow headers", "slow bodies", "idle connections", "large headers", "large documents", "nested documents", "memory", "many large uploads", "ranges of all kinds", "a range and a part number", "keys as bytes", "paths that a router would clean",
		"control characters in listings", "pages and delimiters", "tokens of merged listings", "uploads that nobody ends", "an abort after its request", "aws-chunked that is stored", "an empty digest", "a wrong digest", "quotas and writes side by side",
		"quotas and open uploads", "bucket limits side by side", "repetitions of what changes something", "changes behind the cache", "the same ETag, another object", "HEAD and GET from one entry", "a copy onto itself", "versions and markers",
		"keys of the client", "100-continue", "an absence after a restart", "a panic", "a stop with much pending", "a clock that is set back", "faults in production"}},
}

var (
	testName = regexp.MustCompile(`(?m)^func (Test\w+)\(`)
	rowName  = regexp.MustCompile(`^[A-E][0-9]+$`)
	caseName = regexp.MustCompile(`"([A-E][0-9]+)[ :]`)
)

// TestT16_Scenarios: each row has a test that is named after it, and docs/scenarios.md says
// which. go test . -run T16 -update rewrites that.
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
		at := testName.FindAllSubmatchIndex(source, -1)
		for i, m := range at {
			name, end := string(source[m[2]:m[3]]), len(source)
			if i+1 < len(at) {
				end = at[i+1][0]
			}
			for _, part := range strings.Split(strings.TrimPrefix(name, "Test"), "_") {
				if rowName.MatchString(part) {
					note(part, filepath.Dir(path)+" "+name)
				}
			}
			for _, row := range caseName.FindAllSubmatch(source[m[0]:end], -1) {
				note(string(row[1]), filepath.Dir(path)+" "+name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	var page strings.Builder
	page.WriteString("# Scenarios\n\nThe ways to fail that the gateway is built against, and the tests that are named after them (or have a case that is). This page is written\nand checked by a test: `go test . -run T16 -update`.\n")
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
