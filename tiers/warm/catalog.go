package warm

import (
	"bytes"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
)

// Next to each catalog record, the tier stores a summary of it, so that the catalog can be read
// without the bodies that records contain, and a record of its accesses. Both are small and stay in
// the LSM tree. A summary is written and removed with its record; the accesses of a key outlive its
// object, and are removed when its record is evicted.

// PutAccesses stores records of accesses; values[i] is that of keys[i]. If there is no space, it
// stores none.
func (t *Tier) PutAccesses(keys []akigw.Key, values [][]byte) error {
	var size int64
	for i, key := range keys {
		size += int64(len(key.Bucket) + len(key.Name) + len(values[i]) + 64)
	}
	if t.health.off.Load() || !t.space.reserve(size) {
		t.counters.refused.Inc()
		return nil
	}
	return t.data.batch(func(batch *badger.WriteBatch) error {
		for i, key := range keys {
			r, err := t.data.seal(companion(accessPrefix, t.data.values.entryKey(key)), values[i], false)
			if err == nil {
				err = batch.Set(r.key, r.stored)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// Accesses returns the record of the accesses of a key. The caller owns the bytes.
func (t *Tier) Accesses(key akigw.Key) ([]byte, bool) {
	return t.peek(companion(accessPrefix, t.data.values.entryKey(key)))
}

// Summary returns the summary of the record of a key. The caller owns the bytes.
func (t *Tier) Summary(key akigw.Key) ([]byte, bool) {
	return t.peek(companion(summaryPrefix, t.data.values.entryKey(key)))
}

// DropAccesses removes the accesses at places that Summaries returned.
func (t *Tier) DropAccesses(places ...Place) error {
	return t.data.batch(func(batch *badger.WriteBatch) error {
		for _, p := range places {
			if err := batch.Delete(companion(accessPrefix, []byte(p))); err != nil {
				return err
			}
		}
		return nil
	})
}

// Place is the position of an object's summary: they are in the order of bucket and key, unless the
// tier hides names. The zero value is before all of them.
type Place string

// Known is what is stored next to a record. Its slices are valid while yield runs.
type Known struct {
	Place    Place
	Summary  []byte // nil for accesses without a record
	Accesses []byte // nil for none
}

// summaryBatch is how many summaries are read in one transaction.
const summaryBatch = 1024

// Summaries calls yield with the summaries of a bucket's keys that begin with prefix (of all
// buckets for ""), starting after a place, until yield returns false. If the tier hides names, it
// yields all, whatever their bucket and key.
func (t *Tier) Summaries(bucket, prefix string, after Place, yield func(Known) bool) error {
	var among []byte
	if bucket != "" && t.data.values.secret == nil {
		among = append(append([]byte(bucket), 0), prefix...)
	}
	for more := true; more; {
		err := t.data.db.View(func(txn *badger.Txn) error {
			s := newSideBySide(t.data, txn, among, after)
			defer s.close()
			after, more = s.yield(after, yield)
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// yield calls yield with a batch of summaries after a place. It returns how far it got, and whether
// there may be more.
func (p *sideBySide) yield(after Place, yield func(Known) bool) (Place, bool) {
	for range summaryBatch {
		k, ok := p.next()
		if !ok {
			return after, false
		}
		after = k.Place
		damaged := k.Summary == nil && k.Accesses == nil
		if !damaged && !yield(k) {
			return after, false
		}
	}
	return after, true
}

// sideBySide iterates over summaries and accesses side by side.
type sideBySide struct {
	data *database
	all  [2]*badger.Iterator // of summaries and of accesses
	seen [2]bool             // the current item of an iterator has been returned
}

func newSideBySide(d *database, txn *badger.Txn, among []byte, after Place) *sideBySide {
	p := &sideBySide{data: d}
	for i, side := range [2]byte{summaryPrefix, accessPrefix} {
		opt := badger.DefaultIteratorOptions
		opt.PrefetchValues = false
		opt.Prefix = append([]byte{side}, among...)
		p.all[i] = txn.NewIterator(opt)
		start := opt.Prefix
		if after != "" {
			start = append(companion(side, []byte(after)), 0)
		}
		p.all[i].Seek(start)
	}
	return p
}

func (p *sideBySide) close() {
	for _, it := range p.all {
		it.Close()
	}
}

// next returns what is stored at the next place, false after the last one.
func (p *sideBySide) next() (k Known, ok bool) {
	var least []byte
	for i, it := range p.all {
		if p.seen[i] { // only now, because the returned slices belonged to the iterator
			it.Next()
			p.seen[i] = false
		}
		for it.Valid() && it.Item().UserMeta() == dropped {
			it.Next()
		}
		if it.Valid() && (least == nil || bytes.Compare(it.Item().Key()[1:], least) < 0) {
			least = it.Item().Key()[1:]
		}
	}
	if least == nil {
		return Known{}, false
	}
	k.Place = Place(string(entryPrefix) + string(least))
	for i, into := range []*[]byte{&k.Summary, &k.Accesses} {
		it := p.all[i]
		if !it.Valid() || string(it.Item().Key()[1:]) != string(k.Place[1:]) {
			continue
		}
		*into = p.data.view(it.Item())
		p.seen[i] = true
	}
	return k, true
}

// Runs calls yield with each run of blocks, by ascending number, and how many of its blocks exist.
func (t *Tier) Runs(yield func(run uint64, blocks int64) bool) { t.blocks.extents(yield) }
