package tiers

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// PolicyConfig says when objects move between the tiers by themselves: [tiering.policy].
// Besides, tiers that are full let go of what is used least, at all times.
type PolicyConfig struct {
	HotTTLHours        float64 `toml:"hot_tier_ttl_hours" help:"hours after its last use that an object leaves memory; 0: when there is no room. Rules can say otherwise, and so for the next three"`
	WarmTTLDays        float64 `toml:"warm_tier_ttl_days" help:"days after its last use that an object leaves the disk; 0: when there is no room"`
	PromotionThreshold int64   `toml:"hot_promotion_threshold" help:"accesses within access_window_hours that bring an object from disk into memory as a whole; 0: never"`
	AccessWindowHours  float64 `toml:"access_window_hours" help:"hours over which accesses are counted"`
	WorkerIntervalSecs int64   `toml:"worker_interval_secs" help:"how often the catalog is gone through for all of this; 0: never"`
}

// Apply puts the policy into the settings behind all rules.
func (c *PolicyConfig) Apply(s *rules.Settings) {
	s.HotIdle, _ = rules.Units(c.HotTTLHours, time.Hour) // Check has seen that they are possible
	s.WarmIdle, _ = rules.Units(c.WarmTTLDays, rules.Day)
	s.AccessWindow, _ = rules.Units(c.AccessWindowHours, time.Hour)
	s.PromoteAt = uint32(c.PromotionThreshold)
}

// Check reports every impossible value by its key.
func (c *PolicyConfig) Check(report func(key, problem string)) {
	for _, d := range []struct {
		key  string
		n    float64
		unit time.Duration
	}{{"hot_tier_ttl_hours", c.HotTTLHours, time.Hour}, {"warm_tier_ttl_days", c.WarmTTLDays, rules.Day}, {"access_window_hours", c.AccessWindowHours, time.Hour}} {
		if _, ok := rules.Units(d.n, d.unit); !ok {
			report(d.key, rules.DurationValues)
		}
	}
	if c.PromotionThreshold < 0 || c.PromotionThreshold > rules.MaxPromoteAt {
		report("hot_promotion_threshold", fmt.Sprintf("must be 0 to %d", rules.MaxPromoteAt))
	}
	if c.WorkerIntervalSecs < 0 || c.WorkerIntervalSecs > rules.MaxSeconds {
		report("worker_interval_secs", "must not be negative")
	}
}

// worker goes through the catalog time and again, a slice at a time, and moves what the
// rules say. What it has decided of a slice is in its checkpoint before any of it is done,
// so that a worker that was killed goes on where it was, and does nothing twice.
type worker struct {
	store    *Store
	path     string // of the checkpoint
	interval time.Duration

	mu     sync.Mutex
	report WorkerReport // guarded by mu
}

// WorkerReport says what the worker is at, and what its last whole cycle found.
type WorkerReport struct {
	Cycle   uint64 `json:"cycle"` // number of the present one, or of the last
	Running bool   `json:"running"`
	// Ended is when the last whole cycle ended, zero for never, and Seconds how long it
	// took. The rest is what it found.
	Ended   time.Time `json:"ended,omitzero"`
	Seconds float64   `json:"seconds"`
	Counts
	Promoted int `json:"promoted"`
	Demoted  int `json:"demoted"`
	Failed   int `json:"failed"` // moves that were not possible
}

// decision is one move that was decided.
type decision struct {
	Key    akigw.Key `json:"key"`
	Action Action    `json:"action"`
}

// checkpoint is where a cycle is. Moves have been decided and perhaps done; what lies
// before Place has been seen.
type checkpoint struct {
	Version int          `json:"version"`
	Sum     uint32       `json:"crc32c,omitempty"` // of the rest, with 0 here
	Cycle   uint64       `json:"cycle"`
	Running bool         `json:"running"`
	Begun   time.Time    `json:"begun"`
	Place   string       `json:"place,omitempty"` // base64
	Moves   []decision   `json:"moves,omitempty"`
	Report  WorkerReport `json:"report"`          // of the last whole cycle
	SoFar   WorkerReport `json:"so_far,omitzero"` // of this one
}

