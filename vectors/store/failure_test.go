package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/vectors"
)

// fail puts faults of the upstream in force, none if there are none.
func (m *machine) fail(f ...faults.Fault) {
	m.t.Helper()
	m.must(m.upstream.Set(faults.Plan{Seed: 1, Faults: f}))
}

// haltSoon stops the gateway, which must not take long.
func (m *machine) haltSoon() {
	m.t.Helper()
	stopped := make(chan struct{})
	go func() {
		m.halt()
		close(stopped)
	}()
	select {
	case <-stopped:
	case <-time.After(20 * time.Second):
		m.t.Fatal("the store does not end while the upstream hangs")
	}
}

// putSome puts vectors with keys from a number on, and adds them to ref.
func (m *machine) putSome(index string, ref reference, from, n int) {
	m.t.Helper()
	var all []vectors.Vector
	for i := range n {
		v := vectors.Vector{Key: vectorKey(from + i), Data: []float32{float32(from + i), 1}}
		all = append(all, v)
	}
	m.must(m.Put(m.t.Context(), "bucket", index, all))
	for _, v := range all {
		ref[v.Key] = v
	}
}

// verify compares a collection with what it has to have.
func (m *machine) verify(index string, ref reference) {
	m.t.Helper()
	keys := []string{}
	var after *vectors.Hash
	for more := true; more; {
		var err error
		more, err = m.List(m.t.Context(), "bucket", index, after, highest(), 100, func(v vectors.Vector) bool {
			hash := vectors.HashKey(v.Key)
			after, keys = &hash, append(keys, v.Key)
			if want, ok := ref[v.Key]; !ok || !slices.Equal(v.Data, want.Data) {
				m.t.Errorf("%s has %s %v, want %v", index, v.Key, v.Data, want.Data)
			}
			return true
		})
		m.must(err)
	}
	if len(keys) != len(ref) {
		m.t.Fatalf("%s has %d vectors, want %d", index, len(keys), len(ref))
	}
}

// isCode reports whether an error is one that clients see, with a code.
func isCode(err error, code vectors.Code) bool {
	var api *vectors.Error
	return errors.As(err, &api) && api.Code == code
}

// TestShutdownDuringPromotion: the store ends although the upstream does not answer a promotion.
func TestShutdownDuringPromotion(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	ref := reference{}
	m.putSome("index", ref, 0, 10)
	m.must(m.Flush(t.Context()))
	m.must(m.Move(t.Context(), "bucket", "index", Cold))
	m.fail(faults.Fault{Effect: faults.Hang})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	failed := make(chan error, 1)
	c := m.find("bucket", "index")
	go func() {
		_, err := m.Get(ctx, "bucket", "index", []string{"key 1"})
		failed <- err
	}()
	for m.promotion(c) == nil {
		time.Sleep(time.Millisecond)
	}
	m.haltSoon()
	if err := <-failed; !isCode(err, vectors.Unavailable) {
		t.Errorf("a read while the store ends: %v", err)
	}
	if _, err := m.Get(t.Context(), "bucket", "index", []string{"key 1"}); !errors.Is(err, errEnded) {
		t.Errorf("a read after the store ended: %v", err)
	}
	m.fail()
	m.start(true)
	m.verify("index", ref)
}

// promotion returns the promotion of a collection, nil if none is under way.
func (m *machine) promotion(c *collection) *promotion {
	m.promotions.mu.Lock()
	defer m.promotions.mu.Unlock()
	return m.promotions.current[c]
}

// TestMoveOfDeleted: what waited for its turn while the index was deleted moves nothing.
func TestMoveOfDeleted(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	m.putSome("index", reference{}, 0, 10)
	m.must(m.Flush(t.Context()))
	c := m.find("bucket", "index")
	m.must(c.turn.take(t.Context()))
	moved := make(chan error, 1)
	go func() { moved <- m.Move(t.Context(), "bucket", "index", Hot) }()
	m.must(m.DeleteIndex(t.Context(), "bucket", "index"))
	c.turn.release()
	if err := <-moved; err == nil {
		t.Error("a deleted collection was moved")
	}
	m.must(m.Flush(t.Context()))
	if pending, hot := m.memory.used(); pending != 0 || hot != 0 {
		t.Errorf("after everything was deleted %d bytes are pending, %d hot", pending, hot)
	}
}

// vectorKey is the key of a vector of putSome.
func vectorKey(n int) string { return fmt.Sprint("key ", n) }
