package part

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/search"
	"github.com/akidb/akigw/vectors/segment"
)

// sortRows sorts rows as a part has them.
func sortRows(rows []segment.Row) {
	slices.SortFunc(rows, func(a, b segment.Row) int {
		if c := bytes.Compare(a.Hash[:], b.Hash[:]); c != 0 {
			return c
		}
		return bytes.Compare([]byte(a.Key), []byte(b.Key))
	})
}

// randomRows returns rows with keys from a small range, so that parts have keys in common, and vectors of
// few values, so that distances are often equal. Hashes are cut to one byte, so that they are often equal
// too.
func randomRows(r *rand.Rand, n, dimension int) (rows []segment.Row) {
	for _, k := range r.Perm(2 * n)[:n] {
		key := fmt.Sprintf("key-%d", k)
		row := segment.Row{Key: key, Hash: testHash(key), Seq: r.Uint64() >> 1}
		if row.Deleted = r.IntN(4) == 0; !row.Deleted {
			row.Data = make([]float32, dimension)
			for i := range row.Data {
				row.Data[i] = float32(r.IntN(3)) + 0.1
			}
			if r.IntN(5) > 0 {
				row.Metadata = fmt.Appendf(nil, `{"n":%d,"tag":["t%d","t%d"],"text":"%s"}`, r.IntN(20), r.IntN(5), r.IntN(5), bytes.Repeat([]byte("x"), r.IntN(200)))
			}
		}
		rows = append(rows, row)
	}
	sortRows(rows)
	return rows
}

func testHash(key string) vectors.Hash {
	full := vectors.HashKey(key)
	return vectors.Hash{full[0]}
}

func options(dimension int) Options {
	return Options{Dimension: dimension, Metric: vectors.Cosine, NonFilterable: []string{"text"}}
}

