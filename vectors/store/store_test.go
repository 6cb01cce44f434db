package store

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/search"
)

// machine is a data directory, and the gateway that uses it.
type machine struct {
	t        *testing.T
	dir      string
	config   vectors.Config
	upstream *s3mem.Faulty
	writer   string
	quota    int64                           // of the warm tier
	secret   []byte                          // that encrypts the warm tier, nil for none
	disk     atomic.Pointer[akigw.DiskFault] // of the copies of documents

	*Store
	journal *journal.Journal
	tier    *warm.Tier
	stop    func()
}

// newMachine returns a machine with an empty data directory. Nothing is flushed unless a test asks for it.
func newMachine(t *testing.T, upstream *s3mem.Faulty, writer string) *machine {
	m := &machine{t: t, dir: testkit.MemoryDir(t), upstream: upstream, writer: writer, quota: 256 << 20}
	m.config.SetDefaults()
	m.config.Bucket, m.config.FlushSecs = "vectors", 3600
	t.Cleanup(func() { m.halt() })
	return m
}

func newUpstream() *s3mem.Faulty { return &s3mem.Faulty{Memory: s3mem.New()} }

// start starts the gateway, and waits until the collections are loaded if wait says so.
func (m *machine) start(wait bool) {
	m.t.Helper()
	log := slog.New(slog.NewTextHandler(m.t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	var err error
	m.journal, err = journal.Open(journal.Config{Dir: filepath.Join(m.dir, "journal"), FS: vfs.Disk{}, Log: log, InlineBytes: 4 << 10, SegmentBytes: 1 << 20, SyncTimeout: time.Minute})
	if err != nil {
		m.t.Fatal(err)
	}
	m.tier, err = warm.Open(warm.Config{Dir: filepath.Join(m.dir, "warm"), Quota: m.quota, Format: "vectors", Secret: m.secret, Log: log})
	if err != nil {
		m.t.Fatal(err)
	}
	m.Store, err = Open(Options{Config: m.config, Dir: filepath.Join(m.dir, "vectors"), FS: m.files(), Writer: m.writer, Journal: m.journal, Upstream: m.upstream, Warm: m.tier, Log: log})
	if err != nil {
		m.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 2)
	go func() { ended <- m.tier.Run(ctx) }()
	go func() { ended <- m.Store.Run(ctx) }()
	m.stop = func() {
		cancel()
		for range 2 {
			if err := <-ended; err != nil {
				m.t.Error(err)
			}
		}
		if err := errors.Join(m.tier.Close(), m.journal.Close()); err != nil {
			m.t.Error(err)
		}
	}
	for end := time.Now().Add(20 * time.Second); wait && m.session.ready() != nil; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			m.t.Fatal(m.session.problem())
		}
	}
}

// failDisk makes operations of the copies of documents fail.
func (m *machine) failDisk(fault akigw.DiskFault) { m.disk.Store(&fault) }

// files is the file system of the copies of documents.
func (m *machine) files() vfs.FS {
	return vfs.Watched(vfs.Disk{}, func(op akigw.DiskOp, name string, size int) (int, error) {
		if fault := m.disk.Load(); fault != nil {
			return (*fault)(op, name, size)
		}
		return size, nil
	})
}

// halt stops the gateway without flushing.
func (m *machine) halt() {
	if m.stop != nil {
		m.stop()
		m.stop = nil
	}
}

func (m *machine) restart() {
	m.t.Helper()
	m.halt()
	m.start(true)
}

func (m *machine) must(err error) {
	m.t.Helper()
	if err != nil {
		m.t.Fatal(err, errors.Unwrap(err))
	}
}

// reference is what a collection has to have.
type reference map[string]vectors.Vector

// create creates a vector bucket and an index in it.
func (m *machine) create(bucket, index string, dimension int, metric vectors.Metric) {
	m.t.Helper()
	if _, err := m.Bucket(bucket); err != nil {
		_, err = m.CreateBucket(m.t.Context(), vectors.Bucket{Name: bucket, Tags: map[string]string{"a": "b"}})
		m.must(err)
	}
	_, err := m.CreateIndex(m.t.Context(), vectors.Index{Bucket: bucket, Name: index, Dimension: dimension, Metric: metric})
	m.must(err)
}

