// Command benchcheck compares the micro-benchmarks of the working tree with those of an earlier
// revision, measured alternately on the same machine, and likewise the CPU time that the gateway's process
// spends on writes and cold reads, relative to a bare proxy that does the same in the same minute. It
// fails if the tree is slower, or if the measurements are too noisy to tell.
package main

import (
	"bytes"
	"encoding/csv"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// bench selects benchmarks of a package by a regular expression. was is the path of the package in
// earlier revisions, if it has moved since. Those of whole processes take seconds, so they run in every
// fourth round only.
type bench struct {
	pkg, run, was string
	process       bool
}

// of returns the path of the package in a tree.
func (b bench) of(tree string) string {
	if _, err := os.Stat(filepath.Join(tree, b.pkg)); err != nil && b.was != "" {
		return b.was
	}
	return b.pkg
}

// watched are the benchmarks of hot paths.
var watched = []bench{
	{pkg: "gateway", run: "HotGet"},
	{pkg: "gateway/httpguard", run: "Inspect|Offer", was: "gateway/wire"},
	{pkg: "sigv4", run: "Verify|Sign/akigw", was: "gateway/sigv4"},
	{pkg: "access/policy", run: "Decide"},
	{pkg: "rules", run: "For"},
	{pkg: "placement", run: "CountAccess", was: "tiers"},
	{pkg: "tiers/warm", run: "Block"},
	{pkg: "bench", run: "PutThrough/.*-unsigned|PutBack/plain|ColdGet/crc64nvme", process: true},
}

// benchstat is the version of the program that compares the results.
const benchstat = "golang.org/x/perf/cmd/benchstat@v0.0.0-20260908200009-22c9c6c9d4da"

// slower is the tolerated slowdown of a benchmark in percent, by unit. The CPU time of processes relative
// to that of a proxy varies more than the time of a function.
var slower = map[string]float64{"sec/op": 10, "cpu-x-proxy": 20}

// shown are the units that are compared.
const shown = ".unit:(sec/op OR B/op OR allocs/op OR cpu-x-proxy)"

// every is how often the benchmarks of processes run: in one of so many rounds.
const every = 4

// doubt is the p-value up to which a difference counts as significant. With benchstat's default of
// 0.05, one of twenty benchmarks would show a difference by chance.
const doubt = 0.01

// batches bounds how often the rounds are repeated while something is unclear.
const batches = 4

func main() {
	base := flag.String("base", "", "revision to compare with (default: HEAD if there are uncommitted changes, else the merge base with the upstream branch, or the previous commit)")
	rounds := flag.Int("rounds", 24, "how often each side is measured; repeated while something is unclear, up to four times in total")
	flag.Parse()
	if err := check(*base, *rounds); err != nil {
		fmt.Fprintln(os.Stderr, "benchcheck:", err)
		os.Exit(1)
	}
}

func check(base string, rounds int) (err error) {
	if base == "" {
		if base, err = mergeBase(); err != nil {
			return err
		}
	}
	dir, err := os.MkdirTemp("", "akigw-benchcheck")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	before := filepath.Join(dir, "tree")
	if _, err := output("git", "worktree", "add", "--detach", before, base); err != nil {
		return err
	}
	defer func() {
		_, failed := output("git", "worktree", "remove", "--force", before)
		err = errors.Join(err, failed)
	}()
	sides := []*side{{tree: before, dir: filepath.Join(dir, "before")}, {tree: ".", dir: filepath.Join(dir, "after")}}
	for _, s := range sides {
		if err := s.build(); err != nil {
			return err
		}
	}
	var unclear map[string]error // nil: not compared yet
	for batch := range batches {
		for round := range rounds {
			fmt.Fprintf(os.Stderr, "round %d of %d\n", batch*rounds+round+1, (batch+1)*rounds)
			if err := measure(sides, unclear, round); err != nil {
				return err
			}
		}
		text, table, err := compare(sides)
		if err != nil {
			return err
		}
		fmt.Printf("against %s:\n\n%s", base, text)
		var worse error
		if worse, unclear = judge(table); worse != nil || len(unclear) == 0 {
			return worse
		}
	}
	return fmt.Errorf("this machine is too noisy for a comparison: %w", errors.Join(slices.Collect(maps.Values(unclear))...))
}

// side is one of the two trees that are compared.
type side struct {
	tree    string
	dir     string // directory of its test binaries
	results []byte // their output
}

func (s *side) build() error {
	for i, w := range watched {
		cmd := exec.Command("go", "test", "-c", "-o", s.binary(i), "./"+w.of(s.tree))
		cmd.Dir = s.tree
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s of %s: %w: %s", w.pkg, s.tree, err, out)
		}
	}
	cmd := exec.Command("go", "build", "-o", s.gateway(), "./cmd/akigw")
	cmd.Dir = s.tree
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", s.tree, err, out)
	}
	return nil
}

// gateway returns the path of the gateway's binary.
func (s *side) gateway() string { return filepath.Join(s.dir, "akigw") }

func (s *side) binary(i int) string { return filepath.Join(s.dir, strconv.Itoa(i)) }

