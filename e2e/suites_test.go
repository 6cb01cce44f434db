package e2e

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"maps"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// suite is an acceptance suite of another project, in front of one upstream.
type suite struct {
	cases    string // of package suites, as a pattern of test names
	upstream string // a key of suiteUpstreams
	least    int    // the cases that pass directly: with fewer the comparison says little
}

var suiteUpstreams = map[string]func(testing.TB) upstream{"versitygw": versity, "moto": moto, "fakes3": fakes3}

// suites are the runs of TestLongSuites.
var suites = []suite{
	{"^TestObjstore$", "versitygw", 2},
	{"^TestObjstore$", "moto", 2},
	{"^TestObjstore$", "fakes3", 2},
	{"^TestDistribution$", "versitygw", 35}, // 36 without -short
	{"^TestDistribution$", "moto", 1},
	{"^TestDistribution$", "fakes3", 35},
	{"^TestGocloud$", "versitygw", 150},
	{"^TestGocloud$", "moto", 1},
	{"^TestGocloud$", "fakes3", 1},
}

// suiteModes are configurations of the gateway that a suite runs through. Freshness is strict in all of
// them.
var suiteModes = map[string]string{"strict": "", "back": "[[rule]]\nwrite = \"back\"\n", "packed": packedConfig}

// fakes3 is "akigw fakes3": the embedded upstream on its own, in memory.
func fakes3(t testing.TB) upstream {
	t.Helper()
	addr := testkit.FreeAddr(t)
	spawn(t, addr, exec.Command(build(t, plain), "fakes3", "--listen", addr, "--access-key", upstreamAccessKey, "--secret-key", upstreamSecretKey))
	return upstream{"fakes3", "http://" + addr}
}

// TestSuites: objstore's acceptance test passes directly and through the gateway.
func TestSuites(t *testing.T) {
	t.Parallel()
	suite{"^TestObjstore$/^bucket$", "versitygw", 1}.compare(t, buildSuites(t, ""), "strict", "back")
}

// TestLongSuites: what passes directly of the suites of other projects passes in every mode of the
// gateway, too. With -short distribution's suite leaves out its object of 5 GiB.
func TestLongSuites(t *testing.T) {
	long(t)
	program := buildSuites(t, "suites")
	for _, s := range suites {
		name, _, _ := strings.Cut(strings.TrimPrefix(s.cases, "^Test"), "$")
		t.Run(name+"-"+s.upstream, func(t *testing.T) { s.compare(t, program, slices.Sorted(maps.Keys(suiteModes))...) })
	}
}

// buildSuites returns the path of the test program of package suites, with the suites that the build
// tags add to objstore's.
func buildSuites(t *testing.T, tags string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "suites.test")
	if out, err := exec.Command("go", "test", "-c", "-vet=off", "-tags="+tags, "-o", program, "./suites").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return program
}

// compare runs the suite directly and through the gateway. A case that does not pass directly is
// skipped in the modes.
func (s suite) compare(t *testing.T, program string, modes ...string) {
	t.Helper()
	up := suiteUpstreams[s.upstream](t)
	direct := s.run(t, program, up.endpoint, "direct")
	if n := passed(direct); n < s.least {
		t.Errorf("%d cases pass directly, want %d: %v", n, s.least, direct)
	}
	t.Logf("directly: %d of %d cases pass", passed(direct), len(direct))
	for _, mode := range modes {
		t.Run(mode, func(t *testing.T) {
			g := startGateway(t, options{plain: true, upstream: up, config: suiteModes[mode],
				env: []string{"AKIGW_ACCESS_KEY=" + upstreamAccessKey, "AKIGW_SECRET_KEY=" + upstreamSecretKey}})
			through := s.run(t, program, g.endpoint, mode)
			for _, name := range slices.Sorted(maps.Keys(direct)) {
				t.Run(name, func(t *testing.T) { direct[name].implies(t, through[name]) })
			}
			t.Logf("%s: %d of %d cases pass", mode, passed(through), len(through))
		})
	}
}

// implies fails the test if a case passes directly but not through the gateway, and skips it if the
// case does not pass directly.
func (v verdict) implies(t *testing.T, through verdict) {
	t.Helper()
	switch {
	case v.outcome != "PASS":
		t.Skipf("directly: %s\n%s\nthrough the gateway: %s", v.outcome, v.said, through.outcome)
	case through.outcome != "PASS":
		t.Errorf("passes directly; through the gateway: %s\n%s", cmp.Or(through.outcome, "it did not end"), through.said)
	}
}

// verdict is the end of a case of a suite.
type verdict struct {
	outcome string // PASS, FAIL or SKIP
	said    string // what the case printed
}

func passed(verdicts map[string]verdict) int {
	n := 0
	for _, v := range verdicts {
		if v.outcome == "PASS" {
			n++
		}
	}
	return n
}

// run runs the suite against an endpoint, in a new bucket. It returns the verdicts by case: the
// subtests that have no subtests.
func (s suite) run(t *testing.T, program, endpoint, mode string) map[string]verdict {
	t.Helper()
	bucket := "suite-" + mode
	client := &gateway{t: t, endpoint: endpoint}
	keys := pair{AccessKeyId: upstreamAccessKey, SecretAccessKey: upstreamSecretKey}
	if _, err := client.sdk(keys).CreateBucket(t.Context(), &s3.CreateBucketInput{Bucket: aws.String(bucket)}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-test.v", "-test.run="+s.cases, "-test.short="+strconv.FormatBool(testing.Short()))
	cmd.Dir = t.TempDir()
	cmd.Env = append(client.clientEnv(), "AKIGW_SUITES="+strings.Replace(endpoint, "//", "//"+upstreamAccessKey+":"+upstreamSecretKey+"@", 1)+"/"+bucket)
	out, err := cmd.Output()
	var failed *exec.ExitError // of cases: they are in the output
	if err != nil && !errors.As(err, &failed) {
		t.Fatal(err)
	}
	verdicts := verdictsOf(out)
	if len(verdicts) == 0 {
		t.Fatalf("%s ran nothing: %v\n%s", s.cases, err, out)
	}
	return verdicts
}

var (
	caseBegins = regexp.MustCompile(`^=== (?:RUN|NAME|CONT|PAUSE) +(.+)$`)
	caseEnds   = regexp.MustCompile(`^ *--- (PASS|FAIL|SKIP): (.+) \([0-9.]+s\)$`)
)

// verdictsOf reads the output of a test program (-test.v). A case that has begun and not ended has
// no outcome.
func verdictsOf(output []byte) map[string]verdict {
	verdicts, at := map[string]verdict{}, ""
	for lines := bufio.NewScanner(bytes.NewReader(output)); lines.Scan(); {
		line := lines.Text()
		if m := caseBegins.FindStringSubmatch(line); m != nil {
			at = m[1]
			verdicts[at] = verdicts[at]
		} else if m := caseEnds.FindStringSubmatch(line); m != nil {
			verdicts[m[2]] = verdict{m[1], verdicts[m[2]].said}
		} else {
			verdicts[at] = verdict{verdicts[at].outcome, verdicts[at].said + line + "\n"}
		}
	}
	maps.DeleteFunc(verdicts, func(name string, _ verdict) bool {
		for other := range verdicts {
			if name == "" || strings.HasPrefix(other, name+"/") {
				return true
			}
		}
		return false
	})
	return verdicts
}
