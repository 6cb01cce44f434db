package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/tiers/cold"
)

// The scenarios about tiers from the original list, by their names, through the running gateway.

// bucketOf sends a client's requests to one bucket.
type bucketOf struct {
	t       testing.TB
	g       *gateway
	client  *s3client.Client
	name    string
	patient bool // retries failures of the upstream, as clients do
}

func newBucket(t testing.TB, g *gateway, name string) *bucketOf {
	t.Helper()
	b := &bucketOf{t: t, g: g, client: &s3client.Client{Endpoint: g.endpoint}, name: name}
	if a := b.client.Must(t, "PUT", "/"+name, "", nil, nil); a.Status != 200 {
		t.Fatalf("PUT %s: %d %s", name, a.Status, a.Body)
	}
	return b
}

// ask sends a request for an object.
func (b *bucketOf) ask(method, key string, body []byte) *s3client.Answer {
	b.t.Helper()
	if !b.patient {
		return b.client.Must(b.t, method, "/"+b.name+"/"+key, "", nil, body)
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		r, err := b.client.Request(method, "/"+b.name+"/"+key, "", nil, body)
		if err != nil {
			b.t.Fatal(err)
		}
		a, err := b.client.Do(r)
		if err == nil && a.Status < 500 && a.Status != http.StatusTooManyRequests {
			return a
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s %s: %v, %v", method, key, a, err)
		}
	}
}

func (b *bucketOf) put(key string, body []byte) {
	b.t.Helper()
	if a := b.ask("PUT", key, body); a.Status != 200 {
		b.t.Fatalf("PUT %s: %d %s", key, a.Status, a.Body)
	}
}

// get reads an object, compares it, and returns the tier that it came from.
func (b *bucketOf) get(key string, want []byte) string {
	b.t.Helper()
	a := b.ask("GET", key, nil)
	if a.Status != 200 || !bytes.Equal(a.Body, want) {
		b.t.Errorf("GET %s: %d, %d bytes", key, a.Status, len(a.Body))
	}
	return a.Header.Get("X-Akigw-Cache")
}

// tier returns the tier of an object.
func (g *gateway) tier(bucket, key string) (o admin.Object) {
	g.t.Helper()
	out := g.says("tier", "status", "--exactly", "s3://"+bucket+"/"+key)
	if err := json.Unmarshal([]byte(out), &o); err != nil {
		return o // the object is unknown
	}
	return o
}

// tiersOf sums up a prefix.
func (g *gateway) tiersOf(bucket, prefix string) (st placement.State) {
	g.t.Helper()
	if out := g.says("tier", "status", "--json", "s3://"+bucket+"/"+prefix); json.Unmarshal([]byte(out), &st) != nil {
		g.t.Fatal(out)
	}
	return st
}

// TestConcurrentDemotionsSameCollection: of ten concurrent demotions of the same prefix one
// succeeds, and the others get an error.
func TestConcurrentDemotionsSameCollection(t *testing.T) {
	fairAndFoul(t, concurrentDemotions)
}

func concurrentDemotions(t *testing.T, w weather) {
	g := w.start(options{})
	b := w.bucket(g, "collection")
	w.breaks(g)
	const objects = 150
	for i := range objects {
		b.put(fmt.Sprintf("c/%03d", i), testkit.Bytes(uint64(i), 10_000))
	}
	g.says("tier", "promote", "s3://collection/c/")
	var wait sync.WaitGroup
	var winners, told, moved atomic.Int64
	for range 10 {
		wait.Go(func() {
			out := g.says("tier", "demote", "--to", "cold", "--json", "s3://collection/c/")
			var r placement.MoveResult
			switch {
			case strings.Contains(out, "another move"):
				told.Add(1)
			case w.foul() && strings.Contains(out, "exit status"): // some or none of it is done
			case json.Unmarshal([]byte(out), &r) != nil:
				t.Error(out)
			case r.Moved > 0:
				winners.Add(1)
				moved.Add(int64(r.Moved))
			case r.Already == objects:
				told.Add(1)
			}
		})
	}
	wait.Wait()
	w.clears(g)
	if w.foul() {
		if told.Load() == 0 {
			t.Error("no command reported a conflicting move")
		}
		if out := g.says("tier", "demote", "--to", "cold", "s3://collection/c/"); strings.Contains(out, "exit status") {
			t.Error(out)
		}
		if n := g.metric("akigw_tiers_moves_total", `action="demote_to_cold"`); n != objects {
			t.Errorf("%.0f moves of %d objects", n, objects)
		}
	} else if winners.Load() != 1 || moved.Load() != objects || told.Load() != 9 {
		t.Errorf("%d succeeded and moved %d, %d got an error", winners.Load(), moved.Load(), told.Load())
	}
	if st := g.tiersOf("collection", "c/"); st.Cold != objects {
		t.Errorf("%+v", st)
	}
	if from := b.get("c/007", testkit.Bytes(7, 10_000)); from != "cold" {
		t.Errorf("read from %s after the demotion", from)
	}
}

