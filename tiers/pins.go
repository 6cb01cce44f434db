package tiers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/rules"
)

// Pin says that an operator wants objects kept: those whose keys it names, now and later.
type Pin struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
	// Exactly says that Prefix is the whole key.
	Exactly bool `json:"exactly,omitempty"`
	// Hot says that they are kept in memory, too.
	Hot   bool      `json:"hot,omitempty"`
	Since time.Time `json:"since"`
}

func (p *Pin) pattern() akigw.Pattern {
	return akigw.Pattern{Bucket: p.Bucket, Prefix: p.Prefix, Exactly: p.Exactly}
}

// maxPins bounds what an operator pins by name. Prefixes are looked at one by one.
const (
	maxPins     = 10_000
	maxPrefixes = 100
)

// pinBook are the pins of operators, in a file of their own: they outlive what is cached.
// A nil one has none.
type pinBook struct {
	path   string
	unread error      // why the file could not be read: then it stays as it is
	mu     sync.Mutex // one change at a time
	state  atomic.Pointer[pinState]
}

// pinState is never changed.
type pinState struct {
	all      []Pin
	exact    map[akigw.Key]bool // keys, and whether they are kept in memory
	prefixes map[string][]Pin   // by bucket
	variants *sync.Map          // of variant to *rules.Settings
}

// variant is what settings become under a pin.
type variant struct {
	settings *rules.Settings
	hot      bool
}

// pinFile is the file. Sum is the CRC32C of Pins as they lie in it.
type pinFile struct {
	Version int             `json:"version"`
	Sum     uint32          `json:"crc32c"`
	Pins    json.RawMessage `json:"pins"`
}

// pinVersion is the version of the file; docs/architecture.md describes it.
const pinVersion = 1

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// openPins reads the pins. A file that is damaged is set aside: what it pinned is only
// cached, and an operator is told. So is he of one that cannot be read: it stays as it is,
// and no pin can be changed.
func openPins(path string, damaged func(error)) *pinBook {
	b := &pinBook{path: path}
	b.state.Store(newPinState(nil))
	raw, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return b
	}
	if err != nil {
		b.unread = fmt.Errorf("%w; mend it and restart the gateway", err)
		damaged(b.unread)
		return b
	}
	pins, err := decodePins(raw)
	if err != nil {
		aside := path + ".broken"
		if moved := os.Rename(path, aside); moved != nil {
			b.unread = errors.Join(fmt.Errorf("%s: %w", path, err), moved)
			damaged(b.unread)
			return b
		}
		damaged(fmt.Errorf("%w; it is kept as %s: pin again what has to be", err, aside))
		return b
	}
	b.state.Store(newPinState(pins))
	return b
}

func decodePins(raw []byte) (pins []Pin, err error) {
	var f pinFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Version != pinVersion {
		return nil, fmt.Errorf("version %d, not %d", f.Version, pinVersion)
	}
	if crc32.Checksum(f.Pins, castagnoli) != f.Sum {
		return nil, akigw.ErrChecksum
	}
	return pins, json.Unmarshal(f.Pins, &pins)
}

func newPinState(pins []Pin) *pinState {
	st := &pinState{all: pins, exact: map[akigw.Key]bool{}, prefixes: map[string][]Pin{}, variants: &sync.Map{}}
	for _, p := range pins {
		if p.Exactly {
			st.exact[akigw.Key{Bucket: p.Bucket, Name: p.Prefix}] = p.Hot
		} else {
			st.prefixes[p.Bucket] = append(st.prefixes[p.Bucket], p)
		}
	}
	return st
}

// find says whether a key is pinned, and in memory.
func (st *pinState) find(key akigw.Key) (pinned, hot bool) {
	key.Version = ""
	hot, pinned = st.exact[key]
	for _, p := range st.prefixes[key.Bucket] {
		if strings.HasPrefix(key.Name, p.Prefix) {
			pinned, hot = true, hot || p.Hot
		}
	}
	return pinned, hot
}

