package search

import (
	"context"
	"math"
	"reflect"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRotation: lengths and products stay what they are, and a vector on one axis is spread over all.
func TestRotation(t *testing.T) {
	random := testkit.Random(t)
	for _, dim := range []int{1, 64, 100, 128, 192, 768, 1000, 1536} {
		r := newRotation(dim)
		rows, _ := vectors(random, 2, r.dim, 1)
		a, b := rows[:r.dim], rows[r.dim:]
		axis := make([]float32, r.dim)
		axis[0] = 1
		before := float64(squares32(a, b))
		for _, v := range [][]float32{a, b, axis} {
			r.apply(v)
		}
		if after := float64(squares32(a, b)); math.Abs(after/before-1) > 1e-4 {
			t.Errorf("%d dimensions: squared distance %g before, %g after", dim, before, after)
		}
		if math.Abs(Norm(axis)-1) > 1e-4 || float64(slices.Max(axis)) > 6/math.Sqrt(float64(r.dim)) {
			t.Errorf("%d dimensions: an axis has length %g and a coordinate %g", dim, Norm(axis), slices.Max(axis))
		}
	}
}

// TestEstimateBound: the least squared distance of an estimate is not above the true one more often than
// its confidence says, and is near enough to be of use.
func TestEstimateBound(t *testing.T) {
	testkit.WithoutRace(t, "its arithmetic takes ten times as long, and TestBuildIsDeterministic has the goroutines")
	random := testkit.Random(t)
	for _, dim := range []int{128, 192, 512} {
		rows, norms := vectors(random, 3000, dim, 1)
		x, err := Build(context.Background(), Euclidean, dim, rows, norms, Options{ExactRows: 1})
		if err != nil {
			t.Fatal(err)
		}
		l := x.lists
		query, _ := vectors(random, 1, dim, 1)
		s := &search{l.scratch(), l, x, NewQuery(Euclidean, query), NewTop(1, nil), 0, nil}
		s.place()
		above, gap := [2]int{}, [2]float64{}
		for list := range l.shapes {
			e := s.prepare(list)
			for at := l.starts[list]; at < l.starts[list+1]; at++ {
				detail := l.detail(int(at))
				row := int(uint32(detail[0]))
				true2 := squares(s.q.v, rows[row*dim:(row+1)*dim]) * l.scale * l.scale
				words := len(s.planes)
				code, unit := l.codes[int(at)*words:int(at+1)*words], math.Float32frombits(uint32(detail[0]>>32))
				for i, least := range []float32{e.least(code, l.factors[at]), e.fineLeast(code, detail[1:], l.factors[at].square, unit)} {
					least := float64(least) + float64(s.squares[list])
					if least > true2 {
						above[i]++
					}
					gap[i] += (true2 - least) / true2 / float64(len(norms))
				}
			}
		}
		for i, limit := range []float64{1.8, 1.3} {
			if share := float64(above[i]) / float64(len(norms)); share > 0.06 {
				t.Errorf("%d dimensions, estimate %d: %.3f of the rows are nearer than estimated", dim, i, share)
			}
			if limit /= math.Sqrt(float64(dim)); gap[i] > limit {
				t.Errorf("%d dimensions, estimate %d: %.3f too low on average, want %.3f", dim, i, gap[i], limit)
			}
		}
	}
}

// TestHits: the fast paths choose the rows that least says.
func TestHits(t *testing.T) {
	random := testkit.Random(t)
	for _, words := range []int{1, 2, 3, 8} {
		for rows := 1; rows <= 64; rows += 7 {
			e := estimate{planes: make([][2]uint64, words), base: 4.3, slope: 1 / float32(16*words)}
			for i := range e.planes {
				e.planes[i] = [2]uint64{random.Uint64(), random.Uint64()}
			}
			codes, factors := make([]uint64, rows*words), make([]factor, rows)
			for i := range codes {
				codes[i] = random.Uint64()
			}
			for i := range factors {
				factors[i] = factor{square: random.Float32(), unit: random.Float32()}
			}
			got, want := e.hits(codes, factors, 0.1), uint64(0)
			for i, f := range factors {
				if e.least(codes[i*words:(i+1)*words], f) <= 0.1 {
					want |= 1 << i
				}
			}
			if got != want {
				t.Errorf("%d words, %d rows: %x, want %x", words, rows, got, want)
			}
			if rows == 64 && (want == 0 || want == ^uint64(0)) {
				t.Errorf("%d words: the rows don't differ", words)
			}
		}
	}
}

// TestBuildIsDeterministic: the index does not depend on the number of threads.
func TestBuildIsDeterministic(t *testing.T) {
	rows, norms := vectors(testkit.Random(t), 3000, 70, 1)
	var built []*Index
	for _, threads := range []int{1, 3} {
		x, err := Build(context.Background(), Cosine, 70, rows, norms, Options{Threads: threads, ExactRows: 1})
		if err != nil {
			t.Fatal(err)
		}
		built = append(built, x)
	}
	a, b := built[0].lists, built[1].lists
	if !slices.Equal(a.details, b.details) || !slices.Equal(a.codes, b.codes) || !slices.Equal(a.factors, b.factors) ||
		!slices.Equal(a.centroids.rows, b.centroids.rows) || !reflect.DeepEqual(a.shapes, b.shapes) || a.budget != b.budget || a.spread != b.spread {
		t.Error("one thread and three threads build different indexes")
	}
	if got := built[0].Bytes(); got < 3000*(16+8+4) || got > 3000*200 {
		t.Errorf("the index takes %d bytes", got)
	}
}

// TestDegenerateParts: duplicates, zero vectors, a single row, and magnitudes near the limits of float32
// neither panic nor lose the nearest rows.
func TestDegenerateParts(t *testing.T) {
	testkit.WithoutRace(t, "its arithmetic takes ten times as long, and TestBuildIsDeterministic has the goroutines")
	random := testkit.Random(t)
	const n, dim, k = 2000, 20, 10
	for _, m := range []Metric{Cosine, Euclidean} {
		for name, fill := range map[string]func(row int, v []float32){
			"all the same": func(_ int, v []float32) { v[3] = 1 },
			"all zero":     func(int, []float32) {},
			"two values":   func(row int, v []float32) { v[row%2] = 1 },
			"huge": func(_ int, v []float32) {
				v[random.IntN(dim)] = math.MaxFloat32
				v[random.IntN(dim)] = -math.MaxFloat32
			},
			"tiny": func(_ int, v []float32) { v[random.IntN(dim)] = math.SmallestNonzeroFloat32 * 1000 },
			"of all magnitudes": func(_ int, v []float32) {
				for i := range v {
					v[i] = float32(random.NormFloat64() * math.Pow(10, float64(random.IntN(70)-35)))
				}
			},
		} {
			rows := make([]float32, n*dim)
			for row := range n {
				fill(row, rows[row*dim:(row+1)*dim])
			}
			x, err := Build(context.Background(), m, dim, rows, normsOf(rows, dim), Options{ExactRows: 1})
			if err != nil {
				t.Fatal(err)
			}
			other, _ := vectors(random, 1, dim, 1)
			for _, v := range [][]float32{rows[:dim], rows[(n-1)*dim:], make([]float32, dim), other} {
				c := &collection{metric: m, dim: dim, indexes: []*Index{x}, allowed: []Bitmap{nil}}
				q := NewQuery(m, v)
				got, want := c.search(q, k).Results(), c.truth(q, k).Results()
				if len(got) != k || got[0].Distance != want[0].Distance {
					t.Errorf("%v, %s: %v, want %v", m, name, got, want)
				}
			}
		}
	}
	one, err := Build(context.Background(), Euclidean, 1, []float32{5}, []float64{5}, Options{ExactRows: 1})
	if err != nil {
		t.Fatal(err)
	}
	top := NewTop(3, rowKey)
	one.Search(NewQuery(Euclidean, []float32{7}), top, 0, nil)
	if r := top.Results(); len(r) != 1 || r[0].Distance != 2 {
		t.Errorf("one row: %v", r)
	}
}

func TestSmallest(t *testing.T) {
	random := testkit.Random(t)
	for range 2000 {
		list := make([]uint64, random.IntN(50))
		for i := range list {
			list[i] = random.Uint64N(1 + random.Uint64N(60))
		}
		n := random.IntN(len(list) + 1)
		want := slices.Sorted(slices.Values(list))
		smallest(list, n)
		slices.Sort(list[:n])
		if !slices.Equal(list[:n], want[:n]) || !slices.Equal(slices.Sorted(slices.Values(list)), want) {
			t.Fatalf("the %d smallest: %v, want %v", n, list[:n], want[:n])
		}
	}
}
