// Package tiers is one object store over three tiers: memory, local disk and
// the upstream. It knows which object each key holds and which generation of
// knowledge that is, fills what is missing once for everybody who waits for
// it, and keeps old bytes from coming back.
//
// It promises that the bytes of one answer are the bytes of one version that
// the freshness mode allows, and that a body which cannot be served to its end
// ends in an error. It knows nothing of HTTP routing, signatures or S3's error
// documents: those are the gateway's.
package tiers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/internal/watch"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/hot"
	"github.com/akidb/akigw/tiers/warm"
)

// Upstream is what the store needs of the cold tier.
type Upstream interface {
	// Do sends a signed request and returns the answer, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Origin is a number for the endpoint that a bucket's objects come from.
	Origin(bucket string) uint64
}

// Rules say how each object is to be treated.
type Rules interface {
	// For returns the settings of a key; they are shared.
	For(bucket, key string) *rules.Settings
	// Pinning returns the version of the rules, another one after each change,
	// and whether any of them pins objects.
	Pinning() (version uint64, any bool)
	// Backs reports whether writes to some key of a bucket may be written back.
	Backs(bucket string) bool
}

// hotKey names a value of the hot tier: the entry of a key, or one block.
type hotKey struct {
	key    akigw.Key
	blocks uint64
	n      int64
}

// mix spreads a number over all bits.
func mix(n uint64) uint64 {
	n *= 0x9e3779b97f4a7c15
	return n ^ n>>32
}

// hotValue is an entry, the bytes of a block, a listing, or where a part is.
type hotValue struct {
	entry   *entry
	block   []byte
	listing *Listing
	part    *Part
}

// Store is the object store. All methods but Run and Close may be called from
// any goroutine.
type Store struct {
	config   Config
	rules    Rules
	log      *slog.Logger
	upstream Upstream
	hot      *hot.Cache[hotKey, hotValue]
	warm     *warm.Tier // nil when switched off
	warmOff  string     // why, if that is not what was configured
	fence    *fence
	run      uint64 // number of this run
	trusted  uint64 // entries of earlier runs need validation before use

	// fills outlive the requests that started them.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup

	mu       sync.Mutex
	openings map[akigw.Key]*fill // fills that will learn what a key holds; guarded by mu
	fills    map[uint64][]*fill  // fills of a known object, by run of blocks; guarded by mu

	// What tiers of twice the size would have hit; nil where there is no tier.
	hotGhost, warmGhost *ghost

	listEpochs  [epochs]atomic.Uint64 // changes of buckets
	validations validations
	notifier    Notifier // nil if the upstream tells nothing
	feeds       feeds

	back    *back  // nil if nothing is written back
	backOff string // why, if there should be a journal

	accesses  *accesses
	tracer    atomic.Pointer[tracer] // nil while nobody records
	pins      *pinBook               // nil until Control
	worker    *worker                // nil: objects are not moved by a policy
	moves     moves
	repinning sync.Mutex // one Repin at a time

	suspects  suspects
	readAhead *budget.Budget // memory for what is fetched ahead
	windows   *windows       // memory for what fills bring in
	copies    *windows       // memory for what readers have from disk
	buffers   buffers        // for the same
	crowd     Crowd          // nil if nobody has to wait for the upstream
	silence   Silence        // nil if nobody notices that the upstream hangs
	unsettled unsettled      // writes that the upstream may still carry out
	owners    Owners         // nil if there is one upstream
	sequences sequences

	bare304  origins // whose 304 has no Last-Modified: ask without a condition
	noRanges origins // that ignore Range: parts cost as much as the whole
}