// apply makes of the settings of a key what they are under the pins.
func (b *pinBook) apply(key akigw.Key, settings *rules.Settings) *rules.Settings {
	if b == nil {
		return settings
	}
	st := b.state.Load()
	if len(st.all) == 0 {
		return settings
	}
	pinned, hot := st.find(key)
	if !pinned {
		return settings
	}
	if own, ok := st.variants.Load(variant{settings, hot}); ok {
		return own.(*rules.Settings)
	}
	own := *settings
	own.Pin, own.PinHot, own.Disk = true, hot, true
	own.Memory = own.Memory || hot
	st.variants.Store(variant{settings, hot}, &own)
	return &own
}

// any reports whether there are pins.
func (b *pinBook) any() bool { return b != nil && len(b.state.Load().all) > 0 }

// change replaces the pins by what f makes of them, durably.
func (b *pinBook) change(f func([]Pin) ([]Pin, error)) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.unread != nil {
		return fmt.Errorf("pins: %w", b.unread)
	}
	st := b.state.Load()
	pins, err := f(slices.Clone(st.all))
	if err != nil {
		return err
	}
	raw, err := json.Marshal(pins)
	if err != nil {
		return err
	}
	file, err := json.Marshal(pinFile{Version: pinVersion, Sum: crc32.Checksum(raw, castagnoli), Pins: raw})
	if err == nil {
		err = vfs.Replace(b.path, file)
	}
	if err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	b.state.Store(newPinState(pins))
	return nil
}

var (
	// ErrPinned: a pin keeps objects where they are.
	ErrPinned = errors.New("pinned")
	// ErrNotPinned: there is no such pin.
	ErrNotPinned = errors.New("there is no such pin: see akigw tier pins")
	// ErrNoRoom: a tier has no room for what is asked of it.
	ErrNoRoom = errors.New("no room")
)

// Pins are the pins of operators, in the order of their making.
func (s *Store) Pins() []Pin {
	if s.pins == nil {
		return nil
	}
	return s.pins.state.Load().all
}

// pin makes a pin and brings in what it names. What is cached of it by now has to fit, and
// an object that is named exactly is fetched.
func (s *Store) pin(ctx context.Context, what akigw.Pattern, hot bool) (MoveResult, error) {
	if err := s.pinFits(ctx, what, hot); err != nil {
		return MoveResult{}, err
	}
	same := func(p Pin) bool { return p.pattern() == what }
	var former []Pin // the same objects' pin until now, if there is one
	err := s.pins.change(func(pins []Pin) ([]Pin, error) {
		if i := slices.IndexFunc(pins, same); i >= 0 {
			former = []Pin{pins[i]}
		}
		pins = slices.DeleteFunc(pins, same)
		prefixes := 0
		for _, p := range pins {
			if !p.Exactly {
				prefixes++
			}
		}
		if len(pins) >= maxPins || !what.Exactly && prefixes >= maxPrefixes {
			return nil, fmt.Errorf("%w: %d keys and %d prefixes can be pinned by name; more by a rule (docs/rules.md)", ErrNoRoom, maxPins, maxPrefixes)
		}
		return append(pins, Pin{Bucket: what.Bucket, Prefix: what.Prefix, Exactly: what.Exactly, Hot: hot, Since: time.Now()}), nil
	})
	if err != nil {
		return MoveResult{}, err
	}
	to := PromoteToWarm
	if hot {
		to = PromoteToHot
	}
	result, err := s.moveAll(ctx, to, what)
	if err != nil {
		err = errors.Join(err, s.pins.change(func(pins []Pin) ([]Pin, error) { // others' pins may have come and gone meanwhile
			pins = append(slices.DeleteFunc(pins, same), former...)
			slices.SortStableFunc(pins, func(a, b Pin) int { return a.Since.Compare(b.Since) })
			return pins, nil
		}))
	}
	s.repinOf(ctx, what)
	return result, err
}

// unpin ends a pin, and those of what it names.
func (s *Store) unpin(ctx context.Context, what akigw.Pattern) (MoveResult, error) {
	n := 0
	err := s.pins.change(func(pins []Pin) ([]Pin, error) {
		left := slices.DeleteFunc(slices.Clone(pins), func(p Pin) bool { return p.pattern() == what || !what.Exactly && what.Holds(p.pattern()) })
		n = len(pins) - len(left)
		for _, p := range left {
			if n == 0 && p.pattern().Holds(what) {
				return nil, fmt.Errorf("%w by a pin of s3://%s/%s: end that one", ErrPinned, p.Bucket, p.Prefix)
			}
		}
		if n > 0 {
			return left, nil
		}
		if what.Exactly && s.rules.For(what.Bucket, what.Prefix).Pin {
			return nil, fmt.Errorf("%w by a rule: see akigw rules explain %s/%s", ErrPinned, what.Bucket, what.Prefix)
		}
		return nil, ErrNotPinned
	})
	if err == nil {
		s.repinOf(ctx, what)
	}
	return MoveResult{Moved: n}, err
}