// TestConcurrentPromotionAndSearch: reads during promotions are correct.
func TestConcurrentPromotionAndSearch(t *testing.T) {
	fairAndFoul(t, promotionAndSearch)
}

func promotionAndSearch(t *testing.T, w weather) {
	g := w.start(options{})
	b := w.bucket(g, "collection")
	w.breaks(g)
	for i := range 40 {
		b.put(fmt.Sprintf("%02d", i), testkit.Bytes(uint64(i), 300_000))
	}
	stop := make(chan struct{})
	var readers sync.WaitGroup
	var reads atomic.Int64
	for r := range 4 {
		readers.Go(func() {
			for n := r; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				b.get(fmt.Sprintf("%02d", n%40), testkit.Bytes(uint64(n%40), 300_000))
				reads.Add(1)
				time.Sleep(5 * time.Millisecond) // and leaves the processors to the moves
			}
		})
	}
	for range 5 {
		for _, args := range [][]string{{"demote", "--to", "cold"}, {"promote", "--to", "warm"}, {"promote", "--to", "hot"}} {
			if out := g.says(append(append([]string{"tier"}, args...), "s3://collection")...); strings.Contains(out, "exit status") && !w.foul() {
				t.Error(out)
			}
		}
	}
	close(stop)
	readers.Wait()
	w.clears(g)
	if reads.Load() < 100 {
		t.Errorf("%d reads", reads.Load())
	}
}

// TestRaceConditionTierStateUpdate: the reported state is always possible, for objects that are
// written, read, moved and deleted concurrently.
func TestRaceConditionTierStateUpdate(t *testing.T) {
	fairAndFoul(t, tierStateUpdate)
}

func tierStateUpdate(t *testing.T, w weather) {
	g := w.start(options{})
	b := w.bucket(g, "collection")
	w.breaks(g)
	began := time.Now()
	var work sync.WaitGroup
	var writes, moves atomic.Int64
	goesOn := func() bool { // for as long as this machine needs
		enough := writes.Load() >= 50 && moves.Load() >= 5
		return time.Since(began) < 2*time.Second || !enough && time.Since(began) < time.Minute
	}
	for key := range 3 {
		work.Go(func() {
			for n := 0; goesOn(); n++ {
				body := testkit.Bytes(uint64(n), 1000*(n%200))
				b.put(fmt.Sprint(key), body)
				b.get(fmt.Sprint(key), body)
				if n%10 == 9 {
					b.ask("DELETE", fmt.Sprint(key), nil)
				}
				writes.Add(1)
			}
		})
	}
	for range 2 {
		work.Go(func() {
			for n := 0; goesOn(); n++ {
				args := [][]string{{"promote"}, {"demote"}, {"demote", "--to", "cold"}, {"pin", "--in", "hot"}, {"unpin"}}[n%5]
				g.says(append(append([]string{"tier"}, args...), "s3://collection/")...)
				moves.Add(1)
				for key := range 3 {
					if o := g.tier("collection", fmt.Sprint(key)); o.HotBytes > o.Size || o.WarmBytes > o.Size || o.Tier == "hot" && o.HotBytes != o.Size {
						t.Errorf("%+v", o)
					}
				}
			}
		})
	}
	work.Wait()
	w.clears(g)
	if writes.Load() < 50 || moves.Load() < 5 {
		t.Errorf("%d writes, %d moves", writes.Load(), moves.Load())
	}
	for key := range 3 {
		body := testkit.Bytes(99, 5000)
		b.put(fmt.Sprint(key), body)
		b.get(fmt.Sprint(key), body)
		if o := g.tier("collection", fmt.Sprint(key)); o.Size != 5000 {
			t.Errorf("%+v", o)
		}
	}
}

