package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/snapshot"
)

// catalogOf is a catalog of the given number of objects, none of which exists.
type catalogOf int

func (catalogOf) Ordered() bool { return true }

func (n catalogOf) Entries(_ context.Context, yield func(*akigw.CatalogEntry) bool) error {
	now := time.Now()
	for i := range int(n) {
		c := akigw.CatalogEntry{
			Object:      akigw.Object{Key: akigw.Key{Bucket: fmt.Sprintf("bucket-%02d", i/50_000), Name: fmt.Sprintf("data/%04d/object-%08d.bin", i/100, i)}, Size: int64(1000 + i%100_000), ETag: fmt.Sprintf(`"%032x"`, i), LastModified: now},
			ContentType: "application/octet-stream", Tier: akigw.Cold, LastAccess: now.Add(-time.Duration(i%1000) * time.Minute), Recent: uint32(i % 5), Accesses: uint64(i % 1000),
		}
		if !yield(&c) {
			break
		}
	}
	return nil
}

// TestMillion is TestLongMillion with fewer objects and without time limits.
func TestMillion(t *testing.T) {
	t.Parallel()
	million(t, 20_000)
}

// TestLongMillion: a catalog of a million objects is restored within 10 s, and snapshot within 5 s
// and 256 MiB. A cycle of the worker takes at most 10 s and hardly slows hot reads. The gateway
// starts within 2 s.
func TestLongMillion(t *testing.T) {
	long(t)
	million(t, 1_000_000)
}

func million(t *testing.T, objects int) {
	dir := t.TempDir()
	made := snapshot.Open(snapshot.Options{Config: snapshot.Config{MaxBytes: 1 << 30}, Dir: filepath.Join(dir, "snapshots"), Gateway: "gw-made", Catalog: catalogOf(objects), Log: slog.New(slog.DiscardHandler)})
	if _, err := made.Create(t.Context()); err != nil {
		t.Fatal(err)
	}
	within := func(what string, took, limit time.Duration) {
		t.Helper()
		t.Logf("%d objects: %s took %.2f s (wanted %.0f)", objects, what, took.Seconds(), limit.Seconds())
		if took > limit {
			t.Errorf("%s took too long", what)
		}
	}
	config := "[tiering.policy]\nworker_interval_secs = %d\n"
	g := startGateway(t, options{dir: dir, plain: true, config: fmt.Sprintf(config, 0), env: []string{"AKIGW_RESTORE=latest"}})
	restored := regexp.MustCompile(`"objects":(\d+),"known":0,"seconds":([0-9.]+)`)
	var m []string
	for deadline := time.Now().Add(5 * time.Second); m == nil && time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		m = restored.FindStringSubmatch(g.stderr.String()) // another goroutine reads it
	}
	if m == nil || m[1] != fmt.Sprint(objects) {
		t.Fatalf("%v: %s", m, g.stderr)
	}
	seconds, err := time.ParseDuration(m[2] + "s")
	if err != nil {
		t.Fatal(err)
	}
	within("the restore", seconds, 10*time.Second)
	g.operator()
	b := newBucket(t, g, "hotbucket")
	body := testkit.Bytes(1, 4096)
	b.put("k", body)
	b.get("k", body)
	g.stop()

	g.env = slices.DeleteFunc(g.env, func(pair string) bool { return strings.HasPrefix(pair, "AKIGW_RESTORE=") })
	started := time.Now()
	g.start()
	within("the start", time.Since(started), 2*time.Second)
	time.Sleep(3 * time.Second)
	idle := rssAnon(g.cmd.Process.Pid)
	peak := g.watchMemory()
	started = time.Now()
	if out := g.says("snapshot", "create"); !strings.Contains(out, "created snapshot") {
		t.Fatal(out)
	}
	within("the snapshot", time.Since(started), 5*time.Second)
	t.Logf("anonymous memory: %d MiB idle, at most %d MiB while a snapshot was made", idle>>20, peak()>>20)
	if peak()-idle > 256<<20 {
		t.Error("the snapshot took too much memory")
	}
	var d snapshot.Details
	if out := g.says("snapshot", "show", "--json", "latest"); json.Unmarshal([]byte(out), &d) != nil || d.Rows < int64(objects) {
		t.Errorf("%d rows: %s", d.Rows, out)
	}
	g.stop()

	g.env = slices.DeleteFunc(g.env, func(pair string) bool { return strings.HasPrefix(pair, "AKIGW_CONFIG=") })
	g.env = append(g.env, "AKIGW_CONFIG="+writeFile(t, filepath.Join(t.TempDir(), "akigw.toml"), fmt.Appendf(nil, config, 3)))
	g.start()
	b.get("k", body)
	worker := func() placement.WorkerReport {
		resp, err := http.Get(g.admin + "/api/v1/metrics/tiers")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var report admin.TierMetrics
		if err := json.NewDecoder(resp.Body).Decode(&report); err != nil || report.Worker == nil {
			t.Fatalf("%+v, %v", report, err)
		}
		return *report.Worker
	}
	var beside, between []time.Duration
	before, last := worker(), time.Time{}
	long := objects >= 1_000_000 // a smaller cycle ends before there are many reads
	cycles, enough := 1, 50
	if long {
		cycles, enough = 3, 1000
	}
	for deadline, ended := time.Now().Add(90*time.Second), 0; ended < cycles; {
		if time.Now().After(deadline) {
			t.Fatalf("%d cycles ended: %+v", ended, before)
		}
		reads := hotGets(b, body, 300*time.Millisecond)
		after := worker()
		switch cycle := after.Cycle != before.Cycle; {
		case !before.Running && !after.Running && !cycle:
			between = append(between, reads...)
		case !long, before.Running && after.Running && !cycle:
			beside = append(beside, reads...)
		}
		if !after.Ended.Equal(last) {
			last = after.Ended
			ended++
			within("a cycle of the worker", time.Duration(after.Seconds*float64(time.Second)), 10*time.Second)
			if after.Objects < objects {
				t.Errorf("%+v", after)
			}
		}
		before = after
	}
	busy, quiet := percentile(beside, 99), percentile(between, 99)
	t.Logf("hot GETs beside it: p99 %v, %.2f times that between cycles (%d, %d of them)", busy, float64(busy)/float64(quiet), len(beside), len(between))
	if len(beside) < enough || len(between) < enough {
		t.Errorf("%d reads beside a cycle, %d between cycles", len(beside), len(between))
	}
	if long && float64(busy) > 1.5*float64(quiet) {
		t.Error("the worker slows hot reads")
	}
}

// hotGets reads an object again and again, and reports how long each read took.
func hotGets(b *bucketOf, body []byte, long time.Duration) (all []time.Duration) {
	for end := time.Now().Add(long); time.Now().Before(end); {
		started := time.Now()
		b.get("k", body)
		all = append(all, time.Since(started))
	}
	return all
}

func percentile(all []time.Duration, p int) time.Duration {
	slices.Sort(all)
	return all[min(len(all)-1, len(all)*p/100)]
}
