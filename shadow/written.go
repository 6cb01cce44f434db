package shadow

import "time"

// written predicts which requests a gateway in mode exclusive sends for the headers of the objects of a
// bucket that it has written: at first a HEAD for each, later a page of a listing for many. The figures
// are those of predictions and pages in package tiers.
type written struct {
	agreed int // HEADs that agreed with the predicted headers
	used   int // headers that were predicted since
	credit int
	pages  []page
}

// page is a page of a listing, as if it reached to the end of the bucket.
type page struct {
	after  string
	asked  time.Time
	proven bool
	left   int // objects on it whose dates were not used
}

const (
	proofs      = 8
	sampleEvery = 1000
	pageAge     = 10 * time.Minute
	pageObjects = 1000
	creditSent  = 1
	creditSaved = 64
	pagePrice   = 64 * creditSaved
	firstCredit = 2 * pagePrice
	mostCredit  = 4 * pagePrice
	// pageBytes is about the size of a page.
	pageBytes = 200 << 10
)

func newWritten() written { return written{credit: firstCredit} }

// ask returns the requests for the headers of an object that was written and is read for the first
// time.
func (w *written) ask(o *object, r *Read) (heads, lists int) {
	if w.agreed < proofs {
		w.agreed++
		w.earn(creditSent)
		return 1, 0
	}
	for len(w.pages) > 0 && r.At.Sub(w.pages[0].asked) > pageAge {
		w.pages = w.pages[1:]
	}
	for i := range w.pages {
		p := &w.pages[i]
		if p.left == 0 || r.Key.Name <= p.after || !o.wrote.Before(p.asked) {
			continue
		}
		if !p.proven { // the HEAD proves it
			p.proven = true
			w.earn(creditSent)
			return 1, 0
		}
		p.left--
		w.earn(creditSaved)
		if w.used++; w.used%sampleEvery == 0 {
			return 1, 0
		}
		return 0, 0
	}
	if w.credit >= pagePrice {
		w.earn(-pagePrice)
		w.pages = append(w.pages, page{after: r.Key.Name, asked: r.At, left: pageObjects})
		lists = 1
	}
	w.earn(creditSent)
	return 1, lists
}

func (w *written) earn(n int) { w.credit = min(w.credit+n, mostCredit) }
