package placement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// testPolicy is the contract's, without a worker of its own.
var testPolicy = PolicyConfig{HotTTLHours: 6, WarmTTLDays: 7, PromotionThreshold: 10, AccessWindowHours: 1}

const block = tiertest.Block

func key(name string) akigw.Key { return tiertest.Key(name) }

// rig is a store and its placement.
type rig struct {
	*Placement
	store *tiers.Store
}

// controlled opens a store with a placement. The worker runs when a test has it run.
func controlled(t testing.TB, config tiers.Config, dir string, up tiers.Upstream) *rig {
	t.Helper()
	settings, policy := config.Settings(), testPolicy
	policy.Apply(&settings)
	policy.WorkerIntervalSecs = 1
	book, log := rules.NewSet(nil, settings), slog.New(slog.DiscardHandler)
	state := filepath.Join(dir, "tiers")
	accesses, pins := NewAccesses(), OpenPins(state, log)
	s := tiertest.Open(t, tiers.Options{Config: config, Rules: book, Dir: filepath.Join(dir, "warm"), Upstream: up, Pins: pins, Observers: []tiers.Observer{accesses}})
	return &rig{New(Options{Policy: policy, Dir: state, Store: s, Pins: pins, Accesses: accesses, Rules: book, Upstream: up, Log: log}), s}
}

// Run runs all that there is in the background.
func (r *rig) Run(ctx context.Context) error {
	var work errgroup.Group
	work.Go(func() error { return r.Placement.Run(ctx) })
	work.Go(func() error { return r.store.Run(ctx) })
	return work.Wait()
}

func closeStore(t testing.TB, r *rig) {
	t.Helper()
	if err := errors.Join(r.usage.flush(), r.store.Close()); err != nil {
		t.Error(err)
	}
}

// tierOfKey is the tier of a key, "" if nothing is known of it.
func tierOfKey(t *testing.T, s *rig, name string) akigw.Outcome {
	t.Helper()
	c, err := s.Object(key(name))
	if err != nil {
		return ""
	}
	// The catalog says the same.
	found := false
	if err := s.Each(t.Context(), akigw.Exactly(key(name)), func(e *akigw.CatalogEntry) bool {
		found = true
		if e.Tier != c.Tier || e.HotBytes != c.HotBytes || e.WarmBytes != c.WarmBytes || e.Size != c.Size || e.ETag != c.ETag || e.Pinned != c.Pinned || e.Accesses != c.Accesses {
			t.Errorf("%s: the catalog says %+v, the object's state is %+v", name, *e, c)
		}
		return true
	}); err != nil || !found {
		t.Errorf("%s is not in the catalog (%v)", name, err)
	}
	return c.Tier
}

// aged makes the last use of a key that much older.
func aged(t *testing.T, s *rig, name string, by time.Duration) {
	t.Helper()
	if err := s.usage.flush(); err != nil {
		t.Fatal(err)
	}
	u := s.usage.of(key(name))
	u.last -= int64(by.Seconds())
	if err := s.store.PutAccesses([]akigw.Key{key(name)}, [][]byte{appendUsage(nil, u)}); err != nil {
		t.Fatal(err)
	}
}

// TestStateWithoutDisk: without a warm tier nothing is on disk, whoever is asked.
func TestStateWithoutDisk(t *testing.T) {
	up := testkit.NewMemory()
	config := tiertest.Config(rules.Exclusive)
	config.WarmBytes = 0
	s := controlled(t, config, t.TempDir(), up)
	defer closeStore(t, s)
	for name, n := range map[string]int{"small": 2000, "large": 3 * block} {
		up.Put(key(name), testkit.Bytes(1, n))
		tiertest.WantRead(t, s.store, key(name), testkit.Bytes(1, n), "")
		if tier := tierOfKey(t, s, name); tier != akigw.Hot {
			t.Errorf("%s is %s", name, tier)
		}
	}
	all, _, err := s.Objects(t.Context(), akigw.Pattern{Bucket: key("").Bucket}, "", 10)
	if err != nil || len(all) != 2 {
		t.Fatalf("%d objects, %v", len(all), err)
	}
	for _, c := range all {
		if c.WarmBytes != 0 || c.HotBytes != c.Size {
			t.Errorf("%s: %+v", c.Key, c)
		}
	}
}

