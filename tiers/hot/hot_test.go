package hot

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// value is a value of so many bytes, which know their key and version.
type value struct {
	key, version int
	bytes        uint32
}

// newCache is a cache of values by number.
func newCache(t testing.TB, maxBytes int64) *Cache[int, value] {
	t.Helper()
	return New(maxBytes, Values[int, value]{
		Weigh: func(_ int, v value) uint32 { return v.bytes },
		ID:    func(key int, v value) uint64 { return rand.New(rand.NewPCG(uint64(key), uint64(v.version))).Uint64() },
	})
}

// filled is a cache that is full of values of 100 bytes, each of which was offered twice.
func filled(t testing.TB, n int) *Cache[int, value] {
	c := newCache(t, int64(n)*100)
	for range 2 {
		for key := range n {
			c.Put(key, value{key: key, bytes: 100})
		}
	}
	return c
}

// TestPutAndGet: what was put is found, by each of the ways to ask, until it is dropped.
func TestPutAndGet(t *testing.T) {
	c := newCache(t, 1000)
	if _, ok := c.Get(1); ok || c.Has(1) || c.Len() != 0 || c.Bytes() != 0 {
		t.Error("an empty cache has something")
	}
	if !c.Put(1, value{1, 1, 100}) {
		t.Error("an empty cache did not take a value")
	}
	c.Keep(2, value{2, 1, 50})
	for key, bytes := range map[int]uint32{1: 100, 2: 50} {
		want := value{key, 1, bytes}
		got, ok := c.Get(key)
		peeked, there := c.Peek(key)
		if !ok || !there || got != want || peeked != want || !c.Has(key) {
			t.Errorf("%d is %+v, %t, and %+v, %t", key, got, ok, peeked, there)
		}
	}
	if c.Len() != 2 || c.Bytes() != 150 {
		t.Errorf("%d values of %d bytes", c.Len(), c.Bytes())
	}
	if !c.Put(1, value{1, 2, 300}) {
		t.Error("a value that is there was not replaced")
	}
	if got, _ := c.Get(1); got.version != 2 || c.Bytes() != 350 || c.Len() != 2 {
		t.Errorf("replaced: %+v, %d bytes, %d values", got, c.Bytes(), c.Len())
	}
	c.Drop(1)
	c.Drop(3) // is not there
	if _, ok := c.Get(1); ok || c.Has(1) || !c.Has(2) || c.Bytes() != 50 || c.Len() != 1 {
		t.Errorf("dropped: %d bytes, %d values", c.Bytes(), c.Len())
	}
}

// TestNoMemory: a cache without memory takes nothing and has nothing.
func TestNoMemory(t *testing.T) {
	for _, bytes := range []int64{0, -1} {
		c := newCache(t, bytes)
		if c.Put(1, value{1, 1, 1}) || c.Pin(7, 1, value{1, 1, 1}) {
			t.Error("a value was taken")
		}
		c.Keep(1, value{1, 1, 1})
		c.Drop(1)
		c.Release(7, true)
		_, got := c.Get(1)
		_, peeked := c.Peek(1)
		if got || peeked || c.Has(1) || c.Len() != 0 || c.Bytes() != 0 || c.Pinned() != 0 || c.MostPinned() != 0 || len(c.Groups()) != 0 {
			t.Error("it has something")
		}
		for range c.All() {
			t.Error("it lists something")
		}
	}
}

// TestAdmission: while there is room every value is taken. After that a scan evicts what was not used,
// and leaves what was.
func TestAdmission(t *testing.T) {
	const n = 1000
	c := newCache(t, n*100)
	for key := range n {
		if !c.Put(key, value{key: key, bytes: 100}) {
			t.Fatalf("%d was not taken while there was room", key)
		}
	}
	for key := range n / 2 {
		c.Get(key)
	}
	for key := range 10 * n {
		c.Put(n+key, value{key: n + key, bytes: 100})
	}
	for key := range n {
		if used := key < n/2; c.Has(key) != used {
			t.Errorf("after a scan %d is there: %t, used: %t", key, !used, used)
		}
	}
	held := 0
	if !c.Put(held, value{key: held, version: 1, bytes: 100}) {
		t.Error("a new version of what is there was not taken")
	}
	if got, ok := c.Peek(held); !ok || got.version != 1 {
		t.Errorf("the new version is not there: %+v, %t", got, ok)
	}
	if c.Put(held, value{key: held, version: 2, bytes: n*100 + 1}) || c.Has(held) {
		t.Error("a new version that does not fit left an old one, or was taken")
	}
}

