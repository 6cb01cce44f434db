package search

import (
	"context"
	"math"
	"math/bits"
	"slices"
	"sync"
)

const (
	rowsPerList = 512  // of a small part; a large one has as many lists as rows in a list
	maxLists    = 4096 // more would make building slow: its time grows with rows x lists
)

// lists divides the rows of a part among the cells of a k-means clustering, and describes each row by the
// signs of its difference from the centroid. A search estimates distances from these codes (as RaBitQ
// does: Gao and Long, SIGMOD 2024), list by list from the nearest centroid on, and computes the distance of
// the rows that may be near enough. It stops when the other lists are not likely to have any.
//
// All of it is in a space of its own: vectors are scaled and rotated. For Cosine they are scaled to
// length 1, and half of a squared distance is the cosine distance; for Euclidean the longest has a
// length of about 1.
type lists struct {
	rotation  *rotation
	scale     float64 // Euclidean
	centroids *centroids
	starts    []uint32 // of list i in the following; one more for the end
	factors   []factor
	codes     []uint64 // dim/64 words per row: bit i is set if coordinate i of the difference is negative
	details   []uint64 // see detail
	shapes    []shape  // of each list
	budget    float64  // see exhausted
	spread    float64  // mean squared cosine between the difference of a row and that of another centroid
	scratches sync.Pool
}

// factor is what an estimate needs about a row besides its code.
type factor struct {
	square float32 // squared length of the difference
	unit   float32 // product of the difference and a vector, per product of signs and vector, times 2
}

// shape tells how the squared lengths of the differences of a list are distributed.
type shape struct{ mean, variance float64 }

// listCount returns the number of lists of a part of n rows.
func listCount(n int) int {
	return max(1, min(n/rowsPerList, int(math.Sqrt(float64(n))), maxLists))
}

// buildLists divides the rows of x.
func buildLists(ctx context.Context, x *Index, threads int) (*lists, error) {
	n := len(x.norms)
	l := &lists{rotation: newRotation(x.dim), scale: scaleOf(x.norms)}
	dim := l.rotation.dim
	place := func(row int, v []float32) { l.place(x, row, v) }
	var err error
	if l.centroids, err = train(ctx, listCount(n), dim, n, threads, place); err != nil {
		return nil, err
	}
	assigned := make([]uint32, n)
	err = parallel(ctx, n, chunk, threads, func(first, end int) {
		v := make([]float32, dim)
		for row := first; row < end; row++ {
			place(row, v)
			assigned[row] = l.centroids.nearest(v)
		}
	})
	if err != nil {
		return nil, err
	}
	l.sort(assigned)
	l.factors, l.codes = make([]factor, n), make([]uint64, n*dim/64)
	l.shapes = make([]shape, l.centroids.count())
	err = parallel(ctx, n, chunk, threads, func(first, end int) { l.encode(place, assigned, first, end) })
	for i := range l.shapes {
		l.shapes[i] = shapeOf(l.factors[l.starts[i]:l.starts[i+1]])
	}
	l.spread = l.measureSpread(place, assigned)
	l.centroids.groups, l.centroids.halves = nil, nil // only building needs them
	if err == nil {
		err = l.calibrate(ctx, x, assigned, threads)
	}
	return l, err
}

// scaleOf returns the power of two that scales the largest norm to at most 1.
func scaleOf(norms []float64) float64 {
	_, exponent := math.Frexp(slices.Max(norms))
	return math.Ldexp(1, -exponent)
}

// place writes a row of x, in the space of the lists, to v.
func (l *lists) place(x *Index, row int, v []float32) {
	scale := l.scale
	if x.metric == Cosine && x.norms[row] > 0 {
		scale = 1 / x.norms[row]
	}
	source := x.rows[row*x.dim : (row+1)*x.dim]
	for i, c := range source {
		v[i] = float32(float64(c) * scale)
	}
	clear(v[len(source):])
	l.rotation.apply(v)
}

// sort orders the rows by list, and by number within a list.
func (l *lists) sort(assigned []uint32) {
	l.starts = make([]uint32, l.centroids.count()+1)
	for _, list := range assigned {
		l.starts[list+1]++
	}
	for i := range l.centroids.count() {
		l.starts[i+1] += l.starts[i]
	}
	next := slices.Clone(l.starts)
	words := l.rotation.dim/64 + 1
	l.details = make([]uint64, len(assigned)*words)
	for row, list := range assigned {
		l.detail(int(next[list]))[0] = uint64(row)
		next[list]++
	}
}

