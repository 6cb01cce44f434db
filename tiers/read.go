package tiers

import (
	"context"
	"errors"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Reader is an open object: what it is, where it comes from, and its bytes in
// order. It is for one goroutine, which must Close it.
type Reader struct {
	// Object describes the version that is read. It is shared.
	Object *akigw.Object
	// Range is what will be read.
	Range akigw.Range
	// Outcome is the slowest tier that is needed, as known at the start.
	Outcome akigw.Outcome
	// Hold is how many bytes a reader may keep of what Next returned before it
	// lets go of them.
	Hold int64
	// Borrow says that what Next returns is needed until Sent or Close only, so that
	// its memory can be used again.
	Borrow bool
	// Part is the part that is read, nil if none was asked for.
	Part *Part
	// Age is the time since the upstream confirmed the object.
	Age time.Duration

	store *Store
	entry *entry
	at    int64 // next offset
	fill  *fill // that the reader is attached to
	ahead ahead
	left  int // fills that may still fail
	// release gives back the memory for blocks from disk, nil if there is none.
	release func()
	located bool     // all is in memory or on disk, as Outcome says
	lent    [][]byte // what Next returned and nobody else has
	// digest is of a whole body that no single request brings.
	digest *checksum.Digest
	// pending is the body of an object that is not upstream yet; then there is
	// neither entry nor fill.
	pending Body
}

// maxChanges is how often a read starts over because the object was replaced
// between learning of it and reading it.
const maxChanges = 3

// Get opens an object for reading. Errors that it returns besides those of the
// context: akigw.ErrNotModified and akigw.ErrPreconditionFailed (with a Reader
// that describes the object and has no bytes), akigw.ErrRangeNotSatisfiable
// (likewise), *cold.ResponseError with the upstream's own answer,
// akigw.ErrNoSuchKey for a deletion that is pending, akigw.ErrUpstreamUnavailable and
// ErrUncacheable.
func (s *Store) Get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	if r, err := s.pendingReader(ctx, key, spec, conditions, true); r != nil || err != nil {
		return r, err
	}
	p := s.overlay.Promise(key)
	r, err := s.get(ctx, key, spec, upstreamConditions(p, conditions))
	s.promised(key, p, r)
	return r, err
}

// get is Get of what is not pending.
func (s *Store) get(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Cached() {
		return nil, ErrUncacheable
	}
	for attempt := 1; ; attempt++ {
		e, outcome, f, err := s.find(ctx, key, settings, spec, conditions)
		if err != nil {
			return nil, err
		}
		r := &Reader{Object: &e.Object, Outcome: outcome, Age: age(e), Hold: mostHeld, store: s, entry: e, fill: f, left: 3}
		if err := conditions.Check(&e.Object); err != nil {
			return r, err
		}
		err = r.resolve(ctx, spec)
		if errors.Is(err, akigw.ErrRangeNotSatisfiable) {
			return r, err
		}
		if err == nil {
			err = r.open(ctx, settings)
		}
		if err == nil {
			return r, nil
		}
		r.Close()
		if !errors.Is(err, akigw.ErrChanged) || attempt == maxChanges {
			return nil, err
		}
	}
}

// Local is Get of what is in memory or on disk and needs no question to the upstream. It
// returns nil if anything else is to be said.
func (s *Store) Local(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) *Reader {
	if spec.Part() > 0 || s.hasPending(key) {
		return nil
	}
	p := s.overlay.Promise(key)
	conditions = upstreamConditions(p, conditions)
	settings := s.settings(key)
	if !settings.Cached() {
		return nil
	}
	e, outcome := s.lookup(key)
	if e == nil || !s.fresh(e, settings, conditions) || !settings.CachedSize(e.Size) || conditions.Check(&e.Object) != nil {
		return nil
	}
	r := &Reader{Object: &e.Object, Outcome: outcome, Age: age(e), Hold: mostHeld, store: s, entry: e, left: 3}
	if r.resolve(ctx, spec) != nil || !r.local() {
		return nil
	}
	if r.open(ctx, settings) != nil {
		r.Close()
		return nil
	}
	s.promised(key, p, r)
	return r
}

