package admin

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

var update = flag.Bool("update", false, "rewrite docs/metrics.md")

// TestMetricsAreDocumented compares docs/metrics.md and the list of metrics with the code: go test
// ./admin -update rewrites the page.
func TestMetricsAreDocumented(t *testing.T) {
	known := map[string]bool{}
	for _, f := range families {
		if known[f.name] {
			t.Errorf("%s is there twice", f.name)
		}
		known[f.name] = false
	}
	for _, used := range metricsInTheCode(t) {
		pattern := regexp.MustCompile("^" + strings.ReplaceAll(used, "%s", "[a-z_]*") + "$")
		found := false
		for name := range known {
			if pattern.MatchString(name) {
				known[name], found = true, true
			}
		}
		if !found {
			t.Errorf("%s is not in admin/metrics.go", used)
		}
	}
	for name, used := range known {
		if !used {
			t.Errorf("%s is in admin/metrics.go and nowhere else", name)
		}
	}
	if len(known) < 70 {
		t.Errorf("%d metrics", len(known))
	}

	const path = "../docs/metrics.md"
	want := metricsPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("%s is not what the code says (%v); run go test ./admin -update", path, err)
	}
}

// metricsInTheCode returns the names of metrics in the source, without those that are only read there.
func metricsInTheCode(t *testing.T) (names []string) {
	t.Helper()
	elsewhere := []string{"admin/metrics.go", "admin/overview.go", "admin/session.go", "trace/trace.go", "cmd/akigw/trace.go"}
	name := regexp.MustCompile("[\"`](akigw_[a-z0-9_%]+)")
	err := filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		rel := strings.TrimPrefix(filepath.ToSlash(path), "../")
		switch {
		case err != nil:
			return err
		case d.IsDir() && (rel == "bench" || rel == "e2e" || rel == ".git"):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(rel, ".go") || strings.HasSuffix(rel, "_test.go") || slices.Contains(elsewhere, rel):
			return nil
		}
		source, err := os.ReadFile(path)
		for _, m := range name.FindAllSubmatch(source, -1) {
			names = append(names, string(m[1]))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func metricsPage() string {
	var b strings.Builder
	b.WriteString("# Metrics\n\n`GET /metrics` of the admin listener, in Prometheus' text format. Besides these there are `go_*` and `process_*` of the Go runtime and the process.\nAlerts on them: `deploy/prometheus/akigw.rules.yml`; a dashboard: `deploy/grafana/akigw.json`.\n\nThis page is generated from the code and checked by a test.\n\n| metric | labels | meaning |\n|---|---|---|\n")
	for _, f := range families {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", f.name, f.labels, f.help)
	}
	return b.String()
}

// TestMetricsHaveHelp: the lines of each family are together, with its type and help text, as
// Prometheus requires.
func TestMetricsHaveHelp(t *testing.T) {
	var out strings.Builder
	text := "# HELP b \n# TYPE b counter\nb{x=\"1\"} 1\n# HELP akigw_hot_values \n# TYPE akigw_hot_values gauge\nakigw_hot_values 3\n# HELP b \n# TYPE b counter\nb{x=\"2\"} 2\n# HELP go_cpu_count \n# TYPE go_cpu_count gauge\ngo_cpu_count 2\n"
	if err := explained(&out, text); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"# HELP akigw_hot_values values in memory", "# TYPE akigw_hot_values gauge", "akigw_hot_values 3",
		"# HELP b of the process, as the operating system counts it", "# TYPE b counter", `b{x="1"} 1`, `b{x="2"} 2`, "",
	}
	if got := strings.Split(out.String(), "\n"); !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
