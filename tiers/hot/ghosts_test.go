package hot

import (
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestGhosts: what a cache lost is remembered with its origin until it is too old, and forgotten once
// it is taken. Few values are taken for others, or forgotten early.
func TestGhosts(t *testing.T) {
	random := testkit.Random(t)
	const values, bytes, oldest = 20_000, 1 << 12, 1 << 24 // 4,096 values of one origin are young enough
	type lost struct {
		from  origin
		total int64 // of the origin, at that time
	}
	g := newGhosts(oldest)
	g.holds(2 * oldest / bytes)
	remembered := map[uint64]lost{}
	var total [origins]int64
	wrong, checked := 0, 0
	for range 10 * values {
		id := random.Uint64N(values)
		if random.IntN(2) == 0 {
			from := origin(random.IntN(int(origins)))
			total[from] += bytes
			remembered[id] = lost{from, total[from]}
			g.add(id, from, bytes)
			continue
		}
		want, known := remembered[id]
		known = known && total[want.from]-want.total <= oldest
		delete(remembered, id)
		from, found := g.take(id, oldest)
		checked++
		if known != found || known && from != want.from {
			wrong++
		}
		if _, again := g.take(id, oldest); again {
			t.Fatalf("%d is remembered after it was taken", id)
		}
	}
	if wrong > checked/50 {
		t.Errorf("%d of %d answers are wrong", wrong, checked)
	}
}

// TestGhosts_Growth: ghosts survive that a cache holds more values.
func TestGhosts_Growth(t *testing.T) {
	g := newGhosts(1 << 30)
	for id := range uint64(300) {
		g.add(id, fromMain, 1<<10)
	}
	before := len(g.slots)
	g.holds(50_000)
	lost := 0
	for id := range uint64(300) {
		if from, ok := g.take(id, 1<<30); !ok || from != fromMain {
			lost++
		}
	}
	if len(g.slots) < 100_000 || before >= 100_000 || lost > 3 {
		t.Errorf("%d slots, then %d, and %d of 300 ghosts are lost", before, len(g.slots), lost)
	}
}