// TestMoves: each action leaves an object where it says, and says what it did, for objects
// of one entry and of blocks, cached or not.
func TestMoves(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for name, n := range map[string]int{"small": 2000, "large": 5*block + 7} {
		body := testkit.Bytes(1, n)
		up.Put(key(name), body)
		for i, c := range []struct {
			action Action
			want   akigw.Outcome
			moved  int
		}{
			{PromoteToWarm, akigw.Warm, 1},
			{PromoteToWarm, akigw.Warm, 0},
			{PromoteToHot, akigw.Hot, 1},
			{PromoteToHot, akigw.Hot, 0},
			{DemoteToWarm, akigw.Warm, 1},
			{DemoteToWarm, akigw.Warm, 0},
			{PromoteToHot, akigw.Hot, 1},
			{DemoteToCold, akigw.Cold, 1},
			{DemoteToCold, akigw.Cold, 0},
			{PromoteToHot, akigw.Hot, 1},
			{DemoteToCold, akigw.Cold, 1},
			{PromoteToWarm, akigw.Warm, 1},
		} {
			got, err := s.Move(t.Context(), c.action, akigw.Exactly(key(name)), false)
			if err != nil || got.Moved != c.moved || got.Moved+got.Already != 1 || c.moved == 1 && got.Bytes != int64(n) {
				t.Errorf("%s, step %d, %s: %+v, %v", name, i, c.action, got, err)
			}
			if c.action == PromoteToWarm { // what was read lately is in memory besides
				s.store.LeaveMemory(key(name))
			}
			if tier := tierOfKey(t, s, name); tier != c.want {
				t.Errorf("%s, step %d, %s: it is %s", name, i, c.action, tier)
			}
		}
		gets := up.Count("GET")
		tiertest.WantRead(t, s.store, key(name), body, "")
		if up.Count("GET") != gets {
			t.Errorf("%s was asked for again", name)
		}
		if _, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key(name)), false); err != nil {
			t.Error(err)
		}
		tiertest.WantRead(t, s.store, key(name), body, akigw.Cold)
	}
	for action, want := range map[Action]error{"squash": ErrAction, PromoteToHot: akigw.ErrNoSuchKey, PromoteToWarm: akigw.ErrNoSuchKey, DemoteToCold: akigw.ErrNoSuchKey, PinObjects: akigw.ErrNoSuchKey, UnpinObjects: ErrNotPinned} {
		if _, err := s.Move(t.Context(), action, akigw.Exactly(key("absent")), false); !errors.Is(err, want) {
			t.Errorf("%s of what is not there: %v", action, err)
		}
	}
}

