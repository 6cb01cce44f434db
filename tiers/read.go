package tiers

import (
	"context"
	"errors"
	"io"
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

	source *source
	entry  *entry
	at     int64 // next offset
	fill   *fill // that the reader is attached to
	ahead  ahead
	left   int // fills that may still fail
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
		tier := r.source.locate(r.entry, n)
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
	r.source.counters.reads[r.Outcome].Inc()
	r.source.observers.accessed(r.entry, settings, r.Range, r.Outcome)
	r.readOn(ctx, settings.ReadAhead)
	return nil
}

// resolve sets what is read of the object.
func (r *Reader) resolve(ctx context.Context, spec akigw.RangeSpec) (err error) {
	if spec.Part() == 0 {
		r.Range, err = spec.Resolve(r.entry.Size)
		return err
	}
	if r.Part, err = r.source.part(ctx, r.entry, spec.Part()); err == nil {
		r.Range = r.Part.Range
	}
	return err
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
	if err := r.source.validator.unanswered(r.entry.Key); err != nil && r.fill == nil {
		return err
	}
	if s := r.source; s.fetcher.parallel(r.entry) && r.Range.Length == r.entry.Size {
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
	r.Hold, r.release, err = r.source.copies.takeUpTo(ctx, r.entry.Key, want, min(want, r.entry.block))
	return err
}

// Sent says that the caller does not need any more what Next has returned so far.
func (r *Reader) Sent() {
	for _, buffer := range r.lent {
		r.source.buffers.put(buffer)
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
		r.source.saw(r.entry, 0, r.Outcome)
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
	err := r.source.fetcher.judge(r.entry, r.digest, r.entry.extent)
	if err != nil {
		r.source.fetcher.discard(r.entry, 0, r.endBlock())
	}
	return err
}

// block gets block n: from the fill that this reader follows, from memory or
// disk, or from a new fill. A fill that failed is replaced from where it
// stopped; If-Match makes sure that it is still the same object.
func (r *Reader) block(ctx context.Context, n int64) ([]byte, error) {
	for failed, missing := false, false; ; missing = false {
		if r.fill != nil {
			first := r.fill.start
			data, err := r.fromFill(ctx, n)
			switch {
			case data != nil:
				return data, nil
			case err != nil && r.fill != nil: // final
				r.leaveFill(context.Cause(ctx))
				return nil, err
			case errors.Is(err, errPresent):
				missing = first == n // if it is not found now
			case err != nil:
				failed = !errors.Is(err, errYielded)
			}
		}
		if data, err := r.fromTiers(ctx, n); data != nil || err != nil {
			return data, err
		}
		r.leaveFill(nil)
		if r.fill = r.ahead.take(n); r.fill == nil {
			r.fill = r.source.fetcher.fetch(ctx, r.entry, n, r.fetchEnd(n), failed, missing)
		}
	}
}

// fromFill gets block n from the fill that the reader follows, nil if it has left the fill's
// window. After an error that another fill can make up for, the reader has left the fill.
func (r *Reader) fromFill(ctx context.Context, n int64) ([]byte, error) {
	r.plan(ctx, n)
	data, ok, waited, err := r.fill.block(ctx, n)
	r.adapt(waited)
	if ok {
		r.source.saw(r.entry, n, akigw.Cold)
		return data, nil
	}
	if err != nil && r.survives(ctx, err) {
		r.leaveFill(nil)
	}
	return nil, err
}

// fromTiers gets block n from memory or disk, nil if neither has it.
func (r *Reader) fromTiers(ctx context.Context, n int64) ([]byte, error) {
	data, tier, lent := r.source.block(r.entry, n, r.Borrow)
	if data == nil {
		return nil, nil
	}
	if lent {
		r.lent = append(r.lent, data)
	}
	r.source.saw(r.entry, n, tier)
	if tier == akigw.Warm && r.release == nil {
		if err := r.reserve(ctx); err != nil {
			return nil, err
		}
	}
	return data, nil
}

// survives decides whether to try again after a fill failed.
func (r *Reader) survives(ctx context.Context, err error) bool {
	if errors.Is(err, errYielded) || errors.Is(err, errPresent) {
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