// New opens the tiers. dir is the directory of the warm tier.
func New(config Config, rules Rules, dir string, upstream Upstream, log *slog.Logger) (*Store, error) {
	owners, _ := upstream.(Owners)
	var names []string
	if owners != nil {
		names = owners.Names()
	}
	s := &Store{
		config:    config,
		rules:     rules,
		log:       log,
		upstream:  upstream,
		windows:   newWindows(int64(config.FillBytes)).divided(owners),
		copies:    newWindows(int64(config.FillBytes)),
		owners:    owners,
		readAhead: budget.New(int64(config.ReadAheadBytes), readAheadRefused, names...),
		openings:  make(map[akigw.Key]*fill),
		fills:     make(map[uint64][]*fill),
		hot: hot.New(int64(config.HotBytes), func(_ hotKey, v hotValue) uint32 {
			if v.entry != nil {
				return uint32(v.entry.weight())
			}
			if v.listing != nil {
				return uint32(v.listing.weight())
			}
			if v.part != nil {
				return uint32(v.part.weight())
			}
			return uint32(cap(v.block) + 128)
		}, func(k hotKey, v hotValue) uint64 {
			if v.entry != nil {
				return mix(v.entry.object)
			}
			if v.listing != nil {
				return mix(objectNumber(k.key))
			}
			return mix(k.blocks<<20 ^ uint64(k.n))
		}),
	}
	s.notifier, _ = upstream.(Notifier)
	s.crowd, _ = upstream.(Crowd)
	s.silence, _ = upstream.(Silence)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if config.HotBytes > 0 {
		s.hotGhost = newGhost("hot", int64(config.HotBytes))
	}
	if config.WarmBytes > 0 {
		s.warmGhost = newGhost("warm", int64(config.WarmBytes))
	}
	first := uint64(1)
	if config.WarmBytes > 0 {
		secret, err := config.secret()
		if err != nil {
			return nil, err
		}
		if first, err = s.openWarm(dir, secret); err != nil {
			s.withoutWarm(dir, err)
		}
	} else {
		s.withoutWarm(dir, nil)
	}
	s.fence = newFence(first)
	s.accesses = newAccesses(s.warm)
	return s, nil
}

// openWarm opens the warm tier, and returns the first generation of this run.
func (s *Store) openWarm(dir string, secret []byte) (first uint64, err error) {
	s.warm, err = warm.Open(warm.Config{
		Dir:     dir,
		Quota:   int64(s.config.WarmBytes),
		Format:  fmt.Sprintf("entry %d, summary %d", entryVersion, summaryVersion),
		Secret:  secret,
		Fault:   s.config.WarmFault,
		Log:     s.log,
		Metrics: metrics.GetDefaultSet(),
	})
	if err != nil {
		return 0, err
	}
	if first, err = s.startRun(); err != nil {
		return 0, errors.Join(err, s.warm.Close())
	}
	return first, nil
}

// withoutWarm goes on without the warm tier, because of err, or because nobody wants it. It is
// only a cache: it does not keep the gateway, and the journal, from starting. What it holds
// misses the changes of this run.
func (s *Store) withoutWarm(dir string, err error) {
	s.warm = nil
	missed := warm.Distrust(dir)
	if missed != nil {
		s.log.Error("the warm tier holds what may be out of date after this run: delete its directory before it is used again", "dir", dir, "error", missed)
	}
	if err == nil {
		return
	}
	s.warmOff = fmt.Sprintf("off until restart: %v; make room or mend the disk first", err)
	s.log.Error("the gateway starts without its warm tier: nothing is cached on disk, and what is there is not used; make room or mend the disk, and restart it", "dir", dir, "error", err)
}

// generationsPerRun is how many generations a run can give out before it would
// meet the numbers of the next one. Each run starts its own stretch, so that
// no number is ever used twice even if the last ones were never written down.
const generationsPerRun = 1 << 40

func (s *Store) startRun() (firstGeneration uint64, err error) {
	s.run = s.warm.Counter("run") + 1
	if s.warm.Clean() {
		s.trusted = s.warm.Counter("trusted")
	} else {
		s.trusted = s.run
	}
	err = errors.Join(s.warm.SetCounter("run", s.run), s.warm.SetCounter("trusted", s.trusted))
	return s.run * generationsPerRun, err
}

// Run works in the background until ctx ends.
func (s *Store) Run(ctx context.Context) error {
	if s.back != nil {
		var pool sync.WaitGroup
		defer pool.Wait()
		pool.Go(func() { _ = s.back.pool.Run(ctx) }) // it ends with ctx, without an error
		pool.Go(func() { s.runExpiry(ctx) })
		pool.Go(func() { s.back.buckets.book.Run(ctx) })
	}
	var wait sync.WaitGroup
	defer wait.Wait()
	if s.worker != nil {
		wait.Go(func() { s.worker.run(ctx) })
	}
	if s.warm == nil {
		<-ctx.Done()
		return nil
	}
	wait.Go(func() { s.flushAccesses(ctx) })
	version, _ := s.rules.Pinning()
	s.repin(ctx) // before anything is evicted
	wait.Go(func() {
		watch.Poll(ctx, func() {
			if now, _ := s.rules.Pinning(); now != version {
				version = now
				s.repin(ctx)
			}
		})
	})
	return s.warm.Run(ctx)
}