// local reports whether all that is to be read is in memory or on disk, and plans the read
// if so.
func (r *Reader) local() bool {
	if r.entry.body == nil && r.Range.Length > 0 {
		r.located = r.slowest(r.Range.Start/r.entry.block) == r.endBlock()
		return r.located
	}
	return true
}

// slowest makes the outcome that of the slowest tier that is needed for the blocks from n
// on. It returns the first that is missing, else the one behind the last.
func (r *Reader) slowest(n int64) int64 {
	for end := r.endBlock(); n < end; n++ {
		tier := r.store.locate(r.entry, n)
		if tier == akigw.Cold {
			r.Outcome = tier
			return n
		}
		if tier == akigw.Warm && r.Outcome == akigw.Hot {
			r.Outcome = tier
		}
	}
	return n
}

// open begins to read what resolve has found.
func (r *Reader) open(ctx context.Context, settings *rules.Settings) error {
	r.at = r.Range.Start
	if err := r.start(ctx); err != nil {
		return err
	}
	r.store.counters.reads[r.Outcome].Inc()
	r.store.accessed(r.entry, settings, r.Range, r.Outcome)
	r.readOn(ctx, settings.ReadAhead)
	return nil
}

// resolve sets what is read of the object.
func (r *Reader) resolve(ctx context.Context, spec akigw.RangeSpec) (err error) {
	if spec.Part() == 0 {
		r.Range, err = spec.Resolve(r.entry.Size)
		return err
	}
	if r.Part, err = r.store.part(ctx, r.entry, spec.Part()); err == nil {
		r.Range = r.Part.Range
	}
	return err
}

// find says what a key holds: look it up and, if need be, validate it, else
// load it once for everybody who asks. The fill, if any, is the caller's to
// detach from.
func (s *Store) find(ctx context.Context, key akigw.Key, settings *rules.Settings, spec akigw.RangeSpec, conditions akigw.Conditions) (*entry, akigw.Outcome, *fill, error) {
	e, outcome, err := s.current(ctx, key, settings, conditions)
	if err != nil {
		return nil, "", nil, err
	}
	if e == nil {
		if err := s.absent(key, settings, conditions, false); err != nil {
			return nil, "", nil, err
		}
	}
	if e == nil && (conditions.Any() || spec.Part() > 0) {
		// Do not start a download that a condition may forbid, or of what may be
		// elsewhere.
		var refused *cold.ResponseError
		if e, err = s.ask(ctx, key, nil); err != nil && !errors.As(err, &refused) {
			return nil, "", nil, err
		}
	}
	if e != nil && !settings.CachedSize(e.Size) {
		return nil, "", nil, ErrUncacheable
	}
	if e != nil {
		return e, outcome, nil, nil
	}
	if err := s.windows.admit(key); err != nil {
		return nil, "", nil, err
	}
	f, err := s.load(ctx, key, settings, spec, conditions)
	if unsatisfiable(err) {
		// The upstream refused the range. Which ranges an object has is decided here, by its size,
		// as it is for objects that are known (akigw.RangeSpec.Resolve).
		if e, err = s.ask(ctx, key, nil); err == nil && !settings.CachedSize(e.Size) {
			err = ErrUncacheable
		}
		return e, akigw.Cold, nil, err
	}
	if err != nil {
		return nil, "", nil, err
	}
	return f.entry, akigw.Cold, f, nil
}

// unsatisfiable reports whether the upstream answered that an object has no such range.
func unsatisfiable(err error) bool {
	var refused *cold.ResponseError
	return errors.As(err, &refused) && refused.Status == http.StatusRequestedRangeNotSatisfiable
}

// current returns what is known of a key and may be used: looked up and, if need
// be, validated. It returns nil and Cold if nothing is.
func (s *Store) current(ctx context.Context, key akigw.Key, settings *rules.Settings, conditions akigw.Conditions) (*entry, akigw.Outcome, error) {
	known, outcome := s.lookup(key)
	if known == nil || s.fresh(known, settings, conditions) {
		return known, outcome, nil
	}
	e, err := s.validateSoon(ctx, known, settings, conditions)
	switch {
	case errors.Is(err, akigw.ErrUpstreamUnavailable) && s.usable(known, settings, conditions):
		return known, akigw.Stale, nil
	case e == nil || e.blocks != known.blocks: // gone, or another version
		outcome = akigw.Cold
	}
	return e, outcome, err
}

