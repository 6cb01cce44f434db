// Package warm is the disk tier: a disposable cache of catalog records and
// blocks in Badger, with a CRC32C of its own on every value, bounded by the
// disk space that it really takes.
//
// It promises that a value which is returned is the value that was put under
// that key, and that its directory stays below its quota. Anything else is
// best effort: a value may be refused or gone at any time, a damaged one is
// dropped and reported as absent, and a directory that does not open is set
// aside and replaced by an empty one. Nothing that cannot be fetched again
// belongs here.
package warm

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/options"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/popular"
	"github.com/akidb/akigw/internal/vfs"
)

// Config says where the tier lives and how much disk it may take.
type Config struct {
	Dir string
	// Quota bounds the directory in bytes of allocated disk space.
	Quota int64
	// Format names the layout of the values. Values of another format are
	// dropped when the tier is opened.
	Format string
	// Secret encrypts values and the names of objects; nil leaves them in the
	// clear. Values of another secret are dropped when the tier is opened.
	Secret []byte
	// Fault, if set, is asked before values are read and written, and how much room there is.
	Fault akigw.DiskFault
	Log   *slog.Logger
	// Metrics is the set that the metrics of the tier are registered in, nil for none.
	Metrics *metrics.Set
}

// fault asks before something is done to what is stored under key.
func (c *Config) fault(op akigw.DiskOp, key []byte, size int) error {
	if c.Fault == nil {
		return nil
	}
	_, err := c.Fault(op, string(key), size)
	return err
}

// Run names a run of blocks: the blocks of one version of an object.
type Run struct {
	ID uint64
	// Object is a number of the object, the same for all its versions: its
	// popularity outlives a run.
	Object uint64
	Handling
}

// Handling says how values of an object are stored.
type Handling struct {
	// Compress asks that they are compressed where it pays.
	Compress bool
	// Wanted stores them however often they were asked for.
	Wanted bool
}

// MinQuota is the smallest quota that leaves room for Badger's own files.
const MinQuota = 32 << 20

// Tier is the disk tier. All methods but Run and Close may be called from any
// goroutine; Run is called once, and Close by the owner after Run returned.
type Tier struct {
	config   Config
	counters counters
	db       *badger.DB
	// clean: the last run closed this directory in order, so that nothing
	// that it removed can have come back.
	clean bool

	space   space
	heat    heat
	popular popularity
	average atomic.Int64 // bytes of a value, lately
	live    atomic.Int64 // bytes of values that are reachable, about
	pins    pins
	values  *codec
	gate    gcGate
	removed atomic.Int64 // values removed since the last stir
	corrupt atomic.Int64
	off     atomic.Bool // switched off: see why
	why     atomic.Pointer[string]
	away    atomic.Bool // the directory is not there any more
	self    os.FileInfo // of the directory, when it was opened
	crowded atomic.Bool // room is being made, or will be soon
}

// maxCorrupt is the number of damaged values after which the disk is not
// trusted any more and the tier switches itself off.
const maxCorrupt = 64

