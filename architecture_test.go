package akigw_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// module is this module's import path.
const module = "github.com/akidb/akigw"

// importsFile has the import graph of the module: a line for what each package imports of it, and one
// for what its tests import besides.
const importsFile = "testdata/imports.txt"

// forbidden are imports that would turn the layout round, whatever importsFile says: from a package
// and those below it to a package and those below it.
var forbidden = []struct{ from, to, why string }{
	{"tiers", "journal", "the read cache knows nothing of pending writes but tiers.Overlay"},
	{"tiers", "uploadpool", "the read cache uploads nothing"},
	{"tiers", "writeback", "the read cache is below write-back"},
	{"tiers", "placement", "the read cache does not decide what moves"},
	{"tiers", "trace", "the read cache has observers"},
	{"tiers", "access", "who may read is decided before the cache is asked"},
	{"journal", "tiers", "the journal knows nothing of the upstream or the cache"},
	{"journal", "writeback", "the journal is below write-back"},
	{"uploadpool", "writeback", "the pool is below write-back"},
	{"placement", "writeback", "placement asks for what it needs of write-back by an interface"},
	{"gateway", "admin", "the S3 front and the operator's API do not know each other"},
	{"admin", "gateway", "the S3 front and the operator's API do not know each other"},
	{"cmd", "gateway", "the command line builds no gateway: package server does"},
	{"cmd", "journal", "the command line asks the admin API"},
	{"internal", "gateway", "shared packages are below all others"},
	{"internal", "writeback", "shared packages are below all others"},
}

