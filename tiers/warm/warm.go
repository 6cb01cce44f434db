// Package warm is the disk tier: a disposable cache of catalog records in Badger and of blocks in
// segment files, with its own CRC32C on every value, bounded by the disk space that it occupies.
//
// It promises that a returned value is the value that was stored under that key, and that its
// directory stays below its quota. Everything else is best effort: a value may be refused or
// evicted at any time, a damaged one is dropped and reported as absent, and a directory that cannot
// be opened is set aside and replaced by an empty one. Nothing that cannot be fetched again belongs
// here.
package warm

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"
	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/warm/internal/blockfile"
	"github.com/akidb/akigw/tiers/warm/policy"
)

// Config says where the tier is stored and how much disk space it may occupy.
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
	// Fault, if set, is called before values are read and written, and before free space is
	// measured.
	Fault akigw.DiskFault
	Log   *slog.Logger
	// Metrics is the set in which the metrics of the tier are registered, nil for none.
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

// popularityCounters take 4 MiB.
const popularityCounters = 1 << 20

// MinQuota is the smallest quota that leaves space for Badger's own files.
const MinQuota = 32 << 20

// Tier is the disk tier. All methods except Run and Close are safe for concurrent use. Run is
// called once, and the owner calls Close after Run has returned.
type Tier struct {
	config   Config
	counters counters
	data     *database
	blocks   *blocks
	health   *health
	space    space
	pins     pins
	heat     heat
	popular  *policy.Popularity
	average  atomic.Int64 // recent average size of a value in bytes
	live     atomic.Int64 // approximate size of the reachable values in Badger in bytes
	crowded  atomic.Bool  // space is being freed, or will be soon
	// clean means that the last epoch closed this directory properly, so that nothing that it
	// removed can have reappeared.
	clean bool
}

// Open opens or creates the tier. A directory that cannot be opened is renamed to
// "<dir>.broken-<time>", replacing an earlier one, and an empty tier is returned; an error means that
// even that failed. errNoRoom means that nothing was tried, and the directory is as it was.
func Open(config Config) (*Tier, error) {
	values, err := newCodec(config.Secret)
	if err != nil {
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	config.Format += values.format()
	db, err := openOrReplace(&config)
	if err != nil {
		return nil, err
	}
	t := &Tier{config: config, counters: newCounters(config.Metrics)}
	t.pins.refused = t.counters.pinsRefused
	t.heat.warmUp()
	t.popular = policy.NewPopularity(popularityCounters)
	t.health = &health{dir: config.Dir, ballast: &t.space.ballast, log: config.Log}
	t.data = &database{db: db, values: values, fault: config.fault, health: t.health, counters: t.counters, log: config.Log}
	if err := t.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("warm tier: %w", err), db.Close())
	}
	return t, nil
}