const (
	// valueThreshold is the size in bytes from which values go to the value
	// log, where compactions do not write them again and again: blocks, and
	// records with a body. Summaries and most other records are smaller.
	// memTableSize is the size of a memtable.
	valueThreshold = 1 << 10
	memTableSize   = 256 << 10

	entryPrefix   = 'c'
	blockPrefix   = 'b'
	metaPrefix    = 'm'
	summaryPrefix = 's'
	accessPrefix  = 'a'
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Open opens or creates the tier. A directory that cannot be opened is renamed
// to "<dir>.broken-<time>", replacing an earlier one, and an empty tier is
// returned; an error means that even that failed. ErrNoRoom means that nothing was
// tried, and the directory is as it was.
func Open(config Config) (*Tier, error) {
	values, err := newCodec(config.Secret)
	if err != nil {
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	config.Format += values.format()
	t := &Tier{config: config, counters: newCounters(config.Metrics), values: values}
	t.heat.warmUp()
	t.popular.Sketch = popular.New(sketchCounters)
	if err := roomToOpen(config.Dir); err != nil {
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	db, err := t.open()
	if errors.Is(err, ErrNoRoom) {
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	if err != nil {
		if err := setAside(config, err); err != nil {
			return nil, err
		}
		if db, err = t.open(); err != nil {
			return nil, fmt.Errorf("warm tier: cannot open an empty directory %s: %w", config.Dir, err)
		}
	}
	t.db = db
	if t.self, err = os.Stat(config.Dir); err != nil {
		return nil, errors.Join(fmt.Errorf("warm tier: %w", err), db.Close())
	}
	if err := t.takeCleanMark(); err != nil {
		return nil, errors.Join(fmt.Errorf("warm tier: %w", err), db.Close())
	}
	if got, _ := t.get([]byte("mformat")); string(got) != config.Format {
		if err := errors.Join(db.DropAll(), t.write([]byte("mformat"), []byte(config.Format)), vfs.Remove(vfs.Disk{}, t.crashMark())); err != nil {
			return nil, errors.Join(fmt.Errorf("warm tier: %w", err), db.Close())
		}
	}
	t.space.fault = func() error { return config.fault(akigw.DiskFree, []byte(config.Dir), 0) }
	t.space.init(config.Dir, config.Quota, vlogFileSize(config.Quota))
	return t, nil
}

// vlogFileSize makes a value log file small against the quota, because space
// comes back a file at a time.
func vlogFileSize(quota int64) int64 { return min(max(quota/16, 2<<20), 128<<20) }

// open opens Badger with the options measured in docs/architecture.md: blocks
// and bodies in the value log, and memtables so small that compactions, and
// with them the discard statistics that drive space reclaim, keep happening.
func (t *Tier) open() (db *badger.DB, err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil { // Badger panics on some damaged files
			err = t.panicked(r)
		}
		err = noRoom(err)
	}()
	if err := os.MkdirAll(t.config.Dir, 0o700); err != nil {
		return nil, err
	}
	if err := t.beginOpening(); err != nil {
		return nil, err
	}
	if err := verifyTables(t.config.Dir); err != nil {
		return nil, err // the mark is of a directory that is set aside
	}
	defer func() { err = errors.Join(err, os.Remove(t.openingMark())) }()
	crashed, err := t.crashed()
	if err != nil {
		return nil, err
	}
	return badger.Open(badger.DefaultOptions(t.config.Dir).
		WithLogger(badgerLog{t.config.Log}).
		WithMetricsEnabled(false).
		WithValueThreshold(valueThreshold).
		WithMemTableSize(memTableSize).
		WithNumMemtables(3).
		WithNumLevelZeroTables(1).
		WithBaseTableSize(256 << 10).
		WithBaseLevelSize(1 << 20).
		WithValueLogFileSize(vlogFileSize(t.config.Quota)).
		WithCompression(options.None).
		WithChecksumVerificationMode(options.OnBlockRead). // verifyTables has read all of them
		WithVerifyValueChecksum(crashed).
		WithBlockCacheSize(0).
		WithNumCompactors(2).
		WithDetectConflicts(false).
		WithNumVersionsToKeep(1))
}

// crashMark is there from a crash on until the tier starts empty.
func (t *Tier) crashMark() string { return filepath.Join(t.config.Dir, "CRASHED") }

// crashed reports whether a run did not close the directory: the last one, or one before it.
// Then keys may point to places in the value log that were lost, and have other values by now:
// Badger has to compare checksums, because for what makes no sense there it keeps the file
// locked for good, and neither removes it nor closes. A run that closes in order does not end
// that: what it did not read is as it was.
func (t *Tier) crashed() (bool, error) {
	if _, err := os.Stat(t.crashMark()); !errors.Is(err, os.ErrNotExist) {
		return err == nil, err
	}
	for _, mark := range []string{t.cleanMark(), missedMark(t.config.Dir)} {
		if _, err := os.Stat(mark); !errors.Is(err, os.ErrNotExist) {
			return false, err
		}
	}
	logs, err := filepath.Glob(filepath.Join(t.config.Dir, "*.vlog"))
	if err != nil || len(logs) == 0 {
		return false, err
	}
	return true, vfs.Replace(vfs.Disk{}, t.crashMark(), nil)
}

func setAside(config Config, cause error) error {
	old, _ := filepath.Glob(config.Dir + ".broken-*") // the pattern is well-formed
	for _, dir := range old {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("warm tier: remove %s: %w", dir, err)
		}
	}
	aside := config.Dir + ".broken-" + time.Now().UTC().Format("20060102T150405")
	if err := os.Rename(config.Dir, aside); err != nil {
		return fmt.Errorf("warm tier: %w; and it cannot be set aside: %w", cause, err)
	}
	config.Log.Error("the warm tier did not open: set aside, starting empty; delete it when you have looked at it",
		"dir", config.Dir, "aside", aside, "error", cause)
	return nil
}

// The clean mark is a file, not a Badger key: it must not be able to come back
// after a power cut.
func (t *Tier) cleanMark() string { return filepath.Join(t.config.Dir, cleanFile) }

const cleanFile = "CLEAN"

func (t *Tier) takeCleanMark() error {
	if err := vfs.Remove(vfs.Disk{}, missedMark(t.config.Dir)); err != nil {
		return err
	}
	err := os.Remove(t.cleanMark())
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	t.clean = err == nil
	return errors.Join(err, vfs.Disk{}.SyncDir(t.config.Dir))
}

// Clean reports whether the last run closed the tier in order. If not,
// records that it removed may be back, and must be validated before use.
func (t *Tier) Clean() bool { return t.clean }

// closePatience is how long Badger may take to close: for a damaged value log it may take for
// ever (see crashed).
const closePatience = 30 * time.Second

// Close writes everything out and marks the directory as clean, unless the tier was switched
// off: then it has not heard of all changes. Where that would take room that there is not, it
// leaves everything as a crash would.
func (t *Tier) Close() error {
	t.values.close()
	if t.away.Load() {
		return nil
	}
	if err := roomFor(t.config.Dir, removeRoom); err != nil {
		t.space.ballast.release()
		if err = roomFor(t.config.Dir, removeRoom); err != nil {
			t.config.Log.Warn("the warm tier is not closed in order, for want of room: the next start validates what it has", "dir", t.config.Dir, "error", err)
			return nil
		}
	}
	closed := make(chan error, 1)
	go func() { closed <- t.db.Close() }()
	select {
	case err := <-closed:
		if err != nil {
			return fmt.Errorf("warm tier: %w", err)
		}
	case <-time.After(closePatience):
		return fmt.Errorf("warm tier: it did not close within %s, because of damage in it; the next start finds it as after a crash", closePatience)
	}
	if t.off.Load() {
		return nil
	}
	f, err := os.OpenFile(t.cleanMark(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("warm tier: %w", err)
	}
	return errors.Join(f.Sync(), f.Close(), vfs.Disk{}.SyncDir(t.config.Dir))
}

// Counter returns the number stored under name, 0 if there is none.
func (t *Tier) Counter(name string) uint64 {
	v, ok := t.get(append([]byte{metaPrefix}, name...))
	if !ok || len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// SetCounter stores a number under name.
func (t *Tier) SetCounter(name string, n uint64) error {
	return t.write(append([]byte{metaPrefix}, name...), binary.BigEndian.AppendUint64(nil, n))
}

// Entry returns the catalog record of a key. The bytes are the caller's.
func (t *Tier) Entry(key akigw.Key) ([]byte, bool) { return t.lookup(t.entryKey(key), nil) }

// PeekEntry is Entry that counts no access.
func (t *Tier) PeekEntry(key akigw.Key) ([]byte, bool) { return t.peek(t.entryKey(key)) }

// HasEntry reports whether there is a record, without reading it.
func (t *Tier) HasEntry(key akigw.Key) bool { return t.has(t.entryKey(key)) }

// PutEntry stores a catalog record and its summary, and reports whether it did: if not, what
// was there before still is. It keeps neither slice.
func (t *Tier) PutEntry(key akigw.Key, record, summary []byte, how Handling) bool {
	id := t.entryKey(key)
	return t.put(how, pair{id, record}, pair{companion(summaryPrefix, id), summary})
}

// Block returns block n of a run of blocks, in buffer if it has the capacity, else in memory
// of its own. The bytes are the caller's.
func (t *Tier) Block(run Run, n int64, buffer []byte) ([]byte, bool) {
	return t.lookup(blockKey(run, n), buffer)
}

// HasBlock reports whether a block is there, without reading it.
func (t *Tier) HasBlock(run Run, n int64) bool { return t.has(blockKey(run, n)) }

// Blocks is how many blocks of a run there are.
func (t *Tier) Blocks(id uint64) (n int64) {
	t.keys(runPrefix(id), func([]byte) bool {
		n++
		return true
	})
	return n
}

// PutBlock stores a block. It does not keep data.
func (t *Tier) PutBlock(run Run, n int64, data []byte) {
	t.put(run.Handling, pair{blockKey(run, n), data})
}

func (t *Tier) entryKey(key akigw.Key) []byte {
	b := make([]byte, 0, 3+len(key.Bucket)+len(key.Name)+len(key.Version))
	b = append(b, entryPrefix)
	b = append(b, key.Bucket...)
	b = append(b, 0) // in no part
	b = append(b, key.Name...)
	if key.Version != "" {
		b = append(b, 0)
		b = append(b, key.Version...)
	}
	return t.values.name(b)
}

func blockKey(run Run, n int64) []byte {
	b := make([]byte, 0, 25)
	b = append(b, blockPrefix)
	b = binary.BigEndian.AppendUint64(b, run.ID)
	b = binary.BigEndian.AppendUint64(b, uint64(n))
	return binary.BigEndian.AppendUint64(b, run.Object)
}

// runPrefix is what the keys of all blocks of a run begin with.
func runPrefix(id uint64) []byte { return blockKey(Run{ID: id}, 0)[:9] }

// popularityKey is what the popularity of a key of the database is counted by:
// for a block, its number and its object, whatever run it belongs to.
func popularityKey(key []byte) []byte {
	if key[0] == blockPrefix {
		return key[9:]
	}
	return key
}

// lookup reads a value for a client: it counts the access.
func (t *Tier) lookup(key, buffer []byte) ([]byte, bool) {
	if t.off.Load() {
		return nil, false
	}
	value, ok := t.read(key, buffer)
	if ok {
		t.heat.touch(key)
		t.popular.count(popularityKey(key))
	}
	return value, ok
}

// peek is lookup that counts no access.
func (t *Tier) peek(key []byte) ([]byte, bool) {
	if t.off.Load() {
		return nil, false
	}
	return t.get(key)
}

func (t *Tier) get(key []byte) (value []byte, ok bool) { return t.read(key, nil) }

// read reads and verifies a value. The checksum covers the key as well, so that
// a value under a wrong key is as bad as a damaged one.
func (t *Tier) read(key, buffer []byte) (value []byte, ok bool) {
	err := t.db.View(func(txn *badger.Txn) error {
		item, err := item(txn, key)
		if err == nil {
			err = t.config.fault(akigw.DiskRead, key, 0)
		}
		if err != nil {
			return err
		}
		return item.Value(func(stored []byte) error {
			if len(stored) < 4 {
				return akigw.ErrChecksum
			}
			if buffer != nil && t.values.plain(stored[4:]) && cap(buffer) >= len(stored)-5 {
				value, err = copyChecked(buffer[:0], key, stored)
				return err
			}
			if checksum(key, stored[4:]) != binary.BigEndian.Uint32(stored) {
				return akigw.ErrChecksum
			}
			value, err = t.values.decode(key, stored[4:])
			return err
		})
	})
	if err == nil {
		return value, true
	}
	if !errors.Is(err, badger.ErrKeyNotFound) && !errors.Is(err, badger.ErrDBClosed) {
		t.dropDamaged(key, err)
	}
	return nil, false
}

func (t *Tier) dropDamaged(key []byte, cause error) {
	t.counters.corrupt.Inc()
	n := t.corrupt.Add(1)
	t.config.Log.Warn("dropped a damaged value of the warm tier; it is fetched again from the upstream", "key", fmt.Sprintf("%q", key), "error", cause)
	if err := t.remove(key); err != nil || n >= maxCorrupt {
		t.switchOff("its disk returns damaged data; check the disk", "damaged", n, "error", err)
	}
}

// copyPiece is how much is copied before the checksum of the copy is made: it is in the
// processor's first cache then, which what lies on the disk is not.
const copyPiece = 16 << 10

// copyChecked appends the plain value of a stored one to buffer. The error is ErrChecksum.
func copyChecked(buffer, key, stored []byte) ([]byte, error) {
	sum := crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, stored[4:5])
	for at := 5; at < len(stored); at += copyPiece {
		piece := stored[at:min(at+copyPiece, len(stored))]
		buffer = append(buffer, piece...)
		sum = crc32.Update(sum, castagnoli, buffer[len(buffer)-len(piece):])
	}
	if sum != binary.BigEndian.Uint32(stored) {
		return nil, akigw.ErrChecksum
	}
	return buffer, nil
}

func checksum(key, value []byte) uint32 {
	return crc32.Update(crc32.Checksum(key, castagnoli), castagnoli, value)
}

func (t *Tier) has(key []byte) bool {
	if t.off.Load() {
		return false
	}
	return t.db.View(func(txn *badger.Txn) error {
		_, err := item(txn, key)
		return err
	}) == nil
}

// record is a value as it is stored: the checksum of all that follows and of its key, and what
// the codec made of it.
type record struct{ key, stored []byte }

// seal makes a record of a value.
func (t *Tier) seal(key, value []byte, compress bool) (record, error) {
	stored, err := t.values.encode(key, value, compress)
	if err != nil {
		return record{}, err
	}
	binary.BigEndian.PutUint32(stored, checksum(key, stored[4:]))
	return record{key, stored}, nil
}

// pair is a value and what it is stored under.
type pair struct{ key, value []byte }

// put stores a value if there is room for it, and if it is worth the room; with small ones
// beside it. It reports whether it did.
func (t *Tier) put(how Handling, main pair, beside ...pair) bool {
	count := t.popular.count(popularityKey(main.key))
	if len(main.value) >= valueThreshold && t.crowded.Load() && !t.popular.admits(count) && !how.Wanted {
		t.counters.unpopular.Inc()
		return false
	}
	first, err := t.seal(main.key, main.value, how.Compress)
	size := int64(len(first.key) + len(first.stored) + 64)
	records, all := append(make([]record, 0, 2), first), size
	for _, p := range beside {
		r, more := t.seal(p.key, p.value, false)
		records, all, err = append(records, r), all+int64(len(r.key)+len(r.stored)), errors.Join(err, more)
	}
	if err != nil || t.off.Load() || !t.space.reserve(all) {
		t.counters.refused.Inc()
		return false
	}
	if len(main.value) >= valueThreshold {
		t.average.Store(t.average.Load() - t.average.Load()/64 + size/64)
	}
	if err = t.config.fault(akigw.DiskWrite, main.key, int(all)); err == nil {
		err = t.store(records...)
	}
	if err != nil {
		t.counters.failed.Inc()
		t.config.Log.Warn("could not write to the warm tier", "error", err)
		return false
	}
	t.live.Add(size)
	t.heat.touch(main.key)
	return true
}

// write stores a value that has to be there.
func (t *Tier) write(key, value []byte) error {
	r, err := t.seal(key, value, false)
	if err != nil {
		return err
	}
	return t.store(r)
}

// store stores records, all of them or none.
func (t *Tier) store(records ...record) error {
	return t.update(func(txn *badger.Txn) error {
		for _, r := range records {
			if err := txn.Set(r.key, r.stored); err != nil {
				return err
			}
		}
		return nil
	})
}

func (t *Tier) update(change func(txn *badger.Txn) error) error {
	return t.gate.write(func() error { return t.db.Update(change) })
}

// scan calls yield with each key (a copy) and its value's size in order, from
// start on, within prefix, until yield returns false.
func (t *Tier) scan(prefix, start []byte, yield func(key []byte, size int64) bool) {
	t.iterate(prefix, start, func(item *badger.Item) bool { return yield(item.KeyCopy(nil), item.EstimatedSize()) })
}

// iterate calls yield with each item in order, from start on, within prefix, until yield
// returns false. An item is valid while yield runs.
func (t *Tier) iterate(prefix, start []byte, yield func(*badger.Item) bool) {
	_ = t.db.View(func(txn *badger.Txn) error { // a closed database has no keys
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

// badgerLog passes Badger's own messages on, one level lower than it thinks.
type badgerLog struct{ log *slog.Logger }

func (l badgerLog) Errorf(f string, a ...any)   { l.log.Warn(message(f, a)) }
func (l badgerLog) Warningf(f string, a ...any) { l.log.Info(message(f, a)) }
func (l badgerLog) Infof(f string, a ...any)    { l.log.Debug(message(f, a)) }
func (l badgerLog) Debugf(string, ...any)       {}

func message(format string, args []any) string {
	return "badger: " + strings.TrimSpace(fmt.Sprintf(format, args...))
}
