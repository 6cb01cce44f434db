package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// hiccups are the faults of a healthy upstream: about one request in a hundred fails.
const hiccups = `
[[fault]]
effect = "slow_down"
probability = 0.003
[[fault]]
effect = "internal_error"
probability = 0.003
[[fault]]
effect = "reset_before"
probability = 0.002
[[fault]]
op = "PutObject,UploadPart,CompleteMultipartUpload,DeleteObject*,GetObject,HeadObject"
effect = "timeout_after"
latency_ms = 100
probability = 0.002
`

// use is the resources that a process uses.
type use struct{ memory, files, goroutines, disk float64 }

func (g *gateway) use() (u use) {
	pid := g.cmd.Process.Pid
	files, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		g.t.Fatal(err)
	}
	return use{float64(rssAnon(pid)), float64(len(files)), g.metric("go_goroutines"), float64(size.OnDisk(filepath.Join(g.dir, "journal")) + size.OnDisk(filepath.Join(g.dir, "warm")))}
}

// TestT14_Soak runs mixed load for a long time. The upstream fails now and then, and the gateway is
// restarted, every other time by a kill. Nothing is lost, and the process does not use more and
// more resources. AKIGW_AMOUNT is in minutes.
func TestT14_Soak(t *testing.T) {
	p := testkit.Prove(t, "T14")
	p.OnlyLong()
	lasts := time.Duration(p.Amount(0, 0, 120)) * time.Minute
	const lives = 24
	plan := writeFile(t, filepath.Join(t.TempDir(), "plan.toml"), []byte(fmt.Sprintf("seed = %d\n%s", p.Seed%1_000_000, hiccups)))
	up, behind := startMemory(t, time.Millisecond, 16)
	g := startGateway(t, options{upstream: behind, plain: true, config: backConfig, env: []string{"AKIGW_ENABLE_FAULTS=true", "AKIGW_FAULT_PLAN=" + plan, "AKIGW_CACHE_HOT_BYTES=32MiB", "AKIGW_CACHE_WARM_BYTES=128MiB"}})
	k := newKillRig(t, g, up)
	var reads, refused atomic.Int64
	var faults float64
	var uses []use // at the end of each epoch
	killed := 0
	for life := range lives {
		stop := make(chan struct{})
		var readers sync.WaitGroup
		for range 2 {
			readers.Go(func() { readMix(k, stop, &reads, &refused) })
		}
		load(k, lasts/lives)
		uses = append(uses, g.use())
		close(stop)
		readers.Wait()
		faults += g.metric("akigw_faults_hits_total")
		k.verify(g, 500)
		k.verifyUploads(g)
		k.abortUploads(g)
		clear(k.uploads)
		if life%2 == 0 {
			load(k, time.Second) // so that some writes are pending
			killed++
			g.kill()
		} else {
			waitDrained(t, g, time.Minute)
			g.stop()
		}
		g.start()
		if t.Failed() {
			t.Fatalf("in epoch %d", life)
		}
	}
	k.verify(g, len(k.keys))
	k.verifyUploads(g)
	k.abortUploads(g)
	waitDrained(t, g, time.Minute)
	k.verifyUpstream()
	// A kill may leave uploads open whose CreateMultipartUpload response it cut off.
	if n := up.Uploads(); n > 4*killed {
		t.Errorf("%d uploads are open upstream, after %d kills", n, killed)
	}
	p.Figure("uploads that kills left open", up.Uploads())
	// The first third of the epochs fills the caches and the journal.
	mean := func(of []use) (m use) {
		for _, u := range of {
			n := float64(len(of))
			m = use{m.memory + u.memory/n, m.files + u.files/n, m.goroutines + u.goroutines/n, m.disk + u.disk/n}
		}
		return m
	}
	before, after := mean(uses[lives/3:2*lives/3]), mean(uses[2*lives/3:])
	for name, pair := range map[string][2]float64{"memory": {before.memory, after.memory}, "open files": {before.files, after.files}, "goroutines": {before.goroutines, after.goroutines}, "disk": {before.disk, after.disk}} {
		if pair[1] > pair[0]*1.15 {
			t.Errorf("%s grows: %.0f in the second third, %.0f in the last", name, pair[0], pair[1])
		}
		p.Figure(name+", second and last third", pair)
	}
	if faults < 100 || reads.Load() < 1000 {
		t.Errorf("%.0f faults, %d reads: the path was not exercised", faults, reads.Load())
	}
	p.Figure("minutes", lasts.Minutes())
	p.Figure("kills", killed)
	p.Figure("restarts", lives-killed)
	p.Figure("acknowledged writes", k.acks)
	p.Figure("reads", reads.Load())
	p.Figure("reads refused", refused.Load())
	p.Figure("faults", faults)
}
