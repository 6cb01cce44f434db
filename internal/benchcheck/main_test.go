package main

import (
	"strings"
	"testing"
)

const same = `,before.txt,,after.txt,,,
,sec/op,CI,sec/op,CI,vs base,P
HotGet/4096-2,1e-05,2%,1.05e-05,1%,+5.00%,p=0.000 n=8
Verify-2,1e-05,2%,2e-05,1%,~,p=0.300 n=8
geomean,1e-05,,3e-05,,+200.00%,
,before.txt,,after.txt,,,
,allocs/op,CI,allocs/op,CI,vs base,P
HotGet/4096-2,15,0%,15,0%,~,p=1.000 n=8
Verify-2,2,0%,3,0%,+50.00%,p=0.000 n=8
`

// TestJudge: what is slower by more than a tenth, and an allocation more of a hot GET, are errors;
// what is within the noise is none.
func TestJudge(t *testing.T) {
	if err := judge(same); err != nil {
		t.Errorf("%v", err)
	}
	slow := strings.Replace(same, "+5.00%", "+20.00%", 1)
	if err := judge(slow); err == nil || !strings.Contains(err.Error(), "HotGet/4096-2: +20.0% sec/op") {
		t.Errorf("%v", err)
	}
	if err := judge(strings.Replace(slow, "+20.00%,p=0.000", "+20.00%,p=0.021", 1)); err != nil {
		t.Errorf("an accident in fifty: %v", err)
	}
	more := strings.Replace(same, "15,0%,15,0%,~", "15,0%,16,0%,+6.67%", 1)
	more = strings.Replace(more, "+6.67%,p=1.000", "+6.67%,p=0.000", 1)
	if err := judge(more); err == nil || !strings.Contains(err.Error(), "allocs/op") {
		t.Errorf("%v", err)
	}
	if judge("") == nil {
		t.Error("nothing was compared, and that was fine")
	}
}

// TestFastest: of each benchmark one run stays, the fastest; what is no run stays as it is.
func TestFastest(t *testing.T) {
	const out = "pkg: x\nBenchmarkA-2 \t 10\t 30 ns/op\t 3 allocs/op\nBenchmarkA-2 \t 10\t 20.5 ns/op\t 3 allocs/op\nBenchmarkB-2 \t 10\t 7 ns/op\nBenchmarkA-2 \t 10\t 25 ns/op\t 4 allocs/op\nPASS\n"
	const want = "pkg: x\nBenchmarkA-2 \t 10\t 20.5 ns/op\t 3 allocs/op\nBenchmarkB-2 \t 10\t 7 ns/op\nPASS\n"
	if got := string(fastest([]byte(out))); got != want {
		t.Errorf("%q", got)
	}
}