func (s *side) run(i int) error {
	w := watched[i]
	size := []string{"-test.benchtime=0.06s", "-test.count=2", "-test.benchmem"}
	if w.process {
		size = []string{"-test.benchtime=1x"}
	}
	cmd := exec.Command(s.binary(i), append(size, "-test.run=^$", "-test.bench="+w.run)...)
	cmd.Env = append(os.Environ(), "AKIGW_BENCH_BINARY="+s.gateway())
	cmd.Dir = filepath.Join(s.tree, w.of(s.tree))
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s of %s: %w: %s", w.pkg, s.tree, err, out)
	}
	out = bytes.ReplaceAll(out, []byte(w.of(s.tree)+"\n"), []byte(w.pkg+"\n")) // benchstat matches results by name
	s.results = append(s.results, fastest(out)...)
	return nil
}

// measure runs the benchmarks of both sides once, alternately: all, or only the unclear ones.
func measure(sides []*side, unclear map[string]error, round int) error {
	for i, w := range watched {
		if unclear != nil && !w.among(unclear) || w.process && round%every > 0 {
			continue
		}
		for _, s := range sides {
			if err := s.run(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// compare returns benchstat's comparison of the sides, as text and as CSV.
func compare(sides []*side) (text, table string, err error) {
	var files []string
	for _, s := range sides {
		file := s.dir + ".txt"
		if err := os.WriteFile(file, s.results, 0o600); err != nil {
			return "", "", err
		}
		files = append(files, file)
	}
	if text, err = output("go", append([]string{"run", benchstat, "-filter", shown}, files...)...); err != nil {
		return "", "", err
	}
	table, err = output("go", append([]string{"run", benchstat, "-filter", shown, "-format", "csv"}, files...)...)
	return text, table, err
}

// among reports whether those contains a benchmark of w.
func (w bench) among(those map[string]error) bool {
	run := regexp.MustCompile(w.run)
	for name := range those {
		if run.MatchString(name) {
			return true
		}
	}
	return false
}

// fastest keeps the fastest run of each benchmark in an output. Slower runs are due to other load on the
// machine, not to the code.
func fastest(out []byte) []byte {
	best, where := map[string]float64{}, map[string]int{}
	var lines []string
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) < 4 || !strings.HasPrefix(line, "Benchmark") || fields[3] != "ns/op" {
			lines = append(lines, line)
			continue
		}
		took, err := strconv.ParseFloat(fields[2], 64)
		if err != nil {
			continue
		}
		name := fields[0]
		if at, known := where[name]; !known {
			where[name], best[name] = len(lines), took
			lines = append(lines, line)
		} else if took < best[name] {
			best[name], lines[at] = took, line
		}
	}
	return []byte(strings.Join(lines, ""))
}

// judge evaluates benchstat's CSV. It returns an error that names the benchmarks that are worse, and the
// unclear ones with the reason: their times vary by more than the tolerated slowdown, or they look
// slower but the difference is not significant.
func judge(table string) (worse error, unclear map[string]error) {
	unclear = map[string]error{}
	unit, compared := "", 0
	for _, line := range strings.Split(table, "\n") {
		row, err := csv.NewReader(strings.NewReader(line)).Read()
		if err != nil || len(row) < 7 {
			continue
		}
		if row[0] == "" { // a header
			unit = row[1]
			continue
		}
		if row[0] == "geomean" {
			continue
		}
		compared++
		var before, after, p float64
		var spread [2]float64
		for column, into := range map[int]*float64{1: &before, 2: &spread[0], 3: &after, 4: &spread[1]} {
			if *into, err = strconv.ParseFloat(strings.TrimSuffix(row[column], "%"), 64); err != nil { // "∞": too few
				*into = math.Inf(1)
			}
		}
		if _, err := fmt.Sscanf(row[6], "p=%f", &p); err != nil {
			continue
		}
		percent := (after/before - 1) * 100
		most, timed := slower[unit]
		switch {
		case timed && percent > most && p <= doubt, unit == "allocs/op" && percent > 0 && p <= doubt && strings.HasPrefix(row[0], "HotGet"):
			worse = errors.Join(worse, fmt.Errorf("%s: %+.1f%% %s (%s)", row[0], percent, unit, row[6]))
		case timed && (percent > most || max(spread[0], spread[1]) > most):
			unclear[row[0]] = fmt.Errorf("%s: %+.1f%% %s (%s), and the same tree varies by %.0f%%", row[0], percent, unit, row[6], max(spread[0], spread[1]))
		}
	}
	if compared == 0 {
		worse = errors.New("nothing was compared")
	}
	return worse, unclear
}

// mergeBase returns the revision to compare the tree with.
func mergeBase() (string, error) {
	dirty, err := output("git", "status", "--porcelain")
	if err != nil {
		return "", err
	}
	if dirty != "" {
		return "HEAD", nil
	}
	if base, err := output("git", "merge-base", "HEAD", "@{upstream}"); err == nil {
		return strings.TrimSpace(base), nil
	}
	return "HEAD~1", nil
}

func output(name string, args ...string) (string, error) {
	out, err := exec.Command(name, args...).Output()
	var failed *exec.ExitError
	if errors.As(err, &failed) {
		err = fmt.Errorf("%s: %w: %s", name, err, failed.Stderr)
	}
	return string(out), err
}
