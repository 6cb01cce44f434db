package search

import (
	"context"
	"math"
	"math/rand/v2"
	"sync"
)

const (
	samplesPerList = 64 // rows that k-means is trained on, per list
	kmeansRounds   = 6
	chunk          = 1024 // rows that a goroutine works on at a time
	groupSize      = 8    // centroids that nearest compares with at a time
)

// centroids are the centres of lists.
type centroids struct {
	dim    int
	rows   []float32 // row-major
	groups []float32 // groupSize centroids at a time, transposed; the last group is filled with zeros
	halves []float32 // half of each squared length; +Inf for what fills the last group
}

// newCentroids takes over rows.
func newCentroids(dim int, rows []float32) *centroids {
	c := &centroids{dim: dim, rows: rows}
	c.prepare()
	return c
}

func (c *centroids) count() int { return len(c.rows) / c.dim }

func (c *centroids) row(i int) []float32 { return c.rows[i*c.dim : (i+1)*c.dim] }

// prepare derives groups and halves from rows.
func (c *centroids) prepare() {
	n := (c.count() + groupSize - 1) / groupSize * groupSize
	c.groups, c.halves = make([]float32, n*c.dim), make([]float32, n)
	for i := range n {
		if i >= c.count() {
			c.halves[i] = float32(math.Inf(1))
			continue
		}
		for j, x := range c.row(i) {
			c.groups[i/groupSize*groupSize*c.dim+j*groupSize+i%groupSize] = x
			c.halves[i] += x * x / 2
		}
	}
}

// nearest returns the centroid that is nearest to v.
func (c *centroids) nearest(v []float32) uint32 {
	best, at := float32(math.Inf(1)), 0
	for g := 0; g < len(c.halves); g += groupSize {
		products := groupProducts(v, c.groups[g*c.dim:(g+groupSize)*c.dim])
		for i, p := range products {
			if d := c.halves[g+i] - p; d < best {
				best, at = d, g+i
			}
		}
	}
	return uint32(at)
}

// groupProducts returns the products of v with the centroids of a group.
func groupProducts(v, group []float32) [groupSize]float32 {
	var s0, s1, s2, s3, s4, s5, s6, s7 float32
	for _, x := range v {
		c := (*[groupSize]float32)(group)
		s0 += x * c[0]
		s1 += x * c[1]
		s2 += x * c[2]
		s3 += x * c[3]
		s4 += x * c[4]
		s5 += x * c[5]
		s6 += x * c[6]
		s7 += x * c[7]
		group = group[groupSize:]
	}
	return [groupSize]float32{s0, s1, s2, s3, s4, s5, s6, s7}
}

// train finds n centroids of the rows that at writes, out of total, by k-means over a sample.
func train(ctx context.Context, n, dim, total, threads int, at func(row int, v []float32)) (*centroids, error) {
	random := rand.New(rand.NewPCG(0x6b6d, uint64(n)))
	count := min(total, n*samplesPerList)
	samples, assigned := make([]float32, count*dim), make([]uint32, count)
	sample := func(i int) []float32 { return samples[i*dim : (i+1)*dim] }
	err := parallel(ctx, count, chunk, threads, func(first, end int) {
		for i := first; i < end; i++ {
			at(int(int64(i)*int64(total)/int64(count)), sample(i))
		}
	})
	c := &centroids{dim: dim}
	for _, i := range random.Perm(count)[:n] {
		c.rows = append(c.rows, sample(i)...)
	}
	for range kmeansRounds {
		if err != nil {
			return nil, err
		}
		c.prepare()
		err = parallel(ctx, count, chunk, threads, func(first, end int) {
			for i := first; i < end; i++ {
				assigned[i] = c.nearest(sample(i))
			}
		})
		c.move(random, assigned, sample)
	}
	c.prepare()
	return c, err
}

// move sets each centroid to the mean of its samples, and one that has none to a sample at random.
func (c *centroids) move(random *rand.Rand, assigned []uint32, sample func(int) []float32) {
	counts := make([]float32, c.count())
	clear(c.rows)
	for i, list := range assigned {
		counts[list]++
		row := c.row(int(list))
		for j, x := range sample(i) {
			row[j] += x
		}
	}
	for list, n := range counts {
		row := c.row(list)
		if n == 0 {
			copy(row, sample(random.IntN(len(assigned))))
			continue
		}
		for j := range row {
			row[j] /= n
		}
	}
}

// parallel calls work with ranges that cover 0 to n-1, step numbers at a time, on threads goroutines, and
// returns when all calls have returned. It returns ctx's error, and gives up, when ctx is done.
func parallel(ctx context.Context, n, step, threads int, work func(first, end int)) error {
	starts := make(chan int)
	var workers sync.WaitGroup
	for range max(1, threads) {
		workers.Go(func() {
			for first := range starts {
				work(first, min(first+step, n))
			}
		})
	}
	for first := 0; first < n && ctx.Err() == nil; first += step {
		starts <- first
	}
	close(starts)
	workers.Wait()
	return ctx.Err()
}
