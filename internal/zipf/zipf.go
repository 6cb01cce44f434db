// Package zipf draws numbers with a Zipf distribution, as the popularity of objects has it. The
// standard library's generator needs a skew above 1.
package zipf

import (
	"math"
	"math/rand/v2"
	"sort"
)

// Zipf draws numbers from 0 on. It may be used concurrently.
type Zipf struct{ sums []float64 }

// New returns a Zipf for numbers below n, which draws k with a probability proportional to
// 1/(k+1)^skew. It takes 8 bytes of memory for each number.
func New(n int, skew float64) *Zipf {
	z := &Zipf{make([]float64, n)}
	sum := 0.0
	for k := range z.sums {
		sum += 1 / math.Pow(float64(k+1), skew)
		z.sums[k] = sum
	}
	return z
}

// Draw draws a number.
func (z *Zipf) Draw(random *rand.Rand) int {
	return sort.SearchFloat64s(z.sums, random.Float64()*z.sums[len(z.sums)-1])
}
