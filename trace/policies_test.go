package trace

import (
	"slices"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// The references are the published algorithms for blocks of one size, on slices whose first element
// is the oldest. Each returns whether a request is a hit.

func removed(s []uint64, key uint64) []uint64 {
	return slices.DeleteFunc(s, func(k uint64) bool { return k == key })
}

// sieveReference is SIEVE for n blocks.
func sieveReference(n int) func(key uint64) bool {
	var order []uint64
	used, hand := map[uint64]bool{}, 0
	return func(key uint64) bool {
		if slices.Contains(order, key) {
			used[key] = true
			return true
		}
		if len(order) == n {
			for hand %= n; used[order[hand]]; hand = (hand + 1) % n {
				used[order[hand]] = false
			}
			order = slices.Delete(order, hand, hand+1)
			if hand == n-1 { // it was the newest: the hand returns to the oldest
				hand = 0
			}
		}
		order, used[key] = append(order, key), false
		return false
	}
}

// s3fifoReference is S3-FIFO for n blocks.
func s3fifoReference(n int) func(key uint64) bool {
	var small, main, ghost []uint64
	uses := map[uint64]int{}
	evictMain := func() {
		for {
			key := main[0]
			main = main[1:]
			if uses[key] == 0 {
				return
			}
			uses[key]--
			main = append(main, key)
		}
	}
	evict := func() {
		if len(small) == 0 || 10*len(small) < n && len(main) > 0 {
			evictMain()
			return
		}
		key := small[0]
		small = small[1:]
		if uses[key] > 1 {
			main, uses[key] = append(main, key), 0
			return
		}
		if ghost = append(ghost, key); 10*len(ghost) > 9*n {
			ghost = ghost[1:]
		}
	}
	return func(key uint64) bool {
		if slices.Contains(small, key) || slices.Contains(main, key) {
			uses[key] = min(uses[key]+1, 3)
			return true
		}
		known := slices.Contains(ghost, key)
		ghost = removed(ghost, key)
		for len(small)+len(main) == n {
			evict()
		}
		if uses[key] = 0; known {
			main = append(main, key)
		} else {
			small = append(small, key)
		}
		return false
	}
}

// arcReference is ARC for n blocks, with the names of the paper. As in arc, p is in whole bytes: it is compared with
// a number of blocks for equality.
func arcReference(n int) func(key uint64) bool {
	var t1, t2, b1, b2 []uint64
	p, c := 0, n*warmValue
	replace := func(key uint64) {
		if len(t1) > 0 && (len(t1)*warmValue > p || slices.Contains(b2, key) && len(t1)*warmValue == p) {
			t1, b1 = t1[1:], append(b1, t1[0])
		} else {
			t2, b2 = t2[1:], append(b2, t2[0])
		}
	}
	return func(key uint64) bool {
		switch {
		case slices.Contains(t1, key) || slices.Contains(t2, key):
			t1, t2 = removed(t1, key), append(removed(t2, key), key)
			return true
		case slices.Contains(b1, key):
			p = min(p+max(warmValue, warmValue*len(b2)/len(b1)), c)
			replace(key)
			b1, t2 = removed(b1, key), append(t2, key)
			return false
		case slices.Contains(b2, key):
			p = max(p-max(warmValue, warmValue*len(b1)/len(b2)), 0)
			replace(key)
			b2, t2 = removed(b2, key), append(t2, key)
			return false
		case len(t1)+len(b1) == n && len(t1) < n:
			b1 = b1[1:]
			replace(key)
		case len(t1)+len(b1) == n:
			t1 = t1[1:]
		case len(t1)+len(t2)+len(b1)+len(b2) >= n:
			if len(t1)+len(t2)+len(b1)+len(b2) == 2*n {
				b2 = b2[1:]
			}
			replace(key)
		}
		t1 = append(t1, key)
		return false
	}
}

// lruReference is LRU for n blocks.
func lruReference(n int) func(key uint64) bool {
	var order []uint64
	return func(key uint64) bool {
		hit := slices.Contains(order, key)
		order = append(removed(order, key), key)
		order = order[max(len(order)-n, 0):]
		return hit
	}
}

// TestPolicies: with blocks of one size each policy hits what its reference hits.
func TestPolicies(t *testing.T) {
	random := testkit.Random(t)
	references := map[string]func(n int) func(key uint64) bool{"lru": lruReference, "sieve": sieveReference, "s3-fifo": s3fifoReference, "arc": arcReference}
	for _, n := range []int{1, 2, 3, 10, 16, 50} {
		set := movingTrace(random, 2000, 8*n)
		for i := range set {
			if i%5 == 0 {
				set[i] = scanned + uint64(i%(3*n))
			}
		}
		for policy, reference := range references {
			want, got := reference(n), set.through(levelOf(policy), n)
			for i, key := range set {
				if want, got := want(key), got(key); want != got {
					t.Fatalf("%s for %d blocks: request %d, of %d, is a hit: %t; want %t", policy, n, i, key, got, want)
				}
			}
		}
	}
}

// TestPolicies_Sizes: with blocks of many sizes each policy stays within its bound, hits what it has
// space for, and has neither a block that was dropped nor one that is larger than the tier.
func TestPolicies_Sizes(t *testing.T) {
	random := testkit.Random(t)
	const most = 100_000
	sizes := make([]int64, 200)
	for i := range sizes {
		sizes[i] = random.Int64N(20_000)
	}
	sizes[0] = most
	steps := make([]step, 20_000)
	for i := range steps {
		key := random.IntN(len(sizes))
		steps[i] = step{block: uint64(key), bytes: sizes[key]}
	}
	held := map[string]func(level) int64{
		"lru":     func(l level) int64 { return l.(*lru).order.Bytes() },
		"sieve":   func(l level) int64 { return l.(*sieve).order.Bytes() },
		"s3-fifo": func(l level) int64 { s := l.(*s3fifo); return s.small.Bytes() + s.main.Bytes() },
		"arc":     func(l level) int64 { a := l.(*arc); return a.once.Bytes() + a.again.Bytes() },
		"akigw":   func(l level) int64 { return l.(weighted).Bytes() },
	}
	for policy, bytes := range held {
		l, hits := levelOf(policy)(steps, most), 0
		fullest := int64(0)
		for i, s := range steps {
			hit := l.see(i)
			if hit {
				hits++
			}
			if hit && s.block == 0 {
				t.Fatalf("%s hits a block that is larger than the tier", policy)
			}
			if fullest = max(fullest, bytes(l)); fullest > most {
				t.Fatalf("%s holds %d bytes", policy, fullest)
			}
			if i%10 != 0 {
				continue
			}
			if l.drop(s.block); l.see(i) {
				t.Fatalf("%s hits a block that was dropped", policy)
			}
		}
		if hits == 0 || fullest < most*8/10 {
			t.Errorf("%s hits %d times with %d bytes", policy, hits, fullest)
		}
		room := levelOf(policy)(steps[:1000], 1<<40)
		seen := map[uint64]bool{}
		for i, s := range steps[:1000] {
			if hit := room.see(i); hit != seen[s.block] {
				t.Fatalf("%s with room for everything hits %d: %t", policy, s.block, hit)
			}
			seen[s.block] = true
		}
	}
}
