package placement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// TestMoves: each action moves an object to the tier that it names and reports it, for objects with
// inline bodies and in blocks, cached or not.
func TestMoves(t *testing.T) {
	up := s3mem.New()
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
			if c.action == PromoteToWarm { // recently read data is also in memory
				s.store.LeaveMemory(key(name))
			}
			if tier := tierOfKey(t, s, name); tier != c.want {
				t.Errorf("%s, step %d, %s: it is %s", name, i, c.action, tier)
			}
		}
		gets := up.Count("GET")
		tiertest.WantRead(t, s.store, key(name), body, "")
		if up.Count("GET") != gets {
			t.Errorf("%s was fetched again", name)
		}
		if _, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key(name)), false); err != nil {
			t.Error(err)
		}
		tiertest.WantRead(t, s.store, key(name), body, akigw.Cold)
	}
	for action, want := range map[Action]error{"squash": ErrAction, PromoteToHot: akigw.ErrNoSuchKey, PromoteToWarm: akigw.ErrNoSuchKey, DemoteToCold: akigw.ErrNoSuchKey, PinObjects: akigw.ErrNoSuchKey, UnpinObjects: ErrNotPinned} {
		if _, err := s.Move(t.Context(), action, akigw.Exactly(key("absent")), false); !errors.Is(err, want) {
			t.Errorf("%s of a missing object: %v", action, err)
		}
	}
}

// TestMovesOfAPrefix: a move affects only the objects that it names. A move that does not fit
// changes nothing.
func TestMovesOfAPrefix(t *testing.T) {
	up := s3mem.New()
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
		t.Error("an object that was not named has moved")
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

// TestTierDemotionRollback: nothing leaves the disk while the upstream is unavailable, and a
// promotion that fails halfway keeps what it has fetched.
func TestTierDemotionRollback(t *testing.T) {
	up := s3mem.New()
	var away, halfway atomic.Bool
	var gets atomic.Int64
	up.Before = func(r *cold.Request) (*http.Response, error) {
		if away.Load() || halfway.Load() && r.Op == "GetObject" && gets.Add(1) > 5 {
			return nil, akigw.ErrUpstreamUnavailable
		}
		return nil, nil
	}
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for i := range 10 {
		up.Put(key(fmt.Sprintf("a/%d", i)), testkit.Bytes(uint64(i), 3*block))
		if _, _, err := tiertest.Read(s.store, key(fmt.Sprintf("a/%d", i)), ""); err != nil {
			t.Fatal(err)
		}
	}
	all := akigw.Pattern{Bucket: "bucket", Prefix: "a/"}
	away.Store(true)
	for _, what := range []akigw.Pattern{akigw.Exactly(key("a/3")), all} {
		if got, err := s.Move(t.Context(), DemoteToCold, what, false); !errors.Is(err, akigw.ErrUpstreamUnavailable) || got.Moved != 0 {
			t.Errorf("%+v: %+v, %v", what, got, err)
		}
	}
	if st, err := s.State(t.Context(), all); err != nil || st.Hot != 10 {
		t.Errorf("%+v, %v", st, err)
	}
	away.Store(false)
	if _, err := s.Move(t.Context(), DemoteToCold, all, false); err != nil {
		t.Fatal(err)
	}
	halfway.Store(true)
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

// TestConcurrentMoves: of many concurrent moves of the same objects one succeeds, and the others
// get an error.
func TestConcurrentMoves(t *testing.T) {
	up := s3mem.New()
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
		t.Error("no moves conflicted: the path was not exercised")
	}
}

// Pick returns the n-th of some values, over and over.
func Pick[T any](n int, from ...T) T { return from[n%len(from)] }

// TestMovesWritesAndReads: whatever is moved during reads and writes, each read sees a complete
// version that the key had at some time, and the last version stays.
//
// Scenarios: D8.
func TestMovesWritesAndReads(t *testing.T) {
	up := s3mem.New()
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
		defer cancel() // however long this disk takes
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
				ok := err != nil // the object changed during the read more often than the read restarts
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

// TestNoRoomIsNoChange: when a tier does not keep an object, the error says that there was no room,
// not that the object was changed.
func TestNoRoomIsNoChange(t *testing.T) {
	up := s3mem.New()
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

// TestMovesToColdOneByOne: in exclusive mode a listing confirms what is moved, key after key. In
// strict mode each object gets its HEAD.
func TestMovesToColdOneByOne(t *testing.T) {
	const n = 300
	for mode, c := range map[rules.Freshness]struct{ least, most, lists int }{rules.Exclusive: {2, n / 10, 1}, rules.Strict: {n, n, 0}} {
		t.Run(string(mode), func(t *testing.T) {
			up := s3mem.New()
			s := controlled(t, tiertest.Config(mode), t.TempDir(), up)
			defer closeStore(t, s)
			name := func(i int) string { return fmt.Sprintf("%03d & %d", i, i) }
			for i := range n {
				up.Put(key(name(i)), testkit.Bytes(uint64(i), 100))
				tiertest.MustRead(t, s.store, key(name(i)))
			}
			up.Reset()
			for i := range n {
				if got, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key(name(i))), false); err != nil || got.Moved != 1 {
					t.Fatalf("%s: %+v, %v", name(i), got, err)
				}
			}
			if heads, lists := up.Count("HEAD"), up.Count("ListObjectsV2"); heads < c.least || heads > c.most || lists != c.lists { // a move that finds the page late sends a HEAD
				t.Errorf("%d HEADs and %d listings for %d moves, want %d to %d and %d", heads, lists, n, c.least, c.most, c.lists)
			}
		})
	}
}

// TestNoMoveToColdWithoutTheUpstream: what the upstream does not confirm stays on disk.
func TestNoMoveToColdWithoutTheUpstream(t *testing.T) {
	up := s3mem.New()
	s := controlled(t, tiertest.Config(rules.Exclusive), t.TempDir(), up)
	defer closeStore(t, s)
	for _, name := range []string{"a", "b"} {
		up.Put(key(name), testkit.Bytes(1, 100))
		tiertest.MustRead(t, s.store, key(name))
	}
	up.Before = func(*cold.Request) (*http.Response, error) {
		return nil, fmt.Errorf("%w: down", akigw.ErrUpstreamUnavailable)
	}
	for _, name := range []string{"a", "b"} {
		if _, err := s.Move(t.Context(), DemoteToCold, akigw.Exactly(key(name)), false); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("%s was moved: %v", name, err)
		}
		tiertest.WantRead(t, s.store, key(name), testkit.Bytes(1, 100), akigw.Hot)
	}
}