// load waits for an opening fill. Who came after its question to the upstream has to ask once
// more in strict mode; those share the next one.
func (s *Store) load(ctx context.Context, key akigw.Key, settings *rules.Settings, spec akigw.RangeSpec, conditions akigw.Conditions) (*fill, error) {
	if err := s.unanswered(key); err != nil {
		return nil, err
	}
	arrived := s.fence.generation()
	for {
		f, leader := s.join(ctx, key, spec)
		asked := leader || f.begun > arrived // after this reader came
		select {
		case <-f.ready:
		case <-ctx.Done():
			f.leave(context.Cause(ctx))
			return nil, ctx.Err()
		}
		if f.entry == nil {
			f.detach()
			if unsatisfiable(f.err) && !leader {
				continue // it was the leader's range, not ours
			}
			var refused *cold.ResponseError
			errors.As(f.err, &refused)
			if refused != nil && !asked && (settings.Freshness == rules.Strict || settings.Freshness == rules.Events) {
				s.forgetOpening(key, f)
				continue
			}
			return nil, f.err
		}
		if asked || s.fresh(f.entry, settings, conditions) {
			return f, nil
		}
		e, err := s.validate(ctx, f.entry)
		if err == nil && e != nil && e.blocks == f.entry.blocks {
			return f, nil
		}
		f.detach()
		if err != nil {
			return nil, err
		}
		s.forgetOpening(key, f) // it brings a version that is gone
	}
}

// start plans the read: it names the slowest tier, and waits for the first block
// that is missing, or the first of all if a fill brings them, so that an error can
// still be answered as one.
func (r *Reader) start(ctx context.Context) error {
	if r.entry.body != nil || r.Range.Length == 0 {
		return nil
	}
	n := r.at / r.entry.block
	if r.fill == nil && !r.located {
		n = r.slowest(n)
	}
	if r.Outcome == akigw.Warm {
		return r.reserve(ctx)
	}
	if r.Outcome == akigw.Hot || r.Outcome == akigw.Stale {
		return nil
	}
	if err := r.store.unanswered(r.entry.Key); err != nil && r.fill == nil {
		return err
	}
	if s := r.store; s.parallel(r.entry) && r.Range.Length == r.entry.Size {
		r.digest = checksum.OfObject(r.entry.Header, s.config.MD5ETags)
	}
	_, err := r.block(ctx, min(n, r.endBlock()-1))
	return err
}

const (
	// mostHeld is how much a reader may hold if there is plenty of memory.
	mostHeld = 1 << 20
	// lentHeld is how much of what comes from disk: its memory is used again before it
	// has left the processor's cache.
	lentHeld = 256 << 10
)

// reserve takes memory for blocks from disk: those are the reader's own.
func (r *Reader) reserve(ctx context.Context) (err error) {
	want := min(r.Range.Length, max(r.entry.block, lentHeld))
	r.Hold, r.release, err = r.store.copies.some(ctx, r.entry.Key, want, min(want, r.entry.block))
	return err
}

// Sent says that what Next has returned so far is not needed any more.
func (r *Reader) Sent() {
	for _, buffer := range r.lent {
		r.store.buffers.put(buffer)
	}
	r.lent = r.lent[:0]
}

