package search

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/big"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// vectors returns n rows of normally distributed components times scale, and their norms.
func vectors(random *rand.Rand, n, dim int, scale float64) (rows []float32, norms []float64) {
	rows = make([]float32, n*dim)
	for i := range rows {
		rows[i] = float32(max(-math.MaxFloat32, min(math.MaxFloat32, random.NormFloat64()*scale)))
	}
	return rows, normsOf(rows, dim)
}

func normsOf(rows []float32, dim int) []float64 {
	norms := make([]float64, 0, len(rows)/dim)
	for row := range slices.Chunk(rows, dim) {
		norms = append(norms, Norm(row))
	}
	return norms
}

func rowKey(part int, row uint32) []byte { return fmt.Appendf(nil, "%d-%d", part, row) }

// reference computes a distance in numbers of 300 bits.
func reference(m Metric, a, b []float32) float64 {
	number := func(x float64) *big.Float { return new(big.Float).SetPrec(300).SetFloat64(x) }
	sum := func(term func(i int) *big.Float) *big.Float {
		s := number(0)
		for i := range a {
			s.Add(s, term(i))
		}
		return s
	}
	product := func(x, y []float32) *big.Float {
		return sum(func(i int) *big.Float { p := number(float64(x[i])); return p.Mul(p, number(float64(y[i]))) })
	}
	result := number(0)
	if m == Euclidean {
		result.Sqrt(sum(func(i int) *big.Float {
			d := number(float64(a[i]))
			d.Sub(d, number(float64(b[i])))
			return d.Mul(d, d)
		}))
	} else {
		lengths := product(a, a)
		lengths.Sqrt(lengths.Mul(lengths, product(b, b)))
		if lengths.Sign() == 0 {
			return 1
		}
		result.Sub(number(1), result.Quo(product(a, b), lengths))
	}
	f, _ := result.Float64()
	return f
}

func TestDistanceAgainstReference(t *testing.T) {
	random := testkit.Random(t)
	for _, m := range []Metric{Cosine, Euclidean} {
		for _, scale := range []float64{1, 1e-44, 1e-38, 1e-20, 1e20, 1e37, 3e38} {
			for _, dim := range []int{1, 2, 3, 7, 8, 9, 31, 128, 1000} {
				rows, norms := vectors(random, 3, dim, scale)
				other, _ := vectors(random, 1, dim, 1)
				near := slices.Clone(rows[:dim])
				near[0] = math.Nextafter32(near[0], 0)
				for name, q := range map[string][]float32{
					"random": rows[dim : 2*dim], "of another magnitude": other, "near": near, "the same": rows[:dim], "zero": make([]float32, dim),
				} {
					got, want := NewQuery(m, q).Distance(rows[:dim], norms[0]), reference(m, q, rows[:dim])
					if want > math.MaxFloat32 {
						want = math.MaxFloat32
					}
					if math.Abs(float64(got)-want) > 1e-13+1e-7*want && !(m == Cosine && got == 0 && want < 2*sameDirection) || got < 0 || math.IsNaN(float64(got)) {
						t.Errorf("%v of %d dimensions, %s, scale %g: distance %g, want %g", m, dim, name, scale, got, want)
					}
				}
			}
		}
	}
}

func TestDistanceExtremes(t *testing.T) {
	const huge = math.MaxFloat32
	tiny := float32(math.SmallestNonzeroFloat32)
	for _, c := range []struct {
		name string
		m    Metric
		q, r []float32
		want float32
	}{
		{"opposite and huge", Cosine, []float32{huge, huge}, []float32{-huge, -huge}, 2},
		{"parallel, huge and tiny", Cosine, []float32{huge, huge, huge}, []float32{tiny, tiny, tiny}, 0},
		{"right angle", Cosine, []float32{huge, 0}, []float32{0, tiny}, 1},
		{"zero query", Cosine, []float32{0, 0}, []float32{1, 1}, 1},
		{"zero row", Cosine, []float32{1, 1}, []float32{0, 0}, 1},
		{"both zero", Cosine, []float32{0, 0}, []float32{0, 0}, 1},
		{"beyond float32", Euclidean, []float32{huge}, []float32{-huge}, huge},
		{"huge", Euclidean, []float32{huge, 1}, []float32{0, 1}, huge},
		{"tiny", Euclidean, []float32{tiny, 1}, []float32{0, 1}, tiny},
		{"same", Euclidean, []float32{huge, -huge}, []float32{huge, -huge}, 0},
		{"three four five", Euclidean, []float32{3, 0}, []float32{0, 4}, 5},
	} {
		if got := NewQuery(c.m, c.q).Distance(c.r, Norm(c.r)); got != c.want {
			t.Errorf("%s: distance %g, want %g", c.name, got, c.want)
		}
	}
}