// TestImportDirections: the import graph of product and tests is the one in importsFile, so that each
// new import is seen in a review, and none of it turns the layout round.
func TestImportDirections(t *testing.T) {
	packages := listPackages(t)
	var graph strings.Builder
	for _, p := range packages {
		fmt.Fprintf(&graph, "%s: %s\n", p.name(), strings.Join(ours(p.Imports), " "))
		tests := slices.DeleteFunc(ours(append(p.TestImports, p.XTestImports...)), func(path string) bool {
			return slices.Contains(ours(p.Imports), path) || path == p.name()
		})
		if len(tests) > 0 {
			fmt.Fprintf(&graph, "%s, tests: %s\n", p.name(), strings.Join(tests, " "))
		}
		for _, path := range p.Imports {
			if p.name() == "." && strings.Contains(strings.SplitN(path, "/", 2)[0], ".") {
				t.Errorf("the root vocabulary imports %s; it may import the standard library only", path)
			}
		}
		checkImports(t, p.name(), ours(p.Imports))
	}
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil || len(packages) < 30 {
		t.Fatalf("saw only %d packages: %v", len(packages), err)
	}
	for _, p := range packages {
		if p.name() != "." && !strings.Contains(string(page), "| `"+p.name()+"` |") {
			t.Errorf("docs/architecture.md does not say what package %s is", p.name())
		}
	}
	if *update {
		if err := os.WriteFile(importsFile, []byte(graph.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(importsFile)
	if err != nil || string(want) != graph.String() {
		t.Errorf("%s is not the import graph (%v): if the new one is meant, go test . -run ImportDirections -update\n%s", importsFile, err, difference(string(want), graph.String()))
	}
}

// checkImports reports the imports of a package's product code that turn the layout round.
func checkImports(t *testing.T, name string, imports []string) {
	if below(name, "internal/testing") { // what tests share may know everything
		return
	}
	for _, path := range imports {
		if below(path, "internal/testing") {
			t.Errorf("%s imports %s, which is for tests", name, path)
		}
		for _, f := range forbidden {
			if below(name, f.from) && below(path, f.to) {
				t.Errorf("%s imports %s: %s", name, path, f.why)
			}
		}
	}
}

// below reports whether a package is another one or below it.
func below(name, parent string) bool { return name == parent || strings.HasPrefix(name, parent+"/") }

// goPackage is what go list says of a package.
type goPackage struct {
	ImportPath, Dir                    string
	GoFiles                            []string
	Imports, TestImports, XTestImports []string
}

// name is the path of a package in the module, "." for its root.
func (p goPackage) name() string {
	if p.ImportPath == module {
		return "."
	}
	return strings.TrimPrefix(p.ImportPath, module+"/")
}

func listPackages(t *testing.T) (all []goPackage) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Dir,GoFiles,Imports,TestImports,XTestImports", "./...").Output()
	if err != nil {
		t.Fatal(err)
	}
	for d := json.NewDecoder(bytes.NewReader(out)); d.More(); {
		var p goPackage
		if err := d.Decode(&p); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	return all
}

// ours are the packages of the module among some imports, by their paths in it, sorted, once each.
func ours(imports []string) (names []string) {
	for _, path := range imports {
		if path == module || strings.HasPrefix(path, module+"/") {
			names = append(names, goPackage{ImportPath: path}.name())
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// difference has the lines that only one of two texts has.
func difference(before, after string) string {
	var b strings.Builder
	for line := range strings.Lines(before) {
		if !strings.Contains(after, line) {
			b.WriteString("- " + line)
		}
	}
	for line := range strings.Lines(after) {
		if !strings.Contains(before, line) {
			b.WriteString("+ " + line)
		}
	}
	return b.String()
}

// TestShape: no type has more than 45 methods, and no struct with state, which is one with a lock, an
// atomic or a channel in it, more than 22 fields. Records, such as configurations and documents, may
// have more.
func TestShape(t *testing.T) {
	const maxMethods, maxFields = 45, 22
	seen := 0
	for _, p := range listPackages(t) {
		methods := map[string]int{}
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			for _, decl := range file.Decls {
				if f, ok := decl.(*ast.FuncDecl); ok && f.Recv != nil {
					methods[receiverOf(f)]++
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				s, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				seen++
				if n := s.Fields.NumFields(); n > maxFields && hasState(s) {
					t.Errorf("%s.%s has state and %d fields: cut it into types with one job each", p.name(), spec.Name, n)
				}
				return true
			})
		}
		for name, n := range methods {
			if n > maxMethods {
				t.Errorf("%s.%s has %d methods: cut it into types with one job each", p.name(), name, n)
			}
		}
	}
	if seen < 300 {
		t.Errorf("saw only %d structs", seen)
	}
}

// maxVariables is how many package-level variables the module may have: pools, templates and tables that
// are costly to build, errors that wrap others, regular expressions, embedded files.
const maxVariables = 75

// TestPackageVariables: there are few package-level variables, and errors without a cause are constants,
// so that no package can replace another one's. As two of the same text would be the same error to
// errors.Is, each text exists once.
func TestPackageVariables(t *testing.T) {
	variables, texts := 0, map[string]string{}
	for _, p := range listPackages(t) {
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			eachValue(file, func(variable bool, ident *ast.Ident, value ast.Expr) {
				where := p.name() + "." + ident.Name
				if variable && ident.Name != "_" {
					variables++
				}
				switch made, text := errorText(value); {
				case made == "errors.New" && variable:
					t.Errorf("%s is a variable: make it a constant, an akigw.Error", where)
				case (made == "akigw.Error" || made == "Error" && p.name() == ".") && texts[text] != "":
					t.Errorf("%s and %s have the same text: they are the same error", where, texts[text])
				case made == "akigw.Error" || made == "Error" && p.name() == ".":
					texts[text] = where
				}
			})
		}
	}
	if variables > maxVariables {
		t.Errorf("there are %d package-level variables, more than %d", variables, maxVariables)
	}
	if variables < 10 || len(texts) < 50 {
		t.Errorf("saw only %d variables and %d errors", variables, len(texts))
	}
}

// eachValue yields the constants and variables of a file outside functions, with their values, nil if they
// have none.
func eachValue(file *ast.File, yield func(variable bool, name *ast.Ident, value ast.Expr)) {
	for _, decl := range file.Decls {
		g, ok := decl.(*ast.GenDecl)
		if !ok || g.Tok != token.VAR && g.Tok != token.CONST {
			continue
		}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			for i, name := range v.Names {
				var value ast.Expr
				if i < len(v.Values) {
					value = v.Values[i]
				}
				yield(g.Tok == token.VAR, name, value)
			}
		}
	}
}

// errorText returns what is called with a text alone, such as "errors.New", and the text; "" for any
// other expression.
func errorText(value ast.Expr) (made, text string) {
	c, ok := value.(*ast.CallExpr)
	if !ok || len(c.Args) != 1 {
		return "", ""
	}
	literal, ok := c.Args[0].(*ast.BasicLit)
	if !ok || literal.Kind != token.STRING {
		return "", ""
	}
	text, err := strconv.Unquote(literal.Value)
	if err != nil {
		return "", ""
	}
	switch f := c.Fun.(type) {
	case *ast.Ident:
		return f.Name, text
	case *ast.SelectorExpr:
		return fmt.Sprint(f.X) + "." + f.Sel.Name, text
	default:
		return "", ""
	}
}

// receiverOf is the name of the type that a method belongs to, "" for a function.
func receiverOf(f *ast.FuncDecl) (name string) {
	if f.Recv == nil {
		return ""
	}
	ast.Inspect(f.Recv.List[0].Type, func(n ast.Node) bool {
		if id, ok := n.(*ast.Ident); ok && name == "" {
			name = id.Name
		}
		return name == ""
	})
	return name
}

// hasState reports whether a struct has a lock, an atomic or a channel in it.
func hasState(s *ast.StructType) (state bool) {
	for _, field := range s.Fields.List {
		ast.Inspect(field.Type, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.ChanType:
				state = true
			case *ast.SelectorExpr:
				id, ok := n.X.(*ast.Ident)
				state = state || ok && (id.Name == "sync" || id.Name == "atomic")
			case *ast.FuncType:
				return false // what a function takes is not in the struct
			}
			return true
		})
	}
	return state
}

// TestGoVersion: both modules ask for a Go that has the fixes of net/http,
// net/url and encoding/xml that the front relies on.
//
// Scenarios: S50.
func TestGoVersion(t *testing.T) {
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

// memoryMaps are the uses of memory maps in product code, each as a file, its function and what it
// uses. Badger, whose directory is this process's alone, maps its files in code that is not ours.
var memoryMaps = []string{
	"tiers/warm/verify.go: verifyBlocks: OpenMmapFile", // reads a table as Badger will, and recovers from faults
}

// TestNoMemoryMaps: a file that shrinks under a map ends the process, so that no code but the
// one that is listed maps any.
//
// Scenarios: C12.
func TestNoMemoryMaps(t *testing.T) {
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

// TestMemoryMapsAreFound: each way to map memory is noticed, and what only speaks of it is not.
//
// Scenarios: C12.
func TestMemoryMapsAreFound(t *testing.T) {
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
