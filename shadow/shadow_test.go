package shadow

import (
	"fmt"
	"math"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const block = 64 << 10

func config() tiers.Config {
	return tiers.Config{HotBytes: 8 << 20, WarmBytes: 64 << 20, BlockBytes: block, SmallBytes: 4 << 10, FetchBytes: 2 << 20, ParallelFetches: 12}
}

func settings() *rules.Settings {
	return &rules.Settings{Freshness: rules.TTL, TTL: time.Minute, Memory: true, Disk: true, Block: block, Shadow: rules.ShadowMetadata}
}

// script sends reads and writes of one bucket to a Shadow.
type script struct {
	*Shadow
	settings *rules.Settings
}

func newScript() *script {
	return &script{New(Options{Cache: config(), Prices: cost.Default()}), settings()}
}

// get is a GetObject of an object of this size and version, or of a range of it.
func (s *script) get(name, etag string, size int64, byteRange string) {
	s.Shadow.Read(Read{Key: akigw.Key{Bucket: "b", Name: name}, Settings: s.settings, Range: akigw.ParseRange(byteRange), Status: 200, ETag: etag, Size: size, Sent: size, At: time.Now()})
}

// status is a read with a status that shows no object.
func (s *script) status(name string, status int, head bool) {
	s.Shadow.Read(Read{Key: akigw.Key{Bucket: "b", Name: name}, Settings: s.settings, Head: head, Status: status, Size: -1, At: time.Now()})
}

func (s *script) put(name, etag string, size int64) {
	key := akigw.Key{Bucket: "b", Name: name}
	s.Begin(key)
	s.Written(Write{Key: key, Settings: s.settings, ETag: etag, Size: size, At: time.Now()})
	s.Pass(Passed{Bucket: "b", Kind: cost.Write, In: size})
}

// TestModes: what each freshness mode would have cost, and how often it would have been wrong.
func TestModes(t *testing.T) {
	type figures struct{ hits, requests, stale int }
	same := func(f figures) [modes]figures { return [modes]figures{f, f, f, f, f} }
	for _, c := range []struct {
		name string
		do   func(s *script)
		want [modes]figures // strict, ttl, immutable, exclusive, events
	}{
		{"read once", func(s *script) { s.get("k", "1", 100_000, "") }, same(figures{0, 1, 0})},
		{"read twice", func(s *script) {
			s.get("k", "1", 100_000, "")
			time.Sleep(time.Second)
			s.get("k", "1", 100_000, "")
		}, [modes]figures{{1, 2, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 0}, {1, 1, 0}}},
		{"after the ttl", func(s *script) {
			s.get("k", "1", 100_000, "")
			time.Sleep(time.Hour)
			s.get("k", "1", 100_000, "")
		}, [modes]figures{{1, 2, 0}, {1, 2, 0}, {1, 1, 0}, {1, 1, 0}, {1, 2, 0}}},
		{"replaced by others", func(s *script) {
			s.get("k", "1", 100_000, "")
			time.Sleep(time.Second)
			s.get("k", "2", 100_000, "")
			time.Sleep(time.Second)
			s.get("k", "2", 100_000, "")
		}, [modes]figures{{1, 4, 0}, {2, 1, 2}, {2, 1, 2}, {2, 1, 2}, {1, 3, 0}}},
		{"deleted by others", func(s *script) {
			s.get("k", "1", 1000, "")
			time.Sleep(time.Second)
			s.status("k", 404, false)
		}, [modes]figures{{0, 3, 0}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 3, 0}}},
		{"written here", func(s *script) {
			s.put("k", "1", 100_000)
			time.Sleep(time.Second)
			s.get("k", "1", 100_000, "")
			s.put("k", "2", 100_000)
			time.Sleep(time.Second)
			s.get("k", "2", 100_000, "")
		}, same(figures{2, 4, 0})},
		{"a read during a write", func(s *script) {
			s.get("k", "1", 1000, "")
			time.Sleep(time.Second)
			s.Begin(akigw.Key{Bucket: "b", Name: "k"})
			s.get("k", "2", 1000, "") // the upstream has it already
			s.End(true, akigw.Key{Bucket: "b", Name: "k"})
		}, same(figures{0, 2, 0})},
		{"ranges", func(s *script) {
			s.get("k", "1", 10*block, "bytes=0-99")
			time.Sleep(time.Second)
			s.get("k", "1", 10*block, "bytes=100-199") // in the same block
			time.Sleep(time.Second)
			s.get("k", "1", 10*block, "") // the other nine blocks
		}, [modes]figures{{1, 4, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 0}, {1, 2, 0}}},
		{"ahead up to what is there", func(s *script) {
			s.settings.ReadAhead = 32 << 20
			for _, n := range []int{6, 0, 1, 2, 3} { // 2 fetches 3 and 4 ahead, and 3 only 5
				s.get("k", "1", 10*block, fmt.Sprintf("bytes=%d-%d", n*block, (n+1)*block-1))
				time.Sleep(time.Second)
			}
		}, [modes]figures{{1, 10, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}, {1, 6, 0}}},
		{"a head, then the object", func(s *script) {
			s.Shadow.Read(Read{Key: akigw.Key{Bucket: "b", Name: "k"}, Settings: s.settings, Head: true, Status: 200, ETag: "1", Size: 1000, Described: 300, At: time.Now()})
			time.Sleep(time.Second)
			s.get("k", "1", 1000, "")
		}, [modes]figures{{0, 3, 0}, {0, 2, 0}, {0, 2, 0}, {0, 2, 0}, {0, 2, 0}}},
		{"nothing there", func(s *script) { s.status("k", 404, false); s.status("k", 404, true) }, same(figures{0, 2, 0})},
		{"parallel ranges of a large object", func(s *script) { s.get("k", "1", 100<<20, "") }, same(figures{0, 50, 0})},
		{"too large", func(s *script) {
			s.settings.MaxObject = 1000
			s.get("k", "1", 5000, "")
			time.Sleep(time.Second)
			s.get("k", "1", 5000, "")
		}, [modes]figures{{0, 4, 0}, {0, 3, 0}, {0, 3, 0}, {0, 3, 0}, {0, 3, 0}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newScript()
				c.do(s)
				l := s.Report().Total
				for i, p := range l.Modes {
					got := figures{int(math.Round(p.HitRatio * float64(l.Reads))), int(p.Requests), int(p.Stale)}
					if got != c.want[i] {
						t.Errorf("%s: %+v, want %+v", p.Freshness, got, c.want[i])
					}
				}
			})
		})
	}
}

