package main

import (
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const same = `,before.txt,,after.txt,,,
,sec/op,CI,sec/op,CI,vs base,P
HotGet/4096-2,1e-05,2%,1.05e-05,1%,+5.00%,p=0.000 n=8
Verify-2,1e-05,2%,1.02e-05,1%,~,p=0.300 n=8
geomean,1e-05,,3e-05,,+200.00%,
,before.txt,,after.txt,,,
,allocs/op,CI,allocs/op,CI,vs base,P
HotGet/4096-2,15,0%,15,0%,~,p=1.000 n=8
Verify-2,2,0%,3,0%,+50.00%,p=0.000 n=8
`

// process is a benchmark of processes, and one that the earlier revision did not have.
const process = `,before.txt,,after.txt,,,
,cpu-x-proxy,CI,cpu-x-proxy,CI,vs base,P
PutBack/plain-2,2.0,15%,2.1,9%,~,p=0.300 n=6
,after.txt,,
,cpu-x-proxy,CI
ColdGet/md5-2,3.0,9%
`

// TestJudgeProcesses: the CPU time of a process, relative to a proxy's, may vary twice as much. There is
// nothing to compare a new benchmark with.
func TestJudgeProcesses(t *testing.T) {
	for _, c := range []struct{ name, old, new, worse, unclear string }{
		{"the same", "", "", "", ""},
		{"a third slower", "2.1,9%,~,p=0.300", "2.7,9%,+35.00%,p=0.002", "PutBack/plain-2: +35.0% cpu-x-proxy", ""},
		{"a third slower, by chance", "2.1,9%", "2.7,9%", "", "PutBack/plain-2: +35.0%"},
		{"noise", "2.1,9%", "2.1,25%", "", "varies by 25%"},
	} {
		t.Run(c.name, func(t *testing.T) {
			worse, unclear := judge(strings.Replace(process, c.old, c.new, 1))
			if (worse == nil) != (c.worse == "") || worse != nil && !strings.Contains(worse.Error(), c.worse) {
				t.Errorf("worse: %v", worse)
			}
			if text := fmt.Sprint(unclear); len(unclear) > 0 != (c.unclear != "") || !strings.Contains(text, c.unclear) {
				t.Errorf("unclear: %v", unclear)
			}
		})
	}
}

// TestJudge: a slowdown by more than a tenth, or one more allocation of a hot GET, is an error. A
// difference within the noise is not. If the noise could hide a slowdown, the result is unclear.
func TestJudge(t *testing.T) {
	const get = "HotGet/4096-2"
	swap := func(pairs ...string) string { return strings.NewReplacer(pairs...).Replace(same) }
	slow := "1.05e-05,1%,+5.00%,p=0.000"
	for _, c := range []struct{ name, table, worse, unclear string }{
		{"the same", same, "", ""},
		{"a fifth slower", swap(slow, "1.2e-05,1%,+20.00%,p=0.000"), get + ": +20.0% sec/op (p=0.000", ""},
		{"an accident in fifty", swap(slow, "1.2e-05,1%,+20.00%,p=0.021"), "", get + ": +20.0%"},
		{"an accident in three", swap(slow, "1.2e-05,1%,~,p=0.300"), "", get + ": +20.0%"},
		{"noise", swap(slow, "1.05e-05,31%,~,p=0.300"), "", "varies by 31%"},
		{"noise before", swap("1e-05,2%,1.05", "1e-05,17%,1.05"), "", "varies by 17%"},
		{"too few", swap(slow, "1.05e-05,∞,~,p=0.300"), "", "+Inf%"},
		{"faster", swap(slow, "0.5e-05,1%,-50.00%,p=0.000"), "", ""},
		{"an allocation", swap("15,0%,15,0%,~,p=1.000", "15,0%,16,0%,+6.67%,p=0.000"), "allocs/op", ""},
		{"nothing", "", "nothing was compared", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			worse, unclear := judge(c.table)
			if (worse == nil) != (c.worse == "") || worse != nil && !strings.Contains(worse.Error(), c.worse) {
				t.Errorf("worse: %v", worse)
			}
			if len(unclear) > 1 || (unclear[get] == nil) != (c.unclear == "") || unclear[get] != nil && !strings.Contains(unclear[get].Error(), c.unclear) {
				t.Errorf("unclear: %v", unclear)
			}
		})
	}
	if !(bench{run: "HotGet"}).among(map[string]error{get: nil}) || (bench{run: "Verify"}).among(map[string]error{get: nil}) {
		t.Error("what is unclear is measured again, and nothing else")
	}
}

