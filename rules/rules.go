// Package rules says how each object is treated: how fresh a cached copy must be, which tiers may
// hold it, and so on. Settings come from the [[rule]] tables of the configuration file. Each
// setting has the value of the first rule that matches the key and has that setting, or else its
// default.
//
// The settings that it returns are one consistent state, shared and immutable, however often the
// file is edited meanwhile.
package rules

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/internal/glob"
	"github.com/akidb/akigw/internal/size"
)

// Freshness says when a cached object must be validated upstream.
type Freshness string

// The freshness modes (docs/contract.md).
const (
	// Strict validates every hit with a conditional request that began after the client's request
	// had arrived.
	Strict Freshness = "strict"
	// TTL trusts a validated object for some time.
	TTL Freshness = "ttl"
	// Immutable trusts an object that was fetched once: the bytes of a key never change.
	Immutable Freshness = "immutable"
	// Exclusive trusts what this gateway wrote or fetched, because it is the only writer.
	Exclusive Freshness = "exclusive"
	// Events trusts a validated object until the upstream reports a change, as long as the upstream
	// is known to report changes.
	Events Freshness = "events"
)

// Modes are all freshness modes.
func Modes() []Freshness {
	return []Freshness{Strict, TTL, Immutable, Exclusive, Events}
}

// Settings are the settings of one key.
type Settings struct {
	Freshness Freshness
	// TTL is how long a validated object is trusted in mode TTL.
	TTL time.Duration
	// MaxStale is how long after that it is still served while the upstream does not respond.
	MaxStale time.Duration
	// StaleAfter is how long a read waits for a validation, in mode TTL, before it is served stale
	// within MaxStale although the upstream may still respond. 0 is the deadline of the request.
	StaleAfter time.Duration
	// Memory and Disk say which tiers may hold the object. With neither it is never cached.
	Memory, Disk bool
	// WritesSkipMemory and WritesSkipDisk say which tiers the body of a write does not enter, see
	// ForWrite.
	WritesSkipMemory, WritesSkipDisk bool
	// MaxObject is the size in bytes above which an object is not cached, 0
	// for no limit.
	MaxObject int64
	// Block is the size in bytes of the blocks that an object is cached in.
	Block int64
	// ReadAhead is how many bytes are fetched, at most, ahead of a reader that reads one range
	// after the other; 0 for none.
	ReadAhead int64
	// Compress says that blocks on disk are compressed if that makes them smaller.
	Compress bool
	// Pin keeps the object on disk once it is there.
	Pin bool
	// PinHot keeps the object in memory once it is there. It is set by operators, not by rules.
	PinHot bool
	// HotIdle and WarmIdle are how long an object stays in memory and on disk without being read;
	// 0: until it is evicted.
	HotIdle, WarmIdle time.Duration
	// PromoteAt is how many accesses within AccessWindow promote a whole object from disk into
	// memory, 0 for never.
	PromoteAt    uint32
	AccessWindow time.Duration
	// ListTTL is how long a listing is served from memory in mode TTL, 0 for never.
	ListTTL time.Duration
	// Back says that writes are acknowledged by the journal and flushed later.
	Back bool
	// Pack is the size, in bytes, up to which objects that are written back go into packs; 0 for
	// none.
	Pack int64
	// Class names the class of service (QoS), "" for none.
	Class string
	// Compare is the share, 0 to 1, of the answers from the cache that are also asked of the upstream
	// and compared.
	Compare float64
	// Shadow says whether requests only pass, and how what they would have found in the tiers is
	// determined. It excludes Back.
	Shadow Shadow
}

// maxPack is the largest size, in bytes, of an object that can go into a pack.
const maxPack = 1 << 20

// Least and largest size of a block in bytes.
const (
	minBlock = 64 << 10
	maxBlock = 4 << 20
)

// BlockSizes describes the valid block sizes, for error messages.
const BlockSizes = "must be a power of two from 64KiB to 4MiB"

// BlockSize reports whether n is a valid size of a block.
func BlockSize(n int64) bool { return n >= minBlock && n <= maxBlock && n&(n-1) == 0 }

// Cached reports whether any tier may hold the object. In shadow mode without bodies none does.
func (s *Settings) Cached() bool { return (s.Memory || s.Disk) && s.Shadow != ShadowMetadata }

// Served reports whether reads of the object may be answered from the tiers.
func (s *Settings) Served() bool { return s.Cached() && !s.Shadow.On() }

// CachedSize reports whether an object of size bytes may be cached.
func (s *Settings) CachedSize(size int64) bool {
	return s.Cached() && (s.MaxObject == 0 || size <= s.MaxObject)
}