// busyPolicy runs the worker every second, and demotes everything soon.
const busyPolicy = `
[tiering.policy]
hot_tier_ttl_hours = 0.0003
warm_tier_ttl_days = 0.00003
worker_interval_secs = 1
`

// TestBackgroundWorkerConcurrentWithAPI: the worker and operators do not conflict, and pinned data
// stays.
func TestBackgroundWorkerConcurrentWithAPI(t *testing.T) {
	fairAndFoul(t, workerWithAPI)
}

func workerWithAPI(t *testing.T, w weather) {
	g := w.start(options{config: busyPolicy})
	b := w.bucket(g, "collection")
	w.breaks(g)
	for i := range 60 {
		b.put(fmt.Sprintf("%02d", i), testkit.Bytes(uint64(i), 20_000))
	}
	for deadline := time.Now().Add(30 * time.Second); ; { // a pin that is refused because of the upstream has no effect, and is retried
		out := g.says("tier", "pin", "s3://collection/0")
		if strings.Contains(out, "exit status") {
			if o := g.tier("collection", "00"); o.Pinned {
				t.Errorf("refused but pinned: %s%+v", out, o)
			}
			if w.foul() && time.Now().Before(deadline) {
				continue
			}
		}
		if !strings.Contains(out, "pinned") {
			t.Fatal(out)
		}
		break
	}
	deadline := time.Now().Add(4 * time.Second)
	for n := 0; time.Now().Before(deadline); n++ {
		if out := g.says("tier", "promote", "--to", []string{"hot", "warm"}[n%2], "s3://collection/"); strings.Contains(out, "exit status") && !w.foul() {
			t.Error(out)
		}
		b.get(fmt.Sprintf("%02d", n%60), testkit.Bytes(uint64(n%60), 20_000))
	}
	w.clears(g)
	time.Sleep(6 * time.Second) // the objects are idle
	if pinned, all := g.tiersOf("collection", "0"), g.tiersOf("collection", ""); pinned.Warm != 10 || all.Warm != 10 || all.Cold != 50 {
		t.Errorf("pinned: %+v; all: %+v", pinned, all)
	}
	if g.metric("akigw_tiers_moves_total", `by="worker"`, "demote_to_cold") == 0 {
		t.Error("the worker moved nothing")
	}
}

// TestMemoryQuotaEnforcement: a pin that cannot fit into memory is refused with the reason and
// changes nothing. One that fits is stored, and other data is evicted for it.
func TestMemoryQuotaEnforcement(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true, env: []string{"AKIGW_CACHE_HOT_BYTES=16MiB"}})
	g.operator()
	b := newBucket(t, g, "collection")
	big, fits := testkit.Bytes(1, 20<<20), testkit.Bytes(2, 6<<20)
	b.put("big", big)
	b.put("fits", fits)
	for _, args := range [][]string{{"promote"}, {"pin", "--in", "hot"}} {
		out := g.says(append(append([]string{"tier"}, args...), "--exactly", "s3://collection/big")...)
		if !strings.Contains(out, "no room") || !strings.Contains(out, "20971520 bytes") {
			t.Errorf("%v: %s", args, out)
		}
	}
	if o := g.tier("collection", "big"); o.Pinned || o.Tier == "hot" {
		t.Errorf("%+v", o)
	}
	if out := g.says("tier", "pin", "--in", "hot", "--exactly", "s3://collection/fits"); !strings.Contains(out, "pinned") {
		t.Error(out)
	}
	for i := range 60 { // four times the quota
		body := testkit.Bytes(uint64(i), 1<<20)
		b.put(fmt.Sprint(i), body)
		b.get(fmt.Sprint(i), body)
		b.get(fmt.Sprint(i), body)
	}
	if from := b.get("fits", fits); from != "hot" {
		t.Errorf("what is pinned in memory came from %s", from)
	}
	if n := g.metric("akigw_hot_used_bytes"); n > 16<<20 {
		t.Errorf("%.0f bytes in memory", n)
	}
	b.get("big", big)
}

