package s3err

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"strconv"
	"testing"
)

// TestStandard: each code has an error with its own code and a status that says that there is one.
func TestStandard(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "s3err.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || fmt.Sprint(v.Type) != "Code" {
			return true
		}
		codes++
		text, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		if e := Code(text).Err(); e == nil || e.Code != text || e.Status < 300 || http.StatusText(e.Status) == "" {
			t.Errorf("%s: its error is %+v", v.Names[0], e)
		}
		return true
	})
	if codes != len(standard) {
		t.Errorf("there are %d codes and %d errors", codes, len(standard))
	}
}

// TestCodeIsAnError: a code, the error that it stands for and a copy with another message are one error.
func TestCodeIsAnError(t *testing.T) {
	for _, err := range []error{NoSuchKey, NoSuchKey.Err(), NoSuchKey.With("gone"), NoSuchKey.About("Key", "k"), fmt.Errorf("read: %w", NoSuchKey)} {
		var e *Error
		if !errors.As(err, &e) || e.Status != http.StatusNotFound || e.Code != "NoSuchKey" {
			t.Errorf("%v is %+v", err, e)
		}
		if !errors.Is(err, NoSuchKey) || !errors.Is(err, NoSuchKey.With("other")) || errors.Is(err, NoSuchUpload) || errors.Is(err, NoSuchUpload.Err()) {
			t.Errorf("%v is not NoSuchKey, or is another one", err)
		}
	}
	if e := NoSuchKey.Err(); e.Message != "The specified key does not exist." || e.Detail != nil {
		t.Errorf("copies have changed the error: %+v", e)
	}
}
