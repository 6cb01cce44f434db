package akigw_test

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

var (
	fuzzTarget = regexp.MustCompile(`(?m)^func (Fuzz\w+)\(`)
	fuzzExecs  = regexp.MustCompile(`execs: (\d+)`)
)

// TestT6_FuzzTargets runs each fuzz target for some seconds (AKIGW_AMOUNT), within 512 MiB: no
// input is too much for it. What it finds is written to testdata, and runs with all tests from
// then on.
func TestT6_FuzzTargets(t *testing.T) {
	p := testkit.Prove(t, "T6")
	p.NotSmall()
	seconds := p.Amount(0, 3, 300)
	total, execs := 0, map[string]int{}
	err := filepath.WalkDir(".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range fuzzTarget.FindAllSubmatch(source, -1) {
			dir, name := "./"+filepath.Dir(path), string(m[1])
			var out []byte
			for range 3 {
				cmd := exec.Command("go", "test", "-run=^$", "-fuzz=^"+name+"$", fmt.Sprintf("-fuzztime=%ds", seconds), "-vet=off", dir)
				cmd.Env = append(os.Environ(), "GOMEMLIMIT=512MiB")
				// go test sometimes takes the end of its own time for a failure, of no input (golang.org/issue/75804).
				if out, err = cmd.CombinedOutput(); err == nil || !bytes.Contains(out, []byte("context deadline exceeded")) || bytes.Contains(out, []byte("Failing input")) {
					break
				}
			}
			n := 0
			if said := fuzzExecs.FindAllSubmatch(out, -1); said != nil {
				n, _ = strconv.Atoi(string(said[len(said)-1][1]))
			}
			if err != nil || n == 0 {
				t.Errorf("%s of %s: %v, %d inputs\n%s", name, dir, err, n, out)
			}
			total += n
			execs[strings.TrimPrefix(filepath.Dir(path)+" ", ". ")+name] = n
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(execs) < 14 {
		t.Errorf("only %d targets", len(execs))
	}
	p.Figure("targets", len(execs))
	p.Figure("seconds each", seconds)
	p.Figure("inputs", total)
	p.Figure("inputs by target", execs)
}