// TestStorageQuotaEnforcement: the oldest snapshots are removed, and the newest stays.
func TestStorageQuotaEnforcement(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true, env: []string{"AKIGW_SNAPSHOT_MAX_BYTES=1MiB"}})
	g.operator()
	b := newBucket(t, g, "collection")
	for i := range 200 {
		b.put(fmt.Sprintf("%x", testkit.Bytes(uint64(i), 400)), nil) // names that do not compress
	}
	var last string
	id := regexp.MustCompile(`\d{8}T[0-9.]+Z`)
	for range 30 {
		last = id.FindString(g.says("snapshot", "create"))
		if last == "" {
			t.Fatal("no snapshot was made")
		}
	}
	list := id.FindAllString(g.says("snapshot", "list"), -1)
	list = slices.Compact(list)
	if len(list) >= 30 || len(list) == 0 || list[0] != last || size.OnDisk(filepath.Join(g.dir, "snapshots")) > 1<<20+64<<10 {
		t.Errorf("%d snapshots in %d bytes, the newest %v, made last %s", len(list), size.OnDisk(filepath.Join(g.dir, "snapshots")), list, last)
	}
	if out := g.says("snapshot", "verify"); strings.Contains(out, "exit status") || !strings.Contains(out, "valid, 200 objects") {
		t.Error(out)
	}
}

// TestCorruptedParquetRecovery: a damaged snapshot is detected and reported, and the previous one
// is used.
func TestCorruptedParquetRecovery(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{plain: true, upstream: behind})
	g.operator()
	b := newBucket(t, g, "collection")
	for i := range 20 {
		b.put(fmt.Sprint(i), testkit.Bytes(uint64(i), 5000))
		b.get(fmt.Sprint(i), testkit.Bytes(uint64(i), 5000))
	}
	g.says("snapshot", "create")
	for i := range 10 {
		b.client.Must(t, "DELETE", "/collection/"+fmt.Sprint(i), "", nil, nil)
	}
	g.says("snapshot", "create")
	files, err := filepath.Glob(filepath.Join(g.dir, "snapshots", "*.parquet"))
	if err != nil || len(files) != 2 {
		t.Fatal(files, err)
	}
	damaged := readFile(t, files[1])
	damaged[len(damaged)/2] ^= 1
	writeFile(t, files[1], damaged)
	if out := g.says("snapshot", "verify"); !strings.Contains(out, "damaged") || !strings.Contains(out, "1 of 2 snapshots are invalid") {
		t.Error(out)
	}
	g.stop()
	if err := os.RemoveAll(filepath.Join(g.dir, "warm")); err != nil {
		t.Fatal(err)
	}
	g.env = append(g.env, "AKIGW_RESTORE=latest")
	g.start()
	time.Sleep(200 * time.Millisecond) // until the gateway's log has been read
	if st := g.tiersOf("collection", ""); st.Objects < 10 || !strings.Contains(g.stderr.String(), `"objects":20,"known":0`) || !strings.Contains(g.stderr.String(), "a snapshot is damaged") {
		t.Errorf("%+v, %s", st, g.stderr)
	}
	for i := range 20 { // objects deleted since are not served
		a := b.client.Must(t, "GET", "/collection/"+fmt.Sprint(i), "", nil, nil)
		if want := map[bool]int{true: 404, false: 200}[i < 10]; a.Status != want {
			t.Errorf("%d: %d, want %d", i, a.Status, want)
		}
	}
	_ = up
}

// TestRestoreFromUpstream: a gateway on a new machine starts with the snapshot from the upstream,
// and with the most used objects in its tiers.
func TestRestoreFromUpstream(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	config := "[snapshot]\nupload = \"s3://collection/.snapshots\"\n[cache]\nfreshness = \"exclusive\"\n"
	g := startGateway(t, options{plain: true, upstream: behind, config: config})
	g.operator()
	b := newBucket(t, g, "collection")
	for i := range 30 {
		b.put(fmt.Sprint(i), testkit.Bytes(uint64(i), 200_000))
		for range 3 {
			b.get(fmt.Sprint(i), testkit.Bytes(uint64(i), 200_000))
		}
	}
	if out := g.says("snapshot", "create"); !strings.Contains(out, "created snapshot") {
		t.Fatal(out)
	}
	g.stop()
	if n := up.Uploads(); n != 0 {
		t.Errorf("%d uploads are open upstream", n)
	}
	fresh := startGateway(t, options{plain: true, upstream: behind, config: config, env: []string{"AKIGW_RESTORE=latest"}})
	nb := &bucketOf{t: t, g: fresh, client: &s3client.Client{Endpoint: fresh.endpoint}, name: "collection"}
	for deadline := time.Now().Add(20 * time.Second); !strings.Contains(fresh.stderr.String(), "fetched the objects that were most used"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("nothing was fetched")
		}
	}
	gets := fresh.objectGets()
	for i := range 30 {
		if from := nb.get(fmt.Sprint(i), testkit.Bytes(uint64(i), 200_000)); from != "hot" && from != "warm" {
			t.Errorf("%d came from %s", i, from)
		}
	}
	if n := fresh.objectGets(); n != gets {
		t.Errorf("%d objects were fetched again", n-gets)
	}
}

