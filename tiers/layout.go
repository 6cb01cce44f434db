package tiers

import (
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
)

// layout says how this gateway has uploaded an object: in count parts with the numbers from 1 on, all but
// the last of size bytes. It belongs to the ETag and the size of the object. The zero value means that only
// the upstream knows the parts. That is so for numbers with gaps as well: S3 does not say which part such a
// number names later, and services differ.
type layout struct {
	count, size int64
}

// layoutOf returns the layout of the parts of these numbers and sizes in bytes.
func layoutOf(numbers []int, sizes []int64) layout {
	l := layout{count: int64(len(sizes))}
	for i, size := range sizes {
		last := i == len(sizes)-1
		if i == 0 {
			l.size = size
		}
		if numbers[i] != i+1 || size == 0 || size > l.size || size < l.size && !last {
			return layout{}
		}
	}
	return l
}

// valid reports whether an object of size bytes can have the layout.
func (l layout) valid(size int64) bool {
	if l.count == 0 {
		return l.size == 0
	}
	return l.count > 0 && l.size > 0 && (size+l.size-1)/l.size == l.count
}

// part returns the range of a part of an object of size bytes, false if the object has no such part.
func (l layout) part(number int, size int64) (r akigw.Range, ok bool) {
	if number < 1 || int64(number) > l.count {
		return r, false
	}
	start := int64(number-1) * l.size
	return akigw.Range{Start: start, Length: min(l.size, size-start)}, true
}

// partsCount is the header with the number of an object's parts (GetObject).
const partsCount = "X-Amz-Mp-Parts-Count"

// predictPart returns the part of e as the upstream will describe it, without checksums; nil if that is not
// known.
func predictPart(e *entry, number int) *Part {
	r, ok := e.parts.part(number, e.Size)
	if !ok || !e.known() {
		return nil
	}
	return &Part{Number: number, Status: http.StatusPartialContent, Header: http.Header{partsCount: {strconv.FormatInt(e.parts.count, 10)}}, Range: r}
}

// partsShapeID identifies objects whose parts the upstream describes alike.
type partsShapeID struct {
	origin uint64
	bucket string
	sums   string // names of their checksums
}

func partsShapeOf(e *entry) partsShapeID {
	var names []string
	for name := range e.Header {
		if strings.HasPrefix(name, checksumPrefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return partsShapeID{e.origin, e.Key.Bucket, strings.Join(names, " ")}
}

// usePart reports whether the predicted part of an object may be used. checksum says that the part's own is
// wanted, which is not predicted.
func (p *predictions) usePart(e *entry, checksum bool) bool {
	if checksum && hasChecksum(e.Header) {
		return false
	}
	id := partsShapeOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	if t := p.parts[id]; t == nil || !t.use() {
		return false
	}
	p.counters.savedHeads.Inc()
	return true
}

// comparePart compares a predicted part of e with the one that the upstream has shown, nil for an answer
// that does not describe a part.
func (p *predictions) comparePart(e *entry, predicted, shown *Part) {
	id := partsShapeOf(e)
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.parts[id]
	if t == nil {
		if len(p.parts) >= maxShapes {
			return
		}
		t = &trial{}
		p.parts[id] = t
	}
	switch {
	case t.wrong:
	case agrees(e, predicted, shown):
		t.agreed++
	default:
		t.wrong = true
		p.counters.wrongHeaders.Inc()
		p.log.Warn("a part of an object that the gateway has written is not described as it expected: from now on each part of the bucket's objects needs a HEAD", "key", e.Key.String(), "part", predicted.Number)
	}
}

// agrees reports whether a client gets the same answer for both: the headers of the object come first, so
// only those count that a part adds to them.
func agrees(e *entry, predicted, shown *Part) bool {
	if shown == nil || shown.Status != predicted.Status || shown.Range != predicted.Range || !slices.Equal(shown.Header[partsCount], predicted.Header[partsCount]) {
		return false
	}
	for name := range shown.Header {
		sum := strings.HasPrefix(name, checksumPrefix) && hasChecksum(e.Header)
		if _, known := e.Header[name]; !known && name != partsCount && !sum {
			return false
		}
	}
	return true
}