// Next returns the next bytes of the range, io.EOF at its end. They are shared
// and must not be changed; they stay valid, but see Borrow. Any other error means that the
// rest cannot be had: the answer must not end as if it were complete.
func (r *Reader) Next(ctx context.Context) ([]byte, error) {
	if r.at >= r.Range.End() {
		return nil, io.EOF
	}
	if r.pending != nil {
		data, err := r.pending.Next()
		r.at += int64(len(data))
		return data, err
	}
	if body := r.entry.body; body != nil {
		data := body[r.at:r.Range.End()]
		r.at = r.Range.End()
		r.store.saw(r.entry, 0, r.Outcome)
		return data, nil
	}
	block := r.entry.block
	n := r.at / block
	data, err := r.block(ctx, n)
	if err != nil {
		return nil, err
	}
	data = data[r.at-n*block : min(int64(len(data)), r.Range.End()-n*block)]
	if err := r.verify(data); err != nil {
		return nil, err
	}
	r.at += int64(len(data))
	return data, nil
}

// verify takes the next bytes of a whole body that came in parallel parts, and
// judges it before the last of them are handed out.
func (r *Reader) verify(data []byte) error {
	if r.digest == nil {
		return nil
	}
	r.digest.Write(data)
	if r.at+int64(len(data)) < r.Range.End() {
		return nil
	}
	err := r.store.judge(r.entry, r.digest, r.entry.blocks)
	if err != nil {
		r.store.discard(r.entry, 0, r.endBlock())
	}
	return err
}

// block gets block n: from the fill that this reader follows, from memory or
// disk, or from a new fill. A fill that failed is replaced from where it
// stopped; If-Match makes sure that it is still the same object.
func (r *Reader) block(ctx context.Context, n int64) ([]byte, error) {
	for failed, missing := false, false; ; {
		if r.fill != nil {
			r.plan(ctx, n)
			data, ok, waited, err := r.fill.block(ctx, n)
			r.adapt(waited)
			if ok {
				r.store.saw(r.entry, n, akigw.Cold)
				return data, nil
			}
			if err != nil && !r.survives(ctx, err) {
				r.leaveFill(context.Cause(ctx))
				return nil, err
			}
			if err != nil {
				r.leaveFill(nil)
				failed = !errors.Is(err, errYielded)
			}
		}
		if data, tier, lent := r.store.block(r.entry, n, r.Borrow); data != nil {
			if lent {
				r.lent = append(r.lent, data)
			}
			r.store.saw(r.entry, n, tier)
			if tier == akigw.Warm && r.release == nil {
				if err := r.reserve(ctx); err != nil {
					return nil, err
				}
			}
			return data, nil
		}
		r.leaveFill(nil)
		if r.fill = r.ahead.take(n); r.fill == nil {
			r.fill = r.store.fetch(ctx, r.entry, n, r.runEnd(n), failed, missing)
			missing = r.fill == nil // then it is looked for once more
		}
	}
}

// survives decides whether to try again after a fill failed.
func (r *Reader) survives(ctx context.Context, err error) bool {
	if errors.Is(err, errYielded) {
		return ctx.Err() == nil
	}
	r.left--
	var refused *cold.ResponseError
	final := errors.Is(err, akigw.ErrChanged) || errors.Is(err, akigw.ErrChecksum) || errors.As(err, &refused)
	return r.left > 0 && ctx.Err() == nil && !final
}

// leaveFill leaves the fill that the reader follows. cause is why the reader's own context
// ended, nil if it did not.
func (r *Reader) leaveFill(cause error) {
	if r.fill != nil {
		r.fill.leave(cause)
		r.fill = nil
	}
}

// Close releases what the reader holds.
func (r *Reader) Close() error {
	r.Sent()
	if r.pending != nil {
		return r.pending.Close()
	}
	r.leaveFill(nil)
	r.ahead.leave()
	if r.release != nil {
		r.release()
		r.release = nil
	}
	return nil
}

// Head describes an object, or a part of it: from the entry that a GET would be
// served from.
// Errors are those of Get.
func (s *Store) Head(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	if r, err := s.pendingReader(ctx, key, spec, conditions, false); r != nil || err != nil {
		return r, err
	}
	p := s.overlay.Promise(key)
	r, err := s.head(ctx, key, spec, upstreamConditions(p, conditions))
	s.promised(key, p, r)
	return r, err
}