// openOrReplace opens Badger, with an empty directory if the existing one cannot be opened.
func openOrReplace(config *Config) (*badger.DB, error) {
	if err := roomToOpen(config.Dir); err != nil {
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	db, err := openBadger(config)
	switch {
	case err == nil:
		return db, nil
	case errors.Is(err, errNoRoom):
		return nil, fmt.Errorf("warm tier: %w", err)
	}
	if err := setAside(*config, err); err != nil {
		return nil, err
	}
	if db, err = openBadger(config); err != nil {
		return nil, fmt.Errorf("warm tier: cannot open an empty directory %s: %w", config.Dir, err)
	}
	return db, nil
}

// prepare reads the marks, drops values of another format, and measures the space.
func (t *Tier) prepare() (err error) {
	if t.health.opened, err = os.Stat(t.config.Dir); err != nil {
		return err
	}
	marks := marks{t.config.Dir}
	if t.clean, err = marks.takeClean(); err != nil {
		return err
	}
	if got, _ := t.data.get([]byte("mformat")); string(got) != t.config.Format {
		if err := errors.Join(t.data.db.DropAll(), t.data.write([]byte("mformat"), []byte(t.config.Format)), marks.forgetCrash()); err != nil {
			return err
		}
	}
	if t.blocks, err = openBlocks(&t.config, t.data); err != nil {
		return err
	}
	t.space.blocks = t.blocks.Disk
	t.space.fault = func() error { return t.config.fault(akigw.DiskFree, []byte(t.config.Dir), 0) }
	t.space.init(t.config.Dir, t.config.Quota, policy.Quota(t.config.Quota).ValueLogBytes())
	return nil
}

// Clean reports whether the last epoch closed the tier properly. If not, records that it removed
// may have reappeared, and must be validated before use.
func (t *Tier) Clean() bool { return t.clean }

// Run measures the disk, evicts and reclaims space until ctx ends. The error is nil.
func (t *Tier) Run(ctx context.Context) error {
	newEvictor(t).run(ctx)
	return nil
}

func newEvictor(t *Tier) *evictor {
	return &evictor{database: t.data, blocks: t.blocks, quota: policy.Quota(t.config.Quota), space: &t.space, heat: &t.heat, popular: t.popular, pins: &t.pins, live: &t.live, average: &t.average, crowded: &t.crowded}
}

// Close writes everything to disk and marks the directory as clean, unless the tier was switched
// off: then it has missed changes. If the disk has too little space to close, it leaves everything
// as a crash would.
func (t *Tier) Close() error {
	t.data.values.close()
	if t.health.missing.Load() {
		return t.blocks.Abandon()
	}
	if err := t.health.closable(); err != nil {
		t.config.Log.Warn("the warm tier could not be closed properly, because the disk is full: after the next start its objects are validated before they are served", "dir", t.config.Dir, "error", err)
		return t.blocks.Abandon()
	}
	err := errors.Join(t.blocks.Close(), t.data.close())
	if err == nil && !t.health.off.Load() {
		err = marks{t.config.Dir}.markClean()
	}
	if err != nil {
		return fmt.Errorf("warm tier: %w", err)
	}
	return nil
}

// Counter returns the number stored under name, 0 if there is none.
func (t *Tier) Counter(name string) uint64 {
	v, ok := t.data.get(append([]byte{metaPrefix}, name...))
	if !ok || len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// SetCounter stores a number under name.
func (t *Tier) SetCounter(name string, n uint64) error {
	return t.data.write(append([]byte{metaPrefix}, name...), binary.BigEndian.AppendUint64(nil, n))
}

// Entry returns the catalog record of a key. The caller owns the bytes.
func (t *Tier) Entry(key akigw.Key) ([]byte, bool) { return t.lookup(t.data.values.entryKey(key)) }

// PeekEntry is Entry without counting an access.
func (t *Tier) PeekEntry(key akigw.Key) ([]byte, bool) { return t.peek(t.data.values.entryKey(key)) }

// HasEntry reports whether a key has a record, without reading it.
func (t *Tier) HasEntry(key akigw.Key) bool { return t.has(t.data.values.entryKey(key)) }

// PutEntry stores a catalog record and its summary, and reports whether it did; if not, an earlier
// record is kept. It retains neither slice.
func (t *Tier) PutEntry(key akigw.Key, record, summary []byte, how Handling) bool {
	id := t.data.values.entryKey(key)
	return t.put(how, pair{id, record}, pair{companion(summaryPrefix, id), summary})
}

// Block returns block n of an extent, in buffer if it has the capacity, otherwise in new memory.
// The caller owns the bytes.
func (t *Tier) Block(run Run, n int64, buffer []byte) ([]byte, bool) {
	if t.health.off.Load() {
		return nil, false
	}
	value, key, ok := t.blocks.read(run, n, buffer)
	if ok {
		t.touch(key)
	}
	return value, ok
}

// HasBlock reports whether a block exists, without reading it.
func (t *Tier) HasBlock(run Run, n int64) bool {
	return !t.health.off.Load() && t.blocks.has(run, n)
}

// Blocks returns how many blocks of an extent exist.
func (t *Tier) Blocks(id uint64) (n int64) { return t.blocks.count(id) }

// NewestRun is the highest number of an extent that has blocks, 0 for none. Whoever numbers extents
// continues above it, even if the counters were lost: otherwise these blocks would be those of another
// object.
func (t *Tier) NewestRun() uint64 { return t.blocks.newest() }

// PutBlock stores a block. It does not retain data.
func (t *Tier) PutBlock(run Run, n int64, data []byte) {
	id, key := t.blocks.id(run, n), blockKey(run, n)
	used := heatKey(id)
	if !t.admits(used, len(data), run.Handling) {
		return
	}
	done, payload, err := t.data.values.payload(key, data, run.Compress)
	size := blockfile.Size(len(payload))
	if err != nil || t.blocks.full(10) || !t.reserve(len(data), size, size) {
		t.counters.refused.Inc()
		return
	}
	if err = t.config.fault(akigw.DiskWrite, key, int(size)); err == nil {
		err = t.blocks.Put(id, done, payload)
	}
	if t.wrote(err) { // it is as far from the hand as can be, so it counts as used only once it is read
		t.counters.written.AddInt64(size)
	}
}

// DropEntry removes the record of a key, and its pin. An error means that the record may still be
// there.
func (t *Tier) DropEntry(key akigw.Key) error {
	id := t.data.values.entryKey(key)
	t.pins.remove(id)
	return t.data.blank(id, companion(summaryPrefix, id))
}

// DropBlocks removes every block of an extent, and returns how many there were.
func (t *Tier) DropBlocks(id uint64) int {
	if t.health.missing.Load() {
		return 0
	}
	n, err := t.blocks.drop(id, func(size int64) { t.live.Add(-size) })
	if err != nil { // nothing refers to the extent any more, so what is left is evicted in time
		t.counters.failed.Inc()
		t.config.Log.Warn("could not record that blocks were removed from the warm tier", "error", err)
	}
	return n
}

// lookup reads a value for a client, and counts the access.
func (t *Tier) lookup(key []byte) ([]byte, bool) {
	if t.health.off.Load() {
		return nil, false
	}
	value, ok := t.data.get(key)
	if ok {
		t.touch(key)
	}
	return value, ok
}

// touch counts an access to what is stored under a key.
func (t *Tier) touch(key []byte) {
	t.heat.touch(key)
	t.popular.Count(popularityHash(key))
}

// peek is lookup without counting an access.
func (t *Tier) peek(key []byte) ([]byte, bool) {
	if t.health.off.Load() {
		return nil, false
	}
	return t.data.get(key)
}

// has reports whether a value exists, without reading it.
func (t *Tier) has(key []byte) bool { return !t.health.off.Load() && t.data.has(key) }

// put stores a value, and small ones next to it, if there is space and the value is popular enough.
// It reports whether it did.
func (t *Tier) put(how Handling, main pair, beside ...pair) bool {
	if !t.admits(main.key, len(main.value), how) {
		return false
	}
	records, size, err := t.data.sealAll(make([]record, 0, 2), how, main, beside)
	all := size
	for _, r := range records[1:] {
		all += int64(len(r.key) + len(r.stored))
	}
	if err != nil || !t.reserve(len(main.value), size, all) {
		t.counters.refused.Inc()
		return false
	}
	if err = t.config.fault(akigw.DiskWrite, main.key, int(all)); err == nil {
		err = t.data.store(records...)
	}
	if err == nil {
		t.live.Add(size)
	}
	if !t.wrote(err) {
		return false
	}
	t.heat.touch(main.key) // the hand may be about to pass it
	return true
}

// admits counts an access to what is to be stored under a key, and reports whether it is popular enough.
func (t *Tier) admits(key []byte, length int, how Handling) bool {
	count := t.popular.Count(popularityHash(key))
	if length < policy.ValueThreshold || !t.crowded.Load() || how.Wanted || t.popular.Admits(count) {
		return true
	}
	t.counters.unpopular.Inc()
	return false
}

// reserve takes space for a value of a length that takes size bytes, and all bytes with what is stored
// next to it. It reports whether there is enough.
func (t *Tier) reserve(length int, size, all int64) bool {
	if t.health.off.Load() || !t.space.reserve(all) {
		return false
	}
	if length >= policy.ValueThreshold {
		t.average.Store(t.average.Load() - t.average.Load()/64 + size/64)
	}
	return true
}

// wrote accounts for a write, which failed with err or succeeded. It reports whether it succeeded.
func (t *Tier) wrote(err error) bool {
	if err != nil {
		t.counters.failed.Inc()
		t.config.Log.Warn("could not write to the warm tier", "error", err)
	}
	return err == nil
}

// Pin keeps the record of a key and an extent of a size in bytes from being evicted. It returns
// false if pins would leave too little space for the rest: three quarters of the quota can be
// pinned.
func (t *Tier) Pin(key akigw.Key, run uint64, bytes int64) bool {
	return t.pins.add(t.data.values.entryKey(key), run, bytes, t.space.pinnable())
}

// Repin ends all pins except those that are made while again runs.
func (t *Tier) Repin(again func()) { t.pins.repin(again) }

// Unpin unpins a key.
func (t *Tier) Unpin(key akigw.Key) { t.pins.remove(t.data.values.entryKey(key)) }

// Pinned is the number of pinned bytes.
func (t *Tier) Pinned() int64 { return t.pins.total() }

// PinRoom is how many more bytes can be pinned.
func (t *Tier) PinRoom() int64 { return t.space.pinnable() - t.Pinned() }

// MostHeld is the size of the largest object that the tier can hold, in bytes.
func (t *Tier) MostHeld() int64 { return t.space.pinnable() }

// Room is the approximate number of bytes that can be added before something is evicted.
func (t *Tier) Room() int64 {
	return max(0, t.space.limit()/10*policy.CrowdedTenths-t.Used())
}

// HidesNames reports whether names are hidden, so that summaries are not in the order of bucket and
// key.
func (t *Tier) HidesNames() bool { return t.data.values.secret != nil }

// Problem says why the tier stores nothing more, "" if it does.
func (t *Tier) Problem() string { return cmp.Or(t.health.problem(), t.space.problem()) }

// Full reports whether the tier has reached its limit, so that space is being freed.
func (t *Tier) Full() bool { return t.space.total() > t.space.limit() }

// Used is the disk space that the tier occupies, in bytes, as last measured plus what was written
// since.
func (t *Tier) Used() int64 { return t.space.total() }
