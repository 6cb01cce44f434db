package e2e

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// mixes are the fault plans of an upstream that has a bad day.
var mixes = map[string]string{
	"throttled": `
[[fault]]
effect = "slow_down"
probability = 0.2
[[fault]]
op = "PutObject,UploadPart,DeleteObject*"
effect = "timeout_after"
latency_ms = 200
probability = 0.02
[[fault]]
op = "CompleteMultipartUpload"
effect = "error_in_200"
probability = 0.1
`,
	"unreliable": `
[[fault]]
effect = "internal_error"
probability = 0.05
[[fault]]
effect = "reset_before"
probability = 0.02
[[fault]] # not of CreateMultipartUpload: nobody knows the id of an upload whose answer was lost
op = "PutObject,UploadPart,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject"
effect = "reset_after"
probability = 0.02
[[fault]]
op = "GetObject"
effect = "short_body"
probability = 0.02
[[fault]]
op = "PutObject"
effect = "duplicate"
probability = 0.02
`,
	"slow and wrong": `
[[fault]]
effect = "latency"
latency_ms = 20
jitter_ms = 200
probability = 0.3
[[fault]]
op = "GetObject"
effect = "wrong_range"
probability = 0.02
[[fault]]
op = "PutObject,UploadPart"
effect = "timeout_before"
latency_ms = 200
probability = 0.05
[[fault]]
effect = "slow_down"
probability = 0.5
after_secs = 3
until_secs = 8
`,
}

// presetPlan returns a preset as a plan with another seed.
func presetPlan(t testing.TB, name string, seed uint64) string {
	t.Helper()
	plan := faults.Presets()[name]
	if plan.Seed = seed; len(plan.Faults) == 0 {
		t.Fatalf("%q is no preset", name)
	}
	raw, err := json.Marshal(plan)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// impatientConfig is backConfig with deadlines shorter than a run.
const impatientConfig = `
[upstream]
request_deadline_secs = 1
write_deadline_secs = 1
long_deadline_secs = 2
` + backConfig

// TestT8_FaultMixes: while the upstream has a bad day, clients of a write-back bucket notice
// nothing. Soon afterwards everything has been flushed.
func TestT8_FaultMixes(t *testing.T) {
	p := testkit.Prove(t, "T8")
	p.NotSmall()
	lasts := time.Duration(p.Amount(0, 15, 60)) * time.Second
	var mu sync.Mutex
	t.Run("mixes", func(t *testing.T) {
		for name, plan := range mixes {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				figures := runMix(t, backConfig, fmt.Sprintf("seed = %d\n%s", p.Seed%1_000_000, plan), lasts)
				mu.Lock()
				defer mu.Unlock()
				p.Figure(name, figures)
			})
		}
		t.Run("hanging", func(t *testing.T) {
			t.Parallel()
			needDeadlines(t)
			figures := runMix(t, impatientConfig, presetPlan(t, "hang", p.Seed), lasts)
			mu.Lock()
			defer mu.Unlock()
			p.Figure("hanging", figures)
		})
	})
}

// setPlan sets a fault plan.
func (g *gateway) setPlan(plan string) {
	g.t.Helper()
	g.setPlanFile(writeFile(g.t, filepath.Join(g.t.TempDir(), "plan.toml"), []byte(plan)))
}

func (g *gateway) setPlanFile(file string) {
	g.t.Helper()
	if out := g.says("faults", "set", "--file", file); strings.Contains(out, "exit status") {
		g.t.Fatal(out)
	}
}

// pendingDrain is the flush rate, in entries per second, without faults: for entries that were
// written while the upstream was unavailable.
func pendingDrain(t *testing.T, g *gateway, k *killRig) float64 {
	t.Helper()
	load(k, time.Second) // the gateway asks about the bucket once
	waitDrained(t, g, time.Minute)
	n, took := drainAfter(g, k)
	return float64(n) / took.Seconds()
}

// drainAfter makes the upstream unavailable for two seconds while clients write. It returns how
// many writes are pending then, and how long it takes to flush all of them. Writes to keys in doubt
// stay pending for some seconds more, until they are confirmed.
func drainAfter(g *gateway, k *killRig) (pending int, took time.Duration) {
	g.t.Helper()
	g.setPlan("[[fault]]\neffect = \"refused\"\n")
	load(k, 2*time.Second)
	g.says("faults", "clear")
	pending, began := g.status().Pending, time.Now()
	for float64(g.status().Pending) > g.metric("akigw_uploadpool_unconfirmed") && time.Since(began) < time.Minute {
		time.Sleep(20 * time.Millisecond)
	}
	took = time.Since(began)
	waitDrained(g.t, g, time.Minute)
	return pending, took
}

// load writes with four writers for the given time.
func load(k *killRig, lasts time.Duration) {
	var writers sync.WaitGroup
	until := time.Now().Add(lasts)
	for w := range 4 {
		writers.Go(func() { k.write(w, until) })
	}
	writers.Wait()
}