// waitAborted waits until no upload is open upstream.
func waitAborted(t *testing.T, up *slowMemory) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); up.Uploads() > 0; time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d uploads are open upstream", up.Uploads())
		}
	}
}

// TestPartialSnapshotUploadRecovery: a failed snapshot upload leaves neither an object nor an open
// upload upstream, and the local snapshot is kept.
func TestPartialSnapshotUploadRecovery(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{plain: true, upstream: behind, config: "[snapshot]\nupload = \"s3://collection/.snapshots\"\n"})
	g.operator()
	b := newBucket(t, g, "collection")
	b.put("k", []byte("x"))
	var parts atomic.Int64
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "CompleteMultipartUpload" || r.Method == http.MethodPost && r.Query.Has("uploadId") {
			parts.Add(1)
			return s3mem.Response(400, nil, []byte("<Error><Code>InvalidPart</Code></Error>")), nil
		}
		return nil, nil
	}
	if out := g.says("snapshot", "create"); !strings.Contains(out, "could not be uploaded") {
		t.Error(out)
	}
	up.Before = nil
	waitAborted(t, up)
	if keys := up.KeysOf("collection"); /* the bucket and the object */ len(keys) != 2 || parts.Load() == 0 {
		t.Errorf("%v upstream, %d completions", keys, parts.Load())
	}
	if out := g.says("snapshot", "verify"); !strings.Contains(out, "valid, 1 objects") {
		t.Error(out)
	}
	if out := g.says("snapshot", "create"); !strings.Contains(out, "created snapshot") || len(up.KeysOf("collection")) != 3 {
		t.Errorf("%s, %v", out, up.KeysOf("collection"))
	}
}

// TestBackgroundWorkerRestartMidCycle: a worker that is killed between moves resumes there.
// Everything is demoted, nothing twice.
func TestBackgroundWorkerRestartMidCycle(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{kind: failpoints, config: "log_level = \"debug\"\n[tiering.policy]\nworker_interval_secs = 0\n"})
	g.operator()
	b := newBucket(t, g, "collection")
	const objects = 40
	for i := range objects {
		b.put(fmt.Sprintf("%02d", i), testkit.Bytes(uint64(i), 5000))
	}
	g.stop()
	g.env = append(slices.DeleteFunc(g.env, func(pair string) bool { return strings.HasPrefix(pair, "AKIGW_CONFIG=") }),
		"AKIGW_CONFIG="+writeFile(t, filepath.Join(t.TempDir(), "akigw.toml"), []byte("log_level = \"debug\"\n"+busyPolicy)))
	time.Sleep(4 * time.Second) // until everything has been idle long enough
	demoted := map[string]int{}
	count := func() {
		for _, line := range strings.Split(g.stderr.String(), "\n") {
			var entry struct{ Msg, Key, Action string }
			if json.Unmarshal([]byte(line), &entry) == nil && entry.Msg == "the tier worker moved an object" && entry.Action == "demote_to_cold" {
				demoted[entry.Key]++
			}
		}
	}
	env := g.env
	for n := range 3 {
		g.env = append(slices.Clone(env), fmt.Sprintf("AKIGW_FAILPOINT=worker.afterMoveBeforeCheckpoint:%d", 5+n))
		g.startAndDie()
		count()
	}
	before := len(demoted)
	g.env = env
	g.start()
	for deadline := time.Now().Add(20 * time.Second); g.tiersOf("collection", "").Cold < objects; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%+v", g.tiersOf("collection", ""))
		}
	}
	time.Sleep(2 * time.Second) // another cycle or two
	g.stop()
	count()
	if before == 0 || before >= objects || len(demoted) != objects {
		t.Errorf("%d were demoted before the last start, %d in all, of %d", before, len(demoted), objects)
	}
	for key, n := range demoted {
		if n != 1 {
			t.Errorf("%s was demoted %d times", key, n)
		}
	}
}