const (
	// checkpointVersion is the version of the file; docs/architecture.md describes it.
	checkpointVersion = 1
	// sliceLength is how many objects are looked at before what was decided of them is done.
	sliceLength = 1024
	// pauseEvery is how many of them are looked at between two pauses, which let requests
	// have their turn.
	pauseEvery = 32
	pause      = 50 * time.Microsecond
	// checkpointEvery is how often a cycle that moves nothing writes where it is.
	checkpointEvery = 2 * time.Second
)

// next is the beginning of the next cycle.
func (c checkpoint) next() checkpoint {
	return checkpoint{Cycle: c.Cycle + 1, Running: true, Begun: time.Now(), Report: c.Report}
}

func (c checkpoint) encode() ([]byte, error) {
	c.Version, c.Sum = checkpointVersion, 0
	raw, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	c.Sum = crc32.Checksum(raw, castagnoli)
	return json.Marshal(c)
}

func decodeCheckpoint(raw []byte) (c checkpoint, err error) {
	if err := json.Unmarshal(raw, &c); err != nil {
		return checkpoint{}, err
	}
	sum := c.Sum
	c.Sum = 0
	if again, err := json.Marshal(c); err != nil || crc32.Checksum(again, castagnoli) != sum || c.Version != checkpointVersion {
		return checkpoint{}, akigw.ErrChecksum
	}
	return c, nil
}

// load reads the checkpoint. One that cannot be read is worth nothing: a new cycle begins.
func (w *worker) load() (c checkpoint) {
	raw, err := os.ReadFile(w.path)
	if err == nil {
		c, err = decodeCheckpoint(raw)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		w.store.log.Warn("the checkpoint of the tier worker cannot be read; it starts over", "file", w.path, "error", err)
	}
	return c
}

func (w *worker) save(c *checkpoint) error {
	raw, err := c.encode()
	if err == nil {
		err = vfs.Replace(w.path, raw)
	}
	if err != nil {
		return fmt.Errorf("checkpoint of the tier worker: %w", err)
	}
	return nil
}

// run works until ctx ends. A cycle that was cut off goes on at once.
func (w *worker) run(ctx context.Context) {
	c := w.load()
	w.show(&c)
	timer := time.NewTimer(w.interval)
	defer timer.Stop()
	for {
		if !c.Running {
			select {
			case <-timer.C:
			case <-ctx.Done():
				return
			}
			c = c.next()
		}
		if err := w.cycle(ctx, &c); err != nil && ctx.Err() == nil {
			w.store.log.Error("a cycle of the tier worker was cut short", "cycle", c.Cycle, "error", err)
			c.Running = false
			w.show(&c)
		}
		if ctx.Err() != nil {
			return
		}
		timer.Reset(w.interval)
	}
}

// show has others see what the worker is at, and what the last whole cycle found.
func (w *worker) show(c *checkpoint) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = c.Report
	w.report.Cycle, w.report.Running = c.Cycle, c.Running
}

// cycle goes through the catalog from where the checkpoint says.
func (w *worker) cycle(ctx context.Context, c *checkpoint) error {
	s := w.store
	if err := s.accesses.flush(); err != nil {
		s.log.Warn("could not write down how objects are used", "error", err)
	}
	w.show(c)
	place, err := base64.StdEncoding.DecodeString(c.Place)
	if err != nil {
		return err
	}
	after, wrote := warm.Place(place), time.Now()
	w.do(ctx, c) // what an earlier run had decided
	if ctx.Err() != nil {
		return w.save(c)
	}
	where := s.whereabouts()
	answers := map[string]bool{} // upstream buckets that answer
	for more := true; more; {
		var moves []decision
		soFar, next, seen := c.SoFar, after, 0
		more = false
		if err := s.catalog(akigw.Pattern{}, after, func(k known) bool {
			w.look(k, where, &soFar, &moves)
			if seen++; seen%pauseEvery == 0 {
				time.Sleep(pause)
			}
			next, more = k.place, seen == sliceLength && s.warm != nil
			return seen < sliceLength || s.warm == nil
		}); err != nil {
			return err
		}
		moves = slices.DeleteFunc(moves, func(d decision) bool { return d.Action == DemoteToCold && !s.answers(ctx, answers, d.Key.Bucket) })
		if ctx.Err() != nil {
			return w.save(c) // the next run looks at the slice again
		}
		after = next
		c.SoFar, c.Place, c.Moves = soFar, base64.StdEncoding.EncodeToString([]byte(after)), moves
		if len(moves) > 0 || time.Since(wrote) > checkpointEvery {
			if err := w.save(c); err != nil {
				return err
			}
			wrote = time.Now()
		}
		w.do(ctx, c)
	}
	if ctx.Err() != nil {
		return w.save(c)
	}
	c.Report, c.Report.Ended, c.Report.Seconds = c.SoFar, time.Now(), time.Since(c.Begun).Seconds()
	c.Running, c.Place, c.Moves, c.SoFar = false, "", nil, WorkerReport{}
	w.show(c)
	workerSeconds.Update(c.Report.Seconds)
	return w.save(c)
}

