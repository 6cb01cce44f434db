package store

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/vectors"
)

// TestConcurrentModel: eight clients put, delete, read and list their own keys, while the collection is flushed,
// merged, moved and swept. Each read has to have exactly what its client wrote; keys that no one touches are in
// each listing once.
func TestConcurrentModel(t *testing.T) {
	steps := 400
	if os.Getenv("AKIGW_LONG") != "" {
		steps = 50_000 / 8
	}
	random := testkit.Random(t)
	m := newMachine(t, newUpstream(), "gw-1")
	m.start(true)
	m.create("bucket", "index", 2, vectors.Euclidean)
	fixed := reference{}
	m.putSome("index", fixed, 0, 100)
	var clients, others sync.WaitGroup
	var over atomic.Bool
	refs := make([]reference, 8)
	for n := range refs {
		refs[n] = reference{}
		seed := random.Uint64()
		clients.Go(func() { m.client(n, steps, rand.New(rand.NewPCG(seed, 1)), refs[n]) })
	}
	for range 2 {
		seed := random.Uint64()
		others.Go(func() {
			random := rand.New(rand.NewPCG(seed, 2))
			for !over.Load() && !t.Failed() {
				switch random.IntN(6) {
				case 0, 1:
					m.should(m.Move(t.Context(), "bucket", "index", testkit.Pick(random, Cold, Warm, Hot)))
				case 2:
					m.should(m.Sweep(t.Context()))
				case 3:
					m.segments(fixed)
				default:
					m.should(m.Flush(t.Context()))
				}
			}
		})
	}
	clients.Wait()
	over.Store(true)
	others.Wait()
	all := maps.Clone(fixed)
	for _, ref := range refs {
		maps.Copy(all, ref)
	}
	m.verify("index", all)
	m.must(m.Flush(t.Context()))
	m.restart()
	m.verify("index", all)
	m.must(m.DeleteIndex(t.Context(), "bucket", "index"))
	m.must(m.Flush(t.Context()))
	if pending, hot := m.memory.used(); pending != 0 || hot != 0 {
		t.Errorf("after everything was deleted %d bytes are pending, %d hot", pending, hot)
	}
}

// should is must for goroutines.
func (m *machine) should(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Error(err)
	}
}

// client does random steps with keys of its own.
func (m *machine) client(n, steps int, random *rand.Rand, ref reference) {
	ctx := m.t.Context()
	for range steps {
		if m.t.Failed() {
			return
		}
		key := fmt.Sprintf("client %d key %d", n, random.IntN(20))
		switch random.IntN(4) {
		case 0, 1:
			v := vectors.Vector{Key: key, Data: []float32{float32(random.IntN(100)), float32(n)}}
			m.should(m.Put(ctx, "bucket", "index", []vectors.Vector{v}))
			ref[key] = v
		case 2:
			m.should(m.Delete(ctx, "bucket", "index", []string{key}))
			delete(ref, key)
		default:
			got, err := m.Get(ctx, "bucket", "index", []string{key})
			m.should(err)
			want, ok := ref[key]
			if ok != (len(got) == 1) || ok && len(got) == 1 && got[0].Data[0] != want.Data[0] {
				m.t.Errorf("%s: got %v, want %v", key, got, want)
			}
		}
	}
}

// segments lists the collection in 16 segments, and looks for the keys of ref in them.
func (m *machine) segments(ref reference) {
	seen := map[string]int{}
	for n := range 16 {
		var first *vectors.Hash
		if n > 0 {
			first = &vectors.Hash{}
			*first = highest()
			first[0] = byte(n<<4) - 1
		}
		last := highest()
		last[0] = byte(n<<4) | 15
		for more := true; more && !m.t.Failed(); {
			var err error
			more, err = m.List(m.t.Context(), "bucket", "index", first, last, 7, func(v vectors.Vector) bool {
				hash := vectors.HashKey(v.Key)
				first = &hash
				seen[v.Key]++
				return true
			})
			m.should(err)
		}
	}
	for key := range ref {
		if seen[key] != 1 {
			m.t.Errorf("%s was listed %d times", key, seen[key])
		}
	}
}
