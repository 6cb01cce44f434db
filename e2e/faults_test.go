package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestFaultsAreOff: without the flag no fault can be set. On an address other than loopback the
// flag alone is refused. With the flag, every response says so.
//
// Scenarios: E36, S51.
func TestFaultsAreOff(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true})
	g.operator()
	b := newBucket(t, g, "collection")
	if out := g.says("faults", "set", "partition"); !strings.Contains(out, "--enable-faults") {
		t.Error(out)
	}
	b.put("k", []byte("x"))
	if a := b.client.Must(t, "GET", "/collection/k", "", nil, nil); a.Header.Get("X-Akigw-Faults") != "" || g.metric("akigw_faults_enabled") != 0 {
		t.Errorf("%v", a.Header)
	}
	refused := exec.Command(g.binary, "serve", "--enable-faults", "--listen", "0.0.0.0:0", "--allow-plaintext", "--data", t.TempDir())
	refused.Env = append(refused.Environ(), "AKIGW_ACCESS_KEY="+accessKey, "AKIGW_SECRET_KEY="+secretKey)
	if out, err := refused.CombinedOutput(); err == nil || !strings.Contains(string(out), "--allow-open-faults") {
		t.Errorf("%v: %s", err, out)
	}

	g = startGateway(t, options{plain: true, env: []string{"AKIGW_ENABLE_FAULTS=true"}})
	g.operator()
	b = newBucket(t, g, "collection")
	b.put("k", []byte("x"))
	if a := b.client.Must(t, "GET", "/collection/k", "", nil, nil); a.Header.Get("X-Akigw-Faults") != "enabled" || g.metric("akigw_faults_enabled") != 1 {
		t.Errorf("%v", a.Header)
	}
	if out := g.says("faults", "set", "earthquake"); !strings.Contains(out, "unknown preset") {
		t.Error(out)
	}
	bad := writeFile(t, filepath.Join(t.TempDir(), "plan.toml"), []byte("[[fault]]\neffect = \"melt\"\n"))
	if out := g.says("faults", "set", "--file", bad); !strings.Contains(out, "effect must be one of") {
		t.Error(out)
	}
	if out := g.says("faults", "ls"); !strings.Contains(out, "no faults are set") {
		t.Error(out)
	}
	if out := g.says("faults", "set", "partition"); !strings.Contains(out, "refused") {
		t.Error(out)
	}
	if a := b.client.Must(t, "PUT", "/collection/l", "", nil, []byte("x")); a.Status != 503 {
		t.Errorf("PUT without an upstream: %d", a.Status)
	}
	b.get("k", []byte("x"))
	if out := g.says("faults", "clear"); !strings.Contains(out, "cleared") {
		t.Error(out)
	}
	b.put("l", []byte("y"))
}

// faultyBack is a gateway with write-back and faults enabled.
func faultyBack(t *testing.T) (*gateway, *slowMemory, *bucketOf) {
	up, behind := startMemory(t, 0, 16)
	g := startGateway(t, options{upstream: behind, config: backConfig, env: []string{"AKIGW_ENABLE_FAULTS=true"}})
	g.operator()
	return g, up, newBucket(t, g, "backbucket")
}

// arrives puts objects while a plan is in force. It checks that all of them are acknowledged and
// readable, and upstream after the plan was cleared.
func arrives(t *testing.T, g *gateway, up *slowMemory, b *bucketOf, plan string, least float64) {
	t.Helper()
	g.setPlan(plan)
	const objects = 40
	for i := range objects {
		body := testkit.Bytes(uint64(i), 1000*(i+1))
		b.put(fmt.Sprint(i), body)
		b.get(fmt.Sprint(i), body)
	}
	time.Sleep(2 * time.Second)
	if hits := g.metric("akigw_faults_hits_total"); hits < least {
		t.Errorf("%.0f faults occurred", hits)
	}
	g.says("faults", "clear")
	waitDrained(t, g, 90*time.Second)
	for i := range objects {
		o, ok := up.Get(akigw.Key{Bucket: "backbucket", Name: fmt.Sprint(i)})
		if want := testkit.Bytes(uint64(i), 1000*(i+1)); !ok || string(o.Body) != string(want) {
			t.Errorf("%d is not upstream as it was acknowledged: %t, %d bytes", i, ok, len(o.Body))
		}
		b.get(fmt.Sprint(i), testkit.Bytes(uint64(i), 1000*(i+1)))
	}
	if st := g.status(); st.Dead > 0 || up.Uploads() > 0 {
		t.Errorf("%+v, %d uploads upstream", st, up.Uploads())
	}
}