// accessesEvery is how often what was counted is written down, at the least.
const accessesEvery = time.Minute

// flushAccesses writes down how objects are used until ctx ends.
func (s *Store) flushAccesses(ctx context.Context) {
	timer := time.NewTicker(accessesEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-s.accesses.full:
		case <-ctx.Done():
			return // Close does it
		}
		if err := s.accesses.flush(); err != nil {
			s.log.Warn("could not write down how objects are used", "error", err)
		}
	}
}

// Close ends all fills and closes the tiers. No other method may be running.
func (s *Store) Close() error {
	s.cancel()
	s.work.Wait()
	s.dropUnsettled()
	err := errors.Join(s.hot.Close(), s.hotGhost.close(), s.warmGhost.close())
	if s.back != nil {
		err = errors.Join(err, s.back.close())
	}
	err = errors.Join(err, s.accesses.flush())
	if s.warm != nil {
		err = errors.Join(err, s.warm.Close())
	}
	return err
}

// Usage is what the tiers hold.
type Usage struct {
	HotBytes   int64 `json:"hot_bytes"` // of memory
	HotQuota   int64 `json:"hot_quota_bytes"`
	HotPinned  int64 `json:"hot_pinned_bytes"`
	HotValues  int   `json:"hot_values"` // entries and blocks in memory
	WarmBytes  int64 `json:"warm_bytes"` // of disk, as occupied
	WarmQuota  int64 `json:"warm_quota_bytes"`
	WarmPinned int64 `json:"warm_pinned_bytes"`
}

// Usage returns the present fill of the tiers.
func (s *Store) Usage() Usage {
	u := Usage{HotBytes: s.hot.Bytes(), HotQuota: int64(s.config.HotBytes), HotPinned: s.hot.Pinned(), HotValues: s.hot.Len(), WarmQuota: int64(s.config.WarmBytes)}
	if s.warm != nil {
		u.WarmBytes, u.WarmPinned = s.warm.Used(), s.warm.Pinned()
	}
	return u
}

// WarmProblem says why nothing more is cached on disk, "" if it is.
func (s *Store) WarmProblem() string {
	if s.warm == nil {
		return s.warmOff
	}
	return s.warm.Problem()
}

// BackProblem says why there is no journal, "" if there is one, or is to be none.
func (s *Store) BackProblem() string { return s.backOff }

// Warnings say what does not work, though the gateway does, and what to do about it.
func (s *Store) Warnings() (all []string) {
	if problem := s.WarmProblem(); problem != "" && (s.warm == nil || !s.warm.Full()) {
		all = append(all, "warm tier: "+problem)
	}
	if s.backOff != "" {
		all = append(all, "journal: "+s.backOff)
	}
	if b := s.back; b != nil {
		if err := b.journal.Accepting(); err != nil {
			all = append(all, "journal: "+err.Error()+mend(err))
		}
	}
	return all
}

// mend is what to do about a journal that takes no writes, behind what is wrong with it.
func mend(err error) string {
	switch {
	case errors.Is(err, journal.ErrMoved):
		return "; bring the directory back, and restart the gateway"
	case errors.Is(err, journal.ErrFailed):
		return "; mend the disk, and restart the gateway"
	case errors.Is(err, journal.ErrDamaged):
		return "; look at it, then: akigw journal accept"
	case errors.Is(err, journal.ErrFull):
		return "; make room, or mount it to be written to, and it goes on by itself"
	}
	return ""
}

