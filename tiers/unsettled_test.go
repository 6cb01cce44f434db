package tiers

import (
	"errors"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestUnsettledWrites: while the upstream may still carry out a write, no read trusts what another
// read was told, in any mode, nor a cached absence.
func TestUnsettledWrites(t *testing.T) {
	for _, freshness := range []rules.Freshness{rules.Strict, rules.TTL, rules.Immutable, rules.Exclusive} {
		for name, before := range map[string][]byte{"replaces": []byte("old"), "creates": nil} {
			t.Run(string(freshness)+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					up := s3mem.New()
					s := inMemory(t, rules.Settings{Freshness: freshness, TTL: time.Hour}, up)
					if before != nil {
						up.Put(key("k"), before)
					}
					s.Begin(key("k")).Unsettled()
					if got, _, err := readAll(s, key("k"), ""); string(got) != string(before) || (err == nil) != (before != nil) {
						t.Errorf("before the upstream carries it out: %q, %v", got, err)
					}
					up.Put(key("k"), []byte("new"))
					if got, _, err := readAll(s, key("k"), ""); err != nil || string(got) != "new" {
						t.Errorf("after it: %q, %v", got, err)
					}
					time.Sleep(cold.UnfinishedFor)
					synctest.Wait()
					wantRead(t, s, key("k"), "", []byte("new"), "")
					if s.fence.writing(key("k")) || len(s.unsettled.writes) > 0 {
						t.Error("the fence stays raised")
					}
				})
			})
		}
	}
}

// TestUnsettledWritesAtAStop: the next epoch does not trust what was read while a write was
// unsettled either.
func TestUnsettledWritesAtAStop(t *testing.T) {
	up, dir := s3mem.New(), filepath.Join(t.TempDir(), "warm")
	config := testConfig(rules.Exclusive)
	up.Put(key("k"), []byte("old"))
	s := openStore(t, config, dir, up)
	s.Begin(key("k")).Unsettled()
	wantRead(t, s, key("k"), "", []byte("old"), akigw.Cold)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	up.Put(key("k"), []byte("new"))
	s = openStore(t, config, dir, up)
	got, _, err := readAll(s, key("k"), "")
	if err := errors.Join(err, s.Close()); err != nil || string(got) != "new" {
		t.Errorf("after a restart: %q, %v", got, err)
	}
}
