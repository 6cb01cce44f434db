package search

import (
	"math"
	"math/bits"
	"math/rand/v2"
)

// rotation is a random rotation of vectors, the same for all vectors of a dimension. It spreads what a
// vector says evenly over its coordinates, whatever the data look like: only then do the signs of the
// coordinates describe it well.
//
// It is a product of sign flips and Hadamard transforms. A transform needs a power of two; for other
// dimensions it alternates between the first and the last coordinates.
type rotation struct {
	dim    int // of the rotated vectors: a multiple of 64
	power  int // the largest power of two that is at most dim
	rounds [][]float32
}

func newRotation(dim int) *rotation {
	r := &rotation{dim: (dim + 63) / 64 * 64}
	r.power = 1 << (bits.Len(uint(r.dim)) - 1)
	random := rand.New(rand.NewPCG(0x5eed, uint64(r.dim)))
	for range 3 * 2 { // three rounds are as good as a matrix drawn at random
		signs := make([]float32, r.power)
		for i := range signs {
			signs[i] = float32(1 / math.Sqrt(float64(r.power))) // the transform multiplies lengths by the root
			if random.Uint64()&1 == 0 {
				signs[i] = -signs[i]
			}
		}
		r.rounds = append(r.rounds, signs)
	}
	return r
}

// apply rotates v, which has r.dim coordinates, in place.
func (r *rotation) apply(v []float32) {
	for i, signs := range r.rounds {
		part := v[:r.power]
		if i%2 == 1 {
			if r.power == r.dim {
				continue
			}
			part = v[r.dim-r.power:]
		}
		for i, s := range signs {
			part[i] *= s
		}
		hadamard(part)
	}
}

// hadamard replaces v, whose length is a power of two, by its Walsh-Hadamard transform.
func hadamard(v []float32) {
	for h := 1; h < len(v); h *= 2 {
		for i := 0; i < len(v); i += 2 * h {
			a, b := v[i:i+h], v[i+h:i+2*h]
			for j, x := range a {
				y := b[j]
				a[j], b[j] = x+y, x-y
			}
		}
	}
}