// lookup finds the live entry of a key and the tier that had it.
func (s *Store) lookup(key akigw.Key) (*entry, akigw.Outcome) {
	if v, ok := s.hot.Get(hotKey{key: key}); ok && v.entry.absent == nil && s.fence.alive(key, v.entry.Generation) {
		return v.entry, akigw.Hot
	}
	if s.warm == nil {
		return s.lookupCurrent(key)
	}
	s.fence.enter(key)
	defer s.fence.leave(key)
	record, ok := s.warm.Entry(key)
	if !ok {
		return s.lookupCurrent(key)
	}
	e, err := decodeEntry(record)
	if err != nil || e.Key != key {
		s.log.Warn("dropped a malformed catalog entry", "key", key.String())
		s.dropEntry(key)
		return nil, akigw.Cold
	}
	if e.origin != s.upstream.Origin(key.Bucket) {
		s.dropEntry(key) // the bucket is another upstream's by now
		s.freeBlocks(e.blocks)
		return nil, akigw.Cold
	}
	if !s.remember(e) {
		return nil, akigw.Cold
	}
	return e, akigw.Warm
}

// peek is lookup that leaves everything where it is, and counts no access.
func (s *Store) peek(key akigw.Key) *entry {
	if e := s.peekHot(key); e != nil {
		return e
	}
	if s.warm == nil {
		return nil
	}
	record, ok := s.warm.PeekEntry(key)
	if !ok {
		return nil
	}
	e, err := decodeEntry(record)
	if err != nil || e.Key != key || e.origin != s.upstream.Origin(key.Bucket) || !s.fence.alive(key, e.Generation) {
		return nil
	}
	return e
}

// peekHot is peek of what memory has.
func (s *Store) peekHot(key akigw.Key) *entry {
	if v, ok := s.hot.Peek(hotKey{key: key}); ok && v.entry.absent == nil && s.fence.alive(key, v.entry.Generation) {
		return v.entry
	}
	return nil
}

// lookupCurrent finds the version that key asks for in what is known of the
// current one. It shares its bytes from then on.
func (s *Store) lookupCurrent(key akigw.Key) (*entry, akigw.Outcome) {
	if key.Version == "" {
		return nil, akigw.Cold
	}
	current, outcome := s.lookup(key.Current())
	if current == nil || current.VersionID() != key.Version {
		return nil, akigw.Cold
	}
	e := *current
	e.Key = key
	return &e, outcome
}

// remember puts an entry into memory, unless a write has overtaken it. The
// caller has entered the key's fence, so that a write which comes in between
// is seen by one of the two checks.
func (s *Store) remember(e *entry) bool { return s.rememberAs(e, false) }

// rememberAs is remember of what is wanted there, or not.
func (s *Store) rememberAs(e *entry, wanted bool) bool {
	if !s.fence.alive(e.Key, e.Generation) {
		return false
	}
	settings := s.settings(e.Key)
	if e.body != nil && !settings.Memory {
		return true
	}
	key, value := hotKey{key: e.Key}, hotValue{entry: e}
	switch {
	case settings.PinHot:
		if v, ok := s.hot.Get(key); ok && v.entry.blocks != e.blocks {
			s.hot.Release(v.entry.blocks, false)
		}
		s.keepInMemory(e.Key, settings, e.blocks, key, value)
	case wanted:
		s.hot.Keep(key, value)
	default:
		s.hot.Put(key, value)
	}
	if s.fence.alive(e.Key, e.Generation) {
		return true
	}
	s.hot.Drop(key)
	return false
}

// publish makes an entry the catalog's, in memory and on disk, under the same
// condition as remember, and unless something newer is known.
func (s *Store) publish(e *entry) { s.publishAs(e, handling(s.settings(e.Key))) }

// publishAs is publish of what is to be handled so on disk.
func (s *Store) publishAs(e *entry, how warm.Handling) {
	if v, ok := s.hot.Get(hotKey{key: e.Key}); ok && v.entry.Generation > e.Generation {
		return
	}
	settings := s.settings(e.Key)
	if !s.rememberAs(e, how.Wanted) || s.warm == nil || !settings.Disk {
		return
	}
	if !s.warm.PutEntry(e.Key, appendEntry(nil, e), appendSummary(nil, e), how) {
		s.dropOlder(e)
	}
	if settings.Pin {
		s.pinOnDisk(e.Key, e.blocks, e.Size)
	}
	if !s.fence.alive(e.Key, e.Generation) {
		s.dropEntry(e.Key)
	}
}

// dropOlder removes the entry on disk of another version than e, which found no room there:
// it would be back when e has left memory.
func (s *Store) dropOlder(e *entry) {
	if !s.warm.HasEntry(e.Key) {
		return
	}
	if old := s.summaryOnDisk(e.Key); old == nil || old.blocks != e.blocks {
		s.dropOnDisk(e.Key)
	}
}

