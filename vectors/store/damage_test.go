package store

import (
	"bytes"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors"
)

// damage flips a byte in the objects whose names contain a text, or removes them, and returns how many.
func (m *machine) damage(text string, remove bool) (n int) {
	for _, name := range m.upstream.KeysOf("vectors") {
		if !strings.Contains(name, text) {
			continue
		}
		n++
		key := akigw.Key{Bucket: "vectors", Name: name}
		if remove {
			m.upstream.Delete(key)
			continue
		}
		o, _ := m.upstream.Get(key)
		body := bytes.Clone(o.Body)
		body[len(body)/2] ^= 1
		m.upstream.Put(key, body)
	}
	return n
}

// TestDamagedPartAfterMerge: a part that a merge has written is lost in the upstream, and nothing is lost.
func TestDamagedPartAfterMerge(t *testing.T) {
	for _, remove := range []bool{false, true} {
		m := newMachine(t, newUpstream(), "gw-1")
		m.start(true)
		m.create("bucket", "index", 2, vectors.Euclidean)
		ref := reference{}
		m.putSome("index", ref, 0, 20)
		m.must(m.Flush(t.Context()))
		m.putSome("index", ref, 10, 20) // is merged at once
		m.must(m.Flush(t.Context()))
		parts := m.find("bucket", "index").state().refs()
		if len(parts) != 1 || m.merges.Get() != 1 {
			t.Fatalf("%d parts after %d merges", len(parts), m.merges.Get())
		}
		if m.damage(parts[0].Name, remove) != 1 {
			t.Fatal("no object was damaged")
		}
		m.must(m.Move(t.Context(), "bucket", "index", Cold))
		m.verify("index", ref)
		m.must(m.Move(t.Context(), "bucket", "index", Cold))
		m.putSome("index", ref, 40, 20)
		m.must(m.Flush(t.Context()))
		m.restart()
		m.must(m.Move(t.Context(), "bucket", "index", Cold))
		m.verify("index", ref)
		if err := m.Problem(); err != nil {
			t.Errorf("nothing is lost: %v", err)
		}
	}
}

// TestLostParts: a collection of which parts are lost is served as it was before, read-only, and says so,
// also after a restart. What is in the journal stays there.
func TestLostParts(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	ref := reference{}
	m.putSome("index", ref, 0, 100)
	m.must(m.Flush(t.Context()))
	older := reference{}
	for key, v := range ref {
		older[key] = v
	}
	m.putSome("index", ref, 90, 15) // a delta
	m.must(m.Flush(t.Context()))
	if !slices.ContainsFunc(m.upstream.KeysOf("vectors"), func(name string) bool { return strings.Contains(name, "/delta-") }) {
		t.Fatal("there is no delta")
	}
	m.must(m.Move(t.Context(), "bucket", "index", Cold))
	m.putSome("index", ref, 200, 2) // is pending
	for i := range 2 {
		older[vectorKey(200+i)] = ref[vectorKey(200+i)]
	}
	m.damage("/delta-", true)
	for _, when := range []string{"found", "after a restart"} {
		m.verify("index", older)
		if m.Problem() == nil || m.Statuses()[0].Degraded == "" {
			t.Errorf("%s: nobody is told", when)
		}
		if err := m.Put(t.Context(), "bucket", "index", []vectors.Vector{{Key: "k", Data: []float32{1, 2}}}); !isCode(err, vectors.Unavailable) {
			t.Errorf("%s: a write: %v", when, err)
		}
		m.must(m.Flush(t.Context()))
		if m.held(callStream) != 1 {
			t.Errorf("%s: %d calls are in the journal", when, m.held(callStream))
		}
		m.restart()
		m.must(m.Move(t.Context(), "bucket", "index", Cold))
	}
}

// TestWipedUpstream: an upstream that has lost everything is not taken for a new one.
func TestWipedUpstream(t *testing.T) {
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	m.must(m.Flush(t.Context()))
	m.halt()
	m.damage("", true)
	m.start(false)
	m.eventually("the problem", func() bool { return errors.Is(m.Problem(), errWiped) || m.session.ready() == nil })
	if m.session.ready() == nil {
		t.Error("nothing is served as if it were all")
	}
}