// detail is what a search needs to know about the row at a place of the order if its estimate is good,
// all in one cache line if possible: the number of the row in the low half of the first word, a factor like
// factor.unit for estimates with both bits in the high half, then one bit per coordinate, set if the
// coordinate is as long as bitStep says.
func (l *lists) detail(at int) []uint64 {
	words := l.rotation.dim/64 + 1
	return l.details[at*words : (at+1)*words]
}

// encode computes factors and codes of the rows at first to end-1 of the order.
func (l *lists) encode(place func(int, []float32), assigned []uint32, first, end int) {
	dim := l.rotation.dim
	v := make([]float32, dim)
	for at := first; at < end; at++ {
		detail := l.detail(at)
		row := int(detail[0])
		place(row, v)
		centroid := l.centroids.row(int(assigned[row]))
		code := l.codes[at*dim/64 : (at+1)*dim/64]
		var square, sum float64
		for i := range v {
			d := float64(v[i] - centroid[i])
			square += d * d
			sum += math.Abs(d)
			if d < 0 {
				code[i/64] |= 1 << (i % 64)
			}
		}
		l.factors[at].square = float32(square)
		if sum == 0 {
			continue
		}
		l.factors[at].unit = float32(2 * square / sum)
		step, product := bitStep*math.Sqrt(square/float64(dim)), 0.0
		for i := range v {
			d := math.Abs(float64(v[i] - centroid[i]))
			if product += d / 2; d >= step {
				detail[1+i/64] |= 1 << (i % 64)
				product += d
			}
		}
		detail[0] |= uint64(math.Float32bits(float32(2*square/product))) << 32
	}
}

func shapeOf(factors []factor) (s shape) {
	if len(factors) == 0 {
		return s
	}
	for _, f := range factors {
		s.mean += float64(f.square)
	}
	s.mean /= float64(len(factors))
	for _, f := range factors {
		d := float64(f.square) - s.mean
		s.variance += d * d
	}
	s.variance /= float64(len(factors))
	return s
}

// measureSpread returns the mean squared cosine between the difference of a row from its centroid and
// the difference of another centroid from it: 1/dim for data that spread in all directions, and more for
// others.
func (l *lists) measureSpread(place func(int, []float32), assigned []uint32) float64 {
	dim, n, count := l.rotation.dim, len(assigned), l.centroids.count()
	v := make([]float32, dim)
	sum, pairs := 0.0, 0
	for i := range min(n, 2000) {
		row := int(int64(i) * int64(n) / int64(min(n, 2000)))
		place(row, v)
		own, other := l.centroids.row(int(assigned[row])), l.centroids.row((int(assigned[row])+1+i%max(1, count-1))%count)
		var product, a, b float64
		for j := range v {
			x, y := float64(v[j]-own[j]), float64(other[j]-own[j])
			product, a, b = product+x*y, a+x*x, b+y*y
		}
		if a > 0 && b > 0 {
			sum += product * product / a / b
			pairs++
		}
	}
	return max(sum/float64(max(pairs, 1)), 1/float64(dim))
}

func (l *lists) bytes() int64 {
	return int64(4*(len(l.starts)+len(l.centroids.rows)) + 8*(len(l.factors)+len(l.codes)+len(l.details)) + 16*len(l.shapes))
}

const (
	// confidence is how many standard deviations a row may be nearer than its estimate.
	confidence = 1.8
	// fineConfidence is the same for the estimate with both bits, which is cheap to make surer.
	fineConfidence = 2
	// missed is the share of the neighbours that may be in lists which are not visited.
	missed = 0.01
	// trials is how many rows calibrate searches for, and trialRows how many neighbours of each.
	trials, trialRows = 200, 20
	// pendingRows is how many rows wait for their exact distance.
	pendingRows = 8192
	// somePlaces is how many rows wait for their better estimate.
	somePlaces = 256

	// Vectors are quantised to two bits per coordinate: the sign, and whether it is at least a step long,
	// for 1.5 steps instead of 0.5. This is the best step for normally distributed coordinates, per standard
	// deviation, and the share of the squared length that is left.
	bitStep, bitShare = 0.9957, 0.8812
	// deviation is the standard deviation of an estimate, per unit of the row and distance of the centroid:
	// sqrt(1/(2/pi*bitShare)-1)*sqrt(2/pi). fineDeviation is that of one with both bits.
	deviation, fineDeviation = 0.703, 0.475
)