// TestEvictedByTheReadItself: when memory is full, a read fetches again what its own missing blocks have
// evicted. Those before the first missing one are spared.
func TestEvictedByTheReadItself(t *testing.T) {
	for there, want := range []uint64{1, 2} { // which of two blocks is in memory, and requests for both
		small := config()
		small.HotBytes, small.WarmBytes = 1<<20, 0
		s := &script{New(Options{Cache: small, Prices: cost.Default()}), settings()}
		s.get("k", "1", 2*block, fmt.Sprintf("bytes=%d-%d", there*block, (there+1)*block-1))
		for n := 0; 1<<20-s.tiers.memory.Bytes() > block; n++ {
			s.get(fmt.Sprint("other", n), "1", 2000, "")
		}
		if o := s.tiers.memory; o.Len() < 100 {
			t.Fatalf("%d values", o.Len())
		}
		before := s.Report().Total.Configured
		s.get("k", "1", 2*block, "")
		after := s.Report().Total.Configured
		if got := after.Requests - before.Requests; got != want || after.Bytes-before.Bytes != want*block {
			t.Errorf("block %d there: %d requests for %d bytes, want %d", there, got, after.Bytes-before.Bytes, want)
		}
	}
}

// TestListings: only mode ttl keeps listings, until their time has passed or something was written.
func TestListings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newScript()
		s.settings.ListTTL = 10 * time.Second
		list := func() {
			s.List(List{Bucket: "b", Query: "prefix=p", Settings: s.settings, Status: 200, Sent: 500, At: time.Now()})
			time.Sleep(time.Second)
		}
		list()
		list() // kept
		s.put("k", "1", 10)
		list()
		list() // kept
		time.Sleep(10 * time.Second)
		list()
		l := s.Report().Total
		for _, p := range append(l.Modes, l.Configured) {
			want := int64(0)
			if p.Freshness == rules.TTL || p.Freshness == "" {
				want = 2
			}
			if p.SavedRequests != want || p.SavedBytes != 500*want {
				t.Errorf("%s: %d requests and %d bytes saved, want %d and %d", p.Freshness, p.SavedRequests, p.SavedBytes, want, 500*want)
			}
		}
	})
}

