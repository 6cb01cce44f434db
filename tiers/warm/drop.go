package warm

import (
	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
)

// DropEntry removes the record of a key, and its pin. An error means that the
// record may still be there.
func (t *Tier) DropEntry(key akigw.Key) error {
	id := t.entryKey(key)
	t.pins.remove(id)
	return t.blank(id, companion(summaryPrefix, id))
}

// dropped marks a value that stands for nothing.
const dropped = 1

// blank puts marks in the place of values, which are as good as gone then. Where a value is
// removed, and the tables compacted, while Badger rewrites the value log file that has it, the
// rewriting brings it back; below a mark it stays hidden. Marks go when they are swept: no file is
// rewritten then.
func (t *Tier) blank(keys ...[]byte) error {
	if !t.removable() {
		return nil
	}
	t.removed.Add(1)
	return t.update(func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.SetEntry(badger.NewEntry(key, nil).WithMeta(dropped)); err != nil {
				return err
			}
		}
		return nil
	})
}

// item finds what is stored under a key, and no mark.
func item(txn *badger.Txn, key []byte) (*badger.Item, error) {
	item, err := txn.Get(key)
	if err == nil && item.UserMeta() == dropped {
		err = badger.ErrKeyNotFound
	}
	return item, err
}

// DropBlocks removes every block of a run of blocks, and returns how many there were.
func (t *Tier) DropBlocks(id uint64) (n int) {
	prefix := runPrefix(id)
	for {
		var keys [][]byte
		t.scan(prefix, prefix, func(key []byte, size int64) bool {
			t.live.Add(-size)
			keys = append(keys, key)
			return len(keys) < 1000
		})
		for _, key := range keys {
			if t.remove(key) != nil {
				return n // eviction finds the rest
			}
			n++
		}
		if len(keys) < 1000 {
			return n
		}
	}
}

func (t *Tier) remove(keys ...[]byte) error {
	if !t.removable() {
		return nil
	}
	t.removed.Add(1)
	return t.update(func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}
