package tiers

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Reader is an open object: its description, its source, and its bytes in order. It is for one
// goroutine, which must Close it.
type Reader struct {
	// Object describes the version that is being read. It is shared.
	Object *akigw.Object
	// Range is what will be read.
	Range akigw.Range
	// Outcome is the slowest tier that the read needs, as known at its start.
	Outcome akigw.Outcome
	// Hold is how many bytes that Next returned the caller may retain before it calls Sent.
	Hold int64
	// Borrow means that the caller needs what Next returns only until Sent or Close, so that the
	// memory can be reused.
	Borrow bool
	// Part is the requested part, nil if none was requested.
	Part *Part
	// Age is the time since the upstream last confirmed the object.
	Age time.Duration
	// Settings are those of the key; nil for a pending object. They are shared.
	Settings *rules.Settings

	source *source
	entry  *entry
	at     int64 // next offset
	fill   *fill // the fill that the reader is attached to
	ahead  ahead
	left   int // how many more fills may fail
	// release frees the memory for blocks from disk, nil if there is none.
	release func()
	located bool                                // everything is in memory or on disk, as Outcome says
	lent    []*sharedBlock                      // blocks that Next returned bytes of, with Borrow; the reader is a user of them
	few     [mostHeld / (64 << 10)]*sharedBlock // memory for lent
	// verifier verifies a whole body that no single request transfers; nil: there is none.
	verifier *verifier
	// pending is the body of a pending object; then there is neither an entry nor a fill.
	pending Body
}

// local reports whether everything to be read is in memory or on disk, and plans the read if so.
func (r *Reader) local() bool {
	if r.entry.body == nil && r.Range.Length > 0 {
		r.located = r.slowest(r.Range.Start/r.entry.block) == r.endBlock()
		return r.located
	}
	return true
}

// slowest sets the outcome to the slowest tier needed for the blocks from n on. It returns the
// first missing block, or else the one after the last.
func (r *Reader) slowest(n int64) int64 {
	for end := r.endBlock(); n < end; n++ {
		tier := r.source.expect(r.entry, n)
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

// open starts to read the object that was found.
func (r *Reader) open(ctx context.Context, settings *rules.Settings) error {
	r.at = r.Range.Start
	if err := r.start(ctx); err != nil {
		return err
	}
	r.source.counters.reads[r.Outcome].Inc()
	r.source.observers.accessed(r.entry, settings, r.Range, r.Outcome)
	r.readOn(ctx, settings.ReadAhead)
	return nil
}

// resolve sets the range or part to read.
func (r *Reader) resolve(ctx context.Context, spec akigw.RangeSpec) (err error) {
	if spec.Part() == 0 {
		r.Range, err = spec.Resolve(r.entry.Size)
		return err
	}
	if r.Part, err = r.source.part(ctx, r.entry, spec); err == nil {
		r.Range = r.Part.Range
	}
	return err
}

// start plans the read: it sets the slowest tier, and waits for the first missing block, or for the
// first block if a fill brings them in, so that an error can still be sent as a response.
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
	if err := r.source.validator.unanswered(r.entry.Key); err != nil && r.fill == nil {
		return err
	}
	r.expectParts()
	b, err := r.block(ctx, min(n, r.endBlock()-1))
	if err == nil {
		b.release()
	}
	return err
}

// expectParts prepares the verification of a body that is about to be fetched, if it is whole and
// arrives in parallel parts.
func (r *Reader) expectParts() {
	if ft := r.source.fetcher; ft.parallel(r.entry) && r.Range.Length == r.entry.Size {
		r.verifier = ft.verifier(r.entry.Header, r.endBlock())
	}
}

const (
	// mostHeld is how much a reader may retain if there is plenty of memory.
	mostHeld = 1 << 20
	// lentHeld is the limit for memory lent for blocks from disk: small enough to be reused while
	// it is still in the processor's cache.
	lentHeld = 256 << 10
)

// reserve reserves memory for blocks from disk, which belong to one reader.
func (r *Reader) reserve(ctx context.Context) (err error) {
	want := min(r.Range.Length, max(r.entry.block, lentHeld))
	r.Hold, r.release, err = r.source.copies.takeUpTo(ctx, r.entry.Key, want, min(want, r.entry.block))
	return err
}

// Sent says that the caller no longer needs anything that Next has returned so far.
func (r *Reader) Sent() {
	for _, b := range r.lent {
		b.release()
	}
	r.lent = r.lent[:0]
}

// lend remembers a block that Sent releases.
func (r *Reader) lend(b *sharedBlock) {
	if r.lent == nil {
		r.lent = r.few[:0]
	}
	r.lent = append(r.lent, b)
}

// Next returns the next bytes of the range, io.EOF at its end. They are shared and must not be
// changed; they stay valid, except as described at Borrow. Any other error means that the rest is
// unavailable: the response must not end as if it were complete.
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
		r.source.saw(r.entry, 0, r.Outcome)
		return data, nil
	}
	block := r.entry.block
	n := r.at / block
	b, err := r.block(ctx, n)
	if err != nil {
		return nil, err
	}
	if r.Borrow { // otherwise its memory is not used again
		r.lend(b)
	}
	to := min(int64(len(b.data)), r.Range.End()-n*block)
	data := b.data[r.at-n*block : to : to]
	if err := r.verify(b, data); err != nil {
		return nil, err
	}
	r.at += int64(len(data))
	return data, nil
}