// TestKilledInASnapshot: a snapshot that was written but not yet renamed does not count, and the
// next start removes its remains.
//
// Scenarios: B19.
func TestKilledInASnapshot(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{kind: failpoints})
	g.operator()
	newBucket(t, g, "collection").put("k", []byte("x"))
	g.says("snapshot", "create")
	g.stop()
	g.env = append(g.env, "AKIGW_FAILPOINT=snapshot.beforeRename:1")
	g.start()
	if out := g.says("snapshot", "create"); !strings.Contains(out, "exit status") {
		t.Error(out)
	}
	g.cmd.Wait()
	left := func() []string {
		files, err := filepath.Glob(filepath.Join(g.dir, "snapshots", ".new-*"))
		if err != nil {
			t.Fatal(err)
		}
		return files
	}
	if len(left()) != 1 {
		t.Fatalf("%v: the gateway was not killed during the snapshot", left())
	}
	g.env = nil
	g.start()
	if out := g.says("snapshot", "verify"); len(left()) != 0 || strings.Count(out, ": valid, ") != 1 || strings.Contains(out, "exit status") {
		t.Errorf("%v, %s", left(), out)
	}
}

// TestTierDemotionRollback: objects that are not upstream yet, or whose upstream is unavailable,
// stay in their tier and can be read as before.
func TestTierDemotionRollback(t *testing.T) {
	t.Parallel()
	up, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, config: backConfig + "\n[cache]\nfreshness = \"exclusive\"\n"})
	g.operator()
	b := newBucket(t, g, "backbucket")
	body := testkit.Bytes(1, 300_000)
	b.put("clean", body)
	waitDrained(t, g, 10*time.Second)
	b.get("clean", body)
	b.get("clean", body)
	before := g.tier("backbucket", "clean")
	up.Before = func(*cold.Request) (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable }
	b.put("pending", body)
	for _, key := range []string{"clean", "pending"} {
		if out := g.says("tier", "demote", "--to", "cold", "--exactly", "s3://backbucket/"+key); !strings.Contains(out, "exit status") {
			t.Errorf("%s was demoted: %s", key, out)
		}
	}
	if out := g.says("tier", "demote", "--to", "cold", "s3://backbucket"); !strings.Contains(out, "exit status") {
		t.Error(out)
	}
	if after := g.tier("backbucket", "clean"); after.Tier != before.Tier || after.HotBytes != before.HotBytes || after.WarmBytes != before.WarmBytes || before.Tier == "cold" {
		t.Errorf("%+v, then %+v", before, after)
	}
	b.get("clean", body)
	if from := b.get("pending", body); from != "overlay" {
		t.Errorf("a pending object came from %s", from)
	}
	up.Before = nil
	waitDrained(t, g, 30*time.Second)
	for _, key := range []string{"clean", "pending"} {
		if out := g.says("tier", "demote", "--to", "cold", "--exactly", "s3://backbucket/"+key); strings.Contains(out, "exit status") {
			t.Error(out)
		}
		if o := g.tier("backbucket", key); o.Tier != "cold" {
			t.Errorf("%+v", o)
		}
		b.get(key, body)
	}
}

