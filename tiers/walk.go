package tiers

import (
	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm"
)

// Known is what the catalog knows about one object: its akigw.Object without the Header, its
// ContentType ("" if unknown), and the following.
type Known struct {
	*summary
	// Place is the object's position in the order of the catalog, from which Walk can continue; ""
	// without a warm tier.
	Place string
	// Accesses is what PutAccesses stored for the object, nil for nothing.
	Accesses []byte
	// Orphan means that nothing else is known about the object, not even its key: only Place and
	// Accesses are set.
	Orphan bool
}

// directory lists the catalog.
type directory struct{ *catalog }

// Walk calls yield for each known object whose key matches what (all keys for a pattern without a
// bucket), starting after a place ("": at the first), until yield returns false. Objects come in
// the order of bucket and key if Ordered. Without a warm tier they are those in memory, unordered
// and without places. The argument of yield is valid during the call.
//
// There is no snapshot: different objects are seen at different moments.
func (d directory) Walk(what akigw.Pattern, after string, yield func(Known) bool) error {
	if d.warm == nil {
		d.walkHot(what, yield)
		return nil
	}
	return d.warm.Summaries(what.Bucket, what.Prefix, warm.Place(after), func(w warm.Known) bool {
		if w.Summary == nil {
			return yield(Known{Place: string(w.Place), Accesses: w.Accesses, Orphan: true})
		}
		sum, err := decodeSummary(w.Summary)
		if err != nil || what.Bucket != "" && !what.Names(sum.Key) {
			return true
		}
		return yield(Known{summary: sum, Place: string(w.Place), Accesses: w.Accesses})
	})
}

// walkHot is Walk over memory.
func (d directory) walkHot(what akigw.Pattern, yield func(Known) bool) {
	for k, v := range d.hot.All() {
		if e := v.entry; e != nil && e.absent == nil && (what.Bucket == "" || what.Names(k.key)) {
			sum := summaryOf(e)
			sum.held = false // the body is not on disk
			if !yield(Known{summary: sum}) {
				return
			}
		}
	}
}

// walkObjects is Walk from the beginning, without orphans.
func (d directory) walkObjects(what akigw.Pattern, yield func(Known) bool) error {
	return d.Walk(what, "", func(k Known) bool { return k.Orphan || yield(k) })
}

// Find returns what the catalog knows about one key, without Place and Accesses. It sends no
// request to the upstream and counts no access.
func (d directory) Find(key akigw.Key) (k Known, ok bool) {
	sum := d.peekSummary(key)
	return Known{summary: sum}, sum != nil
}

// SizeOf returns the size in bytes of the object that a key holds in the upstream, 0 if the cache
// does not know it.
func (d directory) SizeOf(key akigw.Key) int64 {
	if e := d.peekHot(key); e != nil {
		return e.Size
	}
	if known := d.peekSummary(key); known != nil {
		return known.Size
	}
	return 0
}