// verify verifies the next bytes of a whole body that arrived in parallel parts, which are part of a
// block. It waits for the result before the last of them are returned.
func (r *Reader) verify(of *sharedBlock, data []byte) error {
	r.verifier.write(of, data)
	if r.at+int64(len(data)) < r.Range.End() {
		return nil
	}
	err := r.source.fetcher.judge(r.entry, r.verifier, r.entry.extent)
	if err != nil {
		r.source.fetcher.discard(r.entry, 0, r.endBlock())
	}
	return err
}

// block returns block n, of which the caller is a user: from the fill that this reader follows, from
// memory or disk, or from a new fill. A failed fill is replaced from where it stopped; If-Match ensures
// that the object is still the same.
func (r *Reader) block(ctx context.Context, n int64) (*sharedBlock, error) {
	for failed, missing := false, false; ; missing = false {
		if r.fill != nil {
			first := r.fill.start
			b, err := r.fromFill(ctx, n)
			switch {
			case b != nil:
				return b, nil
			case err != nil && r.fill != nil: // no other fill can help
				r.leaveFill(context.Cause(ctx))
				return nil, err
			case errors.Is(err, errPresent):
				missing = first == n // known to be missing unless it is found now
			case err != nil:
				failed = !errors.Is(err, errYielded)
			}
		}
		if b, err := r.fromTiers(ctx, n); b != nil || err != nil {
			return b, err
		}
		r.leaveFill(nil)
		if r.fill = r.ahead.take(n); r.fill == nil {
			r.fill = r.source.fetcher.fetch(ctx, r.entry, n, r.fetchEnd(n), failed, missing)
		}
	}
}

// fromFill returns block n from the fill that the reader follows, nil if the block has left the
// fill's window. After an error that another fill can recover from, the reader has left the fill.
func (r *Reader) fromFill(ctx context.Context, n int64) (*sharedBlock, error) {
	r.plan(ctx, n)
	b, waited, err := r.fill.block(ctx, n)
	r.adapt(waited)
	if b != nil {
		r.source.saw(r.entry, n, akigw.Cold)
		return b, nil
	}
	if err != nil && r.survives(ctx, err) {
		r.leaveFill(nil)
	}
	return nil, err
}

// fromTiers returns block n from memory or disk, nil if neither has it.
func (r *Reader) fromTiers(ctx context.Context, n int64) (*sharedBlock, error) {
	b, tier := r.source.block(r.entry, n)
	if b == nil {
		return nil, nil
	}
	r.source.saw(r.entry, n, tier)
	if tier == akigw.Warm && r.release == nil {
		if err := r.reserve(ctx); err != nil {
			b.release()
			return nil, err
		}
	}
	return b, nil
}

// survives decides whether to try again after a failed fill.
func (r *Reader) survives(ctx context.Context, err error) bool {
	if errors.Is(err, errYielded) || errors.Is(err, errPresent) {
		return ctx.Err() == nil
	}
	r.left--
	var refused *cold.ResponseError
	final := errors.Is(err, akigw.ErrChanged) || errors.Is(err, akigw.ErrChecksum) || errors.As(err, &refused)
	return r.left > 0 && ctx.Err() == nil && !final
}

// leaveFill detaches from the fill that the reader follows. cause is why the reader's own context
// ended, nil if it did not.
func (r *Reader) leaveFill(cause error) {
	if r.fill != nil {
		r.fill.leave(cause)
		r.fill = nil
	}
}

// Close releases the reader's resources.
func (r *Reader) Close() error {
	r.Sent()
	if r.pending != nil {
		return r.pending.Close()
	}
	r.verifier.stop()
	r.leaveFill(nil)
	r.ahead.leave()
	if r.release != nil {
		r.release()
		r.release = nil
	}
	return nil
}