var workerSeconds = metrics.NewPrometheusHistogram("akigw_tiers_worker_cycle_seconds")

// answers reports whether the upstream of a bucket answers: while it does not, nothing
// leaves the disk that could be needed.
func (s *Store) answers(ctx context.Context, known map[string]bool, bucket string) bool {
	ok, asked := known[bucket]
	if !asked {
		ok = s.reachable(ctx, bucket) == nil
		known[bucket] = ok
		if !ok {
			s.log.Warn("the upstream does not answer for a bucket: nothing of it leaves the disk", "bucket", bucket)
		}
	}
	return ok
}

// look counts an object and decides what becomes of it.
func (w *worker) look(k known, where *whereabouts, r *WorkerReport, moves *[]decision) {
	s := w.store
	settings, now := s.settings(k.Key), time.Now()
	hot, onDisk := where.bytes(k.summary)
	r.add(k.Size, tierOf(k.Size, hot, onDisk), settings.Pin)
	if k.usage.last == 0 { // nobody knows: its time begins now
		if hot+onDisk > 0 {
			s.accesses.count(k.Key, settings, 0)
		}
		return
	}
	idle := k.usage.idle(now)
	switch {
	case onDisk > 0 && hot == 0 && settings.WarmIdle > 0 && idle >= settings.WarmIdle && !settings.Pin:
		*moves = append(*moves, decision{k.Key, DemoteToCold})
	case hot > 0 && settings.HotIdle > 0 && idle >= settings.HotIdle && !settings.PinHot:
		*moves = append(*moves, decision{k.Key, DemoteToWarm})
	case hot < k.Size && onDisk > 0 && settings.Memory && settings.PromoteAt > 0 && k.usage.within(settings.AccessWindow, now) >= settings.PromoteAt && k.Size <= s.hotRoom()/8:
		*moves = append(*moves, decision{k.Key, PromoteToHot})
	case settings.PinHot && hot < k.Size && settings.Memory: // after a restart
		*moves = append(*moves, decision{k.Key, PromoteToHot})
	}
}

// do does what was decided. Whatever is so already is left alone, so that it can be done
// again.
func (w *worker) do(ctx context.Context, c *checkpoint) {
	for ; len(c.Moves) > 0 && ctx.Err() == nil; c.Moves = c.Moves[1:] {
		d := c.Moves[0]
		did, err := w.move(ctx, d)
		switch {
		case errors.Is(err, ErrMoving): // somebody knows better
		case err != nil:
			c.SoFar.Failed++
			w.store.log.Debug("the tier worker could not move an object", "key", d.Key.String(), "action", d.Action, "error", err)
		case did:
			moved(d.Action, "worker").Inc()
			w.store.log.Debug("the tier worker moved an object", "key", d.Key.String(), "action", d.Action, "cycle", c.Cycle)
			if d.Action == PromoteToHot {
				c.SoFar.Promoted++
			} else {
				c.SoFar.Demoted++
			}
			failpoint.Here("worker.afterMoveBeforeCheckpoint")
		}
	}
}

