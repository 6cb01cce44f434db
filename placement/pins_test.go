package placement

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/testing/tiertest"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestPins: pins survive a restart, apply to objects written later, and end at the given time.
// Reads do not evict pinned data.
func TestPins(t *testing.T) {
	up, dir := s3mem.New(), t.TempDir()
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
	for name, body := range bodies { // a pinned object stays
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
		t.Errorf("one object of a pinned prefix: %v", err)
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

// TestPinThatFails: a failed pin keeps the previous pin, and the pins and unpins of others in the
// meantime.
func TestPinThatFails(t *testing.T) {
	up := s3mem.New()
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
				return nil, nil // requests before the pin succeed
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

// TestPinsThatAreDamaged: damaged pins are set aside, whichever byte is wrong.
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

// TestPinsThatCannotBeRead: an unreadable file is left unchanged, and no pin can overwrite it.
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

// BenchmarkPin measures pinning and unpinning one object of many.
func BenchmarkPin(b *testing.B) {
	manyObjects(b, func(b *testing.B, s *rig) {
		for _, action := range []Action{PinObjects, UnpinObjects} {
			if _, err := s.Move(b.Context(), action, akigw.Pattern{Bucket: key("").Bucket, Prefix: "000500"}, false); err != nil {
				b.Fatal(err)
			}
		}
	})
}
