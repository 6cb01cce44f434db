package search

// batch is how many rows in different places are loaded into the processor's cache at a time.
const batch = 16

// Scan offers the rows of a chunk to top: an exact search. rows holds the vectors of len(norms) rows in
// row-major order, with norms[i] the Norm of the i-th; they are the rows first, first+1 and so on of the
// part. allowed is a set of rows of the part, not of the chunk; nil allows all.
func Scan(q *Query, top *Top, part int, rows []float32, norms []float64, first uint32, allowed Bitmap) {
	dim := len(q.v)
	if allowed == nil {
		for i, norm := range norms {
			if d := q.Distance(rows[i*dim:(i+1)*dim], norm); d <= top.bound {
				top.Offer(d, part, first+uint32(i))
			}
		}
		return
	}
	var waiting [batch]uint32
	n := 0
	offer := func() {
		for _, row := range waiting[:n] {
			i := int(row - first)
			top.touch(rows[i*dim : (i+1)*dim])
		}
		for _, row := range waiting[:n] {
			i := int(row - first)
			if d := q.Distance(rows[i*dim:(i+1)*dim], norms[i]); d <= top.bound {
				top.Offer(d, part, row)
			}
		}
		n = 0
	}
	for row := range allowed.Between(first, first+uint32(len(norms))) {
		waiting[n] = row
		if n++; n == batch {
			offer()
		}
	}
	offer()
}