// TestWarmTierDiskFull: on a disk that is really full, reads and writes continue, and health
// reports why nothing more is cached.
func TestWarmTierDiskFull(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root for a small tmpfs")
	}
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=96m"); err != nil {
		t.Skipf("no tmpfs can be mounted: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	_, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{plain: true, upstream: behind, dir: filepath.Join(dir, "data"), env: []string{"AKIGW_CACHE_WARM_BYTES=64MiB", "AKIGW_CACHE_HOT_BYTES=0", "AKIGW_CACHE_FRESHNESS=exclusive", "AKIGW_WRITE_BACK_MIN_FREE_BYTES=1MiB"}})
	g.operator()
	b := newBucket(t, g, "collection")
	b.put("before", testkit.Bytes(1, 200_000))
	b.get("before", testkit.Bytes(1, 200_000))
	filler, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer filler.Close()
	for block := make([]byte, 1<<20); ; {
		if _, err := filler.Write(block); err != nil {
			break // the disk is full
		}
	}
	for i := range 12 {
		body := testkit.Bytes(uint64(i), 1<<20)
		b.put(fmt.Sprint(i), body)
		b.get(fmt.Sprint(i), body)
	}
	b.get("before", testkit.Bytes(1, 200_000))
	if g.metric("akigw_warm_refused_writes_total") == 0 {
		t.Error("nothing was refused: the disk was not full")
	}
	var st struct {
		Warm string `json:"warm_problem"`
	}
	if out := g.says("status", "--json"); json.Unmarshal([]byte(out), &st) != nil || !strings.Contains(st.Warm, "full") {
		t.Errorf("status reports %q about the disk", st.Warm)
	}
	if err := os.Remove(filler.Name()); err != nil {
		t.Fatal(err)
	}
	filler.Close()
	for deadline := time.Now().Add(15 * time.Second); ; time.Sleep(200 * time.Millisecond) {
		b.get("7", testkit.Bytes(7, 1<<20))
		if b.get("7", testkit.Bytes(7, 1<<20)) == "warm" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("nothing is cached although there is room again")
		}
	}
}

// TestPinnedStaysOnDisk: pinned data is still on disk after ten times the quota was read.
func TestPinnedStaysOnDisk(t *testing.T) {
	t.Parallel()
	_, behind := startMemory(t, 0, 8)
	g := startGateway(t, options{upstream: behind, plain: true, env: []string{"AKIGW_CACHE_WARM_BYTES=32MiB", "AKIGW_CACHE_HOT_BYTES=0", "AKIGW_CACHE_FRESHNESS=exclusive"}})
	g.operator()
	b := newBucket(t, g, "collection")
	for i := range 5 {
		b.put(fmt.Sprintf("pin/%d", i), testkit.Bytes(uint64(i), 500_000))
	}
	if out := g.says("tier", "pin", "s3://collection/pin/"); !strings.Contains(out, "pinned") {
		t.Fatal(out)
	}
	for i := range 320 {
		body := testkit.Bytes(uint64(i), 1<<20)
		b.put(fmt.Sprint(i%50), body)
		b.get(fmt.Sprint(i%50), body)
	}
	if g.metric("akigw_warm_evicted_values_total") == 0 {
		t.Error("nothing was evicted")
	}
	gets := g.objectGets()
	for i := range 5 {
		if from := b.get(fmt.Sprintf("pin/%d", i), testkit.Bytes(uint64(i), 500_000)); from != "warm" {
			t.Errorf("%d came from %s", i, from)
		}
	}
	if n := g.objectGets(); n != gets {
		t.Errorf("%d pinned objects were fetched again", n-gets)
	}
}

// TestCollectionCountLimit: at most a thousand buckets can exist.
func TestCollectionCountLimit(t *testing.T) {
	t.Parallel()
	g := startGateway(t, options{plain: true})
	client := &s3client.Client{Endpoint: g.endpoint}
	var next, made atomic.Int64
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			for n := next.Add(1); n <= 1003; n = next.Add(1) {
				switch a := client.Must(t, "PUT", fmt.Sprintf("/collection-%04d", n), "", nil, nil); {
				case a.Status == 200:
					made.Add(1)
				case a.Status != 400 || !strings.Contains(string(a.Body), "TooManyBuckets"):
					t.Errorf("%d %s", a.Status, a.Body)
				}
			}
		})
	}
	all.Wait()
	if made.Load() != 1000 {
		t.Errorf("%d buckets were made", made.Load())
	}
}