// TestSecondRequest: once the small queue has turned out to be of no use, a full cache takes a value
// when it is offered for the second time, or kept, or after it was dropped.
func TestSecondRequest(t *testing.T) {
	const n = 1000
	c := filled(t, n)
	c.policy.target = 0
	taken := 0
	for key := range 5 * n { // a scan
		if c.Put(n+key, value{key: n + key, bytes: 100}) {
			taken++ // its ghost was taken for that of another
		}
	}
	if taken > n/100 {
		t.Errorf("%d of %d were taken when they were offered for the first time", taken, 5*n)
	}
	if last := 6*n - 1; c.Has(last) || !c.Put(last, value{key: last, bytes: 100}) || !c.Has(last) {
		t.Error("a value was not taken when it was offered for the second time")
	}
	if c.Put(n, value{key: n, bytes: 100}) {
		t.Error("a value was taken whose first offer was too long ago")
	}
	c.policy.target = 0
	if c.Keep(-1, value{key: -1, bytes: 100}); !c.Has(-1) {
		t.Error("a value that is to be kept was not taken")
	}
	c.Drop(-1)
	if !c.Put(-1, value{key: -1, bytes: 100}) || c.policy.target != 0 {
		t.Errorf("a value that was dropped was not taken, or changed the small queue to %d bytes", c.policy.target)
	}
}

// TestAdapts: requests of what the small queue has lost make it larger, requests of what the main
// queue has lost make it smaller, both within bounds, and the cache takes new values accordingly.
func TestAdapts(t *testing.T) {
	const n = 1000
	c := filled(t, n)
	hits := 0
	for key := range 20 * n { // each value is requested twice, half of the cache apart, and no more
		for _, key := range []int{n + key, n/2 + key} {
			if _, ok := c.Get(key); ok {
				hits++
			} else {
				c.Put(key, value{key: key, bytes: 100})
			}
		}
	}
	if grown := c.policy.target; grown < n*100*2/5 || grown > n*100*3/4 {
		t.Errorf("the small queue may have %d bytes of %d after requests of what it has lost", grown, n*100)
	}
	if hits < 20*n*9/10 {
		t.Errorf("%d second requests of %d are hits", hits, 20*n)
	}
	for key := range n / 10 {
		v := value{key: -2 - key, bytes: 100}
		c.policy.ghosts.add(c.ID(v.key, v), fromMain, 100)
		c.Put(v.key, v)
	}
	if c.policy.target != 0 {
		t.Errorf("the small queue may have %d bytes after requests of what the main queue has lost", c.policy.target)
	}
	if c.Put(-1, value{key: -1, bytes: 100}) {
		t.Error("it still takes what is offered for the first time")
	}
}

// TestKeep: what is going to be asked for is taken at once, however full it is.
func TestKeep(t *testing.T) {
	c := filled(t, 1000)
	taken := 0
	for key := 5000; key < 5100; key++ {
		if c.Keep(key, value{key: key, bytes: 100}); c.Has(key) {
			taken++
		}
	}
	if taken == 0 {
		t.Error("none of 100 was taken")
	}
	if c.Bytes() > 1000*100 {
		t.Errorf("%d bytes", c.Bytes())
	}
}

// TestBound: the weight of what is held never exceeds the bound when a call has returned, whatever the sizes are.
func TestBound(t *testing.T) {
	const bound = 100_000
	c := newCache(t, bound)
	for i := range 20_000 {
		key := i * 7919 % 3000
		v := value{key: key, version: i % 3, bytes: uint32(1 + i*i%5000)}
		switch i % 4 {
		case 0:
			c.Keep(key, v)
		case 3:
			c.Get(key)
		default:
			c.Put(key, v)
		}
		if c.Bytes() > bound {
			t.Fatalf("%d bytes after %d calls", c.Bytes(), i+1)
		}
	}
	sum := int64(0)
	for key, v := range c.All() {
		if sum += int64(v.bytes); v.key != key {
			t.Errorf("%d leads to the value of %d", key, v.key)
		}
	}
	if sum != c.Bytes() {
		t.Errorf("values of %d bytes are held, and %d are counted", sum, c.Bytes())
	}
	if sum < bound/2 {
		t.Errorf("only %d bytes are held", sum)
	}
}

// TestEviction: a large value takes the place of as many small ones as it weighs, one that is larger
// than the bound is not held, and what is used often outlives what is not.
func TestEviction(t *testing.T) {
	c := filled(t, 100)
	before := c.Len()
	for range 20 {
		c.Put(1000, value{key: 1000, bytes: 1500})
		c.Get(1000)
	}
	if !c.Has(1000) || c.Len() > before+1-10 {
		t.Errorf("large value held: %t, beside %d of %d small ones", c.Has(1000), c.Len()-1, before)
	}
	for range 3 {
		c.Put(2000, value{key: 2000, bytes: 10_001})
	}
	if c.Has(2000) {
		t.Error("a value that is larger than the bound is held")
	}

	c = filled(t, 1000)
	for range 20 {
		for key := range 100 {
			c.Get(key)
		}
	}
	for key := range 2000 {
		for range 2 {
			c.Put(10_000+key, value{key: 10_000 + key, bytes: 100})
		}
	}
	often, seldom := 0, 0
	for key := range 1000 {
		if c.Has(key) && key < 100 {
			often++
		} else if c.Has(key) {
			seldom++
		}
	}
	if often < 90 {
		t.Errorf("only %d of 100 are left that were used often (and %d of 900 of the others)", often, seldom)
	}
}

