package journal

import "github.com/tidwall/btree"

// lists are the entries that something has to become of, by number: the oldest first.
type lists struct {
	pending   btree.Map[uint64, *item]             // have to go to the upstream
	dead      btree.Map[uint64, *item]             // dead letters
	deletions map[string]*btree.Map[uint64, *item] // those of pending that are deletions, by bucket
}

// add puts an entry into the lists that it belongs to by now.
func (l *lists) add(it *item) {
	l.remove(it)
	switch {
	case it.reason != "":
		l.dead.Set(it.entry.ID, it)
	case it.pack != 0: // nothing has to become of it
	default:
		l.pending.Set(it.entry.ID, it)
		if it.entry.Deleted {
			l.deletionsOf(it.entry.Key.Bucket).Set(it.entry.ID, it)
		}
	}
}

// remove takes an entry out of all lists.
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
