package warm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/akidb/akigw"
	records "github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/tiers/warm/policy"
)

// database wraps Badger and adds to each value a checksum that covers its key, and the encoding of
// the codec. It drops damaged values. It has no quota, and does not decide what is kept.
type database struct {
	db       *badger.DB
	values   *codec
	fault    func(op akigw.DiskOp, key []byte, size int) error
	health   *health
	gate     gcGate
	counters counters
	log      *slog.Logger
	removed  atomic.Int64 // values removed since the last stir
}

const (
	// memTableSize is the size of a memtable in bytes.
	memTableSize = 256 << 10
)

// openBadger opens Badger with the options measured in docs/architecture.md: blocks and bodies in the
// value log, and memtables so small that compactions, and with them the discard statistics that drive
// the reclaiming of space, keep happening.
func openBadger(config *Config) (db *badger.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil { // Badger panics on some damaged files
			err = panicked(config.Dir, r)
		}
		err = noRoom(err)
	}()
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, err
	}
	marks := marks{config.Dir}
	if err := marks.beginOpening(); err != nil {
		return nil, err
	}
	if err := verifyTables(config.Dir); err != nil {
		return nil, err // the mark stays: the directory is set aside
	}
	defer func() { err = errors.Join(err, marks.endOpening()) }()
	crashed, err := marks.crashed()
	if err != nil {
		return nil, err
	}
	return badger.Open(badgerOptions(config, crashed))
}

// badgerOptions are Badger's. crashed says that values may have changed under their keys.
func badgerOptions(config *Config, crashed bool) badger.Options {
	return badger.DefaultOptions(config.Dir).
		WithLogger(badgerLog{config.Log}).
		WithMetricsEnabled(false).
		WithValueThreshold(policy.ValueThreshold).
		WithMemTableSize(memTableSize).
		WithNumMemtables(3).
		WithNumLevelZeroTables(1).
		WithBaseTableSize(256 << 10).
		WithBaseLevelSize(1 << 20).
		WithValueLogFileSize(policy.Quota(config.Quota).ValueLogBytes()).
		WithCompression(options.None).
		WithChecksumVerificationMode(options.OnBlockRead). // verifyTables has read all of them
		WithVerifyValueChecksum(crashed).
		WithBlockCacheSize(0).
		WithNumCompactors(2).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1)
}

// setAside renames the directory that could not be opened, because of cause, and removes an earlier one
// that was set aside.
func setAside(config Config, cause error) error {
	old, _ := filepath.Glob(config.Dir + ".broken-*") // the pattern is well-formed
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("warm tier: removing %s: %w", dir, err)
		}
	}
	aside := config.Dir + ".broken-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(config.Dir, aside); err != nil {
		return fmt.Errorf("warm tier: %w; and it cannot be set aside: %w", cause, err)
	}
	config.Log.Error("the warm tier could not be opened: its directory was set aside and the tier starts empty; delete the old directory when you have looked at it",
		"dir", config.Dir, "aside", aside, "error", cause)
	return nil
}

// closePatience is how long Badger may take to close: with a damaged value log it may
// never end (see marks.crashed).
const closePatience = 30 * time.Second

// close closes Badger.
func (d *database) close() error {
	closed := make(chan error, 1)
	go func() { closed <- d.db.Close() }()
	select {
	case err := <-closed:
		return err
	case <-time.After(closePatience):
		return fmt.Errorf("it did not close within %s because of damage in it; the next start will treat it as after a crash", closePatience)
	}
}

// get reads and verifies a value.
func (d *database) get(key []byte) (value []byte, ok bool) { return d.read(key, nil) }

// read reads and verifies a value. The checksum covers the key as well, so that
// a value under a wrong key is as bad as a damaged one.
func (d *database) read(key, buffer []byte) (value []byte, ok bool) {
	err := d.db.View(func(txn *badger.Txn) error {
		item, err := item(txn, key)
		if err == nil {
			err = d.fault(akigw.DiskRead, key, 0)
		}
		if err != nil {
			return err
		}
		return item.Value(func(stored []byte) error {
			if len(stored) < 4 {
				return akigw.ErrChecksum
			}
			if buffer != nil && d.values.plain(stored[4:]) && cap(buffer) >= len(stored)-5 {
				value, err = copyChecked(buffer[:0], key, stored)
				return err
			}
			if checksum(key, stored[4:]) != binary.BigEndian.Uint32(stored) {
				return akigw.ErrChecksum
			}
			value, err = d.values.decode(key, stored[4:])
			return err
		})
	})
	if err == nil {
		return value, true
	}
	if !errors.Is(err, badger.ErrKeyNotFound) && !errors.Is(err, badger.ErrDBClosed) {
		d.dropDamaged(key, err)
	}
	return nil, false
}

