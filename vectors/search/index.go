package search

import (
	"context"
	"fmt"
	"math"
)

// ExactRows is the number of rows from which Build makes an approximate index, unless Options say
// otherwise.
const ExactRows = 50_000

// Options of Build. The zero value is fine for a collection that is one part.
type Options struct {
	// Threads is the number of goroutines that build; 0 means 1. The index is the same for any number.
	Threads int
	// ExactRows is the number of rows below which the index is an exact scan; 0 means the constant
	// ExactRows. A small part of a large collection takes a smaller number, such as 2,000: the collection
	// is searched approximately in any case, and many small parts together are slow to scan.
	ExactRows int
}

// Index searches one part in memory. It is immutable; any number of goroutines may search it.
type Index struct {
	metric Metric
	dim    int
	rows   []float32
	norms  []float64
	lists  *lists // nil: exact
}

// Build returns an index of the vectors in rows: len(norms) vectors of dim components in row-major order,
// with norms[i] the Norm of the i-th. The index keeps both slices; the caller must not change them any
// more. All components must be finite. The same input gives the same index. Build fails if the lengths
// don't match and when ctx is done, with ctx's error.
func Build(ctx context.Context, metric Metric, dim int, rows []float32, norms []float64, o Options) (*Index, error) {
	switch {
	case metric > Euclidean:
		return nil, fmt.Errorf("build a vector index: unknown metric %d", metric)
	case dim < 1 || len(rows) != dim*len(norms):
		return nil, fmt.Errorf("build a vector index: %d floats are not %d vectors of %d dimensions", len(rows), len(norms), dim)
	case len(norms) > math.MaxUint32:
		return nil, fmt.Errorf("build a vector index: a part has at most %d rows, this one has %d", math.MaxUint32, len(norms))
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	x := &Index{metric: metric, dim: dim, rows: rows, norms: norms}
	limit := o.ExactRows
	if limit == 0 {
		limit = ExactRows
	}
	if len(norms) > 0 && len(norms) >= limit {
		var err error
		if x.lists, err = buildLists(ctx, x, o.Threads); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// Len returns the number of rows.
func (x *Index) Len() int { return len(x.norms) }

func (x *Index) row(i uint32) []float32 { return x.rows[int(i)*x.dim : (int(i)+1)*x.dim] }

// Bytes returns the memory that the index takes besides rows and norms, in bytes.
func (x *Index) Bytes() int64 {
	if x.lists == nil {
		return 0
	}
	return x.lists.bytes()
}

// Search offers the nearest of the allowed rows to top, as rows of part; nil allows all. The query must
// have the metric and the dimension of the index. It visits every allowed row if the index is exact, if
// few rows are allowed, or if the estimates say nothing about the query. Search the largest part first:
// it is the only one whose search may stop early.
func (x *Index) Search(q *Query, top *Top, part int, allowed Bitmap) {
	if x.lists == nil || !x.lists.fit(x, q) || allowed != nil && x.few(allowed.Count()) {
		Scan(q, top, part, x.rows, x.norms, 0, allowed)
		return
	}
	budget := x.lists.budget
	if !math.IsInf(float64(top.bound), 1) {
		budget = -1 // calibrated for the neighbours in this part alone; with others' bound it stops too early
	}
	x.lists.search(x, q, top, part, allowed, budget)
}

// few reports whether visiting n rows is faster than estimating the distances of all. The numbers are
// nanoseconds per row on a machine of 2023: one for a cache line that is not in the cache, and so on.
func (x *Index) few(n int) bool {
	exact := 20 + 0.65*float64(x.dim)
	estimate := 1.5 + 0.02*float64(x.dim)
	return float64(n)*exact < float64(len(x.norms))*estimate
}
