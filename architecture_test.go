package akigw_test

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// module is this module's import path.
const module = "github.com/akidb/akigw"

// rooms says whom each room may import, besides the root vocabulary and what
// lies below itself. A room that is not listed may not exist.
var rooms = map[string][]string{
	"":                            {},
	"gateway":                     {"cost", "rules", "access/policy", "sigv4", "gateway/httpguard", "tiers", "tiers/cold", "internal/budget", "internal/s3err", "internal/s3xml", "internal/checksum", "internal/codec", "internal/failpoint", "internal/glob", "internal/listen", "internal/size"},
	"sigv4":                       {"internal/s3err"},
	"gateway/httpguard":           {"internal/s3err"},
	"access":                      {"access/policy", "sigv4", "internal/vfs", "internal/watch"},
	"access/policy":               {"internal/glob"},
	"rules":                       {"internal/glob", "internal/size", "internal/watch"},
	"tiers":                       {"rules", "tiers/hot", "tiers/warm", "tiers/cold", "journal", "uploadpool", "internal/budget", "internal/checksum", "internal/codec", "internal/vfs", "internal/failpoint", "internal/pack", "internal/s3xml", "internal/size", "internal/watch", "tiers/facts"},
	"tiers/hot":                   {"internal/popular"},
	"tiers/warm":                  {"internal/vfs", "internal/popular", "internal/size"},
	"tiers/cold":                  {"internal/glob"},
	"tiers/facts":                 {"internal/codec", "internal/vfs"},
	"journal":                     {"internal/codec", "internal/vfs", "internal/failpoint", "journal/internal/spool"},
	"journal/internal/spool":      {"internal/vfs", "internal/failpoint"},
	"uploadpool":                  {"journal", "tiers/cold", "internal/failpoint", "internal/pack", "internal/s3xml"},
	"internal/pack":               {"internal/codec"},
	"faults":                      {"internal/glob"},
	"cost":                        {"internal/vfs"},
	"internal/logtail":            {},
	"internal/memlimit":           {},
	"admin":                       {"access", "access/policy", "cost", "rules", "faults", "sigv4", "snapshot", "tiers", "tiers/cold", "internal/listen"},
	"doctor":                      {"internal/size", "internal/vfs", "journal", "tiers/cold"},
	"snapshot":                    {"internal/vfs", "internal/failpoint", "internal/size"},
	"internal/s3err":              {"internal/s3xml"},
	"internal/s3xml":              {},
	"internal/checksum":           {},
	"internal/codec":              {},
	"internal/listen":             {},
	"internal/config":             {},
	"internal/budget":             {},
	"internal/vfs":                {},
	"internal/glob":               {},
	"internal/popular":            {},
	"internal/size":               {},
	"internal/watch":              {},
	"internal/failpoint":          {},
	"internal/double":             {"faults", "sigv4", "internal/checksum", "internal/embedded", "internal/s3err"},
	"internal/embedded":           {"sigv4", "internal/checksum", "internal/s3err", "internal/s3xml"},
	"internal/testing/seededbugs": {},
	"tools/benchcheck":            {},
	"internal/testing/testkit":    {"faults", "tiers/cold", "internal/s3xml"},
	"cmd/akigw":                   {"uploadpool", "access", "access/policy", "admin", "bench", "cost", "doctor", "faults", "gateway", "sigv4", "rules", "snapshot", "tiers", "tiers/cold", "internal/config", "internal/double", "internal/vfs", "internal/embedded", "internal/listen", "internal/logtail", "internal/memlimit", "internal/pack", "internal/s3err", "internal/size", "tiers/facts"},
	"internal/zipf":               {},
	"bench":                       {"internal/size", "internal/zipf"},
}

// TestImportDirections keeps the rooms apart: imports go downwards only.
func TestImportDirections(t *testing.T) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Imports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := d.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		seen++
		room := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		allowed, known := rooms[room]
		if !known {
			t.Errorf("room %q is not in the table of this test nor in docs/architecture.md", room)
		}
		for _, path := range p.Imports {
			if room == "" && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				t.Errorf("the root vocabulary imports %s; it may import the standard library only", path)
			}
			other, ours := strings.CutPrefix(path, module+"/")
			if !ours {
				continue
			}
			if !contains(allowed, other) {
				t.Errorf("%s imports %s, which is not below it", room, other)
			}
		}
	}
	if seen < 10 {
		t.Fatalf("saw only %d packages", seen)
	}
}

// TestS50_GoVersion: both modules ask for a Go that has the fixes of net/http,
// net/url and encoding/xml that the front relies on.
func TestS50_GoVersion(t *testing.T) {
	for _, file := range []string{"go.mod", "e2e/go.mod"} {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(raw), "\ngo ")
		version, _, _ := strings.Cut(rest, "\n")
		var major, minor, patch int
		if n, _ := fmt.Sscanf(version, "%d.%d.%d", &major, &minor, &patch); n != 3 || major != 1 || minor < 26 || minor == 26 && patch < 8 {
			t.Errorf("%s: go %s, want 1.26.8 or newer", file, version)
		}
	}
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// TestC12_NoMemoryMaps: a file that shrinks under a map ends the process, so that nobody but
// Badger, whose directory is ours alone, maps any.
func TestC12_NoMemoryMaps(t *testing.T) {
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if strings.Contains(string(source), "Mmap(") {
			t.Errorf("%s maps memory", path)
		}
		return err
	})
	if err != nil {
		t.Error(err)
	}
}