// ForWrite returns the settings under which the body of a write is cached: a tier that writes skip may
// not hold it, unless the object is pinned there. The result may be s itself.
func (s *Settings) ForWrite() *Settings {
	skipMemory, skipDisk := s.WritesSkipMemory && !s.PinHot, s.WritesSkipDisk && !s.Pin
	if !skipMemory && !skipDisk {
		return s
	}
	write := *s
	write.Memory, write.Disk = s.Memory && !skipMemory, s.Disk && !skipDisk
	return &write
}

// field is one setting of a rule.
type field struct {
	name string
	// set sets the field to a value of the file; the error says what is wrong with the value.
	set func(s *Settings, v any) error
	// text is the value as it is written in the file.
	text func(s *Settings) string
}

// choice is a setting that has one of two values, of which on means true.
func choice(name, off, on string, of func(*Settings) *bool) field {
	return field{name, func(s *Settings, v any) error {
		*of(s) = v == on
		if v != on && v != off {
			return fmt.Errorf("must be %q or %q", off, on)
		}
		return nil
	}, func(s *Settings) string {
		if *of(s) {
			return strconv.Quote(on)
		}
		return strconv.Quote(off)
	}}
}

var fields = [...]field{
	{"freshness", func(s *Settings, v any) error {
		text, _ := v.(string)
		s.Freshness = Freshness(text)
		if !slices.Contains(Modes(), s.Freshness) {
			return fmt.Errorf("must be one of %q", Modes())
		}
		return nil
	}, func(s *Settings) string { return fmt.Sprintf("%q", s.Freshness) }},
	{"ttl_secs", func(s *Settings, v any) error { return setSeconds(&s.TTL, v, 1) }, func(s *Settings) string { return seconds(s.TTL) }},
	{"max_stale_secs", func(s *Settings, v any) error { return setSeconds(&s.MaxStale, v, 0) }, func(s *Settings) string { return seconds(s.MaxStale) }},
	{"stale_after_ms", func(s *Settings, v any) error { return setDuration(&s.StaleAfter, v, time.Millisecond) }, func(s *Settings) string { return inUnits(s.StaleAfter, time.Millisecond) }},
	{"tiers", setTiers, func(s *Settings) string {
		var names []string
		for _, t := range tierNames {
			if *t.of(s) {
				names = append(names, t.name)
			}
		}
		return fmt.Sprintf("%q", names)
	}},
	{"max_object_bytes", func(s *Settings, v any) (err error) {
		s.MaxObject, err = bytesOf(v)
		return err
	}, func(s *Settings) string { return bytesText(s.MaxObject) }},
	choice("write", "through", "back", func(s *Settings) *bool { return &s.Back }),
	{"cache_writes", setWriteTiers, func(s *Settings) string {
		for name, skip := range writeTiers {
			if skip == [2]bool{s.WritesSkipMemory, s.WritesSkipDisk} {
				return strconv.Quote(name)
			}
		}
		return ""
	}},
	{"pack_bytes", func(s *Settings, v any) error {
		n, err := bytesOf(v)
		s.Pack = n
		if err != nil || n > maxPack {
			return errors.New("must be a size up to 1MiB")
		}
		return nil
	}, func(s *Settings) string { return bytesText(s.Pack) }},
	{"block_bytes", func(s *Settings, v any) error {
		n, err := bytesOf(v)
		s.Block = n
		if err != nil || !BlockSize(n) {
			return errors.New(BlockSizes)
		}
		return nil
	}, func(s *Settings) string { return bytesText(s.Block) }},
	{"read_ahead", func(s *Settings, v any) (err error) {
		s.ReadAhead, err = bytesOf(v)
		return err
	}, func(s *Settings) string { return bytesText(s.ReadAhead) }},
	choice("compression", "none", "zstd", func(s *Settings) *bool { return &s.Compress }),
	{"pin", func(s *Settings, v any) error {
		pin, ok := v.(bool)
		s.Pin = pin
		if !ok {
			return fmt.Errorf("must be true or false")
		}
		return nil
	}, func(s *Settings) string { return fmt.Sprint(s.Pin) }},
	{"hot_tier_ttl_hours", func(s *Settings, v any) error { return setDuration(&s.HotIdle, v, time.Hour) }, func(s *Settings) string { return inUnits(s.HotIdle, time.Hour) }},
	{"warm_tier_ttl_days", func(s *Settings, v any) error { return setDuration(&s.WarmIdle, v, Day) }, func(s *Settings) string { return inUnits(s.WarmIdle, Day) }},
	{"hot_promotion_threshold", func(s *Settings, v any) error {
		n, ok := v.(int64)
		s.PromoteAt = uint32(n)
		if !ok || n < 0 || n > MaxPromoteAt {
			return fmt.Errorf("must be a number from 0 to %d", MaxPromoteAt)
		}
		return nil
	}, func(s *Settings) string { return fmt.Sprint(s.PromoteAt) }},
	{"access_window_hours", func(s *Settings, v any) error { return setDuration(&s.AccessWindow, v, time.Hour) }, func(s *Settings) string { return inUnits(s.AccessWindow, time.Hour) }},
	{"list_ttl_secs", func(s *Settings, v any) error { return setSeconds(&s.ListTTL, v, 0) }, func(s *Settings) string { return seconds(s.ListTTL) }},
	{"qos", func(s *Settings, v any) error {
		name, ok := v.(string)
		s.Class = name
		if !ok {
			return fmt.Errorf("must be the name of a [[qos]] table")
		}
		return nil
	}, func(s *Settings) string { return fmt.Sprintf("%q", s.Class) }},
	{"compare", setShare, func(s *Settings) string { return strconv.FormatFloat(s.Compare, 'g', -1, 64) }},
	{"shadow", setShadow, shadowText},
}