// scratch is the working memory of a search.
type scratch struct {
	query   []float32
	squares []float32 // squared distance of each centroid
	order   []uint64  // lists by expected distance
	planes  [][2]uint64
	places  []int    // of rows whose first estimate is good
	pending []uint64 // rows that wait for their exact distance, below the bits of the least squared one
}

func (l *lists) scratch() *scratch {
	if s, ok := l.scratches.Get().(*scratch); ok {
		return s
	}
	n, dim := l.centroids.count(), l.rotation.dim
	return &scratch{query: make([]float32, dim), squares: make([]float32, n), order: make([]uint64, n), planes: make([][2]uint64, dim/64), places: make([]int, 0, somePlaces+64), pending: make([]uint64, 0, pendingRows+somePlaces+64)}
}

// fit reports whether estimates make sense for the query: a zero vector has no direction, and from very
// far away all rows look the same.
func (l *lists) fit(x *Index, q *Query) bool {
	if x.metric == Cosine {
		return q.norm > 0
	}
	return q.norm*l.scale < 1e6
}

// search is one search of lists.
type search struct {
	*scratch
	l       *lists
	x       *Index
	q       *Query
	top     *Top
	part    int
	allowed Bitmap
}

// search offers rows of x to top, and stops when at most budget rows per result are expected in the other
// lists.
func (l *lists) search(x *Index, q *Query, top *Top, part int, allowed Bitmap, budget float64) {
	s := &search{l.scratch(), l, x, q, top, part, allowed}
	defer l.scratches.Put(s.scratch)
	s.place()
	check := 4
	for at, entry := range s.order {
		if at == check {
			s.settle(32)
			if s.expected(s.order[at:], s.limit(), budget*float64(top.k)) <= budget*float64(top.k) {
				break
			}
			check += max(4, min(at/2, len(s.order)/32))
		}
		s.visit(int(uint32(entry)))
	}
	for n := 64; len(s.pending) > 0; n *= 2 {
		s.settle(n)
	}
}

// place moves the query to the space of the lists, and orders the lists.
func (s *search) place() {
	scale := 1.0
	if s.x.metric == Euclidean {
		scale = s.l.scale
	}
	clear(s.query)
	for i, c := range s.q.v {
		s.query[i] = float32(c * scale)
	}
	s.l.rotation.apply(s.query)
	for i := range s.squares {
		s.squares[i] = squares32(s.query, s.l.centroids.row(i))
		s.order[i] = uint64(math.Float32bits(s.squares[i]+float32(s.l.shapes[i].mean)))<<32 | uint64(i)
	}
	slices.Sort(s.order)
}

// limit returns the squared distance of top's bound in the space of the lists.
func (s *search) limit() float64 {
	bound := float64(s.top.bound)
	if s.x.metric == Cosine {
		return 2 * bound
	}
	return bound * s.l.scale * bound * s.l.scale
}

// expected returns how many rows within limit are expected in the lists of order: all of them, or enough
// to be above enough.
//
// The squared distance of a row is the sum of those between query and centroid, s, and between centroid
// and row, r, less twice the product of the two differences. The product is distributed around 0 with a
// variance of s*r*spread, and r as the shape of the list tells.
func (s *search) expected(order []uint64, limit, enough float64) (rows float64) {
	for _, entry := range order {
		list := int(uint32(entry))
		square, shape := float64(s.squares[list]), s.l.shapes[list]
		deviation := math.Sqrt(4*square*shape.mean*s.l.spread + shape.variance)
		share := math.Erfc((square+shape.mean-limit)/(deviation*math.Sqrt2)) / 2
		rows += share * float64(s.l.starts[list+1]-s.l.starts[list])
		if !(rows <= enough) {
			break
		}
	}
	return rows
}

// calibrate sets the budget of a search so that it would find all but the share missed of the neighbours of
// some rows. How far the model of expected is wrong depends on the data: if clusters overlap, the
// neighbours of a row are spread over more lists than the model says.
func (l *lists) calibrate(ctx context.Context, x *Index, assigned []uint32, threads int) error {
	n := len(assigned)
	count := min(n, trials)
	left := make([][]float64, count)
	err := parallel(ctx, count, 1, threads, func(trial, _ int) {
		row := int(int64(trial) * int64(n) / int64(count))
		q := NewQuery(x.metric, x.rows[row*x.dim:(row+1)*x.dim])
		if l.fit(x, q) {
			left[trial] = l.try(x, q, assigned)
		}
	})
	all := slices.Sorted(func(yield func(float64) bool) {
		for _, of := range left {
			for _, rows := range of {
				if !yield(rows) {
					return
				}
			}
		}
	})
	l.budget = 0
	if len(all) > 0 {
		l.budget = min(missed, all[int(float64(len(all))*missed)])
	}
	return err
}