// dropDamaged removes a value that could not be read, because of cause.
func (d *database) dropDamaged(key []byte, cause error) { d.damaged(key, cause, d.remove(key)) }

// damaged counts a value that could not be read, because of cause. err says why it was not removed.
func (d *database) damaged(key []byte, cause, err error) {
	d.counters.corrupt.Inc()
	n := d.health.corrupted.Add(1)
	d.log.Warn("dropped a damaged value of the warm tier; it will be fetched again from the upstream", "key", fmt.Sprintf("%q", key), "error", cause)
	d.health.damage(n, err)
}

// copyPiece is how much is copied before the checksum of the copy is made: it is in the
// processor's first cache then, unlike what is on the disk.
const copyPiece = 16 << 10

// copyChecked appends the plain value of a stored one to buffer. The error is ErrChecksum.
func copyChecked(buffer, key, stored []byte) ([]byte, error) {
	sum := records.UpdateChecksum(records.Checksum(key), stored[4:5])
	for at := 5; at < len(stored); at += copyPiece {
		piece := stored[at:min(at+copyPiece, len(stored))]
		buffer = append(buffer, piece...)
		sum = records.UpdateChecksum(sum, buffer[len(buffer)-len(piece):])
	}
	if sum != binary.BigEndian.Uint32(stored) {
		return nil, akigw.ErrChecksum
	}
	return buffer, nil
}

// checksum is the CRC32C of a key and its stored value.
func checksum(key, value []byte) uint32 {
	return records.UpdateChecksum(records.Checksum(key), value)
}

// has reports whether there is a value, without reading it.
func (d *database) has(key []byte) bool {
	return d.db.View(func(txn *badger.Txn) error {
		_, err := item(txn, key)
		return err
	}) == nil
}

// record is a value as it is stored: the checksum of its key and of all that follows, and then the
// encoding of the codec.
type record struct{ key, stored []byte }

// seal returns the record of a value.
func (d *database) seal(key, value []byte, compress bool) (record, error) {
	stored, err := d.values.encode(key, value, compress)
	if err != nil {
		return record{}, err
	}
	binary.BigEndian.PutUint32(stored, checksum(key, stored[4:]))
	return record{key, stored}, nil
}

// pair is a value and its key in the database.
type pair struct{ key, value []byte }

// sealAll appends the records of a value and of those stored next to it to buffer. size is the
// approximate size of the first one in bytes.
func (d *database) sealAll(buffer []record, how Handling, main pair, beside []pair) (records []record, size int64, err error) {
	first, err := d.seal(main.key, main.value, how.Compress)
	size = int64(len(first.key) + len(first.stored) + 64)
	records = append(buffer, first)
	for _, p := range beside {
		r, failed := d.seal(p.key, p.value, false)
		records, err = append(records, r), errors.Join(err, failed)
	}
	return records, size, err
}

// write stores a value that has no quota, such as a counter.
func (d *database) write(key, value []byte) error {
	r, err := d.seal(key, value, false)
	if err != nil {
		return err
	}
	return d.store(r)
}

// store stores records, all of them or none.
func (d *database) store(records ...record) error {
	return d.update(func(txn *badger.Txn) error {
		for _, r := range records {
			if err := txn.Set(r.key, r.stored); err != nil {
				return err
			}
		}
		return nil
	})
}

// update runs a change in a transaction of its own.
func (d *database) update(change func(txn *badger.Txn) error) error {
	return d.gate.write(func() error { return d.db.Update(change) })
}

// dropped is the user meta of a tombstone: see blank.
const dropped = 1

// blank replaces values by tombstones. If a value is removed and the tables are compacted while
// Badger rewrites the value log file that holds it, the rewrite restores the value; below a
// tombstone it stays hidden. Eviction removes tombstones, at a time when no file is being
// rewritten.
func (d *database) blank(keys ...[]byte) error {
	if !d.health.removable() {
		return nil
	}
	d.removed.Add(1)
	return d.update(func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.SetEntry(badger.NewEntry(key, nil).WithMeta(dropped)); err != nil {
				return err
			}
		}
		return nil
	})
}

// item returns the item of a key, unless it is a tombstone.
func item(txn *badger.Txn, key []byte) (*badger.Item, error) {
	item, err := txn.Get(key)
	if err == nil && item.UserMeta() == dropped {
		err = badger.ErrKeyNotFound
	}
	return item, err
}

// remove removes values.
func (d *database) remove(keys ...[]byte) error {
	if !d.health.removable() {
		return nil
	}
	d.removed.Add(1)
	return d.update(func(txn *badger.Txn) error {
		for _, key := range keys {
			if err := txn.Delete(key); err != nil {
				return err
			}
		}
		return nil
	})
}