// move moves one object.
func (w *worker) move(ctx context.Context, d decision) (did bool, err error) {
	s := w.store
	end, err := s.moves.begin(ctx, akigw.Exactly(d.Key), true)
	if err != nil {
		return false, err
	}
	defer end()
	settings := s.settings(d.Key)
	switch d.Action {
	case PromoteToHot:
		did, _, err = s.toHot(ctx, d.Key)
	case DemoteToWarm:
		if s.warm != nil && settings.Disk {
			err = s.keepOnDisk(ctx, d.Key)
		}
		if err == nil && s.accesses.of(d.Key).idle(time.Now()) >= settings.HotIdle { // nobody has come meanwhile
			did, _, err = s.outOfHot(ctx, d.Key)
		}
	case DemoteToCold:
		if s.back != nil && s.back.journal.Last(d.Key.Current()) != nil {
			return false, nil // it has just been written
		}
		if s.accesses.of(d.Key).idle(time.Now()) >= settings.WarmIdle && !settings.Pin {
			did, _, err = s.outOfBoth(ctx, d.Key)
		}
	}
	return did, err
}

// whereabouts is which runs of blocks have how many blocks in memory and on disk, as of
// some moment.
type whereabouts struct {
	hot     map[uint64]int64 // blocks by run
	bodies  map[uint64]bool  // runs of small objects that are in memory
	runs    []uint64         // on disk, rising
	numbers []int64          // how many blocks each has
}

// whereabouts looks at all that is held.
func (s *Store) whereabouts() *whereabouts {
	w := &whereabouts{hot: map[uint64]int64{}, bodies: map[uint64]bool{}}
	for k, v := range s.hot.All() {
		switch {
		case v.block != nil:
			w.hot[k.blocks]++
		case v.entry != nil && v.entry.body != nil:
			w.bodies[v.entry.blocks] = true
		}
	}
	if s.warm != nil {
		s.warm.Runs(func(run uint64, blocks int64) bool {
			w.runs, w.numbers = append(w.runs, run), append(w.numbers, blocks)
			return true
		})
	}
	return w
}

// bytes is how much of an object is in memory, and on disk.
func (w *whereabouts) bytes(s *summary) (hot, onDisk int64) {
	var blocks int64
	if i, ok := slices.BinarySearch(w.runs, s.blocks); ok {
		blocks = w.numbers[i]
	}
	return s.bytes(w.bodies[s.blocks], w.hot[s.blocks]), s.bytes(s.held, blocks)
}

// bytes is how much of an object a tier has with so many blocks, and its body, if there is
// one in its record.
func (s *summary) bytes(body bool, blocks int64) int64 {
	if body {
		return s.Size
	}
	return min(s.Size, blocks*s.block)
}

// bytesOf is how much of one object is in memory, and on disk.
func (s *Store) bytesOf(sum *summary) (hot, onDisk int64) {
	var inMemory, blocks int64
	for n := range (sum.Size + sum.block - 1) / sum.block {
		if s.hot.Has(hotKey{blocks: sum.blocks, n: n}) {
			inMemory++
		}
	}
	if s.warm != nil && !sum.held {
		blocks = s.warm.Blocks(sum.blocks)
	}
	e := s.peekHot(sum.Key)
	return sum.bytes(e != nil && e.blocks == sum.blocks && e.body != nil, inMemory), sum.bytes(sum.held, blocks)
}

// tierOf is the fastest tier that has all of an object.
func tierOf(size, hot, onDisk int64) akigw.Outcome {
	switch {
	case size == 0: // there is nothing to fetch
		return akigw.Warm
	case hot == size:
		return akigw.Hot
	case onDisk == size:
		return akigw.Warm
	}
	return akigw.Cold
}

// Control puts the tiers under an operator's and the policy's control. dir keeps the pins
// and the worker's checkpoint. It must be called before anything else is done with the
// store.
func (s *Store) Control(c PolicyConfig, dir string) (err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		s.log.Error("pins and the tier worker have nowhere to keep what they know: pins cannot be made, and the worker starts over with each restart; mend the disk, and restart the gateway", "dir", dir, "error", err)
	}
	s.pins = openPins(filepath.Join(dir, "pins.json"), func(err error) {
		s.log.Error("the file of pins cannot be used: nothing is pinned by name", "error", err)
	})
	if c.WorkerIntervalSecs > 0 {
		s.worker = &worker{store: s, path: filepath.Join(dir, "worker.json"), interval: time.Duration(c.WorkerIntervalSecs) * time.Second}
	}
	return nil
}