// TestS3RateLimit503: a third of all uploads get 503 SlowDown.
func TestS3RateLimit503(t *testing.T) {
	t.Parallel()
	g, up, b := faultyBack(t)
	arrives(t, g, up, b, "seed = 5\n[[fault]]\nop = \"PutObject\"\neffect = \"slow_down\"\nprobability = 0.3\n", 3)
}

// TestS3ConnectionTimeout: uploads get no response, although some were carried out.
func TestS3ConnectionTimeout(t *testing.T) {
	t.Parallel()
	g, up, b := faultyBack(t)
	arrives(t, g, up, b, `
seed = 6
[[fault]]
op = "PutObject"
effect = "timeout_before"
latency_ms = 100
probability = 0.3
[[fault]]
op = "PutObject"
effect = "timeout_after"
latency_ms = 100
probability = 0.3
`, 3)
}

// TestFaultPlanFromTheStart: a plan on the command line is in force at once. Corrupted and short
// bodies are never served as complete.
func TestFaultPlanFromTheStart(t *testing.T) {
	t.Parallel()
	plan := writeFile(t, filepath.Join(t.TempDir(), "plan.json"), []byte(`{"seed": 9, "fault": [{"op": "GetObject", "effect": "corrupt", "probability": 0.3}, {"op": "GetObject", "effect": "short_body", "probability": 0.3}]}`))
	up, behind := startMemory(t, 0, 16)
	for i := range 60 {
		up.Put(akigw.Key{Bucket: "collection", Name: fmt.Sprint(i)}, testkit.Bytes(uint64(i), 100_000))
	}
	g := startGateway(t, options{plain: true, upstream: behind, env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN=" + plan}})
	client := &s3client.Client{Endpoint: g.endpoint}
	whole := 0
	for i := range 60 {
		r, err := client.Request("GET", fmt.Sprintf("/collection/%d", i), "", nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		a, err := client.Do(r)
		if err != nil {
			continue // the response was cut off
		}
		if a.Status == 200 && string(a.Body) != string(testkit.Bytes(uint64(i), 100_000)) {
			t.Errorf("%d: %d wrong bytes with status 200", i, len(a.Body))
		}
		if a.Status == 200 {
			whole++
		}
	}
	if hits := g.metric("akigw_faults_hits_total"); hits < 10 || whole < 10 {
		t.Errorf("%.0f faults, %d complete responses", hits, whole)
	}
}

// TestDiskFaultsLive: on a full disk writes are written through. On a flaky disk everything reads
// as it was written. After "faults clear" the journal accepts writes again.
func TestDiskFaultsLive(t *testing.T) {
	t.Parallel()
	g, _, b := faultyBack(t)
	commit := func(name string) string {
		t.Helper()
		a := b.client.Must(t, "PUT", "/backbucket/"+name, "", nil, testkit.Bytes(1, 50_000))
		if a.Status != 200 {
			t.Errorf("PUT %s: %d %s", name, a.Status, a.Body)
		}
		return a.Header.Get("X-Akigw-Commit")
	}
	if got := commit("before"); got != "journal" {
		t.Fatalf("commit %q", got)
	}
	g.says("faults", "set", "full-disk")
	full := func() float64 { return g.metric("akigw_faults_hits_total", "enospc") }
	// The warm tier stores writes a little later, so the test continues until that was refused too.
	for i, began := 0, time.Now(); i < 10 || full() < 20 && time.Since(began) < time.Minute; i++ {
		name := fmt.Sprintf("full/%d", i)
		if got := commit(name); got != "upstream" {
			t.Errorf("full: commit %q", got)
		}
		b.get(name, testkit.Bytes(1, 50_000))
	}
	if out := g.says("faults", "ls"); !strings.Contains(out, "enospc") {
		t.Error(out)
	}
	g.says("faults", "set", "flaky-disk")
	for i := range 100 {
		name := fmt.Sprintf("flaky/%d", i)
		commit(name)
		for range 3 {
			// A pending body may be temporarily unreadable; clients retry.
			a := b.ask("GET", name, nil)
			for try := 0; try < 5 && a.Status == 503; try++ {
				a = b.ask("GET", name, nil)
			}
			if a.Status != 200 || !bytes.Equal(a.Body, testkit.Bytes(1, 50_000)) {
				t.Errorf("GET %s: %d, %d bytes", name, a.Status, len(a.Body))
			}
		}
	}
	if n := full(); n < 20 {
		t.Errorf("%.0f times no space", n)
	}
	if n := g.metric("akigw_faults_hits_total", "slow_sync"); n < 5 {
		t.Errorf("%.0f slow syncs", n)
	}
	g.says("faults", "clear")
	if got := commit("after"); got != "journal" {
		t.Errorf("cleared: commit %q", got)
	}
	waitDrained(t, g, 60*time.Second)
	b.get("before", testkit.Bytes(1, 50_000))
}

// startStrict starts "akigw fakes3 --strict".
func startStrict(t testing.TB) upstream {
	t.Helper()
	address := testkit.FreeAddr(t)
	fake := exec.Command(build(t, plain), "fakes3", "--listen", address, "--strict", "--access-key", upstreamAccessKey, "--secret-key", upstreamSecretKey)
	if err := fake.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		fake.Process.Signal(syscall.SIGTERM)
		if err := fake.Wait(); err != nil {
			t.Errorf("fakes3 ended with %v", err)
		}
	})
	endpoint := "http://" + address
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(endpoint + "/_fakes3/counts"); err == nil {
			resp.Body.Close()
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	return upstream{"fakes3", endpoint}
}

// strictCall is a request that reached a double.
type strictCall struct {
	Op, Bucket, Key, Query, Code string
	Status                       int
}

// strictCalls returns its history.
func strictCalls(t testing.TB, u upstream) (calls []strictCall) {
	t.Helper()
	resp, err := http.Get(u.endpoint + "/_fakes3/history")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if err := json.NewDecoder(resp.Body).Decode(&calls); err != nil {
		t.Fatal(err)
	}
	return calls
}

// TestBehindAStrictService: the gateway sends only what a careful client sends; "akigw fakes3
// --strict" refuses anything else.
func TestBehindAStrictService(t *testing.T) {
	t.Parallel()
	behind := startStrict(t)
	g := startGateway(t, options{plain: true, upstream: behind, config: backConfig})
	for _, name := range []string{"through", "backbucket"} {
		b := newBucket(t, g, name)
		for i, size := range []int{0, 100, 100_000, 9 << 20} {
			body := testkit.Bytes(uint64(i+1), size)
			b.put(fmt.Sprint(i), body)
			b.get(fmt.Sprint(i), body)
		}
		k := newKillRig(t, g, nil)
		if name == "backbucket" {
			load(k, 2*time.Second)
			waitDrained(t, g, time.Minute)
			k.verify(g, len(k.keys))
		}
		if a := b.client.Must(t, "GET", "/"+name, "list-type=2", nil, nil); a.Status != 200 || !strings.Contains(string(a.Body), "<Key>3</Key>") {
			t.Errorf("%d %s", a.Status, a.Body)
		}
		if a := b.client.Must(t, "DELETE", "/"+name+"/1", "", nil, nil); a.Status != 204 {
			t.Errorf("%d %s", a.Status, a.Body)
		}
	}
	waitDrained(t, g, time.Minute)
	calls := strictCalls(t, behind)
	if len(calls) < 50 {
		t.Errorf("%d calls", len(calls))
	}
	for _, c := range calls {
		if c.Status == 400 || c.Status == 403 {
			t.Errorf("refused: %+v", c)
		}
	}
}
