package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"text/tabwriter"

	"github.com/akidb/akigw/writeback/buckets"
)

// printed returns the output of a command.
func printed(t *testing.T, run func() error) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	failed := run()
	w.Close()
	text, err := io.ReadAll(r)
	if failed != nil || err != nil {
		t.Errorf("%v %v", failed, err)
	}
	return string(text)
}

// TestRulesExplainRunning: a running gateway explains why a rule is not in effect.
func TestRulesExplainRunning(t *testing.T) {
	gateway := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api/v1/rules/explain" || r.URL.Query().Get("bucket") != "bucket" || r.URL.Query().Get("key") != "a/b" {
			http.Error(w, r.URL.String(), http.StatusBadRequest)
			return
		}
		io.WriteString(w, `[{"field":"write","value":"\"back\"","rule":"[[rule]] bucket = \"*\"","line":7,"note":"the bucket keeps versions"},{"field":"pin","value":"false"}]`)
	}))
	defer gateway.Close()
	for _, json := range []bool{false, true} {
		c := &rulesExplainCommand{Running: true, Object: "bucket/a/b"}
		c.Data, c.Admin, c.JSON = t.TempDir(), strings.TrimPrefix(gateway.URL, "http://"), json
		text := printed(t, c.Run)
		wants := []string{"line 7", `write = "back" is not in effect at present: the bucket keeps versions`}
		if json {
			wants = []string{`"note": "the bucket keeps versions"`}
		}
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("json %t: no %q in %s", json, want, text)
			}
		}
	}
}

// TestStatusSaysWhatIsNotWrittenBack: akigw status has a line for each bucket that is not written back,
// with the remedy.
func TestStatusSaysWhatIsNotWrittenBack(t *testing.T) {
	var out strings.Builder
	table := tabwriter.NewWriter(&out, 0, 0, 2, ' ', 0)
	for _, n := range []buckets.Note{
		{Bucket: "one", Reason: "versioned", Meaning: "it keeps versions", Paused: true, Remedy: "akigw journal resume one"},
		{Bucket: "two", Reason: "etags", Meaning: "it has other ETags"},
		{Bucket: "three", RefusedKinds: []string{"key backslash"}},
	} {
		printNote(table, &n)
	}
	table.Flush()
	for _, want := range []string{`not uploaded      pending writes of bucket "one": it keeps versions. akigw journal resume one`, `not written back  bucket "two": it has other ETags`, `bucket "three", kinds of writes that the upstream has refused: key backslash`} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in %s", want, out.String())
		}
	}
}