// pinFits refuses pins that would leave too little room.
func (s *Store) pinFits(ctx context.Context, what akigw.Pattern, hot bool) error {
	if s.warm == nil {
		return fmt.Errorf("%w: pins keep objects on disk, and the warm tier is switched off (cache.warm_bytes)", ErrTierOff)
	}
	var disk, memory int64
	count := func(key akigw.Key, size int64) {
		settings := s.settings(key)
		if !settings.Pin {
			disk += size
		}
		if !settings.PinHot {
			memory += size
		}
	}
	if what.Exactly {
		e, err := s.learn(ctx, what.Key())
		if err != nil {
			return err
		}
		count(e.Key, e.Size)
	} else if err := s.catalog(what, "", func(k known) bool {
		count(k.Key, k.Size)
		return ctx.Err() == nil
	}); err != nil {
		return err
	}
	if room := s.warm.PinRoom(); disk > room {
		return fmt.Errorf("%w: to pin this takes %d bytes of disk, and %d are left of what can be pinned, three quarters of cache.warm_bytes", ErrNoRoom, disk, max(room, 0))
	}
	if room := s.hot.MostPinned() - s.hot.Pinned(); hot && memory > room {
		return fmt.Errorf("%w: to pin this takes %d bytes of memory, and %d are left of what can be pinned, three quarters of cache.hot_bytes", ErrNoRoom, memory, max(room, 0))
	}
	return ctx.Err()
}

// pinning reports whether anything is pinned.
func (s *Store) pinning() bool {
	_, byRule := s.rules.Pinning()
	return byRule || s.pins.any()
}

// repin makes the pins on disk and in memory what rules and operators say.
func (s *Store) repin(ctx context.Context) {
	if s.warm == nil {
		return
	}
	s.repinning.Lock()
	defer s.repinning.Unlock()
	any := s.pinning()
	pinned := map[uint64]bool{} // runs that stay in memory
	s.warm.Repin(func() {
		if !any {
			return
		}
		if err := s.catalog(akigw.Pattern{}, "", func(k known) bool {
			settings := s.settings(k.Key)
			if settings.Pin {
				s.pinOnDisk(k.Key, k.blocks, k.Size)
			}
			if settings.PinHot {
				pinned[k.blocks] = true
			}
			return ctx.Err() == nil
		}); err != nil {
			s.log.Warn("not everything was pinned", "error", err)
		}
	})
	for _, run := range s.hot.Groups() {
		if !pinned[run] {
			s.hot.Release(run, true)
		}
	}
}

// repinOf does as repin with the objects that a pattern names, and looks at no others.
func (s *Store) repinOf(ctx context.Context, what akigw.Pattern) {
	if s.warm == nil {
		return
	}
	s.repinning.Lock()
	defer s.repinning.Unlock()
	if err := s.catalog(what, "", func(k known) bool {
		settings := s.settings(k.Key)
		if settings.Pin {
			s.pinOnDisk(k.Key, k.blocks, k.Size)
		} else {
			s.warm.Unpin(k.Key)
		}
		if !settings.PinHot {
			s.hot.Release(k.blocks, true)
		}
		return true // though the client may have gone: the pins are another way already
	}); err != nil {
		s.log.Warn("not everything was pinned", "error", err)
	}
}

// pinOnDisk keeps an object on disk.
func (s *Store) pinOnDisk(key akigw.Key, run uint64, size int64) {
	if !s.warm.Pin(key, run, size) {
		s.log.Warn("an object was not pinned: three quarters of the warm tier are pinned already; make it larger, or pin less", "key", key.String(), "bytes", size)
	}
	if !s.warm.HasEntry(key) { // dropped meanwhile
		s.warm.Unpin(key)
	}
}