// try searches for the neighbours of q in all lists. It returns, for each, how many rows were expected,
// per result, when its list was to be visited.
func (l *lists) try(x *Index, q *Query, assigned []uint32) (left []float64) {
	top := NewTop(trialRows, func(_ int, row uint32) []byte {
		return []byte{byte(row >> 24), byte(row >> 16), byte(row >> 8), byte(row)}
	})
	l.search(x, q, top, 0, nil, -1)
	s := &search{l.scratch(), l, x, q, top, 0, nil}
	defer l.scratches.Put(s.scratch)
	s.place()
	limit := s.limit()
	expected, at := make([]float64, len(s.order)), make([]int, len(s.order))
	rows := 0.0
	for i := len(s.order) - 1; i >= 0; i-- {
		rows += s.expected(s.order[i:i+1], limit, 0)
		expected[i], at[uint32(s.order[i])] = rows, i
	}
	for _, c := range top.Results() {
		left = append(left, expected[at[assigned[c.Row]]]/trialRows)
	}
	return left
}

// prepare returns what the distances of the rows of a list are estimated from, until the next call.
func (s *search) prepare(list int) estimate {
	square := float64(s.squares[list])
	step := bitStep * math.Sqrt(square/float64(s.l.rotation.dim))
	total := s.quantise(s.l.centroids.row(list), float32(step))
	return estimate{
		planes: s.planes,
		base:   float32(step/bitShare*total + confidence*deviation*math.Sqrt(square)),
		slope:  float32(step / bitShare),
		margin: float32(fineConfidence * fineDeviation * math.Sqrt(square)),
	}
}

// visit adds the rows of a list that may be within top's bound to the pending ones.
func (s *search) visit(list int) {
	l, square, e := s.l, float64(s.squares[list]), s.prepare(list)
	words := len(s.planes)
	for first, end := int(l.starts[list]), int(l.starts[list+1]); first < end; first += 64 {
		last := min(first+64, end)
		limit := float32(s.limit()*(1+1e-5) - square)
		hits := e.hits(l.codes[first*words:last*words], l.factors[first:last], limit)
		for ; hits != 0; hits &= hits - 1 {
			s.places = append(s.places, first+bits.TrailingZeros64(hits))
		}
		if len(s.places) >= somePlaces || last == end {
			s.refine(&e, float32(square), limit)
		}
	}
}

// refine adds the rows at s.places to the pending ones if the better estimate allows. It does nothing else, so
// that the processor waits for several cache misses at a time.
func (s *search) refine(e *estimate, square, limit float32) {
	words := len(s.planes)
	for _, at := range s.places {
		detail := s.l.detail(at)
		row := uint32(detail[0])
		if s.allowed != nil && !s.allowed.Get(row) {
			continue
		}
		unit := math.Float32frombits(uint32(detail[0] >> 32))
		least := e.fineLeast(s.l.codes[at*words:(at+1)*words], detail[1:], s.l.factors[at].square, unit)
		if least > limit {
			continue
		}
		s.pending = append(s.pending, uint64(math.Float32bits(max(0, square+least)))<<32|uint64(row))
	}
	s.places = s.places[:0]
	if len(s.pending) > pendingRows {
		for n := 128; len(s.pending) > pendingRows/2; n *= 2 {
			s.settle(n)
		}
	}
}

// settle computes the distances of the n most promising of the pending rows, and drops those that these
// have outdone.
func (s *search) settle(n int) {
	n = min(n, len(s.pending))
	smallest(s.pending, n)
	for i, p := range s.pending[:n] {
		if i%batch == 0 {
			for _, p := range s.pending[i:min(i+batch, n)] {
				s.top.touch(s.x.row(uint32(p)))
			}
		}
		row := uint32(p)
		if d := s.q.Distance(s.x.row(row), s.x.norms[row]); d <= s.top.bound {
			s.top.Offer(d, s.part, row)
		}
	}
	limit := float32(s.limit() * (1 + 1e-5))
	kept := s.pending[:0]
	for _, p := range s.pending[n:] {
		if !(math.Float32frombits(uint32(p>>32)) > limit) {
			kept = append(kept, p)
		}
	}
	s.pending = kept
}