// results are candidates as comparable values, with the bits of their distances.
func results(top *Top) (list []string) {
	for _, c := range top.Results() {
		list = append(list, fmt.Sprintf("%x %d %d", math.Float32bits(c.Distance), c.Part, c.Row))
	}
	return list
}

// TestScanInChunks: a part gives the same bits in one piece, in chunks of any size, at any alignment, and
// through an index.
func TestScanInChunks(t *testing.T) {
	random := testkit.Random(t)
	for _, m := range []Metric{Cosine, Euclidean} {
		for _, dim := range []int{1, 7, 64, 130} {
			const n, k = 500, 20
			rows, norms := vectors(random, n, dim, 1)
			for r := range n / 3 { // duplicates: ties
				copy(rows[r*dim:(r+1)*dim], rows[(n-1-r)*dim:])
			}
			norms = normsOf(rows, dim)
			q := NewQuery(m, rows[dim*5:dim*6])
			for _, allowed := range []Bitmap{nil, FullBitmap(n), randomBitmap(random, n, 0.3), NewBitmap(n)} {
				want := NewTop(k, rowKey)
				for r := range uint32(n) {
					if allowed == nil || allowed.Get(r) {
						want.Offer(q.Distance(rows[int(r)*dim:int(r+1)*dim], norms[r]), 4, r)
					}
				}
				chunked := NewTop(k, rowKey)
				for first := 0; first < n; {
					end := min(n, first+1+random.IntN(100))
					chunk := append(make([]float32, 1), rows[first*dim:end*dim]...)[1:] // elsewhere in memory
					Scan(q, chunked, 4, chunk, norms[first:end], uint32(first), allowed)
					first = end
				}
				index, err := Build(context.Background(), m, dim, rows, norms, Options{})
				if err != nil {
					t.Fatal(err)
				}
				indexed := NewTop(k, rowKey)
				index.Search(q, indexed, 4, allowed)
				for name, got := range map[string]*Top{"chunks": chunked, "index": indexed} {
					if !slices.Equal(results(got), results(want)) {
						t.Fatalf("%v of %d dimensions, %s:\n%v\nwant\n%v", m, dim, name, results(got), results(want))
					}
				}
			}
		}
	}
}

func randomBitmap(random *rand.Rand, n int, share float64) Bitmap {
	b := NewBitmap(n)
	for r := range uint32(n) {
		if random.Float64() < share {
			b.Set(r)
		}
	}
	return b
}

// TestTopAgainstSort: a Top keeps what sorting all candidates by (distance, key) puts first, in whatever
// order they come, and asks for keys only if distances are equal.
func TestTopAgainstSort(t *testing.T) {
	random := testkit.Random(t)
	for _, k := range []int{1, 2, 10, 100, 1000} {
		for _, distances := range []int{1, 3, 1000} {
			type candidate struct {
				Candidate
				key []byte
			}
			var all []candidate
			for row := range uint32(300) {
				c := Candidate{Distance: float32(random.IntN(distances)), Part: random.IntN(3), Row: row}
				all = append(all, candidate{c, fmt.Appendf(nil, "%x", random.Uint64())})
			}
			top := NewTop(k, func(part int, row uint32) []byte {
				if all[row].Part != part {
					t.Fatalf("key of part %d, row %d", part, row)
				}
				return all[row].key
			})
			for _, i := range random.Perm(len(all)) {
				top.Offer(all[i].Distance, all[i].Part, all[i].Row)
			}
			top.Offer(float32(math.NaN()), 0, 1)
			slices.SortFunc(all, func(a, b candidate) int {
				if a.Distance != b.Distance {
					return int(a.Distance - b.Distance)
				}
				return bytes.Compare(a.key, b.key)
			})
			got := top.Results()
			if len(got) != min(k, len(all)) {
				t.Fatalf("k %d: %d results", k, len(got))
			}
			for i := range got {
				if got[i] != all[i].Candidate {
					t.Fatalf("k %d, %d distances: result %d is %+v, want %+v", k, distances, i, got[i], all[i].Candidate)
				}
			}
			bound := float32(math.Inf(1))
			if k <= len(all) {
				bound = all[k-1].Distance
			}
			if top.Bound() != bound {
				t.Errorf("k %d: bound %g, want %g", k, top.Bound(), bound)
			}
		}
	}
	quiet := NewTop(5, nil) // calling a nil key panics
	for i := range uint32(100) {
		quiet.Offer(float32((i*37)%100), 0, i)
	}
}

