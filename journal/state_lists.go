package journal

import "github.com/tidwall/btree"

// lists are the entries that await something, by number: the oldest first.
type lists struct {
	pending   btree.Map[uint64, *item]             // must be flushed
	dead      btree.Map[uint64, *item]             // dead letters
	deletions map[string]*btree.Map[uint64, *item] // pending deletions, by bucket
}

// add adds an entry to the lists that fit its current state.
func (l *lists) add(it *item) {
	l.remove(it)
	switch {
	case it.reason != "":
		l.dead.Set(it.entry.ID, it)
	case it.pack != 0: // a packed entry awaits nothing
	default:
		l.pending.Set(it.entry.ID, it)
		if it.entry.Deleted {
			l.deletionsOf(it.entry.Key.Bucket).Set(it.entry.ID, it)
		}
	}
}

// remove removes an entry from all lists.
func (l *lists) remove(it *item) {
	l.pending.Delete(it.entry.ID)
	l.dead.Delete(it.entry.ID)
	if !it.entry.Deleted {
		return
	}
	d := l.deletionsOf(it.entry.Key.Bucket)
	if d.Delete(it.entry.ID); d.Len() == 0 {
		delete(l.deletions, it.entry.Key.Bucket)
	}
}

// deletionsOf returns the list of the pending deletions of a bucket.
func (l *lists) deletionsOf(bucket string) *btree.Map[uint64, *item] {
	d := l.deletions[bucket]
	if d == nil {
		d = &btree.Map[uint64, *item]{}
		l.deletions[bucket] = d
	}
	return d
}
