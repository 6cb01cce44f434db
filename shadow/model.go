package shadow

import (
	"net/http"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// The freshness modes, in the order of rules.Modes.
const (
	strict = iota
	ttl
	immutable
	exclusive
	events
	modes // how many there are
)

// answer is what a gateway in one freshness mode would have done for a read.
type answer struct {
	tier         akigw.Outcome // the slowest that it needs: Hot, Warm or Cold
	heads, lists int           // requests to the upstream
	fetch
	validated bool // a HEAD has confirmed what the tiers have
	stale     bool // the response would have been an older version, or an object that does not exist
}

// fetch is requests for bytes of objects.
type fetch struct {
	gets  int
	bytes int64
}

func (f *fetch) add(other fetch) {
	f.gets += other.gets
	f.bytes += other.bytes
}

// found is what the tiers have of a read's object.
type found struct {
	object  *object       // nil: they know nothing of it
	slowest akigw.Outcome // tier that the read needs
	missing fetch         // what is in neither tier
	blocks  bool          // missing is of blocks, of an object whose size is known
}

// readLocked predicts what a gateway would have done for a read of the sample.
func (s *Shadow) readLocked(a *account, id uint64, r *Read) {
	sim := s.tiers
	f := sim.look(id, r)
	o := f.object
	version := uint64(0) // of what the key holds now
	switch {
	case r.gone():
	case r.ETag != "":
		version = versionOf(r.ETag)
	case o != nil:
		version = o.version // a 416 does not show it
	}
	if o != nil && o.version != version {
		// The read overlapped a write, or one that has seen a newer version: that explains the difference.
		if s.writing[r.Key] > 0 || !r.At.After(o.wrote) || r.At.Before(o.shown) {
			passes := predictions(func(int) answer { return answer{tier: akigw.Cold, fetch: fetch{1, r.Sent}} })
			s.tallyLocked(a, r, &passes)
			return
		}
		a.replaced += sim.scale()
	}
	next := sim.successor(o, id, r, version)
	whole := sim.opening(next, r)
	answers := predictions(func(mode int) answer { return s.predict(mode, a, &f, r, whole, version) })
	more := fetch{}
	switch {
	case next != nil:
		next.learn(o, version, r.At)
		more = sim.store(next, &f, r, answers.of(r.Settings.Freshness))
	case o != nil:
		o.version = 0
	}
	for i := range answers {
		answers[i].add(more)
	}
	s.tallyLocked(a, r, &answers)
}

// answers are those in all freshness modes.
type answers [modes]answer

func predictions(predict func(mode int) answer) (all answers) {
	for mode := range all {
		all[mode] = predict(mode)
	}
	return all
}

// of returns the answer in one mode.
func (a *answers) of(mode rules.Freshness) (got answer) {
	if n := slices.Index(rules.Modes(), mode); n >= 0 {
		got = a[n]
	}
	return got
}

// learn takes over the beliefs that the modes had of before, the object that the tiers had, nil for none.
func (o *object) learn(before *object, version uint64, at time.Time) {
	switch before {
	case o:
	case nil:
		for i := range o.modes {
			o.modes[i] = belief{version, at}
		}
	default:
		o.modes = before.modes
	}
}

// tallyLocked adds the answers of all modes to an account.
func (s *Shadow) tallyLocked(a *account, r *Read, all *answers) {
	for i, mode := range rules.Modes() {
		got := &all[i]
		a.modes[i].add(got, s.tiers.scale())
		if got.stale {
			s.counters.stale[mode].Add(int(s.tiers.scale()))
		}
		if mode == r.Settings.Freshness {
			a.configured.add(got, s.tiers.scale())
			s.counters.read(got, int(s.tiers.scale()))
		}
	}
}

// predict returns what a gateway in one mode would have done. whole is what a read costs of which
// nothing is known, and version what the key holds now, 0 for nothing.
func (s *Shadow) predict(mode int, a *account, f *found, r *Read, whole answer, version uint64) answer {
	o := f.object
	if o == nil || o.version == 0 && o.modes[mode].version == 0 {
		if o != nil && version != 0 {
			o.modes[mode] = belief{version, r.At}
		}
		return whole
	}
	b := &o.modes[mode]
	here := answer{tier: f.slowest, fetch: f.missing}
	if b.version != 0 && s.fresh(mode, b, r, version) {
		switch {
		case b.version == version:
		case f.missing.gets == 0:
			here.stale = true
		default: // the missing bytes are those of a version that does not exist: If-Match fails
			here = whole
			here.gets++
			*b = belief{version, r.At}
		}
		return here
	}
	if b.version == 0 && s.tiers.small(o) && f.missing.gets > 0 { // the GET that brings its bytes tells its headers as well
		*b = belief{version, r.At}
		return whole
	}
	known := *b
	*b = belief{version, r.At}
	switch {
	case version == 0 && r.Head:
		return answer{tier: akigw.Cold, heads: 2}
	case version == 0:
		return answer{tier: akigw.Cold, heads: 1, fetch: fetch{gets: 1}}
	case o.version != version || known.version != 0 && known.version != version:
		return answer{tier: akigw.Cold, heads: 1, fetch: whole.fetch}
	case mode == exclusive && known.version == 0 && r.Key.Version == "":
		here.heads, here.lists = a.written.ask(o, r)
	default:
		here.heads = 1
	}
	here.validated = here.heads > 0
	return here
}

// fresh reports whether a gateway in one mode would not have asked the upstream, see validator.fresh in
// package tiers. In mode Events the upstream is assumed to report each change.
func (s *Shadow) fresh(mode int, b *belief, r *Read, version uint64) bool {
	age := r.At.Sub(b.asked)
	if r.Conditions.NoCache || r.Conditions.MaxAge > 0 && age >= r.Conditions.MaxAge {
		return false
	}
	switch mode {
	case ttl:
		return age < r.Settings.TTL
	case immutable:
		return true
	case exclusive:
		return r.Key.Version == ""
	case events:
		return age < r.Settings.TTL && b.version == version
	}
	return false
}

// look finds what the tiers have of a read's object. It counts an access of its entry, not of its
// blocks.
func (s *simulation) look(id uint64, r *Read) (f found) {
	f.slowest = akigw.Cold
	if r.Found != nil {
		return s.lookBodies(id, r)
	}
	if f.object, f.slowest = s.find(id, r.Settings); f.object == nil || !r.wantsBytes() {
		return f
	}
	o := f.object
	switch {
	case o.body || o.size == 0:
		return f
	case tooLarge(o, r):
		f.slowest, f.missing = akigw.Cold, fetch{1, r.Sent}
		return f
	}
	want := r.bytes(o.size)
	first, end := want.Start/o.block, o.blocksUpTo(want.End())
	f.missing, f.blocks = s.missing(o, first, end, want.Length), o.size >= 0
	for n := first; n < end; n++ {
		switch s.place(o, n) {
		case akigw.Cold:
			f.slowest = akigw.Cold
		case akigw.Warm:
			if f.slowest == akigw.Hot {
				f.slowest = akigw.Warm
			}
		}
	}
	return f
}

// tooLarge reports whether a rule keeps an object of this size out of the tiers.
func tooLarge(o *object, r *Read) bool {
	return r.Settings.MaxObject > 0 && o.size > r.Settings.MaxObject
}

// lookBodies is look where the real tiers say what they have.
func (s *simulation) lookBodies(id uint64, r *Read) (f found) {
	f.slowest = akigw.Cold
	if r.Found.Entry == akigw.Cold {
		s.beliefs.Drop(unit{id, entryUnit})
		return f
	}
	if v, ok := s.beliefs.Get(unit{id, entryUnit}); ok {
		f.object = v.object
	} else { // from an earlier epoch
		f.object = s.newObject(id, r.Key, r.Size, r.Settings.Block, versionOf(r.ETag))
		for i := range f.object.modes {
			f.object.modes[i].version = f.object.version
		}
	}
	f.slowest = r.Found.Entry
	if !r.wantsBytes() {
		return f
	}
	f.slowest = r.Found.Slowest
	f.missing = fetch{r.Found.Runs, r.Found.Missing}
	if r.Found.Missing > partBytes && s.config.ParallelFetches > 1 {
		f.missing.gets = max(r.Found.Runs, int(r.Found.Missing/int64(s.config.FetchBytes)))
	}
	return f
}

const (
	// partBytes, wholeBytes and mostBlocks are the limits of the same names in package tiers.
	partBytes  = 16 << 20
	wholeBytes = 64 << 20
	mostBlocks = 256
)

// missing returns what fetches the missing blocks among those from first up to end, for a read of so
// many bytes.
func (s *simulation) missing(o *object, first, end, length int64) (f fetch) {
	for n := first; n < end; n++ {
		if s.place(o, n) != akigw.Cold {
			continue
		}
		start := n
		n = s.missingUntil(o, n, end)
		f.gets += s.requests(o, start, n, length)
		f.bytes += o.blockBytes(start, n)
	}
	return f
}

// missingUntil returns the end of the consecutive missing blocks from n on, at most end.
func (s *simulation) missingUntil(o *object, n, end int64) int64 {
	for n < end && s.place(o, n) == akigw.Cold {
		n++
	}
	return n
}

// requests returns how many requests fetch blocks first up to end, for a read of so many bytes.
func (s *simulation) requests(o *object, first, end, length int64) int {
	switch {
	case first >= end:
		return 0
	case length <= partBytes:
		return 1
	case s.config.ParallelFetches <= 1:
		return int((end - first + mostBlocks - 1) / mostBlocks)
	}
	segment := s.segment(o)
	return int((end-1)/segment - first/segment + 1)
}

// segment is the number of blocks that each of several parallel requests fetches.
func (s *simulation) segment(o *object) int64 { return max(1, int64(s.config.FetchBytes)/o.block) }

// opening returns what a read costs if the tiers know nothing of its object, which is nil if there is
// none.
func (s *simulation) opening(o *object, r *Read) answer {
	a := answer{tier: akigw.Cold}
	switch {
	case r.Head:
		a.heads = 1
		return a
	case r.Conditions.Any() || r.Range.Part() > 0 || r.Status == http.StatusRequestedRangeNotSatisfiable:
		a.heads = 1
	}
	if r.Status == http.StatusNotModified || r.Status == http.StatusPreconditionFailed {
		return a
	}
	a.gets = 1
	if o == nil || !r.wantsBytes() || o.size <= 0 {
		return a
	}
	if tooLarge(o, r) { // it is asked for once more, past the tiers
		a.gets++
		a.bytes = r.Sent
		return a
	}
	want := r.bytes(o.size)
	first, end := want.Start/o.block, o.blocksUpTo(want.End())
	a.bytes = o.blockBytes(first, end)
	if o.size > wholeBytes && s.config.ParallelFetches > 1 {
		segment := s.segment(o)
		a.gets += s.requests(o, min(end, (first/segment+1)*segment), end, want.Length)
	}
	return a
}

// successor returns the object that the upstream has shown: o itself, a new one, or nil if the key
// holds nothing.
func (s *simulation) successor(o *object, id uint64, r *Read, version uint64) *object {
	if version == 0 {
		return nil
	}
	if o == nil || o.version != version {
		n := s.newObject(id, r.Key, r.Size, r.Settings.Block, version)
		n.known, n.shown, n.headed = true, r.At, r.Described
		return n
	}
	if o.size < 0 {
		o.size = r.Size
	}
	return o
}

// store stores what a read has shown and brought in, and counts an access of what was there. f is what the
// tiers had before, and got what a gateway in the configured mode does for the read. The entry is stored ahead
// of the blocks, unless the GET that brings the blocks tells the headers as well, and what is fetched ahead
// comes last. It returns what is fetched besides what f says: ahead, or because the read itself has evicted it.
func (s *simulation) store(o *object, f *found, r *Read, got answer) (more fetch) {
	if r.Found != nil {
		s.believe(o)
		return fetch{}
	}
	changed := o != f.object || !o.known
	if !o.known {
		o.known, o.headed = true, r.Described
	}
	switch {
	case changed && (got.heads > 0 || o == f.object):
		s.publish(o, r.Settings)
		changed = false
	case got.validated: // it is stored anew, with the time of the validation
		s.confirm(o, r.Settings)
	}
	inEntry, fetched := s.take(o, r)
	if inEntry || changed {
		s.publish(o, r.Settings)
	}
	more = s.readOn(o, r)
	if f.blocks && o == f.object {
		more.add(fetch{max(0, fetched.gets-f.missing.gets), max(0, fetched.bytes-f.missing.bytes)})
	}
	return more
}

// take stores the bytes that a read has brought in, and counts an access of those that were there. It reports
// whether they are in the entry, which has to be published then, and what was fetched otherwise.
func (s *simulation) take(o *object, r *Read) (inEntry bool, fetched fetch) {
	switch {
	case !r.wantsBytes() || o.body || o.size < 0 || tooLarge(o, r):
		return false, fetch{}
	case s.small(o):
		o.body = true
		return true, fetch{}
	}
	want := r.bytes(o.size)
	return false, s.takeBlocks(o, want.Start/o.block, o.blocksUpTo(want.End()), r)
}

// takeBlocks takes blocks first up to end in the order of a Reader of package tiers: it counts accesses to
// memory up to the first missing block, fetches that with those that are missing after it, and only then
// reads from first on. A block that has been evicted meanwhile is fetched as well.
func (s *simulation) takeBlocks(o *object, first, end int64, r *Read) (fetched fetch) {
	length := r.bytes(o.size).Length
	fetch := func(from, least int64) (until int64) {
		until = s.missingUntil(o, least, end)
		if from < until {
			fetched.gets += s.requests(o, from, until, length)
			fetched.bytes += o.blockBytes(from, until)
		}
		for n := from; n < until; n++ {
			s.use(o, n, r.Settings, false)
		}
		return until
	}
	from := first
	for ; from < end && s.place(o, from) != akigw.Cold; from++ {
		s.memory.Get(unit{o.extent, from})
	}
	until := fetch(from, from)
	for n := first; n < end; {
		switch {
		case n >= from && n < until:
			n = until // the Reader has them, even if they are evicted again
		case s.place(o, n) == akigw.Cold:
			n = fetch(n, n+1)
		default:
			s.use(o, n, r.Settings, false)
			n++
		}
	}
	return fetched
}