// check compares a collection with what it has to have: listed, by key, and searched.
func (m *machine) check(random *rand.Rand, bucket, index string, want reference) {
	m.t.Helper()
	i, err := m.Index(bucket, index)
	m.must(err)
	listed := reference{}
	var after *vectors.Hash
	for more := true; more; {
		more, err = m.List(m.t.Context(), bucket, index, after, highest(), 1+random.IntN(50), func(v vectors.Vector) bool {
			if _, twice := listed[v.Key]; twice {
				m.t.Fatalf("%s was listed twice", v.Key)
			}
			hash := vectors.HashKey(v.Key)
			after, listed[v.Key] = &hash, v
			return true
		})
		m.must(err)
	}
	same := func(a, b vectors.Vector) bool {
		return a.Key == b.Key && slices.Equal(a.Data, b.Data) && string(a.Metadata) == string(b.Metadata)
	}
	if !maps.EqualFunc(listed, want, same) {
		for key := range want {
			if _, ok := listed[key]; !ok {
				m.t.Logf("%s is not listed", key)
			}
		}
		for key := range listed {
			if _, ok := want[key]; !ok {
				m.t.Logf("%s is listed", key)
			}
		}
		m.t.Fatalf("%s, which is %v, lists %d vectors, not the %d that were put", index, m.find(bucket, index).state().tier, len(listed), len(want))
	}
	for key, v := range want {
		got, err := m.Get(m.t.Context(), bucket, index, []string{key, "no such key"})
		m.must(err)
		if len(got) != 1 || !same(got[0], v) {
			m.t.Fatalf("%s has %v, want %v", key, got, v)
		}
		if random.IntN(20) > 0 {
			continue
		}
		m.checkSearch(random, i, want)
	}
}

// checkSearch compares a search with a search of everything.
func (m *machine) checkSearch(random *rand.Rand, i vectors.Index, want reference) {
	m.t.Helper()
	vector, k := someVector(random, i.Dimension), 1+random.IntN(10)
	var filter *meta.Filter
	if random.IntN(2) == 0 {
		f, err := meta.Parse(fmt.Appendf(nil, `{"n": {"$lt": %d}}`, random.IntN(10)), nil)
		m.must(err)
		filter = f
	}
	kernel := search.NewQuery(part.MetricOf(i.Metric), vector)
	var all []vectors.Hit
	for _, v := range want {
		if filter == nil || filter.Match(v.Metadata) {
			all = append(all, vectors.Hit{Vector: v, Distance: kernel.Distance(v.Data, search.Norm(v.Data))})
		}
	}
	slices.SortFunc(all, func(a, b vectors.Hit) int {
		return cmp.Or(cmp.Compare(a.Distance, b.Distance), cmp.Compare(a.Key, b.Key))
	})
	all = all[:min(len(all), k)]
	got, err := m.Query(m.t.Context(), i.Bucket, i.Name, vector, k, filter)
	m.must(err)
	if !slices.EqualFunc(got, all, func(a, b vectors.Hit) bool { return a.Key == b.Key && a.Distance == b.Distance }) {
		m.t.Fatalf("a search of %s found %d vectors, not the %d nearest ones: %v, want %v", i.Name, len(got), len(all), hitNames(got), hitNames(all))
	}
}

func hitNames(hits []vectors.Hit) (names []string) {
	for _, h := range hits {
		names = append(names, fmt.Sprint(h.Key, " ", h.Distance))
	}
	return names
}

func highest() (h vectors.Hash) {
	for i := range h {
		h[i] = 0xff
	}
	return h
}

func someVector(random *rand.Rand, dimension int) []float32 {
	v := make([]float32, dimension)
	for i := range v {
		v[i] = float32(random.IntN(9) - 4)
	}
	v[0] += 0.5
	return v
}