// TestPeekCountsNothing: only what is got is used.
func TestPeekCountsNothing(t *testing.T) {
	c := filled(t, 1000)
	for range 20 {
		for key := range 100 {
			c.Get(key)
			c.Peek(100 + key)
			c.Has(100 + key)
		}
		for range c.All() {
		}
	}
	for key := range 3000 {
		for range 8 {
			c.Put(10_000+key, value{key: 10_000 + key, bytes: 100})
		}
	}
	var left [2]int
	for key := range 200 {
		if c.Has(key) {
			left[key/100]++
		}
	}
	if left[0] < 90 || left[1] > left[0]/2 {
		t.Errorf("of 100 each, %d are left that were got, and %d that were only looked at", left[0], left[1])
	}
}

// TestPins: pinned values stay whatever comes, take of the bound, and are found like the others.
func TestPins(t *testing.T) {
	c := newCache(t, 100_000)
	c.Keep(1, value{1, 0, 100}) // is in the cache already
	for key := range 100 {
		if !c.Pin(uint64(key%3), key, value{key, 1, 500}) {
			t.Fatalf("%d does not fit", key)
		}
	}
	if c.Pinned() != 50_000 || c.Bytes() != 50_000 || c.Len() != 100 {
		t.Errorf("%d bytes are pinned, %d held, in %d values", c.Pinned(), c.Bytes(), c.Len())
	}
	if groups := slices.Sorted(slices.Values(c.Groups())); !slices.Equal(groups, []uint64{0, 1, 2}) {
		t.Errorf("groups %d", groups)
	}
	for key := range 5000 {
		c.Keep(1000+key, value{key: 1000 + key, bytes: 100})
		if c.Bytes() > 100_000 {
			t.Fatalf("%d bytes", c.Bytes())
		}
	}
	for key := range 100 {
		if got, ok := c.Get(key); !ok || got.version != 1 || !c.Has(key) {
			t.Errorf("the pinned value %d is %+v, %t", key, got, ok)
		}
	}
	all := maps.Collect(c.All())
	if len(all) != c.Len() || all[1].version != 1 {
		t.Errorf("%d of %d are listed, 1 is %+v", len(all), c.Len(), all[1])
	}

	c.Pin(9, 0, value{0, 2, 700}) // another version, of another group
	if got, _ := c.Get(0); got.version != 2 || c.Pinned() != 50_200 {
		t.Errorf("pinned anew: %+v, %d bytes", got, c.Pinned())
	}
	c.Drop(0)
	if c.Has(0) || c.Pinned() != 49_500 || slices.Contains(c.Groups(), 9) {
		t.Errorf("dropped: %t, %d bytes, groups %d", c.Has(0), c.Pinned(), c.Groups())
	}
	c.Release(1, false)
	c.Release(99, false) // there is no such group
	if c.Has(1) || !c.Has(2) || c.Pinned() != 2*33*500 {
		t.Errorf("released: %t, %t, %d bytes", c.Has(1), c.Has(2), c.Pinned())
	}
	c.Release(2, true)
	kept := 0
	for key := 2; key < 100; key += 3 {
		if c.Has(key) {
			kept++
		}
	}
	if kept == 0 || c.Bytes() > 100_000 {
		t.Errorf("%d are left that were released to be kept, %d bytes", kept, c.Bytes())
	}
}

// TestPins_Bound: at most three quarters of the bound can be pinned, and a pin that does not fit
// changes nothing but that the value it was to replace is gone.
func TestPins_Bound(t *testing.T) {
	c := newCache(t, 1000)
	if c.MostPinned() != 750 {
		t.Errorf("%d bytes can be pinned", c.MostPinned())
	}
	if !c.Pin(1, 1, value{1, 1, 400}) || !c.Pin(1, 2, value{2, 1, 350}) {
		t.Error("pins that fit were refused")
	}
	if c.Pin(1, 3, value{3, 1, 1}) || c.Has(3) || c.Pinned() != 750 {
		t.Errorf("a pin too many: %t, %d bytes", c.Has(3), c.Pinned())
	}
	if c.Pin(1, 2, value{2, 2, 351}) || c.Pinned() != 400 {
		t.Errorf("a pin that got too large: %d bytes", c.Pinned())
	}
	if got, ok := c.Get(2); ok {
		t.Errorf("the old version is served: %+v", got)
	}
	for key := range 20 { // the other 600 bytes are for others again
		c.Keep(100+key, value{key: 100 + key, bytes: 30})
	}
	if c.Bytes() > 1000 || c.Bytes() < 800 {
		t.Errorf("%d bytes", c.Bytes())
	}
}