func newMemory(t testing.TB, rows []segment.Row, dimension int) *Memory {
	t.Helper()
	b := NewBuilder(options(dimension))
	for _, row := range rows {
		if err := b.Add(row); err != nil {
			t.Fatal(err)
		}
	}
	m, err := b.Finish(t.Context(), search.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// form is a way to keep a part.
type form struct {
	name string
	make func(t testing.TB, rows []segment.Row, dimension int) Part
}

func forms() []form {
	return []form{
		{"memory", func(t testing.TB, rows []segment.Row, dimension int) Part { return newMemory(t, rows, dimension) }},
		{"blocks", func(t testing.TB, rows []segment.Row, dimension int) Part {
			return write(t, newFakeTier(), rows, dimension)
		}},
		{"blocks without filter blocks", func(t testing.TB, rows []segment.Row, dimension int) Part {
			p, err := Write(t.Context(), newFakeTier(), testExtent, testID, Options{Dimension: dimension, Metric: vectors.Cosine}, each(rows))
			if err != nil {
				t.Fatal(err)
			}
			return p
		}},
		{"opened", func(t testing.TB, rows []segment.Row, dimension int) Part {
			tier := newFakeTier()
			write(t, tier, rows, dimension)
			p, err := Open(t.Context(), tier, testExtent, testID)
			if err != nil {
				t.Fatal(err)
			}
			return p
		}},
	}
}

// mixed alternates between the forms.
func mixed() form {
	next, all := 0, forms()
	return form{"mixed", func(t testing.TB, rows []segment.Row, dimension int) Part {
		next++
		return all[next%len(all)].make(t, rows, dimension)
	}}
}

func eachForm(t *testing.T, test func(t *testing.T, f form)) {
	for _, f := range append(forms(), mixed()) {
		t.Run(f.name, func(t *testing.T) { test(t, f) })
	}
}

func equalRows(a, b segment.Row) bool {
	return a.Hash == b.Hash && a.Key == b.Key && a.Seq == b.Seq && a.Deleted == b.Deleted && slices.Equal(a.Data, b.Data) && bytes.Equal(a.Metadata, b.Metadata) && (a.Metadata == nil) == (b.Metadata == nil)
}

// TestRows reads the rows back, in order, by number and by key.
func TestRows(t *testing.T) {
	eachForm(t, func(t *testing.T, f form) {
		r := testkit.Random(t)
		for _, n := range []int{0, 1, 2, 500} {
			rows := randomRows(r, n, 5)
			p := f.make(t, rows, 5)
			if p.Len() != n || p.Vectors() != n-deleted(rows) || len(p.Hashes())+len(p.Tombstones()) != n {
				t.Fatalf("%d rows, %d vectors, %d hashes; want %d, %d of them deleted", p.Len(), p.Vectors(), len(p.all()), n, deleted(rows))
			}
			for _, want := range rows {
				i, ok, err := p.Find(want.Hash, want.Key)
				if err != nil || !ok || p.all()[i] != want.Hash || p.Deleted(i) != want.Deleted {
					t.Fatalf("Find(%s) = %d, %v, %v", want.Key, i, ok, err)
				}
				got, err := p.Row(i)
				if err != nil || !equalRows(got, want) {
					t.Fatalf("Row(%d) = %+v, %v; want %+v", i, got, err, want)
				}
				want.Data = nil
				if got, err := p.Text(i); err != nil || !equalRows(got, want) {
					t.Fatalf("Text(%d) = %+v, %v; want %+v", i, got, err, want)
				}
				if _, ok, err := p.Find(want.Hash, want.Key+"?"); ok || err != nil {
					t.Fatalf("Find finds a key that is not there: %v", err)
				}
			}
		}
	})
}

func deleted(rows []segment.Row) (n int) {
	for _, row := range rows {
		if row.Deleted {
			n++
		}
	}
	return n
}

// TestAscend yields all rows from any hash on, and ends with an error of yield or of the context.
func TestAscend(t *testing.T) {
	eachForm(t, func(t *testing.T, f form) {
		rows := randomRows(testkit.Random(t), 300, 3)
		p := f.make(t, rows, 3)
		for _, from := range []vectors.Hash{{}, {1}, {100}, {100, 1}, {255}, {255, 255}} {
			want := slices.Clone(rows)
			want = slices.DeleteFunc(want, func(r segment.Row) bool { return bytes.Compare(r.Hash[:], from[:]) < 0 })
			if err := p.Ascend(t.Context(), from, func(i int, got segment.Row) error {
				if len(want) == 0 || !equalRows(got, want[0]) || p.all()[i] != got.Hash {
					return fmt.Errorf("row %d is %+v", i, got)
				}
				want = want[1:]
				return nil
			}); err != nil || len(want) > 0 {
				t.Fatalf("from %x: %v, %d rows are missing", from, err, len(want))
			}
		}
		stop := errors.New("stop")
		n := 0
		if err := p.Ascend(t.Context(), vectors.Hash{}, func(int, segment.Row) error { n++; return stop }); !errors.Is(err, stop) || n != 1 {
			t.Errorf("%v after %d rows; want the error of yield", err, n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := p.Ascend(ctx, vectors.Hash{}, func(int, segment.Row) error { return nil }); !errors.Is(err, context.Canceled) {
			t.Errorf("%v; want that of the context", err)
		}
	})
}

// collection is several parts, and what a naive reading makes of them.
type collection struct {
	parts []Part
	alive []search.Bitmap
	rows  map[string]segment.Row
}

func newCollection(t *testing.T, r *rand.Rand, f form, dimension int, sizes ...int) *collection {
	t.Helper()
	c := &collection{rows: map[string]segment.Row{}}
	for _, n := range sizes {
		rows := randomRows(r, n, dimension)
		p := f.make(t, rows, dimension)
		before := make([]search.Bitmap, len(c.alive))
		for i, b := range c.alive {
			before[i] = b.Clone()
		}
		after, err := Override(c.parts, c.alive, p)
		if err != nil {
			t.Fatal(err)
		}
		for i := range before {
			if c.alive[i] != nil && !slices.Equal(before[i], c.alive[i]) {
				t.Fatal("Override has changed a bitmap that readers have")
			}
		}
		c.parts, c.alive = append(c.parts, p), append(after, nil)
		for _, row := range rows {
			c.rows[row.Key] = row
		}
	}
	return c
}

// found is a result of a search.
type found struct {
	distance float32
	key      string
}

// search searches all parts.
func (c *collection) search(t *testing.T, q *search.Query, k int, f *meta.Filter) (results []found) {
	t.Helper()
	keys := NewKeys(c.parts)
	defer keys.Release()
	top := search.NewTop(k, keys.Key)
	for i, p := range c.parts {
		if err := p.Search(t.Context(), q, top, i, c.alive[i], f); err != nil {
			t.Fatal(err)
		}
	}
	for _, r := range top.Results() {
		results = append(results, found{r.Distance, string(keys.Key(r.Part, r.Row))})
	}
	if err := keys.Err(); err != nil {
		t.Fatal(err)
	}
	return results
}

// naive sorts all rows.
func (c *collection) naive(q *search.Query, k int, f *meta.Filter) (results []found) {
	for _, row := range c.rows {
		if !row.Deleted && (f == nil || f.Match(row.Metadata)) {
			results = append(results, found{q.Distance(row.Data, search.Norm(row.Data)), row.Key})
		}
	}
	slices.SortFunc(results, func(a, b found) int {
		if a.distance != b.distance {
			return int(1 - 2*b2i(a.distance < b.distance))
		}
		return bytes.Compare([]byte(a.key), []byte(b.key))
	})
	return results[:min(k, len(results))]
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// TestSearch compares searches in several parts that override each other with a naive search.
func TestSearch(t *testing.T) {
	eachForm(t, func(t *testing.T, f form) {
		r := testkit.Random(t)
		for _, dimension := range []int{1, 7, 16} {
			c := newCollection(t, r, f, dimension, 400, 100, 0, 50, 1, 200)
			for range 20 {
				v := make([]float32, dimension)
				for i := range v {
					v[i] = r.Float32() - 0.5
				}
				q := search.NewQuery(search.Cosine, v)
				for _, filter := range []string{"", `{"n":{"$lt":10}}`, `{"tag":"t1","n":{"$ne":3}}`, `{"n":{"$exists":false}}`, `{"n":7}`, `{"n":-1}`} {
					var parsed *meta.Filter
					if filter != "" {
						var err error
						if parsed, err = meta.Parse([]byte(filter), nil); err != nil {
							t.Fatal(err)
						}
					}
					if got, want := c.search(t, q, 15, parsed), c.naive(q, 15, parsed); !slices.Equal(got, want) {
						t.Fatalf("filter %s finds %v, want %v", filter, got, want)
					}
				}
			}
		}
	})
}

func TestBuilderRefuses(t *testing.T) {
	row := func(key string, data ...float32) segment.Row {
		return segment.Row{Key: key, Hash: testHash(key), Data: data}
	}
	for name, rows := range map[string][]segment.Row{
		"twice":     {row("a", 1, 2), row("a", 1, 2)},
		"dimension": {row("a", 1)},
		"order":     {{Key: "b", Hash: vectors.Hash{2}, Deleted: true}, {Key: "a", Hash: vectors.Hash{1}, Deleted: true}},
		"no key":    {row("", 1, 2)},
		"long key":  {row(string(bytes.Repeat([]byte("x"), vectors.MaxKeyBytes+1)), 1, 2)},
		"metadata":  {{Key: "a", Data: []float32{1, 2}, Metadata: make([]byte, vectors.MaxMetadataBytes+1)}},
	} {
		t.Run(name, func(t *testing.T) {
			b := NewBuilder(options(2))
			for _, row := range rows[:len(rows)-1] {
				if err := b.Add(row); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Add(rows[len(rows)-1]); err == nil {
				t.Error("no error")
			}
		})
	}
}

// TestTextsOfManyChunks has texts beyond the first chunk, the longest ones included.
func TestTextsOfManyChunks(t *testing.T) {
	r := testkit.Random(t)
	var texts texts
	type text struct{ key, metadata []byte }
	var want []text
	for range 300 {
		w := text{testkit.Bytes(r.Uint64(), 1+r.IntN(vectors.MaxKeyBytes)), testkit.Bytes(r.Uint64(), r.IntN(vectors.MaxMetadataBytes+1))}
		want = append(want, w)
		texts.add(string(w.key), w.metadata)
	}
	texts.trim()
	for i, w := range want {
		if key, metadata := texts.at(i); !bytes.Equal(key, w.key) || !bytes.Equal(metadata, w.metadata) {
			t.Fatalf("text %d has a key of %d and metadata of %d bytes; want %d and %d", i, len(key), len(metadata), len(w.key), len(w.metadata))
		}
	}
	if len(texts.chunks) < 3 {
		t.Errorf("only %d chunks", len(texts.chunks))
	}
}
