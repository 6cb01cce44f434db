package akigw_test

import (
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// module is this module's import path.
const module = "github.com/akidb/akigw"

// rooms says whom each room may import, besides the root vocabulary and what
// lies below itself. A room that is not listed may not exist.
var rooms = map[string][]string{
	"":                            {},
	"gateway":                     {"cost", "rules", "access/policy", "sigv4", "gateway/httpguard", "gateway/limits", "tiers", "tiers/cold", "writeback", "writeback/overlay", "internal/budget", "internal/s3err", "internal/s3xml", "internal/checksum", "internal/codec", "internal/failpoint", "internal/glob", "internal/listen", "internal/rotate", "internal/size"},
	"sigv4":                       {"internal/s3err"},
	"gateway/httpguard":           {"internal/s3err"},
	"gateway/limits":              {"rules", "internal/glob", "internal/s3err", "internal/size"},
	"access":                      {"access/policy", "sigv4", "internal/vfs", "internal/watch"},
	"access/policy":               {"internal/glob"},
	"rules":                       {"internal/glob", "internal/size", "internal/watch"},
	"tiers":                       {"rules", "tiers/hot", "tiers/warm", "tiers/cold", "internal/budget", "internal/checksum", "internal/codec", "internal/vfs", "internal/failpoint", "internal/size", "internal/watch"},
	"placement":                   {"internal/codec", "internal/failpoint", "internal/vfs", "rules", "tiers", "tiers/cold"},
	"trace":                       {"tiers", "tiers/hot"},
	"tiers/hot":                   {"internal/popular"},
	"tiers/warm":                  {"internal/vfs", "internal/popular", "internal/size"},
	"tiers/cold":                  {"internal/glob", "internal/s3xml"},
	"writeback":                   {"rules", "tiers/cold", "journal", "uploadpool", "writeback/overlay", "writeback/buckets", "writeback/facts", "internal/pack", "internal/size", "internal/vfs"},
	"writeback/overlay":           {"tiers", "tiers/cold", "journal", "internal/checksum", "internal/pack"},
	"writeback/buckets":           {"tiers/cold", "writeback/facts"},
	"writeback/facts":             {"internal/codec", "internal/vfs"},
	"journal":                     {"internal/codec", "internal/vfs", "internal/failpoint", "journal/internal/spool"},
	"journal/internal/spool":      {"internal/vfs", "internal/failpoint"},
	"uploadpool":                  {"journal", "tiers/cold", "internal/failpoint", "internal/pack", "internal/s3xml"},
	"internal/pack":               {"internal/codec"},
	"faults":                      {"internal/glob"},
	"cost":                        {"internal/vfs"},
	"internal/logtail":            {},
	"internal/memlimit":           {},
	"admin":                       {"access", "access/policy", "cost", "rules", "faults", "placement", "sigv4", "snapshot", "tiers", "tiers/cold", "trace", "writeback", "writeback/buckets", "internal/listen", "internal/rotate"},
	"admin/client":                {"admin", "cost", "faults", "placement", "snapshot", "writeback"},
	"doctor":                      {"internal/size", "internal/vfs", "journal", "tiers/cold"},
	"snapshot/s3":                 {"tiers/cold"},
	"snapshot":                    {"internal/vfs", "internal/failpoint", "internal/size"},
	"internal/s3err":              {"internal/s3xml"},
	"internal/s3xml":              {},
	"internal/checksum":           {},
	"internal/codec":              {},
	"internal/listen":             {},
	"internal/config":             {},
	"internal/budget":             {},
	"internal/rotate":             {},
	"internal/vfs":                {},
	"internal/glob":               {},
	"internal/popular":            {},
	"internal/size":               {},
	"internal/watch":              {},
	"internal/failpoint":          {},
	"internal/double":             {"faults", "sigv4", "internal/checksum", "internal/embedded", "internal/s3err"},
	"internal/embedded":           {"sigv4", "internal/checksum", "internal/s3err", "internal/s3xml"},
	"internal/testing/crashfs":    {"internal/vfs"},
	"internal/testing/seededbugs": {},
	"tools/benchcheck":            {},
	"internal/testing/storekit":   {"tiers", "uploadpool", "writeback", "writeback/overlay"},
	"internal/testing/tiertest":   {"internal/testing/testkit", "rules", "tiers", "tiers/cold"},
	"internal/testing/testkit":    {"faults", "tiers/cold", "internal/s3xml"},
	"server":                      {"access", "admin", "bench", "cost", "faults", "gateway", "gateway/limits", "placement", "internal/config", "internal/embedded", "internal/listen", "internal/logtail", "internal/memlimit", "internal/s3err", "internal/vfs", "rules", "sigv4", "snapshot", "snapshot/s3", "tiers", "tiers/cold", "trace", "uploadpool", "writeback"},
	"cmd/akigw":                   {"access", "access/policy", "admin", "admin/client", "bench", "cost", "doctor", "faults", "internal/config", "internal/double", "internal/listen", "internal/pack", "internal/size", "placement", "rules", "server", "snapshot", "tiers/cold", "trace", "writeback", "writeback/buckets", "writeback/facts"},
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

// memoryMaps are the uses of memory maps in product code, each as a file, its function and what it
// uses. Badger, whose directory is this process's alone, maps its files in code that is not ours.
var memoryMaps = []string{
	"tiers/warm/verify.go: verifyBlocks: OpenMmapFile", // reads a table as Badger will, and recovers from faults
}

// TestC12_NoMemoryMaps: a file that shrinks under a map ends the process, so that no code but the
// one that is listed maps any.
func TestC12_NoMemoryMaps(t *testing.T) {
	var found []string
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		uses, err := mapsMemory(path, source)
		found = append(found, uses...)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(found, memoryMaps) {
		t.Errorf("memory maps: %q, want %q", found, memoryMaps)
	}
}

// mapsMemory returns the uses of memory maps in a file: names and imports with "mmap" in them,
// whatever package they are of; SYS_MMAP is one as well.
func mapsMemory(path string, source []byte) (uses []string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), path, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	for _, decl := range file.Decls {
		where := "package"
		if f, ok := decl.(*ast.FuncDecl); ok {
			where = f.Name.Name
		}
		ast.Inspect(decl, func(n ast.Node) bool {
			name := ""
			switch n := n.(type) {
			case *ast.Ident:
				name = n.Name
			case *ast.ImportSpec:
				name = n.Path.Value
			}
			if strings.Contains(strings.ToLower(name), "mmap") {
				uses = append(uses, path+": "+where+": "+name)
			}
			return true
		})
	}
	return uses, nil
}

// TestC12_MemoryMapsAreFound: each way to map memory is noticed, and what only speaks of it is not.
func TestC12_MemoryMapsAreFound(t *testing.T) {
	for source, want := range map[string]string{
		`import "syscall"; func f() { _, _ = syscall.Mmap(3, 0, 1, 0, 0) }`:                   "f: Mmap",
		`import "golang.org/x/sys/unix"; func f() { b, err := unix.Mmap(3, 0, 1, 0, 0) }`:     "f: Mmap",
		`import u "golang.org/x/sys/unix"; func f() { _, _ = u.MmapPtr(3, 0, nil, 1, 0, 0) }`: "f: MmapPtr",
		`import "syscall"; func f() { syscall.Syscall6(syscall.SYS_MMAP, 0, 1, 0, 0, 3, 0) }`: "f: SYS_MMAP",
		`import "github.com/dgraph-io/ristretto/v2/z"; var m, err = z.OpenMmapFile("", 0, 0)`: "package: OpenMmapFile",
		`import m "github.com/edsrzf/mmap-go"; func f() { m.Map(nil, 0, 0) }`:                 `package: "github.com/edsrzf/mmap-go"`,
		`import "syscall"; func f() { g := syscall.Mmap; g(3, 0, 1, 0, 0) }`:                  "f: Mmap",
		`func f() { println("mmap") } // or Mmap(`:                                            "",
	} {
		uses, err := mapsMemory("x.go", []byte("package x; "+source))
		if err != nil {
			t.Fatal(err)
		}
		found := strings.TrimPrefix(strings.Join(uses, ", "), "x.go: ")
		if found != want {
			t.Errorf("%s: found %q, want %q", source, found, want)
		}
	}
}