// TestQuestionsOfASnapshot runs all queries of the documentation on a snapshot, with DuckDB.
func TestQuestionsOfASnapshot(t *testing.T) {
	t.Parallel()
	need(t, "node")
	if _, err := os.Stat("js/node_modules/@duckdb/node-api"); err != nil {
		t.Skip("DuckDB is not installed: npm install --prefix e2e/js")
	}
	g := startGateway(t, options{plain: true})
	g.operator()
	b := newBucket(t, g, "collection")
	for i := range 30 {
		b.put(fmt.Sprintf("%c/%d", 'a'+i%3, i), testkit.Bytes(uint64(i/2), 2000))
		b.get(fmt.Sprintf("%c/%d", 'a'+i%3, i), testkit.Bytes(uint64(i/2), 2000))
	}
	g.says("tier", "demote", "--to", "cold", "s3://collection/c/")
	g.says("snapshot", "create")
	questions := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(readFile(t, "../docs/snapshots.md")), -1)
	var sql []string
	for _, q := range questions {
		sql = append(sql, strings.ReplaceAll(q[1], "'snapshots/", "'"+g.dir+"/snapshots/"))
	}
	sql = append(sql, "SELECT count(*) AS rows, count(DISTINCT key) AS keys, min(size) AS size, sum(accesses) AS reads, count(*) FILTER (last_modified > '2000-01-01') AS dated FROM '"+g.dir+"/snapshots/*.parquet'")
	file := writeFile(t, filepath.Join(t.TempDir(), "questions.sql"), []byte(strings.Join(sql, "\n--\n")))
	answers := strings.Split(strings.TrimSpace(g.must("node", "js/duckdb.mjs", file)), "\n")
	if len(answers) != len(sql) || len(sql) < 6 {
		t.Fatalf("%d queries, %d results", len(sql), len(answers))
	}
	for i, want := range []string{`"prefix":"a","objects":"10","bytes":"20000"`, `"size":"2000"`, `"copies":"2","wasted":"2000"`, `"objects":"10","bytes":"20000","reads":"10"`, `"tier":"cold","objects":"10"`, `"rows":"30","keys":"30","size":"2000","reads":"30"`} {
		if !strings.Contains(answers[i], want) {
			t.Errorf("%s\nreturns %s, want %s", sql[i], answers[i], want)
		}
	}
}

// TestConcurrentSnapshotAndRestore: making snapshots while objects are written does not disturb
// anything, and neither does restoring gateways from them meanwhile.
func TestConcurrentSnapshotAndRestore(t *testing.T) {
	fairAndFoul(t, snapshotAndRestore)
}

func snapshotAndRestore(t *testing.T, w weather) {
	up, behind := startMemory(t, 0, 16)
	config := "[snapshot]\nupload = \"s3://snapshots/here\"\n"
	g := w.start(options{upstream: behind, plain: true, config: config})
	b := w.bucket(g, "collection")
	w.breaks(g)
	for i := range 100 {
		b.put(fmt.Sprint(i), testkit.Bytes(uint64(i), 20_000))
	}
	for tries := 1; ; tries++ {
		out := g.says("snapshot", "create")
		if strings.Contains(out, "created snapshot") {
			break
		}
		if !w.foul() || tries == 10 {
			t.Fatal(out)
		}
	}
	stop := make(chan struct{})
	var work sync.WaitGroup
	var snapshots, writes atomic.Int64
	loop := func(f func(n int)) {
		work.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					f(n)
				}
			}
		})
	}
	for range 2 {
		loop(func(int) {
			if out := g.says("snapshot", "create"); strings.Contains(out, "created snapshot") {
				snapshots.Add(1)
			} else if !w.foul() {
				t.Error(out)
			}
		})
	}
	loop(func(n int) {
		b.put(fmt.Sprint(100+n%50), testkit.Bytes(uint64(n), 20_000))
		writes.Add(1)
	})
	for range 3 {
		other := w.gateway(options{upstream: behind, plain: true, config: config, env: []string{"AKIGW_RESTORE=latest"}})
		for tries := 1; !other.tryStart(); tries++ {
			if !w.foul() || tries == 10 {
				t.Fatalf("the gateway was not restored: %s", other.stderr)
			}
		}
		ob := &bucketOf{t: t, g: other, client: &s3client.Client{Endpoint: other.endpoint}, name: "collection", patient: w.foul()}
		for i := range 100 {
			ob.get(fmt.Sprint(i), testkit.Bytes(uint64(i), 20_000))
		}
		other.stop()
		if !regexp.MustCompile(`restored the catalog.*"objects":1\d\d,`).MatchString(other.stderr.String()) {
			t.Errorf("%s", other.stderr)
		}
	}
	close(stop)
	work.Wait()
	w.clears(g)
	waitAborted(t, up)
	if out := g.says("snapshot", "verify"); strings.Contains(out, "exit status") {
		t.Error(out)
	}
	if snapshots.Load() < 4 || writes.Load() < 20 {
		t.Errorf("%d snapshots, %d writes", snapshots.Load(), writes.Load())
	}
}
