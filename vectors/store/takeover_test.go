package store

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

// some returns n vectors.
func some(first, n int) (all []vectors.Vector) {
	for i := range n {
		all = append(all, vectors.Vector{Key: fmt.Sprint("key ", first+i), Data: []float32{float32(i), 1}})
	}
	return all
}

// eventually waits until f holds.
func (m *machine) eventually(what string, f func() bool) {
	m.t.Helper()
	for end := time.Now().Add(20 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatalf("not seen: %s (%v)", what, m.session.problem())
		}
	}
}

// TestTakeoverOfAnOwnedPrefix: a gateway that finds the prefix taken loads nothing, and does after a
// takeover, which fences the other one. That one takes it back after a restart.
func TestTakeoverOfAnOwnedPrefix(t *testing.T) {
	up := newUpstream()
	first, second := newMachine(t, up, "gw-1"), newMachine(t, up, "gw-2")
	first.start(true)
	first.create("bucket", "index", 2, vectors.Euclidean)
	first.must(first.Put(t.Context(), "bucket", "index", some(0, 3)))
	first.must(first.Flush(t.Context()))
	first.must(first.Put(t.Context(), "bucket", "index", some(100, 2))) // is not flushed
	if _, err := first.Takeover(t.Context()); !errors.Is(err, ErrOurs) {
		t.Errorf("a takeover by the owner: %v", err)
	}

	second.start(false)
	second.eventually("the other owner", func() bool { return second.Owner().Writer == "gw-1" })
	if o := second.Owner(); o.Loaded || !o.Fenced || !InDanger(second.Problem()) {
		t.Errorf("%+v, %v", o, second.Problem())
	}
	taken, err := second.Takeover(t.Context())
	if err != nil || taken.From != "gw-1" || taken.Restart || taken.Records != 0 || !strings.Contains(taken.Message, "acknowledged and not flushed") {
		t.Fatalf("%+v, %v", taken, err)
	}
	second.eventually("that it is loaded", func() bool { return second.session.accepting() == nil })
	if o := second.Owner(); o.Writer != "gw-2" || !o.Loaded || o.Fenced || second.Problem() != nil {
		t.Errorf("%+v, %v", o, second.Problem())
	}
	if got, err := second.Get(t.Context(), "bucket", "index", []string{"key 0", "key 100"}); err != nil || len(got) != 1 {
		t.Errorf("%d vectors, %v", len(got), err)
	}
	second.must(second.Put(t.Context(), "bucket", "index", some(200, 1)))
	second.must(second.Flush(t.Context()))

	if err := first.Flush(t.Context()); !errors.Is(err, remote.ErrFenced) {
		t.Errorf("the first gateway flushes: %v", err)
	}
	if err := first.Put(t.Context(), "bucket", "index", some(300, 1)); err == nil {
		t.Error("a fenced gateway acknowledges")
	}
	if n := first.Totals().Pending; n != 2 {
		t.Errorf("%d pending", n)
	}
	back, err := first.Takeover(t.Context())
	if err != nil || back.From != "gw-2" || !back.Restart || back.Records == 0 || !strings.Contains(back.Message, "Restart this gateway") {
		t.Fatalf("%+v, %v", back, err)
	}
	if o := first.Owner(); !o.Fenced {
		t.Errorf("%+v before the restart", o)
	}
	first.restart()
	if o := first.Owner(); o.Writer != "gw-1" || first.session.accepting() != nil {
		t.Errorf("%+v, %v", o, first.Problem())
	}
	if got, err := first.Get(t.Context(), "bucket", "index", []string{"key 200"}); err != nil || len(got) != 1 {
		t.Errorf("what the other gateway has flushed: %d vectors, %v", len(got), err)
	}
	if got, err := first.Get(t.Context(), "bucket", "index", []string{"key 100"}); err != nil || len(got) != 0 || first.Totals().Pending != 0 {
		t.Errorf("a call whose sequence the other gateway has used: %d vectors, %v", len(got), err) // it would replace later ones
	}
	second.guard(t.Context())
	if o := second.Owner(); !o.Fenced || !errors.Is(second.Problem(), remote.ErrFenced) {
		t.Errorf("the second gateway, which had nothing to flush: %+v, %v", o, second.Problem())
	}
	if err := second.Put(t.Context(), "bucket", "index", some(400, 1)); err == nil {
		t.Error("the second gateway acknowledges")
	}
}

// TestTakeoverCountsOnce: a decision is about the gateway that had the prefix when it was made, and about
// no later one.
func TestTakeoverCountsOnce(t *testing.T) {
	owned := func(writer string, tenure uint64) error {
		return fmt.Errorf("acquire: %w", &remote.OwnedError{Owner: segment.Owner{Commit: segment.Commit{Writer: writer, Epoch: 99}, Tenure: tenure}})
	}
	for _, c := range []struct {
		name string
		d    decision
		err  error
		want bool
	}{
		{"the same tenure", decision{Writer: "gw-1", Tenure: 7}, owned("gw-1", 7), true},
		{"it took the prefix again", decision{Writer: "gw-1", Tenure: 7}, owned("gw-1", 9), false},
		{"another gateway", decision{Writer: "gw-1", Tenure: 7}, owned("gw-3", 7), false},
		{"the document was gone", decision{}, owned("gw-1", 0), true},
		{"the document was gone, and is back", decision{}, owned("gw-1", 7), false},
		{"damaged", decision{Damaged: true}, segment.ErrCorrupt, true},
		{"damaged since", decision{Writer: "gw-1", Tenure: 7}, segment.ErrCorrupt, false},
		{"no answer", decision{Writer: "gw-1", Tenure: 7}, errDetached, false},
	} {
		if got := c.d.covers(c.err); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}

	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.must(m.session.write(decision{Writer: "gw-2", Tenure: 3}))
	m.restart()
	if made, err := m.session.read(); made != nil || err != nil {
		t.Errorf("%+v is left, %v", made, err)
	}
}

// TestTotals: pending rows and changes are counted until they are flushed.
func TestTotals(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "one", 2, vectors.Euclidean)
	m.create("bucket", "two", 2, vectors.Euclidean)
	m.must(m.Put(t.Context(), "bucket", "one", some(0, 5)))
	m.must(m.Delete(t.Context(), "bucket", "two", []string{"no such key"}))
	before := m.Totals()
	if before.Pending < 6 || before.Collections != 2 || before.PendingBytes == 0 || before.Oldest.IsZero() || before.Stored != 0 {
		t.Errorf("%+v", before)
	}
	m.must(m.Flush(t.Context()))
	m.must(m.Move(t.Context(), "bucket", "two", Warm))
	after := m.Totals()
	if after.Pending != 0 || after.PendingBytes != 0 || !after.Oldest.IsZero() || after.Stored == 0 || after.Hot != 1 || after.HotBytes == 0 {
		t.Errorf("%+v", after)
	}
}