func runMix(t *testing.T, config, plan string, lasts time.Duration) map[string]any {
	up, behind := startMemory(t, time.Millisecond, 16)
	g := startGateway(t, options{upstream: behind, plain: true, config: config, env: []string{"AKIGW_ENABLE_FAULTS=true"}})
	g.operator()
	k := newKillRig(t, g, up)
	rate := pendingDrain(t, g, k)
	g.setPlan(plan)
	var reads, refused atomic.Int64
	stop := make(chan struct{})
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() { readMix(k, stop, &reads, &refused) })
	}
	load(k, lasts)
	close(stop)
	readers.Wait()
	hits := g.metric("akigw_faults_hits_total")
	pending, took := drainAfter(g, k) // a bad day ends badly: otherwise there may be nothing to drain
	k.verify(g, len(k.keys))
	k.verifyUploads(g)
	ideal := time.Duration(float64(pending) / rate * float64(time.Second))
	k.abortUploads(g)
	k.verifyUpstream()
	waitAborted(t, up)
	if st := g.status(); st.Dead > 0 || st.Problem != "" {
		t.Errorf("%+v", st)
	}
	if took > 2*ideal {
		t.Errorf("drained %d in %s, ideal %s", pending, took, ideal)
	}
	if hits < 20 || k.acks < 100 || reads.Load() < 100 || pending < 100 {
		t.Errorf("%.0f faults, %d acknowledged writes, %d reads, %d pending at the end: the path was not exercised", hits, k.acks, reads.Load(), pending)
	}
	return map[string]any{"faults": int(hits), "acknowledged writes": k.acks, "reads": reads.Load(), "reads refused": refused.Load(), "pending at the end": pending,
		"drained in seconds": took.Seconds(), "ideal seconds": ideal.Seconds(), "requests upstream": up.asked.Load()}
}

// readMix reads random keys. The bytes always match the ETag.
func readMix(k *killRig, stop <-chan struct{}, reads, refused *atomic.Int64) {
	client := k.client()
	defer client.HTTP.CloseIdleConnections()
	for {
		select {
		case <-stop:
			return
		case <-time.After(2 * time.Millisecond):
		}
		name := fmt.Sprintf("w%d/%d", rand.IntN(4), rand.IntN(400))
		r, err := client.Request("GET", "/backbucket/"+name, "", nil, nil)
		if err != nil {
			k.t.Error(err)
			return
		}
		a, err := client.Do(r)
		reads.Add(1)
		switch {
		case err != nil, a.Status >= 500 || a.Status == http.StatusTooManyRequests: // cut off or refused: nothing wrong was shown
			refused.Add(1)
		case a.Status == http.StatusOK && fmt.Sprintf("\"%x\"", md5.Sum(a.Body)) != k.sum(a.Header.Get("Etag")):
			k.t.Errorf("%s: the body does not match its ETag", name)
		case a.Status != http.StatusOK && a.Status != http.StatusNotFound:
			k.t.Errorf("%s: %d %s", name, a.Status, a.Body)
		}
	}
}

// TestSlowdownIsSeen: within a second of "faults set slowdown" under load, the gateway's status
// shows it. "faults clear" ends that: no upload is refused, and as many may run as before.
func TestSlowdownIsSeen(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 2*time.Millisecond, 16)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig, env: []string{"AKIGW_ENABLE_FAULTS=true"}})
	g.operator()
	k := newKillRig(t, g, up)
	var writers sync.WaitGroup
	stop := make(chan struct{})
	for w := range 2 {
		writers.Go(func() {
			for open := true; open; {
				k.write(w, time.Now().Add(time.Second))
				select {
				case <-stop:
					open = false
				default:
				}
			}
		})
	}
	defer writers.Wait()
	defer close(stop)
	time.Sleep(2 * time.Second)
	limit, uploads := g.metric("akigw_uploadpool_limit"), func() float64 { return g.metric("akigw_uploadpool_flushed_total") }
	refusals := func() float64 {
		return g.metric("akigw_uploadpool_throttled_total") + g.metric("akigw_cold_breaker_opened_total")
	}
	calm, uploaded := refusals(), uploads()
	time.Sleep(time.Second)
	if refusals() != calm || uploads() == uploaded {
		t.Errorf("before the slowdown: %.0f uploads refused, %.0f not", refusals()-calm, uploads()-uploaded)
	}
	g.says("faults", "set", "slowdown")
	uploaded = uploads()
	cut := limit
	for began := time.Now(); time.Since(began) < time.Second; time.Sleep(20 * time.Millisecond) {
		cut = min(cut, g.metric("akigw_uploadpool_limit")) // it grows again with each success
	}
	// Half of the requests are refused. How many there are depends on the machine.
	refused, slow := refusals()-calm, uploads()-uploaded
	status := g.says("status")
	if !(cut < limit) || refused == 0 || slow > 2*refused+10 || g.metric("akigw_faults_hits_total") == 0 {
		t.Errorf("after a second of slowdown: limit %.1f (was %.1f), %.0f uploads refused, %.0f not, status:\n%s", cut, limit, refused, slow, status)
	}
	if !strings.Contains(status, "answered 503") && !strings.Contains(status, "refused") {
		t.Errorf("status does not show it:\n%s", status)
	}
	g.says("faults", "clear")
	for deadline := time.Now().Add(time.Minute); ; {
		refused, uploaded = refusals(), uploads()
		time.Sleep(time.Second)
		refused, uploaded = refusals()-refused, uploads()-uploaded
		now := g.metric("akigw_uploadpool_limit")
		if refused == 0 && uploaded > 0 && now >= limit {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("cleared, and in a second %.0f uploads were refused, %.0f not; the limit is %.1f (was %.1f)", refused, uploaded, now, limit)
		}
	}
}
