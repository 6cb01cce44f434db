package placement

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// testPolicy is the policy of the contract, with the worker off.
var testPolicy = PolicyConfig{HotTTLHours: 6, WarmTTLDays: 7, PromotionThreshold: 10, AccessWindowHours: 1}

const block = tiertest.Block

func key(name string) akigw.Key { return tiertest.Key(name) }

// rig is a store and its placement.
type rig struct {
	*Placement
	store *tiers.Store
}

// controlled opens a store with a placement. The worker runs only when a test calls it.
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

// Run runs all background work.
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

// tierOfKey returns the tier of a key, "" if the key is unknown.
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

// aged makes the last use of a key older by the given time.
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

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, testkit.BadgerLeaks()...) }