// TestMovesOfAPrefix: they concern what they name and nothing else, and what does not fit
// changes nothing.
func TestMovesOfAPrefix(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for i := range 600 {
		up.Put(key(fmt.Sprintf("a/%03d", i)), testkit.Bytes(uint64(i), 5000))
	}
	for _, name := range []string{"b/1", "a"} {
		up.Put(key(name), testkit.Bytes(9, 5000))
	}
	for _, name := range up.KeysOf("bucket") {
		if _, _, err := tiertest.Read(s.store, key(name), ""); err != nil {
			t.Fatal(err)
		}
	}
	what := akigw.Pattern{Bucket: "bucket", Prefix: "a/"}
	wantState := func(hot, warm, cold int) {
		t.Helper()
		st, err := s.State(t.Context(), what)
		if err != nil || st.Objects != 600 || st.Hot != hot || st.Warm != warm || st.Cold != cold {
			t.Errorf("%+v, %v", st, err)
		}
	}
	for _, c := range []struct {
		action          Action
		hot, warm, cold int
	}{{DemoteToWarm, 0, 600, 0}, {DemoteToCold, 0, 0, 600}, {PromoteToWarm, 0, 600, 0}, {PromoteToHot, 600, 0, 0}, {DemoteToCold, 0, 0, 600}} {
		if got, err := s.Move(t.Context(), c.action, what, false); err != nil || got.Moved != 600 {
			t.Errorf("%s: %+v, %v", c.action, got, err)
		}
		if c.action == PromoteToWarm {
			for i := range 600 {
				s.store.LeaveMemory(key(fmt.Sprintf("a/%03d", i)))
			}
		}
		wantState(c.hot, c.warm, c.cold)
	}
	if tierOfKey(t, s, "b/1") != akigw.Hot || tierOfKey(t, s, "a") != akigw.Hot {
		t.Error("what was not named has moved")
	}
	for i := range 40 {
		up.Put(key(fmt.Sprintf("a/big%02d", i)), testkit.Bytes(1, 4*block))
		if _, _, err := tiertest.Read(s.store, key(fmt.Sprintf("a/big%02d", i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	before, err := s.State(t.Context(), what)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range []Action{PromoteToHot, PinObjects} {
		if _, err := s.Move(t.Context(), action, what, true); !errors.Is(err, tiers.ErrNoRoom) {
			t.Errorf("%s of more than there is room for: %v", action, err)
		}
	}
	after, err := s.State(t.Context(), what)
	if err != nil || before.Hot != after.Hot || before.Cold != after.Cold || after.Pinned != 0 || len(s.Pins()) != 0 {
		t.Errorf("a refused move changed something: %+v, %+v, %v", before, after, err)
	}
}

// TestTierDemotionRollback: nothing leaves the disk while the upstream does not answer, and
// a promotion that fails half-way leaves what it had brought.
func TestTierDemotionRollback(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for i := range 10 {
		up.Put(key(fmt.Sprintf("a/%d", i)), testkit.Bytes(uint64(i), 3*block))
		if _, _, err := tiertest.Read(s.store, key(fmt.Sprintf("a/%d", i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	all := akigw.Pattern{Bucket: "bucket", Prefix: "a/"}
	up.Before = func(*cold.Request) (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable }
	for _, what := range []akigw.Pattern{akigw.Exactly(key("a/3")), all} {
		if got, err := s.Move(t.Context(), DemoteToCold, what, false); !errors.Is(err, akigw.ErrUpstreamUnavailable) || got.Moved != 0 {
			t.Errorf("%+v: %+v, %v", what, got, err)
		}
	}
	if st, err := s.State(t.Context(), all); err != nil || st.Hot != 10 {
		t.Errorf("%+v, %v", st, err)
	}
	up.Before = nil
	if _, err := s.Move(t.Context(), DemoteToCold, all, false); err != nil {
		t.Fatal(err)
	}
	var gets atomic.Int64
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if r.Op == "GetObject" && gets.Add(1) > 5 {
			return nil, akigw.ErrUpstreamUnavailable
		}
		return nil, nil
	}
	for _, action := range []Action{PromoteToHot, PromoteToWarm} {
		gets.Store(0)
		if _, err := s.Move(t.Context(), action, all, false); !errors.Is(err, akigw.ErrUpstreamUnavailable) || gets.Load() < 6 {
			t.Errorf("%s: %v after %d", action, err, gets.Load())
		}
		if st, err := s.State(t.Context(), all); err != nil || action == PromoteToHot && st.Hot != 0 || action == PromoteToWarm && st.Warm+st.Hot != 0 {
			t.Errorf("%s that failed left %+v, %v", action, st, err)
		}
	}
}

// TestConcurrentMoves: of many that want the same objects moved one does it, and the others
// are told.
func TestConcurrentMoves(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	const objects = 200
	for i := range objects {
		up.Put(key(fmt.Sprintf("a/%d", i)), testkit.Bytes(uint64(i), 6000))
	}
	for _, name := range up.KeysOf("bucket") {
		if _, _, err := tiertest.Read(s.store, key(name), ""); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	for round := range 20 {
		action := Pick(round, DemoteToCold, PromoteToWarm)
		var winners, moved, busy atomic.Int64
		var all sync.WaitGroup
		start := make(chan struct{})
		for range 10 {
			all.Go(func() {
				<-start
				got, err := s.Move(context.Background(), action, akigw.Pattern{Bucket: "bucket", Prefix: "a/"}, false)
				switch {
				case errors.Is(err, ErrMoving):
					busy.Add(1)
				case err != nil:
					t.Error(err)
				case got.Moved > 0:
					winners.Add(1)
					moved.Add(int64(got.Moved))
				}
			})
		}
		close(start)
		all.Wait()
		if winners.Load() != 1 || moved.Load() != objects {
			t.Errorf("round %d: %d moved something, %d objects in all", round, winners.Load(), moved.Load())
		}
		told += int(busy.Load())
	}
	if told == 0 {
		t.Error("nobody came in another's way: the path was not exercised")
	}
}

// Pick is the n-th of some values, over and over.
func Pick[T any](n int, from ...T) T { return from[n%len(from)] }

// TestD8_MovesWritesAndReads: whatever is moved while it is written and read, each read
// sees a whole version that was the key's at some time, and the last one stays.
func TestD8_MovesWritesAndReads(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	body := func(version int) []byte { return testkit.Bytes(uint64(version), 1000+version%3*2*block) }
	var written atomic.Int64
	for _, name := range []string{"0", "1", "2"} {
		if err := tiertest.Put(s.store, up, key(name), body(0)); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var moves, reads atomic.Int64
	enough := func() bool { return moves.Load() >= 50 && reads.Load() >= 50 && written.Load() >= 5 }
	began := time.Now()
	var work sync.WaitGroup
	work.Go(func() { _ = s.store.Run(ctx) })
	work.Go(func() {
		defer cancel() // for as long as it takes on this disk
		for v := 1; time.Since(began) < 2*time.Second || !enough() && time.Since(began) < time.Minute; v++ {
			for _, name := range []string{"0", "1", "2"} {
				if err := tiertest.Put(s.store, up, key(name), body(v)); err != nil {
					t.Error(err)
				}
			}
			written.Store(int64(v))
			time.Sleep(5 * time.Millisecond)
		}
	})
	for i := range 4 {
		work.Go(func() {
			for n := i; ctx.Err() == nil; n++ {
				action := Pick(n, PromoteToHot, DemoteToWarm, PromoteToWarm, DemoteToCold)
				_, err := s.Move(ctx, action, Pick(n/4, akigw.Exactly(key(fmt.Sprint(n%3))), akigw.Pattern{Bucket: "bucket"}), false)
				if err != nil && !errors.Is(err, ErrMoving) && !errors.Is(err, akigw.ErrChanged) && !errors.Is(err, tiers.ErrNoRoom) && ctx.Err() == nil {
					t.Errorf("%s: %v", action, err)
				}
				if err == nil {
					moves.Add(1)
				}
			}
		})
	}
	for range 2 {
		work.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				from := written.Load()
				got, _, err := tiertest.Read(s.store, key(fmt.Sprint(n%3)), "")
				to := written.Load() + 1
				ok := err != nil // the object changed under it more often than it begins again
				for v := from; v <= to && !ok; v++ {
					ok = bytes.Equal(got, body(int(v)))
				}
				if err != nil && !errors.Is(err, akigw.ErrChanged) || !ok {
					t.Errorf("versions %d to %d: %d bytes, %v", from, to, len(got), err)
				}
				reads.Add(1)
			}
		})
	}
	work.Wait()
	if !enough() {
		t.Errorf("%d moves, %d reads, %d versions: too few", moves.Load(), reads.Load(), written.Load())
	}
	for _, name := range []string{"0", "1", "2"} {
		o, _ := up.Get(key(name))
		tiertest.WantRead(t, s.store, key(name), o.Body, "")
	}
}

// TestPolicyWorker: one cycle moves what has been idle too long, and what is popular, and
// nothing else.
func TestPolicyWorker(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for _, c := range []struct {
		name          string
		reads         int
		outOfMemory   bool
		idle          time.Duration
		before, after akigw.Outcome
	}{
		{"just read", 1, false, 0, akigw.Hot, akigw.Hot},
		{"hot for 5 hours", 1, false, 5 * time.Hour, akigw.Hot, akigw.Hot},
		{"hot for 7 hours", 1, false, 7 * time.Hour, akigw.Hot, akigw.Warm},
		{"warm for 6 days", 1, true, 6 * 24 * time.Hour, akigw.Warm, akigw.Warm},
		{"warm for 8 days", 1, true, 8 * 24 * time.Hour, akigw.Warm, akigw.Cold},
		{"popular", 10, true, 0, akigw.Warm, akigw.Hot},
		{"nearly popular", 9, true, 0, akigw.Warm, akigw.Warm},
		{"pinned for 8 days", 1, true, 8 * 24 * time.Hour, akigw.Warm, akigw.Warm},
	} {
		for size, n := range map[string]int{"small": 3000, "large": 3 * block} {
			name := c.name + ", " + size
			up.Put(key(name), testkit.Bytes(1, n))
			for range c.reads {
				if _, _, err := tiertest.Read(s.store, key(name), ""); err != nil {
					t.Fatal(err)
				}
			}
			if c.name == "pinned for 8 days" {
				if _, err := s.Move(t.Context(), PinObjects, akigw.Exactly(key(name)), false); err != nil {
					t.Fatal(err)
				}
			}
			if c.outOfMemory {
				s.store.LeaveMemory(key(name))
			}
			aged(t, s, name, c.idle)
			if got := tierOfKey(t, s, name); got != c.before {
				t.Errorf("%s: %s before", name, got)
			}
			check := c
			defer func() {
				if got := tierOfKey(t, s, name); got != check.after {
					t.Errorf("%s: %s after the cycle, want %s", name, got, check.after)
				}
			}()
		}
	}
	cp := checkpoint{Cycle: 1, Running: true, Begun: time.Now()}
	if err := s.worker.cycle(t.Context(), &cp); err != nil {
		t.Fatal(err)
	}
	if r := s.Worker(); r.Objects != 16 || r.Promoted != 2 || r.Demoted != 4 || r.Failed != 0 || r.Pinned != 2 || r.Running || r.Ended.IsZero() {
		t.Errorf("%+v", r)
	}
	again := cp.next()
	if err := s.worker.cycle(t.Context(), &again); err != nil || again.Report.Promoted+again.Report.Demoted != 0 {
		t.Errorf("a second cycle moved %d and %d, %v", again.Report.Promoted, again.Report.Demoted, err)
	}
}

// TestWorkerWaitsForTheUpstream: nothing leaves the disk while it could not be fetched again.
// Whoever asks meanwhile is told of the last whole cycle.
func TestWorkerWaitsForTheUpstream(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	up.Put(key("k"), testkit.Bytes(1, 3*block))
	if _, _, err := tiertest.Read(s.store, key("k"), ""); err != nil {
		t.Fatal(err)
	}
	s.store.LeaveMemory(key("k"))
	aged(t, s, "k", 8*24*time.Hour)
	down := true
	var told []WorkerReport
	up.Before = func(*cold.Request) (*http.Response, error) {
		told = append(told, *s.Worker())
		if down {
			return nil, akigw.ErrUpstreamUnavailable
		}
		return nil, nil
	}
	var cp checkpoint
	for _, want := range []akigw.Outcome{akigw.Warm, akigw.Cold} {
		cp = cp.next()
		if err := s.worker.cycle(t.Context(), &cp); err != nil {
			t.Fatal(err)
		}
		if got := tierOfKey(t, s, "k"); got != want {
			t.Errorf("down %t: %s", down, got)
		}
		down = false
	}
	if len(told) != 2 || told[0] != (WorkerReport{Cycle: 1, Running: true}) || told[1].Cycle != 2 || !told[1].Running || told[1].Objects != 1 || told[1].Ended.IsZero() {
		t.Errorf("in the first cycle, and in the second: %+v", told)
	}
}

// TestB20_WorkerIsCutOff: a worker that ends at any moment goes on where it was: at the end
// everything was demoted, and nothing twice. TestD22: what it did last is on disk when it has
// ended.
func TestB20_D22_WorkerIsCutOff(t *testing.T) {
	up, dir := testkit.NewMemory(), t.TempDir()
	s := controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	const objects = 3000
	for i := range objects {
		name := fmt.Sprintf("%04d", i)
		up.Put(key(name), testkit.Bytes(uint64(i), 500))
		if _, _, err := tiertest.Read(s.store, key(name), ""); err != nil {
			t.Fatal(err)
		}
		s.store.LeaveMemory(key(name))
	}
	if err := s.usage.flush(); err != nil {
		t.Fatal(err)
	}
	for i := range objects {
		aged(t, s, fmt.Sprintf("%04d", i), 8*24*time.Hour)
	}
	random := testkit.Random(t)
	total, cuts := 0, 0
	for limit := 30; ; limit += 10 { // it gets further each time, however slow the machine is
		demoted := s.mover.counters.moved(DemoteToCold, byWorker)
		before := demoted.Get()
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Duration(random.IntN(limit))*time.Millisecond, cancel)
		cp := s.worker.load()
		if cp.Running {
			cuts++
		} else {
			cp = checkpoint{Cycle: 1, Running: true, Begun: time.Now()}
		}
		err := s.worker.cycle(ctx, &cp)
		cancel()
		total += int(demoted.Get() - before)
		if err != nil {
			t.Fatal(err)
		}
		if !cp.Running {
			if cp.Report.Demoted != objects {
				t.Errorf("the report says that %d were demoted", cp.Report.Demoted)
			}
			break
		}
		closeStore(t, s)
		s = controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	}
	defer closeStore(t, s)
	if cuts == 0 {
		t.Error("the cycle was never cut off")
	}
	if st, err := s.State(t.Context(), akigw.Pattern{}); err != nil || st.Cold != objects || total != objects {
		t.Errorf("%+v, %v; %d demotions of %d objects, %d cuts", st, err, total, objects, cuts)
	}
}

// TestCheckpointThatIsDamaged begins a new cycle.
func TestCheckpointThatIsDamaged(t *testing.T) {
	w := &worker{log: slog.New(slog.DiscardHandler), path: filepath.Join(t.TempDir(), "worker.json")}
	c := checkpoint{Cycle: 7, Running: true, Begun: time.Now().Round(0), Place: "Yg==", Moves: []decision{{key("k"), DemoteToCold}}}
	if err := c.save(w.path); err != nil {
		t.Fatal(err)
	}
	if got := w.load(); got.Cycle != 7 || got.Place != c.Place || len(got.Moves) != 1 || got.Moves[0] != c.Moves[0] {
		t.Errorf("%+v", got)
	}
	raw, err := os.ReadFile(w.path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range raw {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 0x10
		if err := os.WriteFile(w.path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if got := w.load(); got.Running && (got.Place != c.Place || got.Moves[0] != c.Moves[0]) {
			t.Errorf("byte %d: %+v", i, got)
		}
	}
}

// TestPins: they survive a restart, hold for what comes later, end when they are to, and
// nothing that is read meanwhile drives out what is pinned.
func TestPins(t *testing.T) {
	up, dir := testkit.NewMemory(), t.TempDir()
	s := controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	bodies := map[string][]byte{}
	for i := range 8 {
		name := fmt.Sprintf("p/%d", i)
		bodies[name] = testkit.Bytes(uint64(i), Pick(i, 3000, 3*block))
		up.Put(key(name), bodies[name])
	}
	if got, err := s.Move(t.Context(), PinObjects, akigw.Exactly(key("p/0")), true); err != nil || got.Moved != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if _, err := s.Move(t.Context(), PinObjects, akigw.Pattern{Bucket: "bucket", Prefix: "p/"}, true); err != nil {
		t.Error(err)
	}
	for name, body := range bodies { // now that it is pinned it stays
		tiertest.WantRead(t, s.store, key(name), body, "")
	}
	closeStore(t, s)
	s = controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	if len(s.Pins()) != 2 {
		t.Fatalf("%+v", s.Pins())
	}
	s.store.Repin(akigw.Pattern{})
	for name, body := range bodies {
		tiertest.WantRead(t, s.store, key(name), body, akigw.Warm) // into memory
	}
	if n := s.store.Usage().HotPinned; n < 4*3*block {
		t.Errorf("%d bytes are pinned in memory after a restart", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	running := make(chan error, 1)
	go func() { running <- s.Run(ctx) }()
	up.Reset()
	for i := range 3 * 64 / 2 { // one and a half times the disk; e2e does it with ten times
		name := fmt.Sprintf("other/%d", i)
		up.Put(key(name), testkit.Bytes(1, 1<<20))
		for range 2 {
			if _, _, err := tiertest.Read(s.store, key(name), ""); err != nil {
				t.Fatal(err)
			}
		}
		up.Delete(key(name))
	}
	for name, body := range bodies {
		tiertest.WantRead(t, s.store, key(name), body, akigw.Hot)
		if tier := tierOfKey(t, s, name); tier != akigw.Hot {
			t.Errorf("%s is %s", name, tier)
		}
		if _, err := s.Move(t.Context(), DemoteToWarm, akigw.Exactly(key(name)), false); !errors.Is(err, ErrPinned) {
			t.Errorf("demoted though pinned: %v", err)
		}
		if _, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key(name)), false); !errors.Is(err, ErrPinned) {
			t.Errorf("demoted though pinned: %v", err)
		}
	}
	if err := tiertest.Put(s.store, up, key("p/1"), testkit.Bytes(77, 2*block)); err != nil {
		t.Error(err)
	}
	tiertest.WantRead(t, s.store, key("p/1"), testkit.Bytes(77, 2*block), akigw.Hot)
	pinned := s.store.Usage().HotPinned
	if _, err := s.Move(t.Context(), UnpinObjects, akigw.Exactly(key("p/3")), false); !errors.Is(err, ErrPinned) {
		t.Errorf("one of a pinned prefix: %v", err)
	}
	if got, err := s.Move(t.Context(), UnpinObjects, akigw.Pattern{Bucket: "bucket", Prefix: "p/"}, false); err != nil || got.Moved != 2 {
		t.Errorf("%+v, %v", got, err)
	}
	if s.store.Usage().HotPinned != 0 || s.store.Usage().WarmPinned != 0 || pinned == 0 {
		t.Errorf("%d, then %d bytes are pinned in memory, %d on disk", pinned, s.store.Usage().HotPinned, s.store.Usage().WarmPinned)
	}
	if _, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key("p/3")), false); err != nil {
		t.Error(err)
	}
	cancel()
	if err := <-running; err != nil {
		t.Error(err)
	}
	closeStore(t, s)
}

// TestPinThatFails: it leaves the pin that there was, and what others pinned and unpinned
// meanwhile.
func TestPinThatFails(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	move := func(action Action, name string, hot bool) {
		t.Helper()
		if _, err := s.Move(t.Context(), action, akigw.Exactly(key(name)), hot); err != nil {
			t.Errorf("%s %s: %v", action, name, err)
		}
	}
	for _, name := range []string{"fails", "new", "old"} {
		up.Put(key(name), testkit.Bytes(1, 3*block))
	}
	for _, former := range []bool{false, true} {
		move(PinObjects, "old", false)
		if former {
			move(PinObjects, "fails", false)
		}
		if _, err := s.store.Purge(t.Context(), akigw.Exactly(key("fails"))); err != nil {
			t.Error(err)
		}
		asked := 0
		up.Before = func(r *cold.Request) (*http.Response, error) {
			pin := Pin{Bucket: "bucket", Prefix: "fails", Exactly: true, Hot: true}
			if r.Key.Name != "fails" || !slices.ContainsFunc(s.Pins(), func(p Pin) bool { p.Since = time.Time{}; return p == pin }) {
				return nil, nil // what is asked before it is pinned is answered
			}
			if asked++; asked == 1 {
				move(UnpinObjects, "old", false)
				move(PinObjects, "new", false)
			}
			return nil, akigw.ErrUpstreamUnavailable
		}
		if _, err := s.Move(t.Context(), PinObjects, akigw.Exactly(key("fails")), true); !errors.Is(err, akigw.ErrUpstreamUnavailable) || asked == 0 {
			t.Errorf("%v after %d requests", err, asked)
		}
		up.Before = nil
		want := "new/false "
		if former {
			want = "fails/false new/false "
		}
		got := ""
		for _, p := range s.Pins() {
			got += fmt.Sprintf("%s/%t ", p.Prefix, p.Hot)
		}
		if got != want {
			t.Errorf("pins %s, want %s", got, want)
		}
		move(UnpinObjects, "new", false)
	}
}

// TestPinsThatAreDamaged are set aside, whichever byte it is.
func TestPinsThatAreDamaged(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.json")
	b, err := openPins(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.change(func([]Pin) ([]Pin, error) { return []Pin{{Bucket: "bucket", Prefix: "p", Hot: true}}, nil }); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	aside := 0
	for i := range raw {
		damaged := bytes.Clone(raw)
		damaged[i] ^= 0x10
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		b, err := openPins(path)
		if err != nil {
			aside++
		}
		if all := b.state.Load().all; len(all) > 0 && (all[0].Bucket != "bucket" || all[0].Prefix != "p" || !all[0].Hot) {
			t.Errorf("byte %d: %+v", i, all)
		}
	}
	if aside < len(raw)/2 {
		t.Errorf("%d of %d damaged files were noticed", aside, len(raw))
	}
}

// TestPinsThatCannotBeRead: the file stays as it is, and nothing can be pinned over it.
func TestPinsThatCannotBeRead(t *testing.T) {
	path := filepath.Join(t.TempDir(), "pins.json")
	if err := os.Mkdir(path, 0o700); err != nil {
		t.Fatal(err)
	}
	b, problem := openPins(path)
	err := b.change(func([]Pin) ([]Pin, error) { return []Pin{{Bucket: "bucket"}}, nil })
	if problem == nil || err == nil || b.Any() {
		t.Errorf("%v, %v", problem, err)
	}
}

// TestUsage counts accesses in windows.
func TestUsage(t *testing.T) {
	const hour = 3600
	at := func(seconds int64) time.Time { return time.Unix(1000*hour+seconds, 0) }
	var u usage
	read := func(seconds int64) {
		u.roll(at(seconds).Unix() / hour)
		u.now++
		u.last = at(seconds).Unix()
	}
	for range 6 {
		read(3000)
	}
	for range 4 {
		read(3700)
	}
	for _, c := range []struct {
		seconds int64
		want    uint32
	}{{3700, 10}, {3600 + 1800, 4 + 3}, {7199, 4}, {7200, 4}, {9000, 2}, {3 * hour, 0}, {100 * hour, 0}} {
		if got := u.within(time.Hour, at(c.seconds)); got != c.want {
			t.Errorf("%d accesses at %d, want %d", got, c.seconds, c.want)
		}
	}
	if u.within(0, at(0)) != 0 || u.idle(at(3800)) != 100*time.Second || u.idle(at(0)) != 0 {
		t.Error("no window, or an idle time that is wrong")
	}
	if got := decodeUsage(appendUsage(nil, u)); got != u {
		t.Errorf("%+v came back as %+v", u, got)
	}
	other := usage{last: 5, window: u.window - 1, now: 3, total: 9}
	u.add(other)
	if u.before != 9 || u.now != 4 || u.total != 9 {
		t.Errorf("%+v", u)
	}
}

// TestAccessesAreKept: what was counted is there after a restart, and a key that is written
// over keeps it.
func TestAccessesAreKept(t *testing.T) {
	up, dir := testkit.NewMemory(), t.TempDir()
	s := controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	if err := tiertest.Put(s.store, up, key("k"), testkit.Bytes(1, 2*block)); err != nil {
		t.Fatal(err)
	}
	for i := range 7 {
		if _, _, err := tiertest.Read(s.store, key("k"), ""); err != nil {
			t.Fatal(err)
		}
		if i%3 == 0 {
			if err := s.usage.flush(); err != nil {
				t.Fatal(err)
			}
		}
	}
	closeStore(t, s)
	s = controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	defer closeStore(t, s)
	if err := tiertest.Put(s.store, up, key("k"), testkit.Bytes(2, 100)); err != nil {
		t.Fatal(err)
	}
	c, err := s.Object(key("k"))
	if err != nil || c.Accesses != 7 || c.Recent < 6 || time.Since(c.LastAccess) > time.Minute {
		t.Errorf("%+v, %v", c, err)
	}
}

// TestPrefetch brings everything in once, and again only what is missing.
func TestPrefetch(t *testing.T) {
	up := testkit.NewMemory()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for i := range 1100 { // more than a page
		up.Put(key(fmt.Sprintf("a/%04d", i)), testkit.Bytes(uint64(i), Pick(i, 100, 5000)))
	}
	up.Put(key("b"), []byte("x"))
	run := func(p Prefetch) (last PrefetchProgress, err error) {
		tells := 0
		err = s.Prefetch(t.Context(), akigw.Pattern{Bucket: "bucket", Prefix: "a/"}, p, func(now PrefetchProgress) {
			last = now
			tells++
		})
		if tells == 0 {
			t.Error("nothing was told")
		}
		return last, err
	}
	if p, err := run(Prefetch{}); err != nil || p.Fetched != 1100 || p.Already != 0 || p.Failed != 0 || !p.Done || p.After != "a/1099" {
		t.Errorf("%+v, %v", p, err)
	}
	gets := up.Count("GET")
	if p, err := run(Prefetch{}); err != nil || p.Fetched != 0 || p.Already != 1100 || !p.Done {
		t.Errorf("%+v, %v", p, err)
	}
	if n := up.Count("GET"); n-gets > 5 {
		t.Errorf("%d requests for what is there", n-gets)
	}
	up.Put(key("a/0500"), []byte("changed behind it"))
	if _, err := s.store.Purge(t.Context(), akigw.Exactly(key("a/0700"))); err != nil {
		t.Fatal(err)
	}
	if p, err := run(Prefetch{After: "a/0600"}); err != nil || p.Fetched != 1 || p.Listed != 499 {
		t.Errorf("%+v, %v", p, err)
	}
	if _, known := s.store.Find(key("b")); known {
		t.Error("it brought what was not named")
	}
	for i := range 70 {
		up.Put(key(fmt.Sprintf("a/big%02d", i)), testkit.Bytes(1, 1<<20))
	}
	if p, err := run(Prefetch{Hot: true, After: "a/1099"}); p.Fetched == 0 && !errors.Is(err, tiers.ErrNoRoom) {
		t.Errorf("%+v, %v", p, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var last PrefetchProgress
	if _, err := s.store.Purge(t.Context(), akigw.Pattern{Bucket: "bucket"}); err != nil {
		t.Fatal(err)
	}
	err := s.Prefetch(ctx, akigw.Pattern{Bucket: "bucket"}, Prefetch{Rate: 100_000}, func(now PrefetchProgress) { last = now })
	if err == nil || last.Bytes > 200_000 || last.Done {
		t.Errorf("%+v, %v", last, err)
	}
}

// FuzzControlRecords: whatever lies on the disk, reading it neither panics nor hangs, and what
// is read can be written.
func FuzzControlRecords(f *testing.F) {
	f.Add(appendUsage(nil, usage{last: 5, window: 1, now: 2, before: 3, total: 4}))
	if raw, err := (checkpoint{Cycle: 1, Running: true}).encode(); err == nil {
		f.Add(raw)
	}
	f.Add([]byte(`{"version":1,"crc32c":0,"pins":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		u := decodeUsage(raw)
		if decodeUsage(appendUsage(nil, u)) != u {
			t.Errorf("%+v", u)
		}
		if c, err := decodeCheckpoint(raw); err == nil {
			if _, err := c.encode(); err != nil {
				t.Error(err)
			}
		}
		_, _ = decodePins(raw) // what is wrong is an error
	})
}

// BenchmarkPin: what it takes to pin and unpin one object of many.
func BenchmarkPin(b *testing.B) {
	manyObjects(b, func(b *testing.B, s *rig) {
		for _, action := range []Action{PinObjects, UnpinObjects} {
			if _, err := s.Move(b.Context(), action, akigw.Pattern{Bucket: key("").Bucket, Prefix: "000500"}, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkState: what it takes to sum up a hundred objects of many.
func BenchmarkState(b *testing.B) {
	manyObjects(b, func(b *testing.B, s *rig) {
		if st, err := s.State(b.Context(), akigw.Pattern{Bucket: key("").Bucket, Prefix: "0005"}); err != nil || st.Objects != 100 {
			b.Fatal(st, err)
		}
	})
}

// BenchmarkLook: what the worker pays to look at each of many objects.
func BenchmarkLook(b *testing.B) {
	manyObjects(b, func(b *testing.B, s *rig) {
		b.ReportAllocs()
		held, seen := s.store.Held(), 0
		var found findings
		if err := s.walk(akigw.Pattern{}, "", func(k known) bool {
			s.worker.look(&found, k, held)
			seen++
			return true
		}); err != nil || seen < 1000 || len(found.moves) > 0 {
			b.Fatal(seen, found.moves, err)
		}
	})
}

// manyObjects measures what is done to a store that knows so many objects.
func manyObjects(b *testing.B, do func(b *testing.B, s *rig)) {
	for _, objects := range []int{1000, 20_000} {
		b.Run(fmt.Sprint(objects, " objects"), func(b *testing.B) {
			up := testkit.NewMemory()
			s := controlled(b, tiertest.Config(rules.Exclusive), b.TempDir(), up)
			defer closeStore(b, s)
			for n := range objects {
				k := key(fmt.Sprintf("%06d", n))
				up.Put(k, []byte("abc"))
				tiertest.MustRead(b, s.store, k)
			}
			for b.Loop() {
				do(b, s)
			}
		})
	}
}

// BenchmarkCountAccess: what a read pays for being counted.
func BenchmarkCountAccess(b *testing.B) {
	a, settings := NewAccesses(), &rules.Settings{AccessWindow: time.Hour}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for n := 0; pb.Next(); n++ {
			a.count(akigw.Key{Bucket: "bucket", Name: names[n%len(names)]}, settings, 1)
		}
	})
}

var names = func() (all []string) {
	for i := range 1000 {
		all = append(all, fmt.Sprintf("some/longer/prefix/%06d", i))
	}
	return all
}()

// TestNoRoomIsNoChange: an object that a tier does not keep has found no room; it is not said to
// have been changed by somebody.
func TestNoRoomIsNoChange(t *testing.T) {
	up := testkit.NewMemory()
	config := tiertest.Config(rules.Exclusive)
	config.HotBytes = 0
	config.WarmFault = func(op akigw.DiskOp, _ string, size int) (int, error) {
		if op == akigw.DiskWrite {
			return 0, syscall.ENOSPC
		}
		return size, nil
	}
	s := controlled(t, config, t.TempDir(), up)
	defer closeStore(t, s)
	up.Put(key("k"), testkit.Bytes(1, 100))
	if _, err := s.Move(t.Context(), PromoteToWarm, akigw.Exactly(key("k")), false); !errors.Is(err, tiers.ErrNoRoom) {
		t.Errorf("%v", err)
	}
}
