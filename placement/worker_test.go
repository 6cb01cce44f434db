package placement

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestPolicyWorker: one cycle moves objects that have been idle too long and objects that are
// popular, and nothing else.
func TestPolicyWorker(t *testing.T) {
	up := s3mem.New()
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
// Meanwhile the report shows the last complete cycle.
func TestWorkerWaitsForTheUpstream(t *testing.T) {
	up := s3mem.New()
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

// TestWorkerIsCutOff: a worker that is stopped at any moment resumes there. In the end everything
// is demoted, nothing twice. Its last action is on disk when it has stopped.
//
// Scenarios: B20, D22.
func TestWorkerIsCutOff(t *testing.T) {
	up, dir := s3mem.New(), t.TempDir()
	s := controlled(t, tiertest.Config(rules.Exclusive), dir, up)
	const objects = 1500
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
	for limit := 30; ; limit += 10 { // each worker gets further, however slow the machine is
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

// TestCheckpointThatIsDamaged: a damaged checkpoint starts a new cycle.
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

// BenchmarkLook measures the worker's cost to examine each of many objects.
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
