package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestRealData is TestLongRealData with a part of the tree and a smaller file.
func TestRealData(t *testing.T) {
	t.Parallel()
	need(t, "aws")
	realData(t, versity(t), "net/http", 64<<20)
}

// TestLongRealData: the Go source tree of the machine and a 1 GiB file are uploaded and downloaded
// again, in front of each upstream.
func TestLongRealData(t *testing.T) {
	long(t)
	need(t, "aws")
	for _, start := range upstreams {
		up := start(t)
		t.Run(up.name, func(t *testing.T) { realData(t, up, "", 1<<30) })
	}
}

func long(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("a long run: make long TEST=" + strings.TrimPrefix(t.Name(), "TestLong"))
	}
}

// realData syncs a tree and a large file up once and down three times. The first download may be
// cold. The second must not GET anything upstream. The third, after a restart, must not either: it
// has to come from disk.
func realData(t *testing.T, up upstream, subtree string, large int) {
	goroot, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(goroot)), "src", subtree)
	dir := t.TempDir()
	file := filepath.Join(dir, "large")
	writePattern(t, file, large)
	g := startGateway(t, options{upstream: up, plain: true})
	want := sums(t, source)
	g.must("aws", "s3", "mb", "s3://databucket")
	g.must("aws", "s3", "sync", "--only-show-errors", source, "s3://databucket/src")
	g.must("aws", "s3", "cp", "--only-show-errors", file, "s3://databucket/large")
	if puts := int(g.metric("akigw_gateway_requests_total", `op="PutObject"`)); puts != len(want) {
		t.Errorf("%d PUTs for %d files: clients had to retry some", puts, len(want))
	}
	for _, round := range []string{"first", "second", "after a restart"} {
		if round == "after a restart" {
			g.stop()
			g.start()
		}
		gets, heads := g.objectGets(), g.metric("akigw_cold_requests_total", `op="HeadObject"`)
		hot, warm := g.metric("akigw_tiers_reads_total", `"hot"`), g.metric("akigw_tiers_reads_total", `"warm"`)
		back := filepath.Join(dir, "back")
		g.must("aws", "s3", "sync", "--only-show-errors", "s3://databucket/src", back)
		g.must("aws", "s3", "cp", "--only-show-errors", "s3://databucket/large", filepath.Join(dir, "large.back"))
		got := sums(t, back)
		if len(got) != len(want) {
			t.Errorf("%s: %d files downloaded, want %d", round, len(got), len(want))
		}
		for name, sum := range want {
			if got[name] != sum {
				t.Errorf("%s: %s has wrong bytes", round, name)
			}
		}
		if sumOf(t, file) != sumOf(t, filepath.Join(dir, "large.back")) {
			t.Errorf("%s: the large file has wrong bytes", round)
		}
		os.RemoveAll(back)
		os.Remove(filepath.Join(dir, "large.back"))
		gets, heads = g.objectGets()-gets, g.metric("akigw_cold_requests_total", `op="HeadObject"`)-heads
		hot, warm = g.metric("akigw_tiers_reads_total", `"hot"`)-hot, g.metric("akigw_tiers_reads_total", `"warm"`)-warm
		t.Logf("%s %s: %d files: %d object GETs and %.0f HEADs at the upstream, %.0f reads hot, %.0f warm", up.name, round, len(want)+1, gets, heads, hot, warm)
		if round != "first" && gets != 0 {
			t.Errorf("%s: %d object GETs at the upstream, want none", round, gets)
		}
		if round == "second" && up.endpoint == "" && heads > 2 { // the gateway also answers the CLI's own requests
			t.Errorf("%s: %.0f HEADs at the upstream in exclusive mode", round, heads)
		}
		if round == "after a restart" && warm == 0 {
			t.Errorf("%s: nothing was read from disk", round)
		}
	}
}

func writePattern(t testing.TB, path string, size int) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for i := range size >> 20 {
		if _, err := f.Write(testkit.Bytes(uint64(byte(i)), 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
}

// sums returns a hash of every file below dir.
func sums(t testing.TB, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	testkit.EachFile(t, dir, func(name, path string) error {
		all[name] = sumOf(t, path)
		return nil
	})
	return all
}

func sumOf(t testing.TB, path string) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func hexSHA256(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