// TestConcurrentUse: many goroutines at once see values of the key that they asked for, never one that
// was dropped before they asked, and the bound holds when they are done.
func TestConcurrentUse(t *testing.T) {
	const bound, keys = 50_000, 400
	c := newCache(t, bound)
	var workers sync.WaitGroup
	for w := range 8 {
		workers.Go(func() {
			own := keys + w // a key that nobody else writes
			for i := range 3000 {
				key := (i*31 + w*17) % keys
				v := value{key, i, uint32(50 + i%200)}
				switch i % 8 {
				case 0:
					c.Keep(key, v)
				case 1:
					c.Drop(key)
				case 2:
					c.Pin(uint64(w), key, v)
				case 3:
					c.Release(uint64(w), i%16 == 3)
				case 4:
					c.Keep(own, value{own, i, 50})
					c.Drop(own)
					if got, ok := c.Get(own); ok {
						t.Errorf("%+v was dropped, and is served", got)
					}
				case 5:
					for key, v := range c.All() {
						if key != v.key {
							t.Errorf("%d leads to the value of %d", key, v.key)
						}
						break
					}
				default:
					c.Put(key, v)
				}
				if got, ok := c.Get(key); ok && got.key != key {
					t.Errorf("%d leads to the value of %d", key, got.key)
				}
			}
		})
	}
	workers.Wait()
	for w := range 8 {
		c.Release(uint64(w), false)
	}
	if c.Pinned() != 0 || len(c.Groups()) != 0 {
		t.Errorf("%d bytes of %d are pinned after all was released", c.Pinned(), c.Groups())
	}
	sum := int64(0)
	for _, v := range c.All() {
		sum += int64(v.bytes)
	}
	if sum != c.Bytes() || sum > bound {
		t.Errorf("values of %d bytes are held, %d are counted, and the bound is %d", sum, c.Bytes(), bound)
	}
}

// BenchmarkGet is a hit, among many values.
func BenchmarkGet(b *testing.B) {
	for _, pinned := range []bool{false, true} {
		b.Run(fmt.Sprintf("pinned=%t", pinned), func(b *testing.B) {
			c := filled(b, 10_000)
			if pinned {
				c.Pin(1, -1, value{-1, 1, 100})
			}
			for i := 0; b.Loop(); i++ {
				c.Get(i % 10_000)
			}
		})
	}
}

// TestKeptAndLost: whatever happens to a value, the cache says once that it has it, and once that it
// has lost it. What it has is what it says.
func TestKeptAndLost(t *testing.T) {
	random := testkit.Random(t)
	held := map[value]int{}
	c := New(50_000, Values[int, value]{
		Weigh: func(_ int, v value) uint32 { return v.bytes },
		ID:    func(key int, _ value) uint64 { return uint64(key) },
		Kept:  func(v value) { held[v]++ },
		Lost: func(v value) {
			if held[v]--; held[v] < 0 {
				t.Fatalf("%+v was lost without having been kept", v)
			}
		},
	})
	pinned, refused := 0, 0
	for i := range 20_000 {
		key := random.IntN(200)
		v := value{key: key, version: i, bytes: uint32(1 + random.IntN(3000))}
		if random.IntN(100) == 0 {
			v.bytes = 60_000 // fits nowhere
		}
		switch random.IntN(8) {
		case 0:
			c.Drop(key)
		case 1:
			if c.Pin(uint64(key%7), key, v) {
				pinned++
			} else {
				refused++
			}
		case 2:
			if random.IntN(8) == 0 {
				c.Release(uint64(key%7), random.IntN(2) == 0)
			}
		case 3:
			c.Keep(key, v)
		default:
			c.Put(key, v)
			c.Get(random.IntN(200))
		}
		has := map[value]int{}
		for _, v := range c.All() {
			has[v]++
		}
		maps.DeleteFunc(held, func(_ value, n int) bool { return n == 0 })
		if !maps.Equal(has, held) {
			t.Fatalf("after %d calls it has %d values and says %d: %v and %v", i+1, len(has), len(held), has, held)
		}
	}
	if pinned < 100 || refused < 100 {
		t.Errorf("%d values were pinned and %d refused: too few", pinned, refused)
	}
}