// TestMemoryIsBounded: with more values than it may simulate, a Shadow goes on with a sample, and its
// prediction stays near.
func TestMemoryIsBounded(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	random := testkit.Random(t)
	const objects, reads, most = 40_000, 200_000, 2000
	popular := zipf.New(objects, 0.7)
	exact, sampled := New(Options{Cache: config(), MaxValues: 1 << 20}), New(Options{Cache: config(), MaxValues: most})
	for range reads {
		n := popular.Draw(random)
		for _, s := range []*Shadow{exact, sampled} {
			s.Read(Read{Key: akigw.Key{Bucket: "b", Name: fmt.Sprint(n)}, Settings: settings(), Status: 200, ETag: "1", Size: 3000, Sent: 3000, At: time.Now()})
			if held := s.tiers.memory.Len() + s.tiers.disk.len(); held > s.options.MaxValues {
				t.Fatalf("%d values", held)
			}
		}
	}
	want, got := exact.Report(), sampled.Report()
	t.Logf("one key in %.0f: hit ratio %.3f, saved %d; of all: %.3f, %d", 1/got.Sampled, got.Total.Configured.HitRatio, got.Total.Configured.SavedRequests, want.Total.Configured.HitRatio, want.Total.Configured.SavedRequests)
	if want.Sampled != 1 || got.Sampled > 0.25 {
		t.Errorf("sampled %f and %f", want.Sampled, got.Sampled)
	}
	if math.Abs(got.Total.Configured.HitRatio-want.Total.Configured.HitRatio) > 0.1 {
		t.Errorf("hit ratio %f of a sample, %f of all", got.Total.Configured.HitRatio, want.Total.Configured.HitRatio)
	}
	if got.Total.Reads != reads || got.Total.Requests != reads {
		t.Errorf("counted %d reads of %d", got.Total.Reads, reads)
	}
}

// TestMemoryTaken: the values that are simulated by default take about 64 MiB, however large the tiers are
// and however many objects pass.
func TestMemoryTaken(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	before := heap()
	large := config()
	large.HotBytes, large.WarmBytes = 1<<40, 1<<43
	s := New(Options{Cache: large})
	most := int64(0)
	for n := range 400_000 {
		s.Read(Read{Key: akigw.Key{Bucket: "b", Name: fmt.Sprintf("a/rather/long/name/of/an/object-%d", n)}, Settings: settings(), Status: 200, ETag: "1", Size: block, Sent: block, Described: 800, At: time.Now()})
		if n%25_000 == 0 {
			most = max(most, heap()-before)
		}
	}
	t.Logf("at most %d MiB, 1 key in %.0f", most>>20, 1/s.Report().Sampled)
	if most > 64<<20 {
		t.Errorf("it has taken %d MiB", most>>20)
	}
	runtime.KeepAlive(s)
}

// TestMoney: the report has the upstream's prices.
func TestMoney(t *testing.T) {
	s := newScript()
	for range 1000 {
		s.get("k", "1", 1<<20, "")
	}
	l := s.Report().Buckets[0]
	prices := cost.Default()
	without := prices.Reads + 1000.0/1024*prices.GiBOut
	with := prices.Reads/1000 + prices.GiBOut/1024
	if math.Abs(l.Cost-without) > 1e-9 || math.Abs(l.Configured.Cost-with) > 1e-9 || math.Abs(l.Configured.Saved-(without-with)) > 1e-9 {
		t.Errorf("%+v, want %f and %f", l, without, with)
	}
}
