package placement

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/rules"
)

const (
	// ErrPinned: a pin keeps the objects where they are.
	ErrPinned = akigw.Error("pinned")
	// ErrNotPinned: there is no such pin.
	ErrNotPinned = akigw.Error("there is no such pin: see akigw tier pins")
)

// Pin keeps the objects cached whose keys it matches, now and later.
type Pin struct {
	Bucket string `json:"bucket"`
	Prefix string `json:"prefix"`
	// Exactly means that Prefix is the whole key.
	Exactly bool `json:"exactly,omitempty"`
	// Hot means that the objects are kept in memory as well.
	Hot   bool      `json:"hot,omitempty"`
	Since time.Time `json:"since"`
}

func (p *Pin) pattern() akigw.Pattern {
	return akigw.Pattern{Bucket: p.Bucket, Prefix: p.Prefix, Exactly: p.Exactly}
}

// Pins are the operators' pins, in a file of their own: they outlive the cached data. They are the
// tiers.Pins of a store. Placement.Move changes them.
type Pins struct {
	fs     vfs.FS
	path   string
	unread error      // why the file could not be read; it is then left as it is
	mu     sync.Mutex // one change at a time
	state  atomic.Pointer[pinState]
}

// pinState is immutable.
type pinState struct {
	all      []Pin
	exact    map[akigw.Key]bool // keys, and whether they are kept in memory
	prefixes map[string][]Pin   // by bucket
	variants *sync.Map          // of variant to *rules.Settings
}

// variant identifies settings with a pin applied.
type variant struct {
	settings *rules.Settings
	hot      bool
}

// OpenPins reads the pins from pins.json in a directory, which it creates if necessary. A damaged
// file is set aside: what it pinned is then cached like anything else. An unreadable file is left
// as it is, and no pin can be changed. Both are logged as errors.
func OpenPins(dir string, log *slog.Logger) *Pins {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		log.Error("the directory of pins and of the tier worker's checkpoint cannot be created: pins cannot be changed, and the worker starts over after each restart; repair the disk, and restart the gateway", "dir", dir, "error", err)
	}
	p, err := openPins(filepath.Join(dir, "pins.json"))
	if err != nil {
		log.Error("the file of pins cannot be used: nothing is pinned by name", "error", err)
	}
	return p
}

// openPins returns usable pins, and an error about the file.
func openPins(path string) (*Pins, error) { return openPinsOn(vfs.Disk{}, path) }

// openPinsOn is openPins for a given file system.
func openPinsOn(fs vfs.FS, path string) (*Pins, error) {
	p := &Pins{fs: fs, path: path}
	p.state.Store(newPinState(nil))
	raw, err := vfs.ReadFile(fs, path)
	if errors.Is(err, os.ErrNotExist) {
		return p, nil
	}
	if err != nil {
		p.unread = fmt.Errorf("%w; repair it and restart the gateway", err)
		return p, p.unread
	}
	pins, err := decodePins(raw)
	if err != nil {
		aside := path + ".broken"
		if moved := fs.Rename(path, aside); moved != nil {
			p.unread = errors.Join(fmt.Errorf("%s: %w", path, err), moved)
			return p, p.unread
		}
		return p, fmt.Errorf("%w; it is kept as %s: pin the objects again", err, aside)
	}
	p.state.Store(newPinState(pins))
	return p, nil
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

// find returns whether a key is pinned, and whether in memory.
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

// Apply implements tiers.Pins.
func (p *Pins) Apply(key akigw.Key, settings *rules.Settings) *rules.Settings {
	st := p.state.Load()
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

// Any implements tiers.Pins.
func (p *Pins) Any() bool { return len(p.state.Load().all) > 0 }

// change replaces the pins by the result of f, durably.
func (p *Pins) change(f func([]Pin) ([]Pin, error)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.unread != nil {
		return fmt.Errorf("pins: %w", p.unread)
	}
	pins, err := f(slices.Clone(p.state.Load().all))
	if err != nil {
		return err
	}
	file, err := encodePins(pins)
	if err == nil {
		err = vfs.Replace(p.fs, p.path, file)
	}
	if err != nil {
		return fmt.Errorf("pins: %w", err)
	}
	p.state.Store(newPinState(pins))
	return nil
}

// pinFile is the content of the file. Sum is the CRC32C of the bytes of Pins as stored.
type pinFile struct {
	Version int             `json:"version"`
	Sum     uint32          `json:"crc32c"`
	Pins    json.RawMessage `json:"pins"`
}

// pinVersion is the version of the file; docs/architecture.md describes it.
const pinVersion = 1

func encodePins(pins []Pin) ([]byte, error) {
	raw, err := json.Marshal(pins)
	if err != nil {
		return nil, err
	}
	return json.Marshal(pinFile{Version: pinVersion, Sum: codec.Checksum(raw), Pins: raw})
}

func decodePins(raw []byte) (pins []Pin, err error) {
	var f pinFile
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	if f.Version != pinVersion {
		return nil, fmt.Errorf("version %d, not %d", f.Version, pinVersion)
	}
	if codec.Checksum(f.Pins) != f.Sum {
		return nil, akigw.ErrChecksum
	}
	return pins, json.Unmarshal(f.Pins, &pins)
}
