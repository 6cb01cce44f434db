package search

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// kinds are the data sets of the recall tests: how far the rows of a cluster are from its centre, for
// centres whose coordinates are normally distributed; 0 means no clusters, uniform rows.
var kinds = map[string]float64{"overlapping": 1, "tight": 0.05, "uniform": 0}

// dataset makes vectors of one kind.
type dataset struct {
	random  *rand.Rand
	dim     int
	spread  float64
	centres []float32
}

func newDataset(kind string, dim, clusters int, seed uint64) *dataset {
	d := &dataset{random: rand.New(rand.NewPCG(seed, 7)), dim: dim, spread: kinds[kind]}
	if d.spread > 0 {
		d.centres, _ = vectors(d.random, clusters, dim, 1)
	}
	return d
}

// add appends a vector to rows and returns its cluster.
func (d *dataset) add(rows *[]float32) (cluster int) {
	if d.spread == 0 {
		for range d.dim {
			*rows = append(*rows, d.random.Float32())
		}
		return d.random.IntN(1000)
	}
	cluster = d.random.IntN(len(d.centres) / d.dim)
	for _, c := range d.centres[cluster*d.dim : (cluster+1)*d.dim] {
		*rows = append(*rows, c+float32(d.random.NormFloat64()*d.spread))
	}
	return cluster
}

// collection is a base part, delta parts, and what is alive in each.
type collection struct {
	metric  Metric
	dim     int
	indexes []*Index
	allowed []Bitmap
}

// truth returns the k nearest, found by exact scans.
func (c *collection) truth(q *Query, k int) *Top {
	top := NewTop(k, rowKey)
	for i, x := range c.indexes {
		Scan(q, top, i, x.rows, x.norms, 0, c.allowed[i])
	}
	return top
}

func (c *collection) search(q *Query, k int) *Top {
	top := NewTop(k, rowKey)
	for i, x := range c.indexes {
		x.Search(q, top, i, c.allowed[i])
	}
	return top
}

// timing is how long searches took, and how long their thread was on a CPU in all.
type timing struct {
	wall []time.Duration // sorted
	cpu  time.Duration
}

// at returns the time that a share of the searches did not exceed, in milliseconds.
func (m *timing) at(share float64) float64 {
	return m.wall[int(float64(len(m.wall)-1)*share)].Seconds() * 1e3
}

// onCPU returns the CPU time of the current thread, or 0 where the system does not tell.
func onCPU() time.Duration {
	var ns int64
	if stat, err := os.ReadFile("/proc/thread-self/schedstat"); err == nil {
		fmt.Sscan(string(stat), &ns)
	}
	return time.Duration(ns)
}

// measure searches for the neighbours of queries, checks the results, and returns recall and times.
func (c *collection) measure(t *testing.T, queries [][]float32, k int) (recall float64, times *timing) {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	times = &timing{}
	cpu := onCPU()
	found, want := 0, 0
	var tops []*Top
	for _, v := range queries {
		start := time.Now()
		tops = append(tops, c.search(NewQuery(c.metric, v), k))
		times.wall = append(times.wall, time.Since(start))
	}
	times.cpu = onCPU() - cpu
	slices.Sort(times.wall)
	var mu sync.Mutex
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := w; i < len(queries); i += 2 {
				q := NewQuery(c.metric, queries[i])
				truth := c.truth(q, k)
				mu.Lock()
				want += len(truth.Results())
				if len(tops[i].Results()) != len(truth.Results()) {
					t.Errorf("%d results, want %d", len(tops[i].Results()), len(truth.Results()))
				}
				for _, r := range tops[i].Results() {
					x := c.indexes[r.Part]
					if d := q.Distance(x.rows[int(r.Row)*c.dim:int(r.Row+1)*c.dim], x.norms[r.Row]); d != r.Distance {
						t.Errorf("row %d of part %d: distance %g, want %g", r.Row, r.Part, r.Distance, d)
					}
					if c.allowed[r.Part] != nil && !c.allowed[r.Part].Get(r.Row) {
						t.Errorf("row %d of part %d is not allowed", r.Row, r.Part)
					}
					if r.Distance <= truth.Results()[len(truth.Results())-1].Distance {
						found++
					}
				}
				if !slices.IsSortedFunc(tops[i].Results(), func(a, b Candidate) int { return cmp.Compare(a.Distance, b.Distance) }) {
					t.Error("not sorted")
				}
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	return float64(found) / float64(max(want, 1)), times
}

// build adds parts of the given sizes to the collection, and returns the cluster of each row of the first.
func (c *collection) build(t testing.TB, d *dataset, exactRows int, sizes ...int) (clusters []int) {
	t.Helper()
	for i, n := range sizes {
		rows := make([]float32, 0, n*c.dim)
		for range n {
			if cluster := d.add(&rows); i == 0 {
				clusters = append(clusters, cluster)
			}
		}
		x, err := Build(context.Background(), c.metric, c.dim, rows, normsOf(rows, c.dim), Options{Threads: 2, ExactRows: exactRows})
		if err != nil {
			t.Fatal(err)
		}
		c.indexes, c.allowed = append(c.indexes, x), append(c.allowed, nil)
	}
	return clusters
}

func (d *dataset) queries(n int) (list [][]float32) {
	for range n {
		var v []float32
		d.add(&v)
		list = append(list, v)
	}
	return list
}

// filters are sets of rows of a part whose rows belong to clusters, by name; "1% clustered" are the rows
// of 1% of the clusters.
func filters(random *rand.Rand, clusters []int) map[string]Bitmap {
	m := map[string]Bitmap{"all": nil}
	for _, percent := range []int{1, 10, 50} {
		m[fmt.Sprintf("%d%% random", percent)] = randomBitmap(random, len(clusters), float64(percent)/100)
		clustered := NewBitmap(len(clusters))
		for row, cluster := range clusters {
			if cluster%100 < percent {
				clustered.Set(uint32(row))
			}
		}
		m[fmt.Sprintf("%d%% clustered", percent)] = clustered
	}
	return m
}

// TestRecall: an index of 6,000 rows finds 95% of the neighbours, with any filter, in all kinds of data.
func TestRecall(t *testing.T) {
	testkit.WithoutRace(t, "its arithmetic takes ten times as long, and TestBuildIsDeterministic has the goroutines")
	for kind := range kinds {
		for _, c := range []*collection{{metric: Cosine, dim: 128}, {metric: Euclidean, dim: 100}} {
			d := newDataset(kind, c.dim, 100, testkit.Seed(t))
			clusters := c.build(t, d, 1, 6000, 1000, 300)
			queries := d.queries(20)
			for name, allowed := range filters(d.random, clusters) {
				c.allowed[0] = allowed
				if recall, _ := c.measure(t, queries, 10); recall < 0.95 {
					t.Errorf("%s, %v, %s: recall %.3f", kind, c.metric, name, recall)
				}
			}
		}
	}
}