// bytesOf parses a size: a number, or a text such as "1MiB".
func bytesOf(v any) (int64, error) {
	var b size.Bytes
	err := b.UnmarshalText(fmt.Append(nil, v))
	return int64(b), err
}

func bytesText(n int64) string {
	text, _ := size.Bytes(n).MarshalText() // it never fails
	return fmt.Sprintf("%q", text)
}

// MaxSeconds is the largest duration of a setting, in seconds: a hundred years.
const MaxSeconds = 100 * 365 * 24 * 3600

// Day is 24 hours.
const Day = 24 * time.Hour

// MaxPromoteAt is the largest value of PromoteAt.
const MaxPromoteAt = 1_000_000

// Units returns the duration of n units. It returns false for a negative duration, one longer than
// MaxSeconds, and one between zero and a second.
func Units(n float64, unit time.Duration) (time.Duration, bool) {
	seconds := n * unit.Seconds()
	if !(seconds >= 0 && seconds <= MaxSeconds) || n > 0 && seconds < 1 {
		return 0, false
	}
	return time.Duration(seconds * float64(time.Second)).Round(time.Second), true
}

// DurationValues describes the valid durations, for error messages.
const DurationValues = "must be 0 or a number that makes at least a second"

// setDuration sets a duration from a number of units.
func setDuration(d *time.Duration, v any, unit time.Duration) error {
	var n float64
	switch v := v.(type) {
	case int64:
		n = float64(v)
	case float64:
		n = v
	default:
		return errors.New(DurationValues)
	}
	duration, ok := Units(n, unit)
	if !ok {
		return errors.New(DurationValues)
	}
	*d = duration
	return nil
}

func inUnits(d, unit time.Duration) string {
	return strconv.FormatFloat(d.Seconds()/unit.Seconds(), 'g', 6, 64)
}

// setShare sets the share of answers that are compared.
func setShare(s *Settings, v any) error {
	switch v := v.(type) {
	case int64:
		s.Compare = float64(v)
	case float64:
		s.Compare = v
	default:
		return errors.New(shareValues)
	}
	if !(s.Compare >= 0 && s.Compare <= 1) { // NaN is neither
		return errors.New(shareValues)
	}
	return nil
}

const shareValues = "must be a number from 0 to 1"

func setSeconds(d *time.Duration, v any, least int64) error {
	n, ok := v.(int64)
	if !ok || n < least || n > MaxSeconds {
		return fmt.Errorf("must be a number of seconds from %d to %d", least, int64(MaxSeconds))
	}
	*d = time.Duration(n) * time.Second
	return nil
}

func seconds(d time.Duration) string { return fmt.Sprint(int64(d.Seconds())) }

type tierName struct {
	name string
	of   func(s *Settings) *bool
}

var tierNames = [...]tierName{
	{"hot", func(s *Settings) *bool { return &s.Memory }},
	{"warm", func(s *Settings) *bool { return &s.Disk }},
}

func setTiers(s *Settings, v any) error {
	wrong := fmt.Errorf(`must be a list of "hot" and "warm"; an empty one caches nothing`)
	list, ok := v.([]any)
	if !ok {
		return wrong
	}
	s.Memory, s.Disk = false, false
	for _, item := range list {
		i := slices.IndexFunc(tierNames[:], func(t tierName) bool { return t.name == item })
		if i < 0 {
			return wrong
		}
		*tierNames[i].of(s) = true
	}
	return nil
}

// writeTiers says for each value of cache_writes whether writes skip memory, and whether they skip the
// disk.
var writeTiers = map[string][2]bool{"both": {}, "memory": {false, true}, "disk": {true, false}, "none": {true, true}}

func setWriteTiers(s *Settings, v any) error {
	name, _ := v.(string)
	skip, ok := writeTiers[name]
	s.WritesSkipMemory, s.WritesSkipDisk = skip[0], skip[1]
	if !ok {
		return errors.New(`must be "both", "memory", "disk" or "none"`)
	}
	return nil
}

