package part

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

const testExtent = 7

var testID = Identity{1, 2, 3}

// fakeTier keeps blocks in memory.
type fakeTier struct {
	blocks map[int64][]byte // of testExtent
	room   int              // how many more blocks it stores
	read   func(n int64)    // called before each read
	reads  map[kind]int
}

func newFakeTier() *fakeTier {
	return &fakeTier{blocks: map[int64][]byte{}, room: 1 << 30, read: func(int64) {}, reads: map[kind]int{}}
}

func (f *fakeTier) PutBlock(extent uint64, n int64, data []byte) bool {
	if extent != testExtent || len(data) > BlockBytes || f.blocks[n] != nil {
		panic(fmt.Sprintf("block %d of extent %d, %d bytes", n, extent, len(data)))
	}
	if f.room == 0 {
		return false
	}
	f.room--
	f.blocks[n] = bytes.Clone(data)
	return true
}

func (f *fakeTier) Block(extent uint64, n int64, buffer []byte) ([]byte, bool) {
	f.read(n)
	f.reads[kind(n%kinds)]++
	data, ok := f.blocks[n]
	return append(buffer[:0], data...), ok && extent == testExtent
}

func (f *fakeTier) DropBlocks(uint64) { clear(f.blocks) }

// each returns what Write takes.
func each(rows []segment.Row) func(func(segment.Row) error) error {
	return func(yield func(segment.Row) error) error {
		for _, row := range rows {
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	}
}

func write(t testing.TB, tier Tier, rows []segment.Row, dimension int) *Blocks {
	t.Helper()
	p, err := Write(t.Context(), tier, testExtent, testID, options(dimension), each(rows))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// manyRows returns rows that have several blocks of each kind that is read in passes.
func manyRows(t *testing.T) []segment.Row {
	rows := randomRows(testkit.Random(t), 1500, 256)
	for i := range rows {
		if i%3 == 0 && !rows[i].Deleted {
			rows[i].Metadata = fmt.Appendf(nil, `{"n":%d,"text":"%s"}`, i, strings.Repeat("y", 2000))
		}
	}
	return rows
}

// TestMissingBlocks: with any one block missing, damaged in its form, or that of another part, each
// operation has the right result or ErrMissing, and those that need the block have ErrMissing.
func TestMissingBlocks(t *testing.T) {
	rows := manyRows(t)
	tier := newFakeTier()
	intact := write(t, tier, rows, 256)
	q := search.NewQuery(search.Cosine, rows[slices.IndexFunc(rows, func(r segment.Row) bool { return !r.Deleted })].Data)
	want := distances(t, intact, q)
	filter, err := meta.Parse([]byte(`{"n":{"$ne":-1}}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	whole := tier.blocks
	damages := map[string]func(data []byte) []byte{
		"missing":  func([]byte) []byte { return nil },
		"empty":    func([]byte) []byte { return []byte{} },
		"short":    func(b []byte) []byte { return b[:len(b)-1] },
		"long":     func(b []byte) []byte { return append(b, 0) },
		"magic":    func(b []byte) []byte { b[0]++; return b },
		"version":  func(b []byte) []byte { b[4]++; return b },
		"kind":     func(b []byte) []byte { b[5]++; return b },
		"index":    func(b []byte) []byte { b[8]++; return b },
		"first":    func(b []byte) []byte { b[12]++; return b },
		"count":    func(b []byte) []byte { b[16]++; return b },
		"identity": func(b []byte) []byte { b[24]++; return b },
	}
	seen := map[kind]int{}
	for n := range whole {
		seen[kind(n%kinds)]++
		for name, damage := range damages {
			tier.blocks = map[int64][]byte{}
			for m, data := range whole {
				tier.blocks[m] = data
			}
			if tier.blocks[n] = damage(bytes.Clone(whole[n])); tier.blocks[n] == nil {
				delete(tier.blocks, n)
			}
			k := kind(n % kinds)
			lenient := (k == kindText || k == kindFilter) && (name == "short" || name == "long") || k == kindHead && (name == "first" || name == "count") // seen only where it matters, if at all
			p, err := Open(t.Context(), tier, testExtent, testID)
			if err == nil && k == kindFilter {
				err = p.Search(t.Context(), q, search.NewTop(10, noKey), 0, nil, filter)
			} else if err == nil && (k == kindVector || k == kindText) {
				err = p.Ascend(t.Context(), vectors.Hash{}, func(int, segment.Row) error { return nil })
			}
			if !errors.Is(err, ErrMissing) && !(lenient && err == nil) {
				t.Errorf("block %d of kind %d, %s: %v", n/kinds, k, name, err)
			}
			if p != nil && k == kindVector {
				if err := p.Search(t.Context(), q, search.NewTop(10, noKey), 0, nil, nil); !errors.Is(err, ErrMissing) {
					t.Errorf("search with block %d of kind %d, %s: %v", n/kinds, k, name, err)
				}
			}
		}
	}
	if seen[kindVector] < 3 || seen[kindText] < 3 || seen[kindFilter] < 1 || len(seen) != 6 {
		t.Errorf("blocks by kind: %v", seen)
	}
	tier.blocks = whole
	if got := distances(t, intact, q); !slices.Equal(got, want) {
		t.Error("the part does not recover once its blocks are there again")
	}
}

func noKey(int, uint32) []byte { return nil }

// distances returns the distances that a search finds.
func distances(t testing.TB, p Part, q *search.Query) (all []float32) {
	t.Helper()
	keys := NewKeys([]Part{p})
	defer keys.Release()
	top := search.NewTop(50, keys.Key)
	if err := p.Search(t.Context(), q, top, 0, nil, nil); err != nil || keys.Err() != nil {
		t.Fatal(err, keys.Err())
	}
	for _, r := range top.Results() {
		all = append(all, r.Distance)
	}
	return all
}

// TestKeysReportMissingBlocks: a tie whose keys cannot be read is an error, not a wrong order.
func TestKeysReportMissingBlocks(t *testing.T) {
	rows := manyRows(t)
	tier := newFakeTier()
	keys := NewKeys([]Part{write(t, tier, rows, 256)})
	defer keys.Release()
	delete(tier.blocks, number(kindText, 0))
	if key := keys.Key(0, 0); key != nil || !errors.Is(keys.Err(), ErrMissing) {
		t.Errorf("key %q, %v", key, keys.Err())
	}
}

// TestWriteRefused: wherever the tier refuses a block, nothing remains, and the error says so.
func TestWriteRefused(t *testing.T) {
	rows := manyRows(t)
	tier := newFakeTier()
	write(t, tier, rows, 256)
	blocks := len(tier.blocks)
	for room := range blocks {
		tier := newFakeTier()
		tier.room = room
		p, err := Write(t.Context(), tier, testExtent, testID, options(256), each(rows))
		if p != nil || !errors.Is(err, ErrRefused) || len(tier.blocks) > 0 {
			t.Errorf("with room for %d of %d blocks: %v, %d blocks remain", room, blocks, err, len(tier.blocks))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	tier = newFakeTier()
	if _, err := Write(ctx, tier, testExtent, testID, options(256), each(rows)); !errors.Is(err, context.Canceled) || len(tier.blocks) > 0 {
		t.Errorf("cancelled: %v, %d blocks remain", err, len(tier.blocks))
	}
	if _, err := Write(t.Context(), tier, testExtent, testID, options(256), each([]segment.Row{rows[1], rows[0]})); err == nil || len(tier.blocks) > 0 {
		t.Errorf("rows in the wrong order: %v, %d blocks remain", err, len(tier.blocks))
	}
}

// TestSearchReadsLittle: a search reads only blocks that it needs, and stops between two blocks when its
// context ends.
func TestSearchReadsLittle(t *testing.T) {
	rows := manyRows(t)
	tier := newFakeTier()
	p := write(t, tier, rows, 256)
	q := search.NewQuery(search.Cosine, make([]float32, 256))
	count := func(ctx context.Context, alive search.Bitmap, filter string) (map[kind]int, error) {
		var f *meta.Filter
		if filter != "" {
			var err error
			if f, err = meta.Parse([]byte(filter), nil); err != nil {
				t.Fatal(err)
			}
		}
		clear(tier.reads)
		err := p.Search(ctx, q, search.NewTop(10, noKey), 0, alive, f)
		return tier.reads, err
	}
	all := (p.Vectors() + vectorsPer(256) - 1) / vectorsPer(256)
	if reads, err := count(t.Context(), nil, ""); err != nil || reads[kindVector] != all || reads[kindText] != 0 {
		t.Errorf("without a filter: %v, %v; want %d vector blocks", reads, err, all)
	}
	if reads, err := count(t.Context(), nil, `{"n":0}`); err != nil || reads[kindVector] == 0 || reads[kindText] != 0 || reads[kindFilter] != p.filters {
		t.Errorf("with a filter: %v, %v", reads, err)
	}
	if reads, err := count(t.Context(), nil, `{"n":-1}`); err != nil || reads[kindVector] != 0 {
		t.Errorf("with a filter that nothing satisfies: %v, %v", reads, err)
	}
	one := search.NewBitmap(p.Vectors())
	one.Set(uint32(p.Vectors() - 1))
	if reads, err := count(t.Context(), one, `{"n":{"$ne":-1}}`); err != nil || reads[kindVector] != 1 || reads[kindFilter] != 1 {
		t.Errorf("with one vector alive: %v, %v", reads, err)
	}
	for _, filter := range []string{"", `{"n":{"$ne":-1}}`} {
		ctx, cancel := context.WithCancel(t.Context())
		tier.read = func(int64) { cancel() }
		if reads, err := count(ctx, nil, filter); !errors.Is(err, context.Canceled) || reads[kindVector]+reads[kindFilter] != 1 {
			t.Errorf("filter %q, cancelled while the first block is read: %v, %v", filter, reads, err)
		}
		tier.read = func(int64) {}
	}
}

// TestBitEqual: distances have the same bits in memory, in blocks, and by the kernel alone.
func TestBitEqual(t *testing.T) {
	r := testkit.Random(t)
	for _, dimension := range []int{1, 3, 8, 129} {
		rows := randomRows(r, 300, dimension)
		for i := range rows {
			for j := range rows[i].Data {
				rows[i].Data[j] = float32(r.NormFloat64())
			}
		}
		v := make([]float32, dimension)
		for i := range v {
			v[i] = float32(r.NormFloat64())
		}
		q := search.NewQuery(search.Cosine, v)
		hot, cold := distances(t, newMemory(t, rows, dimension), q), distances(t, write(t, newFakeTier(), rows, dimension), q)
		var naive []float32
		for _, row := range rows {
			if !row.Deleted {
				naive = append(naive, q.Distance(row.Data, search.Norm(row.Data)))
			}
		}
		slices.Sort(naive)
		if !slices.Equal(hot, cold) || !slices.Equal(hot, naive[:50]) {
			t.Errorf("dimension %d: the distances differ", dimension)
		}
	}
}

// TestLargestRows has rows at all limits.
func TestLargestRows(t *testing.T) {
	var rows []segment.Row
	for i := range 40 {
		key := fmt.Sprintf("%0*d", vectors.MaxKeyBytes, i)
		row := segment.Row{Key: key, Hash: vectors.HashKey(key), Seq: segment.MaxSeq, Data: make([]float32, vectors.MaxDimension), Metadata: bytes.Repeat([]byte("x"), vectors.MaxMetadataBytes)}
		row.Data[i] = 1
		rows = append(rows, row)
	}
	sortRows(rows)
	for _, p := range []Part{write(t, newFakeTier(), rows, vectors.MaxDimension), newMemory(t, rows, vectors.MaxDimension)} {
		for i, want := range rows {
			if got, err := p.Row(i); err != nil || !equalRows(got, want) {
				t.Fatalf("%T: row %d is not what was written: %v", p, i, err)
			}
		}
	}
}

// TestOpenOfAnother: the blocks of another part are none.
func TestOpenOfAnother(t *testing.T) {
	tier := newFakeTier()
	write(t, tier, randomRows(testkit.Random(t), 10, 2), 2)
	if _, err := Open(t.Context(), tier, testExtent, Identity{9}); !errors.Is(err, ErrMissing) {
		t.Errorf("another identity: %v", err)
	}
	if _, err := Open(t.Context(), tier, testExtent+1, testID); !errors.Is(err, ErrMissing) {
		t.Errorf("another extent: %v", err)
	}
	p, err := Open(t.Context(), tier, testExtent, testID)
	if err != nil || p.Dimension() != 2 || p.Metric() != vectors.Cosine {
		t.Fatalf("%v", err)
	}
	p.Drop()
	if _, err := p.Row(0); !errors.Is(err, ErrMissing) {
		t.Errorf("after Drop: %v", err)
	}
}

// TestOnDisk stores a part in a real tier, and opens it once more after a restart.
func TestOnDisk(t *testing.T) {
	config := warm.Config{Dir: t.TempDir(), Quota: 64 << 20, Format: "vectors", Log: slog.New(slog.NewTextHandler(io.Discard, nil))}
	tier, err := warm.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	rows := manyRows(t)
	p := write(t, On(tier), rows, 256)
	q := search.NewQuery(search.Cosine, bytesToVector(256))
	want := distances(t, newMemory(t, rows, 256), q)
	if got := distances(t, p, q); !slices.Equal(got, want) {
		t.Error("the distances differ from those in memory")
	}
	if err := tier.Close(); err != nil {
		t.Fatal(err)
	}
	if tier, err = warm.Open(config); err != nil {
		t.Fatal(err)
	}
	defer tier.Close()
	if p, err = Open(t.Context(), On(tier), testExtent, testID); err != nil {
		t.Fatal(err)
	}
	if got := distances(t, p, q); !slices.Equal(got, want) {
		t.Error("the distances differ after a restart")
	}
	p.Drop()
	if _, err := Open(t.Context(), On(tier), testExtent, testID); !errors.Is(err, ErrMissing) || tier.Blocks(testExtent) != 0 {
		t.Errorf("after Drop: %v, %d blocks", err, tier.Blocks(testExtent))
	}
}

func bytesToVector(n int) []float32 {
	v := make([]float32, n)
	for i, b := range testkit.Bytes(1, n) {
		v[i] = float32(b) - 127.5
	}
	return v
}

// FuzzBlock reads a part in which one block has any content: no panic, and an error is ErrMissing.
func FuzzBlock(f *testing.F) {
	rows := randomRows(rand.New(rand.NewPCG(1, 2)), 60, 4) // the same in each process
	tier := newFakeTier()
	write(f, tier, rows, 4)
	whole := tier.blocks
	for n, data := range whole {
		f.Add(uint8(n), data)
		f.Add(uint8(n), data[:headerBytes])
	}
	filter, err := meta.Parse([]byte(`{"n":{"$lt":10},"tag":"t1"}`), nil)
	if err != nil {
		f.Fatal(err)
	}
	q := search.NewQuery(search.Cosine, []float32{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, n uint8, data []byte) {
		tier := newFakeTier()
		for m, block := range whole {
			tier.blocks[m] = block
		}
		if len(data) > BlockBytes {
			return
		}
		tier.blocks[int64(n)] = data
		check := func(err error) {
			if err != nil && !errors.Is(err, ErrMissing) {
				t.Fatal(err)
			}
		}
		p, err := Open(t.Context(), tier, testExtent, testID)
		check(err)
		if err != nil {
			return
		}
		check(p.Search(t.Context(), q, search.NewTop(5, noKey), 0, nil, filter))
		check(p.Ascend(t.Context(), vectors.Hash{}, func(int, segment.Row) error { return nil }))
		_, _, err = p.Find(rows[0].Hash, rows[0].Key)
		check(err)
	})
}

// rssKiB returns RssAnon + RssFile of this process, in KiB.
func rssKiB(b *testing.B) (kib int) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		b.Skip("no /proc")
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		if name == "RssAnon" || name == "RssFile" {
			n, _ := strconv.Atoi(strings.Fields(value)[0])
			kib += n
		}
	}
	return kib
}

// benchRows returns n rows of 128 dimensions in order, those whose number is a multiple of step.
func benchRows(b *testing.B, step int) (n int, rows func(yield func(segment.Row) error) error) {
	n = 1_000_000
	if text := os.Getenv("AKIGW_ROWS"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	return n / step, func(yield func(segment.Row) error) error {
		r := testkit.Random(b)
		row := segment.Row{Data: make([]float32, benchDimension)}
		for i := 0; i < n; i += step {
			row.Hash = vectors.Hash{byte(i >> 24), byte(i >> 16), byte(i >> 8), byte(i)}
			row.Key = fmt.Sprintf("key-%d", i)
			row.Metadata = fmt.Appendf(row.Metadata[:0], `{"n":%d,"genre":"g%d"}`, r.IntN(100), r.IntN(10))
			for j := range row.Data {
				row.Data[j] = r.Float32() - 0.5
			}
			if err := yield(row); err != nil {
				return err
			}
		}
		return nil
	}
}

const benchDimension = 128

// benchBlocks writes a part into a tier on disk.
func benchBlocks(b *testing.B, n int, rows func(yield func(segment.Row) error) error) *Blocks {
	tier, err := warm.Open(warm.Config{Dir: b.TempDir(), Quota: 2 << 30, Format: "vectors", Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { tier.Close() })
	began := time.Now()
	p, err := Write(b.Context(), On(tier), testExtent, testID, Options{Dimension: benchDimension, Metric: vectors.Cosine, Rows: n}, rows)
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("written in %v", time.Since(began))
	return p
}

// benchMemory builds a part in memory.
func benchMemory(b *testing.B, n int, rows func(yield func(segment.Row) error) error) *Memory {
	began := time.Now()
	builder := NewBuilder(Options{Dimension: benchDimension, Metric: vectors.Cosine, Rows: n})
	if err := rows(builder.Add); err != nil {
		b.Fatal(err)
	}
	m, err := builder.Finish(b.Context(), search.Options{ExactRows: 1 << 30, Threads: 2})
	if err != nil {
		b.Fatal(err)
	}
	b.Logf("built in %v: %d MiB", time.Since(began), m.Bytes()>>20)
	return m
}

// benchSearch searches a part, with and without filters.
func benchSearch(b *testing.B, p Part) {
	r := testkit.Random(b)
	for name, filter := range map[string]string{"all": "", "1%": `{"n":7}`, "10%": `{"genre":"g3"}`, "50%": `{"n":{"$lt":50}}`} {
		b.Run(name, func(b *testing.B) {
			var f *meta.Filter
			if filter != "" {
				var err error
				if f, err = meta.Parse([]byte(filter), nil); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			debug.FreeOSMemory()
			for b.Loop() {
				keys := NewKeys([]Part{p})
				v := make([]float32, benchDimension)
				for i := range v {
					v[i] = r.Float32() - 0.5
				}
				if err := p.Search(b.Context(), search.NewQuery(search.Cosine, v), search.NewTop(10, keys.Key), 0, nil, f); err != nil {
					b.Fatal(err)
				}
				keys.Release()
			}
			b.ReportMetric(float64(rssKiB(b))/1024, "MiB-rss")
			b.ReportMetric(float64(p.Vectors()*benchDimension*4)/(1<<20), "MiB-raw")
		})
	}
}

// BenchmarkWarm searches 1,000,000 vectors of 128 dimensions on disk. AKIGW_ROWS is another number.
func BenchmarkWarm(b *testing.B) {
	n, rows := benchRows(b, 1)
	benchSearch(b, benchBlocks(b, n, rows))
}

// BenchmarkHot searches them in memory, exactly.
func BenchmarkHot(b *testing.B) {
	n, rows := benchRows(b, 1)
	benchSearch(b, benchMemory(b, n, rows))
}

// BenchmarkOverride overrides each fourth row of 1,000,000, in memory and on disk.
func BenchmarkOverride(b *testing.B) {
	n, rows := benchRows(b, 1)
	few, some := benchRows(b, 4)
	newer := benchMemory(b, few, some)
	for name, older := range map[string]Part{"memory": benchMemory(b, n, rows), "blocks": benchBlocks(b, n, rows)} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				alive, err := Override([]Part{older}, []search.Bitmap{nil}, newer)
				if err != nil || alive[0].Count() != older.Vectors()-newer.Vectors() {
					b.Fatal(err)
				}
			}
		})
	}
}
