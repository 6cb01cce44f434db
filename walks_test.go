package akigw_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

var (
	walkTitle = regexp.MustCompile(`^### (A .*)$`)
	walkStep  = regexp.MustCompile("^\\d+\\. `([a-z0-9/]+)\\.(?:(\\w+)\\.)?(\\w+)`: (.+)$")
)

// step is a function of a walk, a method if typ is not "", and what the page says of it.
type step struct{ pkg, typ, name, what string }

// TestWalks checks the walks of docs/architecture.md: each has at most eight functions, all of them
// exist, and each that does not begin a walk is named in the body of one further up on the page.
func TestWalks(t *testing.T) {
	page, err := os.ReadFile("docs/architecture.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "\n## Six walks\n")
	section, _, _ := strings.Cut(rest, "\n## ")
	walks, title := map[string][]step{}, ""
	for _, line := range strings.Split(section, "\n") {
		if m := walkTitle.FindStringSubmatch(line); m != nil {
			title = m[1]
		} else if m := walkStep.FindStringSubmatch(line); m != nil {
			walks[title] = append(walks[title], step{m[1], m[2], m[3], m[4]})
		}
	}
	named := map[string]bool{}
	for _, title := range []string{"A GET, hot", "A GET, warm", "A GET, cold", "A PUT, through", "A PUT, back", "A promotion"} {
		if n := len(walks[title]); n < 5 || n > 8 {
			t.Errorf("%s has %d steps", title, n)
		}
		for i, s := range walks[title] {
			body := bodyOf(t, s)
			switch {
			case body == nil:
				t.Errorf("%s: there is no function %s.%s.%s", title, s.pkg, s.typ, s.name)
				continue
			case i > 0 && !named[s.name] && !strings.Contains(s.what, "found by the route table"):
				t.Errorf("%s: no function before %s.%s.%s names it", title, s.pkg, s.typ, s.name)
			}
			ast.Inspect(body, func(n ast.Node) bool {
				if id, ok := n.(*ast.Ident); ok {
					named[id.Name] = true
				}
				return true
			})
		}
	}
}

// bodyOf finds a function in the product code of its package, nil if it is not there.
func bodyOf(t *testing.T, s step) (body *ast.BlockStmt) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.pkg, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range file.Decls {
			if f, ok := d.(*ast.FuncDecl); ok && f.Name.Name == s.name && receiverOf(f) == s.typ {
				return f.Body
			}
		}
	}
	return nil
}