// dropOnDisk removes the entry of a key from the warm tier.
func (s *Store) dropOnDisk(key akigw.Key) {
	if err := s.warm.DropEntry(key); err != nil {
		s.log.Error("could not remove a catalog entry from the warm tier", "key", key.String(), "error", err)
	}
}

// dropEntry removes the entry of a key from both tiers, and ends a pin of its blocks in
// memory.
func (s *Store) dropEntry(key akigw.Key) {
	if v, ok := s.hot.Get(hotKey{key: key}); ok {
		s.hot.Release(v.entry.blocks, false)
	}
	s.hot.Drop(hotKey{key: key})
	if s.warm != nil && s.warm.HasEntry(key) {
		s.dropOnDisk(key)
	}
}

// freeBlocks removes unreachable blocks in the background.
func (s *Store) freeBlocks(blocks uint64) {
	s.hot.Release(blocks, false)
	if s.warm != nil {
		s.work.Go(func() { s.warm.DropBlocks(blocks) })
	}
}

// block returns block n of e from memory or disk, and the tier that had it; nil
// if none has. The bytes are shared and must not be changed. With borrow they may be
// lent: then nobody else sees them, and they are to be given back to s.buffers.
func (s *Store) block(e *entry, n int64, borrow bool) (data []byte, tier akigw.Outcome, lent bool) {
	key := hotKey{blocks: e.blocks, n: n}
	if v, ok := s.hot.Get(key); ok {
		return v.block, akigw.Hot, false
	}
	if s.warm == nil {
		return nil, akigw.Cold, false
	}
	var buffer []byte
	if borrow {
		buffer = s.buffers.get(e.block)
	}
	data, ok := s.warm.Block(e.warmRun(), n, buffer)
	lent = len(data) > 0 && cap(buffer) > 0 && &data[0] == &buffer[:1][0]
	if !lent {
		s.buffers.put(buffer)
	}
	if !ok || int64(len(data)) != e.blockLen(n) {
		return nil, akigw.Cold, false
	}
	switch settings := s.settings(e.Key); {
	case settings.PinHot:
		s.keepInMemory(e.Key, settings, e.blocks, key, hotValue{block: data})
		lent = false
	case settings.Memory && s.hot.Put(key, hotValue{block: data}):
		lent = false
	}
	return data, akigw.Warm, lent
}

// locate says which tier would serve block n of e, without reading it.
func (s *Store) locate(e *entry, n int64) akigw.Outcome {
	switch {
	case s.hot.Has(hotKey{blocks: e.blocks, n: n}):
		return akigw.Hot
	case s.warm != nil && s.warm.HasBlock(e.warmRun(), n):
		return akigw.Warm
	}
	return akigw.Cold
}

// putBlock keeps block n of a run of blocks, where the settings of its key let
// it; wanted says that it is going to be read soon, however often it was.
func (s *Store) putBlock(object akigw.Key, settings *rules.Settings, run warm.Run, n int64, data []byte, wanted bool) {
	if key := (hotKey{blocks: run.ID, n: n}); settings.Memory && (wanted || settings.PinHot) {
		s.keepInMemory(object, settings, run.ID, key, hotValue{block: data})
	} else if settings.Memory {
		s.hot.Put(key, hotValue{block: data})
	}
	if s.warm != nil && settings.Disk {
		run.Handling = handling(settings)
		run.Wanted = run.Wanted || wanted
		s.warm.PutBlock(run, n, data)
	}
}

func (s *Store) settings(key akigw.Key) *rules.Settings {
	settings := s.rules.For(key.Bucket, key.Name)
	if s.back != nil && pack.IsName(key.Name) { // nobody gives it other bytes
		own := *settings
		own.Freshness = rules.Immutable
		return &own
	}
	return s.pins.apply(key, settings)
}

var outcomes = func() map[akigw.Outcome]*metrics.Counter {
	m := make(map[akigw.Outcome]*metrics.Counter)
	for _, o := range []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold, akigw.Overlay, akigw.Stale} {
		m[o] = metrics.NewCounter(fmt.Sprintf("akigw_tiers_reads_total{outcome=%q}", string(o)))
	}
	return m
}()