// removeAll removes the values whose keys begin with prefix, and calls removed with the size of each. It
// returns how many there were.
func (d *database) removeAll(prefix []byte, removed func(size int64)) (n int, err error) {
	for {
		var keys [][]byte
		d.scan(prefix, prefix, func(key []byte, size int64) bool {
			removed(size)
			keys = append(keys, key)
			return len(keys) < 1000
		})
		for _, key := range keys {
			if err := d.remove(key); err != nil {
				return n, err // eviction finds the rest
			}
			n++
		}
		if len(keys) < 1000 {
			return n, nil
		}
	}
}

// runCount is how many blocks of an extent are in the database.
type runCount struct {
	id     uint64
	blocks int64
}

// runs returns the extents that have blocks in the database, by ascending number.
func (d *database) runs() (all []runCount) {
	d.keys([]byte{blockPrefix}, func(key []byte) bool {
		id := binary.BigEndian.Uint64(key[1:])
		if len(all) == 0 || all[len(all)-1].id != id {
			all = append(all, runCount{id: id})
		}
		all[len(all)-1].blocks++
		return true
	})
	return all
}

// scan calls yield with each key within prefix (a copy) and the size of its value in order,
// starting at start, until yield returns false.
func (d *database) scan(prefix, start []byte, yield func(key []byte, size int64) bool) {
	d.iterate(prefix, start, func(item *badger.Item) bool { return yield(item.KeyCopy(nil), item.EstimatedSize()) })
}

// iterate calls yield with each item within prefix in order, starting at start, until yield returns
// false. An item is valid while yield runs.
func (d *database) iterate(prefix, start []byte, yield func(*badger.Item) bool) {
	_ = d.db.View(func(txn *badger.Txn) error { // a closed database has no keys
		opt := badger.DefaultIteratorOptions
		opt.PrefetchValues = false
		opt.Prefix = prefix
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(start); it.Valid(); it.Next() {
			if !yield(it.Item()) {
				return nil
			}
		}
		return nil
	})
}

// keys calls yield with each key that begins with prefix. The key is valid while yield runs.
func (d *database) keys(prefix []byte, yield func(key []byte) bool) {
	d.iterate(prefix, prefix, func(item *badger.Item) bool { return yield(item.Key()) })
}

// view returns the value of an item, valid until the transaction ends or the iterator moves; nil if
// it is damaged.
func (d *database) view(item *badger.Item) (value []byte) {
	_ = item.Value(func(stored []byte) error { // what cannot be read counts as damaged
		if len(stored) < 5 || checksum(item.Key(), stored[4:]) != binary.BigEndian.Uint32(stored) {
			return nil
		}
		if d.values.plain(stored[4:]) {
			value = stored[5:]
		} else if v, err := d.values.decode(item.Key(), stored[4:]); err == nil {
			value = v
		}
		return nil
	})
	return value
}

// batch makes changes that need not be atomic.
func (d *database) batch(change func(*badger.WriteBatch) error) error {
	return d.gate.write(func() error {
		batch := d.db.NewWriteBatch()
		defer batch.Cancel()
		if err := change(batch); err != nil {
			return err
		}
		return batch.Flush()
	})
}

// stir makes Badger notice removed values. Badger learns how much of a value log file is garbage
// only when it compacts tables, and it compacts only when memtables fill up. With large values,
// memtables hold so few keys that this would never happen. So stir fills one memtable with padding,
// always under the same keys.
func (d *database) stir() {
	batch := d.db.NewWriteBatch()
	defer batch.Cancel()
	padding := make([]byte, policy.ValueThreshold/2)
	for n := range 2 * memTableSize / policy.ValueThreshold {
		if err := batch.Set(fmt.Appendf(nil, "%cpadding%d", metaPrefix, n), padding); err != nil {
			return // the next tick tries again
		}
	}
	if err := d.gate.write(batch.Flush); err != nil {
		d.log.Warn("the warm tier could not reclaim space", "error", err)
	}
}

// reclaim lets Badger rewrite up to four value log files of which at least this share is garbage.
func (d *database) reclaim(share float64) {
	for range 4 {
		err := d.gate.rewrite(func() error { return d.db.RunValueLogGC(share) })
		if err != nil {
			if !errors.Is(err, badger.ErrNoRewrite) && !errors.Is(err, badger.ErrRejected) {
				d.log.Warn("the warm tier could not reclaim space", "error", err)
			}
			return
		}
	}
}

// badgerLog passes Badger's own messages on, one level lower than Badger says.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Warn(message(f, a)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Info(message(f, a)) }
func (l badgerLog) Infof(f string, a ...any)    { l.log.Debug(message(f, a)) }
func (l badgerLog) Debugf(string, ...any)       {}

func message(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
