// Package search finds the nearest neighbours of a query among float32 vectors that are held in immutable
// parts. A part is a set of rows in row-major order; its rows are numbered from 0. Deletes and updates
// never touch a part: the caller passes a Bitmap of the rows that a search may return.
//
// Every distance that leaves the package comes from one kernel with one order of summation
// (Query.Distance). The same query and row have the same distance bits whichever way the row was found:
// in a part in memory, in a chunk that was read from disk, or through an index. A Top collects the
// candidates of several parts and ranks them by (distance, key). Scan visits every allowed row; an Index
// does the same for small parts, and visits only the promising rows of a large one. The package starts
// goroutines only while it builds an index, does no I/O and knows no keys.
package search

import (
	"fmt"
	"math"
)

// Metric is a measure of distance between two vectors.
type Metric uint8

const (
	// Cosine is 1 - cos of the angle between two vectors: 0 for the same direction, 1 for a right angle,
	// 2 for opposite directions.
	Cosine Metric = iota
	// Euclidean is the length of the difference of two vectors.
	Euclidean
)

// String returns the name of the metric in the S3 Vectors API.
func (m Metric) String() string {
	switch m {
	case Cosine:
		return "cosine"
	case Euclidean:
		return "euclidean"
	}
	return fmt.Sprintf("Metric(%d)", uint8(m))
}

// sameDirection is the cosine distance below which two vectors count as parallel. An angle this small
// is below the precision of a float32, and without the limit the distance of a vector to itself would
// sometimes be 1e-16, which would break ties at random.
const sameDirection = 1e-14

// Norm returns the Euclidean length of v. It is computed in float64, so it neither overflows nor
// underflows for finite v. The norms that the package takes with its rows must come from here.
func Norm(v []float32) float64 {
	var s0, s1, s2, s3 float64
	for ; len(v) >= 4; v = v[4:] {
		w := (*[4]float32)(v)
		s0 += float64(w[0]) * float64(w[0])
		s1 += float64(w[1]) * float64(w[1])
		s2 += float64(w[2]) * float64(w[2])
		s3 += float64(w[3]) * float64(w[3])
	}
	for _, x := range v {
		s0 += float64(x) * float64(x)
	}
	return math.Sqrt((s0 + s1) + (s2 + s3))
}

// Query is a vector that the distance of rows is measured to. It is immutable: several goroutines may
// use one Query.
type Query struct {
	metric Metric
	v      []float64 // Cosine: of length 1, unless the query is the zero vector
	norm   float64   // of v as it was
}

// NewQuery returns a query for the neighbours of v, which is copied. The components of v must be finite.
func NewQuery(m Metric, v []float32) *Query {
	q := &Query{metric: m, v: make([]float64, len(v)), norm: Norm(v)}
	scale := 1.0
	if m == Cosine && q.norm > 0 {
		scale = q.norm
	}
	for i, x := range v {
		q.v[i] = float64(x) / scale
	}
	return q
}

// Distance returns the distance between the query and row, a vector of the same dimension and of finite
// components whose Norm is norm. It panics if row is shorter than the query.
//
// The sums are in float64, where no float32 overflows or vanishes, and are added up in a fixed order.
// Every product is rounded explicitly, so that fused multiply-add instructions change no bit of the
// result: it is the same on all platforms. It is never NaN or negative. A Euclidean distance beyond the
// range of float32 is math.MaxFloat32. The cosine distance from or to the zero vector, which has no
// direction, is 1; one below 1e-14, which is less than the rounding of the components, is 0.
func (q *Query) Distance(row []float32, norm float64) float32 {
	if q.metric == Euclidean {
		return float32(min(math.Sqrt(squares(q.v, row)), math.MaxFloat32))
	}
	if norm == 0 {
		return 1
	}
	distance := 1 - dot(q.v, row)/norm
	if distance < sameDirection {
		return 0
	}
	return float32(min(distance, 2))
}

// dot returns the sum of q[i]*row[i]: four sums of every fourth product, added pairwise. Four
// accumulators in float64 are as fast as four or eight in float32, see BenchmarkKernel: the loads are
// the limit.
func dot(q []float64, row []float32) float64 {
	row = row[:len(q)]
	var s0, s1, s2, s3 float64
	for ; len(q) >= 8; q, row = q[8:], row[8:] {
		a, b := (*[8]float64)(q), (*[8]float32)(row)
		s0 += float64(a[0] * float64(b[0]))
		s1 += float64(a[1] * float64(b[1]))
		s2 += float64(a[2] * float64(b[2]))
		s3 += float64(a[3] * float64(b[3]))
		s0 += float64(a[4] * float64(b[4]))
		s1 += float64(a[5] * float64(b[5]))
		s2 += float64(a[6] * float64(b[6]))
		s3 += float64(a[7] * float64(b[7]))
	}
	for i, a := range q {
		s0 += float64(a * float64(row[i]))
	}
	return (s0 + s1) + (s2 + s3)
}

// squares returns the sum of the squared differences of q and row, in the order of dot.
func squares(q []float64, row []float32) float64 {
	row = row[:len(q)]
	var s0, s1, s2, s3 float64
	for ; len(q) >= 8; q, row = q[8:], row[8:] {
		a, b := (*[8]float64)(q), (*[8]float32)(row)
		d0, d1, d2, d3 := float64(b[0])-a[0], float64(b[1])-a[1], float64(b[2])-a[2], float64(b[3])-a[3]
		s0 += float64(d0 * d0)
		s1 += float64(d1 * d1)
		s2 += float64(d2 * d2)
		s3 += float64(d3 * d3)
		d0, d1, d2, d3 = float64(b[4])-a[4], float64(b[5])-a[5], float64(b[6])-a[6], float64(b[7])-a[7]
		s0 += float64(d0 * d0)
		s1 += float64(d1 * d1)
		s2 += float64(d2 * d2)
		s3 += float64(d3 * d3)
	}
	for i, a := range q {
		d := float64(row[i]) - a
		s0 += float64(d * d)
	}
	return (s0 + s1) + (s2 + s3)
}