// Rule is one [[rule]] table: patterns, and the settings of the keys that match them.
type Rule struct {
	// Bucket and Key are patterns in which "*" matches any characters, slashes included, and "?"
	// any one character.
	Bucket, Key string
	// Line is the line of the file on which the table begins.
	Line int

	values [len(fields)]value
}

// value is the value of one field of a rule.
type value struct {
	set  bool
	v    any
	line int
}

// maxRules is the largest number of rules.
const maxRules = 256

// Set is an immutable set of rules: one state of the file. All methods may be called from any
// goroutine.
type Set struct {
	defaults *Settings
	rules    []Rule
	// combined caches the settings of each combination of rules that matched a key; there are few.
	combined atomic.Pointer[map[matched]*Settings]
}

// matched is a combination of rules, by their numbers.
type matched [maxRules / 64]uint64

// NewSet combines the rules of Parse with defaults.
func NewSet(rules []Rule, defaults Settings) *Set {
	s := &Set{defaults: &defaults, rules: rules}
	s.combined.Store(&map[matched]*Settings{{}: s.defaults})
	return s
}

// For returns the settings of a key. They are shared and must not be changed.
func (s *Set) For(bucket, key string) *Settings {
	if len(s.rules) == 0 {
		return s.defaults
	}
	m := s.match(bucket, key)
	known := s.combined.Load()
	if settings := (*known)[m]; settings != nil {
		return settings
	}
	settings := s.combine(m)
	for {
		larger := map[matched]*Settings{m: settings}
		if len(*known) < maxCombined {
			maps.Copy(larger, *known)
		}
		if s.combined.CompareAndSwap(known, &larger) {
			return settings
		}
		known = s.combined.Load()
	}
}

// Pinning returns a version, which is always the same, and whether any rule pins objects.
func (s *Set) Pinning() (version uint64, any bool) {
	for i := range s.rules {
		if pin, _ := s.rules[i].value("pin").(bool); pin {
			return 0, true
		}
	}
	return 0, s.defaults.Pin
}

// Backs reports whether writes to some key of a bucket may be written back.
func (s *Set) Backs(bucket string) bool {
	for i := range s.rules {
		if back, _ := s.rules[i].value("write").(string); back == "back" && glob.Match(s.rules[i].Bucket, bucket) {
			return true
		}
	}
	return s.defaults.Back
}

// BacksAny reports whether writes to some key of some bucket may be written back.
func (s *Set) BacksAny() bool {
	for i := range s.rules {
		if back, _ := s.rules[i].value("write").(string); back == "back" {
			return true
		}
	}
	return s.defaults.Back
}

// value is the value of a field of a rule, nil if the rule does not have the field.
func (r *Rule) value(name string) any {
	for i := range fields {
		if fields[i].name == name {
			return r.values[i].v
		}
	}
	return nil
}

// maxCombined bounds Set.combined: with more the cache is cleared.
const maxCombined = 1024

func (s *Set) match(bucket, key string) (m matched) {
	for i := range s.rules {
		if r := &s.rules[i]; glob.Match(r.Bucket, bucket) && glob.Match(r.Key, key) {
			m[i/64] |= 1 << (i % 64)
		}
	}
	return m
}

// first finds the first rule in m that has a field.
func (s *Set) first(m matched, field int) *Rule {
	for i := range s.rules {
		if m[i/64]&(1<<(i%64)) != 0 && s.rules[i].values[field].set {
			return &s.rules[i]
		}
	}
	return nil
}

func (s *Set) combine(m matched) *Settings {
	settings := *s.defaults
	for i, f := range fields {
		if r := s.first(m, i); r != nil {
			_ = f.set(&settings, r.values[i].v) // Parse has checked the value
		}
	}
	return &settings
}

// Explained is one setting of a key, and where its value comes from.
type Explained struct {
	Field, Value string
	// Line is the line of the file, 0 for the default.
	Line int
	// Rule is the rule, nil for the default.
	Rule *Rule
}

// Explain returns the settings of a key, and the rules that they come from.
func (s *Set) Explain(bucket, key string) []Explained {
	m := s.match(bucket, key)
	settings := s.combine(m)
	var all []Explained
	for i, f := range fields {
		e := Explained{Field: f.name, Value: f.text(settings)}
		if r := s.first(m, i); r != nil {
			e.Rule, e.Line = r, r.values[i].line
		}
		all = append(all, e)
	}
	return all
}

// String renders the patterns of a rule.
func (r *Rule) String() string {
	return fmt.Sprintf("[[rule]] bucket = %q, key = %q", r.Bucket, r.Key)
}