// TestLongPlantedSlowdown: a loop that takes a fifth of the time of a verification, as measured on this
// machine, is found and named. Nothing else is.
func TestLongPlantedSlowdown(t *testing.T) {
	if os.Getenv("AKIGW_LONG") == "" {
		t.Skip("a long run: make long TEST=PlantedSlowdown")
	}
	root, err := output("git", "rev-parse", "--show-toplevel")
	if err != nil {
		t.Fatal(err)
	}
	tree := t.TempDir()
	if _, err := output("git", "clone", "-q", strings.TrimSpace(root), tree); err != nil {
		t.Fatal(err)
	}
	t.Chdir(tree)
	const file, pkg, head = "sigv4/verify.go", "./sigv4", "(Identity, *Payload, error) {\n\tcred, err := "
	clean, err := os.ReadFile(file)
	if err != nil || strings.Count(string(clean), head) != 1 {
		t.Fatalf("%v: where is the verification?", err)
	}
	// plant adds a loop to n to each verification and returns a program that measures it.
	plant := func(n int) string {
		loop := strings.Replace(head, "cred,", fmt.Sprintf("for range %d {\n\t\tplanted.Add(1)\n\t}\n\tcred,", n), 1)
		text := strings.Replace(string(clean), head, loop, 1) + "\nvar planted atomic.Int64\n"
		text = strings.Replace(text, "import (", "import (\n\t\"sync/atomic\"", 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		binary := filepath.Join(t.TempDir(), "sigv4.test")
		if out, err := exec.Command("go", "test", "-c", "-o", binary, pkg).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return binary
	}
	const many = 400
	least := map[int]float64{}
	programs := map[int]string{0: plant(0), many: plant(many)}
	for range 40 { // alternately, so that other load on the machine affects both
		for n, program := range programs {
			out, err := exec.Command(program, "-test.run=^$", "-test.bench=Verify$", "-test.benchtime=0.03s").CombinedOutput()
			m := regexp.MustCompile(`([0-9.]+) ns/op`).FindSubmatch(out)
			if err != nil || m == nil {
				t.Fatalf("%v: %s", err, out)
			}
			took, err := strconv.ParseFloat(string(m[1]), 64)
			if err != nil {
				t.Fatal(err)
			}
			if least[n] == 0 || took < least[n] {
				least[n] = took
			}
		}
	}
	fifth := int(math.Round(least[0] / 5 / ((least[many] - least[0]) / many)))
	t.Logf("a verification takes %.0f ns, with %d additions %.0f: %d are a fifth", least[0], many, least[many], fifth)
	if fifth <= 0 || fifth > many {
		t.Fatal("what was planted cannot be measured")
	}
	plant(fifth)
	err = check("", 24)
	t.Log(err)
	found := false
	for line := range strings.Lines(fmt.Sprint(err)) {
		slow := strings.Contains(line, "sec/op (p=")
		found = found || slow && strings.HasPrefix(line, "Verify")
		if !slow || !strings.HasPrefix(line, "Verify") && !strings.HasPrefix(line, "HotGet") { // which verifies
			t.Errorf("this is not what was planted: %s", line)
		}
	}
	if !found {
		t.Error("a fifth was not found")
	}
}

// TestFastest: only the fastest run of each benchmark stays. Lines that are not runs are kept.
func TestFastest(t *testing.T) {
	const out = "pkg: x\nBenchmarkA-2 \t 10\t 30 ns/op\t 3 allocs/op\nBenchmarkA-2 \t 10\t 20.5 ns/op\t 3 allocs/op\nBenchmarkB-2 \t 10\t 7 ns/op\nBenchmarkA-2 \t 10\t 25 ns/op\t 4 allocs/op\nPASS\n"
	const want = "pkg: x\nBenchmarkA-2 \t 10\t 20.5 ns/op\t 3 allocs/op\nBenchmarkB-2 \t 10\t 7 ns/op\nPASS\n"
	if got := string(fastest([]byte(out))); got != want {
		t.Errorf("%q", got)
	}
}