// TestModel does everything that a collection knows in a random order, and compares it with a map.
func TestModel(t *testing.T) {
	random := testkit.Random(t)
	m := newMachine(t, newUpstream(), "gw-1")
	if random.IntN(2) == 0 {
		m.secret = testkit.Bytes(1, 32)
	}
	m.start(true)
	ctx := t.Context()
	want := map[string]reference{}
	done := map[string]int{}
	names := []string{"one", "two", "three"}
	metrics := []vectors.Metric{vectors.Cosine, vectors.Euclidean}
	merges := 0 // before the last start
	for step := range 400 {
		name := testkit.Pick(random, names...)
		ref, exists := want[name]
		if !exists {
			m.create("bucket", name, 5, metrics[random.IntN(2)])
			want[name] = reference{}
			continue
		}
		n := random.IntN(100)
		what := ""
		switch {
		case n < 40:
			what = "put"
			batch := reference{}
			for range 1 + random.IntN(20) {
				key := fmt.Sprint("key ", random.IntN(300))
				v := vectors.Vector{Key: key, Data: someVector(random, 5)}
				if random.IntN(3) > 0 {
					v.Metadata = fmt.Appendf(nil, `{"n":%d}`, random.IntN(10))
				}
				batch[key] = v
			}
			m.must(m.Put(ctx, "bucket", name, slices.Collect(maps.Values(batch))))
			maps.Copy(ref, batch)
		case n < 50:
			what = "delete"
			keys := []string{fmt.Sprint("key ", random.IntN(300)), fmt.Sprint("key ", 300+random.IntN(300))}
			m.must(m.Delete(ctx, "bucket", name, keys))
			for _, key := range keys {
				delete(ref, key)
			}
		case n < 62:
			what = "flush"
			m.must(m.Flush(ctx))
		case n < 74:
			what = "move"
			tier := testkit.Pick(random, Cold, Warm, Hot)
			m.must(m.Move(ctx, "bucket", name, tier))
		case n < 80:
			what = "restart"
			merges += int(m.merges.Get())
			m.restart()
		case n < 82:
			what = "delete index"
			m.must(m.DeleteIndex(ctx, "bucket", name))
			delete(want, name)
			continue
		case n < 84:
			what = "sweep"
			m.must(m.Sweep(ctx))
		case n < 85:
			what = "lose the data directory"
			m.must(m.Flush(ctx))
			merges += int(m.merges.Get())
			m.halt()
			m.must(os.RemoveAll(m.dir))
			m.start(true)
		default:
			what = "check"
			m.check(random, "bucket", name, ref)
		}
		done[what]++
		if t.Failed() {
			t.Fatalf("step %d: %s of %s", step, what, name)
		}
	}
	for name, ref := range want {
		m.check(random, "bucket", name, ref)
	}
	if done["flush"] == 0 || done["restart"] == 0 || merges+int(m.merges.Get()) == 0 {
		t.Errorf("nothing was tried: %v", done)
	}
}

func (m *machine) find(bucket, index string) *collection {
	e, err := m.catalog.current.Load().index(bucket, index)
	m.must(err)
	return e.collection
}

// TestWarmTierHasRoom: what does not fit on disk makes whole collections cold, the least recently used first.
func TestWarmTierHasRoom(t *testing.T) {
	random := testkit.Random(t)
	m := newMachine(t, newUpstream(), "gw-1")
	m.quota, m.config.WarmBytes = 64<<20, 64<<20
	m.start(true)
	want := map[string]reference{}
	const indexes, rows, dimension = 8, 1500, 2048 // 12 MiB each
	for n := range indexes {
		name := fmt.Sprint("index-", n)
		m.create("bucket", name, dimension, vectors.Euclidean)
		want[name] = reference{}
		for from := 0; from < rows; from += vectors.MaxPut {
			var batch []vectors.Vector
			for k := from; k < from+vectors.MaxPut; k++ {
				v := vectors.Vector{Key: fmt.Sprint("key ", k), Data: someVector(random, dimension)}
				want[name][v.Key] = v
				batch = append(batch, v)
			}
			m.must(m.Put(t.Context(), "bucket", name, batch))
		}
		m.must(m.Flush(t.Context()))
		m.must(m.Move(t.Context(), "bucket", name, Warm))
	}
	tiers := map[Tier]int{}
	for _, st := range m.Statuses() {
		tiers[st.Tier]++
	}
	if tiers[Cold] == 0 || tiers[Warm] == 0 {
		t.Errorf("the collections are in these tiers: %v", tiers)
	}
	for name, ref := range want {
		for key, v := range ref {
			got, err := m.Get(t.Context(), "bucket", name, []string{key})
			m.must(err)
			if len(got) != 1 || !slices.Equal(got[0].Data, v.Data) {
				t.Fatalf("%s of %s is not there", key, name)
			}
			break
		}
	}
}
