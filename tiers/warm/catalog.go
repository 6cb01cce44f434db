package warm

import (
	"bytes"
	"encoding/binary"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
)

// Beside each catalog record lie a summary of it, so that the catalog can be gone
// through without reading bodies that are kept in records, and a record of its accesses.
// Both are small and stay in the LSM tree. A summary comes and goes with its record; the
// accesses of a key outlive what it holds, and go when its record is evicted.

// companion is the key of the database that a summary, or accesses, have beside a record.
func companion(prefix byte, record []byte) []byte {
	return append([]byte{prefix}, record[1:]...)
}

// PutAccesses stores records of accesses; values[i] is that of keys[i]. Where there is no room
// it stores none.
func (t *Tier) PutAccesses(keys []akigw.Key, values [][]byte) error {
	var size int64
	for i, key := range keys {
		size += int64(len(key.Bucket) + len(key.Name) + len(values[i]) + 64)
	}
	if t.off.Load() || !t.space.reserve(size) {
		t.counters.refused.Inc()
		return nil
	}
	return t.gate.write(func() error {
		batch := t.db.NewWriteBatch()
		defer batch.Cancel()
		for i, key := range keys {
			r, err := t.seal(companion(accessPrefix, t.entryKey(key)), values[i], false)
			if err == nil {
				err = batch.Set(r.key, r.stored)
			}
			if err != nil {
				return err
			}
		}
		return batch.Flush()
	})
}

// Accesses returns the record of the accesses of a key. The bytes are the caller's.
func (t *Tier) Accesses(key akigw.Key) ([]byte, bool) {
	return t.peek(companion(accessPrefix, t.entryKey(key)))
}

// Summary returns the summary of the record of a key. The bytes are the caller's.
func (t *Tier) Summary(key akigw.Key) ([]byte, bool) {
	return t.peek(companion(summaryPrefix, t.entryKey(key)))
}

// DropAccesses removes the accesses at places that Summaries told.
func (t *Tier) DropAccesses(places ...Place) error {
	return t.gate.write(func() error {
		batch := t.db.NewWriteBatch()
		defer batch.Cancel()
		for _, p := range places {
			if err := batch.Delete(companion(accessPrefix, []byte(p))); err != nil {
				return err
			}
		}
		return batch.Flush()
	})
}

// Place is where the summary of an object lies among all others: they are in the order of
// bucket and key, unless the tier hides names. The zero value is before all of them.
type Place string

// Known is what lies beside a record. Its slices are valid while yield runs.
type Known struct {
	Place    Place
	Summary  []byte // nil for accesses whose record is gone
	Accesses []byte // nil for none
}

// summaryBatch is how many summaries are read in one transaction.
const summaryBatch = 1024

// Summaries calls yield with the summaries of a bucket's keys that begin with prefix, of
// all buckets for "", from behind a place on, until yield returns false. If the tier hides
// names, it yields all, whatever their bucket and key.
func (t *Tier) Summaries(bucket, prefix string, after Place, yield func(Known) bool) error {
	var among []byte
	if bucket != "" && t.values.secret == nil {
		among = append(append([]byte(bucket), 0), prefix...)
	}
	for more := true; more; {
		err := t.db.View(func(txn *badger.Txn) error {
			s := newSideBySide(t, txn, among, after)
			defer s.close()
			for range summaryBatch {
				k, ok := s.next()
				if !ok {
					more = false
					return nil
				}
				after = k.Place
				if k.Summary == nil && k.Accesses == nil {
					continue // both are damaged
				}
				if !yield(k) {
					more = false
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// sideBySide goes through summaries and accesses side by side.
type sideBySide struct {
	tier *Tier
	all  [2]*badger.Iterator // of summaries and of accesses
	seen [2]bool             // what an iterator is at has been returned
}

var sides = [2]byte{summaryPrefix, accessPrefix}

func newSideBySide(t *Tier, txn *badger.Txn, among []byte, after Place) *sideBySide {
	p := &sideBySide{tier: t}
	for i, side := range sides {
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

// next returns what lies at the next place, false behind the last one.
func (p *sideBySide) next() (k Known, ok bool) {
	var least []byte
	for i, it := range p.all {
		if p.seen[i] { // only now: what was returned was the iterator's
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
		*into = p.tier.view(it.Item())
		p.seen[i] = true
	}
	return k, true
}

// view is the value of an item, for as long as the transaction lasts and the iterator
// stays; nil if it is damaged.
func (t *Tier) view(item *badger.Item) (value []byte) {
	_ = item.Value(func(stored []byte) error { // what cannot be read is as good as damaged
		if len(stored) < 5 || checksum(item.Key(), stored[4:]) != binary.BigEndian.Uint32(stored) {
			return nil
		}
		if t.values.plain(stored[4:]) {
			value = stored[5:]
		} else if v, err := t.values.decode(item.Key(), stored[4:]); err == nil {
			value = v
		}
		return nil
	})
	return value
}

// Runs calls yield with each run of blocks, by rising numbers, and how many of its blocks
// are there.
func (t *Tier) Runs(yield func(run uint64, blocks int64) bool) {
	var run uint64
	var n int64
	stopped := false
	t.keys([]byte{blockPrefix}, func(key []byte) bool {
		if id := binary.BigEndian.Uint64(key[1:]); id != run {
			stopped = n > 0 && !yield(run, n)
			run, n = id, 0
		}
		n++
		return !stopped
	})
	if n > 0 && !stopped {
		yield(run, n)
	}
}

// keys calls yield with each key with a prefix; it is valid while yield runs.
func (t *Tier) keys(prefix []byte, yield func(key []byte) bool) {
	t.iterate(prefix, prefix, func(item *badger.Item) bool { return yield(item.Key()) })
}

// Room is how many bytes more the tier takes before it has to make room, about.
func (t *Tier) Room() int64 {
	return max(0, t.space.limit()/10*crowdedTenths-t.Used())
}

// MostHeld is how many bytes of one thing the tier can be made to hold.
func (t *Tier) MostHeld() int64 { return t.space.limit() / 4 * 3 }

// PinRoom is how many bytes more can be pinned.
func (t *Tier) PinRoom() int64 { return t.space.limit()/4*3 - t.Pinned() }

// HidesNames reports whether summaries are in no order of bucket and key.
func (t *Tier) HidesNames() bool { return t.values.secret != nil }