// head is Head of what is not pending.
func (s *Store) head(ctx context.Context, key akigw.Key, spec akigw.RangeSpec, conditions akigw.Conditions) (*Reader, error) {
	settings := s.settings(key)
	if !settings.Cached() {
		return nil, ErrUncacheable
	}
	e, outcome, err := s.current(ctx, key, settings, conditions)
	if e == nil && err == nil {
		err = s.absent(key, settings, conditions, true)
	}
	if e == nil && err == nil {
		e, err = s.ask(ctx, key, nil)
	}
	if err != nil {
		return nil, err
	}
	s.counters.reads[outcome].Inc()
	r := &Reader{Object: &e.Object, Outcome: outcome, Age: age(e), store: s, entry: e}
	if err := conditions.Check(&e.Object); err != nil {
		return r, err
	}
	return r, r.resolve(ctx, spec)
}

// ask sends a HEAD, conditional on known if there is one that a 304 can confirm, and
// publishes what it learns.
func (s *Store) ask(ctx context.Context, key akigw.Key, known *entry) (*entry, error) {
	generation := s.fence.enter(key)
	defer s.fence.leave(key)
	header := http.Header{"X-Amz-Checksum-Mode": {"ENABLED"}}
	if known != nil && known.known() && known.strong && key.Version == "" && !s.bare304.has(known.origin) {
		header.Set("If-None-Match", known.ETag)
	}
	asked := time.Now()
	resp, err := s.upstream.Do(ctx, &cold.Request{Op: "HeadObject", Method: http.MethodHead, Key: key, Header: header})
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && header.Get("If-None-Match") != "":
		modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
		if err != nil {
			s.bare304.add(known.origin) // it cannot tell a re-put of the same bytes
		}
		if err != nil || !modified.Equal(known.LastModified) {
			unconditional := *known
			unconditional.Header = nil
			return s.ask(ctx, key, &unconditional)
		}
		confirmed := *known
		confirmed.validated = asked
		return s.confirm(&confirmed, known), nil
	case resp.StatusCode != http.StatusOK:
		err := &cold.ResponseError{Status: resp.StatusCode, Header: resp.Header}
		if known != nil && gone(err.Status) {
			s.dropEntry(key)
		}
		s.rememberAbsence(key, generation, asked, err, true)
		return nil, err
	case resp.ContentLength < 0 || !strongETag(resp.Header.Get("Etag")):
		return nil, ErrUncacheable
	}
	e := s.newEntry(objectOf(key, resp.Header, resp.ContentLength), generation, asked)
	e.strong = strongValidator(resp.Header)
	if !e.asked() {
		return nil, ErrUncacheable
	}
	if known != nil && known.same(&e.Object) && maps.EqualFunc(known.Header, e.Header, slices.Equal) {
		confirmed := *known
		confirmed.validated, confirmed.strong = e.validated, known.strong || e.strong
		return s.confirm(&confirmed, known), nil
	}
	if known != nil && (known.same(&e.Object) || !known.known() && known.ETag == e.ETag && known.Size == e.Size) {
		e.blocks, e.block, e.body = known.blocks, known.block, known.body
	}
	s.publish(e)
	return e, nil
}

// gone reports whether a status says that the version which was asked for is
// there no more: it is not, or a delete marker is. A refusal says nothing of it.
func gone(status int) bool {
	return status == http.StatusNotFound || status == http.StatusGone || status == http.StatusMethodNotAllowed
}

// confirm remembers that an entry was validated just now. In memory is enough,
// if it is there: after a restart it is validated again or trusted anyway.
func (s *Store) confirm(confirmed, known *entry) *entry {
	switch inMemory := s.hot.Has(hotKey{key: known.Key}); {
	case known.run != s.run:
		confirmed.run = s.run
		s.publish(confirmed)
	case confirmed.strong != known.strong: // once in the life of an entry
		s.publish(confirmed)
	case inMemory:
		s.remember(confirmed)
	case s.settings(known.Key).Freshness == rules.TTL, s.settings(known.Key).Freshness == rules.Events: // which look at the time
		s.publish(confirmed)
	case known.Key.Version != "" && (s.warm == nil || !s.warm.HasEntry(known.Key)): // found by way of the current one
		s.publish(confirmed)
	}
	return confirmed
}