func TestBitmap(t *testing.T) {
	random := testkit.Random(t)
	for _, n := range []int{0, 1, 63, 64, 65, 1000} {
		model, b := map[uint32]bool{}, NewBitmap(n)
		for range n {
			r := uint32(random.IntN(n))
			if model[r] = random.IntN(3) > 0; model[r] {
				b.Set(r)
			} else {
				b.Clear(r)
			}
		}
		other := randomBitmap(random, n/2, 0.5)
		both := b.Clone()
		both.And(other)
		if full := FullBitmap(n); full.Count() != n || full.Get(uint32(n)) {
			t.Errorf("%d rows: the full set has %d", n, full.Count())
		}
		count := 0
		for r := range uint32(n + 200) {
			if b.Get(r) != model[r] || both.Get(r) != (model[r] && other.Get(r)) {
				t.Fatalf("%d rows: row %d is wrong", n, r)
			}
			if model[r] {
				count++
			}
		}
		if b.Count() != count {
			t.Errorf("%d rows: count %d, want %d", n, b.Count(), count)
		}
		first, end := uint32(random.IntN(n+1)), uint32(random.IntN(n+100))
		var want []uint32
		for r := first; r < end; r++ {
			if model[r] {
				want = append(want, r)
			}
		}
		if got := slices.Collect(b.Between(first, end)); !slices.Equal(got, want) {
			t.Errorf("%d rows: between %d and %d: %v, want %v", n, first, end, got, want)
		}
	}
	last := NewBitmap(1<<32 - 1)
	last.Set(math.MaxUint32 - 1)
	if got := slices.Collect(last.Between(math.MaxUint32-500, math.MaxUint32)); !slices.Equal(got, []uint32{math.MaxUint32 - 1}) {
		t.Errorf("the last row: %v", got)
	}
}

func TestBuildRefuses(t *testing.T) {
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range []struct {
		name   string
		ctx    context.Context
		metric Metric
		dim    int
		rows   int
	}{
		{"unknown metric", context.Background(), 2, 3, 6},
		{"no dimension", context.Background(), Cosine, 0, 0},
		{"too few floats", context.Background(), Cosine, 3, 5},
		{"cancelled", cancelled, Cosine, 3, 6},
	} {
		if x, err := Build(c.ctx, c.metric, c.dim, make([]float32, c.rows), make([]float64, 2), Options{}); err == nil || x != nil {
			t.Errorf("%s: index %v, error %v", c.name, x, err)
		}
	}
}

var sink float32

// BenchmarkKernel reports the rate at which rows are read.
func BenchmarkKernel(b *testing.B) {
	for _, m := range []Metric{Cosine, Euclidean} {
		for _, dim := range []int{128, 512} {
			for _, mib := range []int{1, 100} {
				b.Run(fmt.Sprintf("%v/%d/%dMiB", m, dim, mib), func(b *testing.B) {
					n := mib << 20 / 4 / dim
					rows, norms := vectors(rand.New(rand.NewPCG(1, 2)), n, dim, 1)
					q := NewQuery(m, rows[:dim])
					b.SetBytes(int64(4 * len(rows)))
					for b.Loop() {
						top := NewTop(10, rowKey)
						Scan(q, top, 0, rows, norms, 0, nil)
						sink += top.Bound()
					}
				})
			}
		}
	}
}