// smallest moves the n smallest numbers of list to its front.
func smallest(list []uint64, n int) {
	for first, end := 0, len(list); end-first > 1 && n > first && n < end; {
		a, b, c := list[first], list[(first+end)/2], list[end-1]
		pivot := max(min(a, b), min(max(a, b), c))
		i, j := first, end-1
		for i <= j {
			for list[i] < pivot {
				i++
			}
			for list[j] > pivot {
				j--
			}
			if i <= j {
				list[i], list[j] = list[j], list[i]
				i++
				j--
			}
		}
		switch {
		case n <= j+1:
			end = j + 1
		case n >= i:
			first = i
		default:
			return
		}
	}
}

// quantise sets s.planes to the two bits of each coordinate of the difference of the query from the
// centroid. It returns the sum of the lengths, in steps.
func (s *scratch) quantise(centroid []float32, step float32) (total float64) {
	large := 0
	for w := range s.planes {
		var signs, sizes uint64
		c := (*[64]float32)(centroid[w*64:])
		for i, y := range (*[64]float32)(s.query[w*64:]) {
			b := math.Float32bits(y - c[i])
			signs |= uint64(b>>31) << i
			// positive if the length is less than a step
			sizes |= uint64(^math.Float32bits(math.Float32frombits(b&^(1<<31))-step)>>31) << i
		}
		s.planes[w] = [2]uint64{signs, sizes}
		large += bits.OnesCount64(sizes)
	}
	return float64(large) + float64(len(centroid))/2
}

// estimate holds what the squared distances of the rows of a list are estimated from.
type estimate struct {
	planes      [][2]uint64
	base, slope float32
	margin      float32 // of fineLeast
}

// least returns the squared distance that a row has at least, with the chosen confidence, less that of
// the centroid.
func (e *estimate) least(code []uint64, f factor) float32 {
	n := 0
	for j, p := range e.planes {
		x := code[j] ^ p[0]
		n += bits.OnesCount64(x) + 2*bits.OnesCount64(x&p[1])
	}
	return f.square - f.unit*(e.base-e.slope*float32(n))
}

// fineLeast is least from both bits of a row. The product of two coordinates is 1/4, 3/4 or 9/4 steps
// squared, and negative if their signs differ.
func (e *estimate) fineLeast(code, size []uint64, square, unit float32) float32 {
	all, differ := 64*len(e.planes), 0
	for j, p := range e.planes {
		x, c, b := code[j]^p[0], p[1], size[j]
		all += 2*(bits.OnesCount64(b)+bits.OnesCount64(c)) + 4*bits.OnesCount64(b&c)
		differ += bits.OnesCount64(x) + 2*(bits.OnesCount64(x&b)+bits.OnesCount64(x&c)) + 4*bits.OnesCount64(x&b&c)
	}
	return square - unit*(e.slope*float32(all-2*differ)/4+e.margin)
}

// hits returns the rows, at most 64, whose least is not above limit.
func (e *estimate) hits(codes []uint64, factors []factor, limit float32) (hits uint64) {
	words := len(e.planes)
	if words == 2 && len(factors) == 64 {
		return e.hits128((*[128]uint64)(codes), (*[64]factor)(factors), limit)
	}
	for i, f := range factors {
		if !(e.least(codes[i*words:(i+1)*words], f) > limit) {
			hits |= 1 << i
		}
	}
	return hits
}

// hits128 is hits for 64 rows of 128 dimensions. Arrays of a fixed size need no bounds checks, which makes
// it almost twice as fast.
func (e *estimate) hits128(codes *[128]uint64, factors *[64]factor, limit float32) (hits uint64) {
	s0, b0, s1, b1 := e.planes[0][0], e.planes[0][1], e.planes[1][0], e.planes[1][1]
	base, slope := e.base, e.slope
	for i := range 64 {
		x, y := codes[2*i]^s0, codes[2*i+1]^s1
		n := bits.OnesCount64(x) + bits.OnesCount64(y) + 2*(bits.OnesCount64(x&b0)+bits.OnesCount64(y&b1))
		if !(factors[i].square-factors[i].unit*(base-slope*float32(n)) > limit) {
			hits |= 1 << i
		}
	}
	return hits
}

// squares32 returns the sum of the squared differences, about.
func squares32(a, b []float32) float32 {
	var s0, s1, s2, s3 float32
	for ; len(a) >= 4 && len(b) >= 4; a, b = a[4:], b[4:] {
		x, y := (*[4]float32)(a), (*[4]float32)(b)
		d0, d1, d2, d3 := x[0]-y[0], x[1]-y[1], x[2]-y[2], x[3]-y[3]
		s0 += d0 * d0
		s1 += d1 * d1
		s2 += d2 * d2
		s3 += d3 * d3
	}
	return s0 + s1 + s2 + s3
}
