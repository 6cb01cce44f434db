package writeback

import (
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
)

// Status is the state of what is written back.
type Status struct {
	// Stats are the journal's. Its Problem also says why there is no journal, if there should
	// be one.
	journal.Stats
	uploadpool.Progress
	Broken []string // buckets whose breakers are open
	// Suspects are the upstreams that have stopped answering, by name.
	Suspects []string
	// PausedBuckets is the number of buckets whose pending writes are held back until an operator
	// has decided.
	PausedBuckets int
}

// Status returns the present state: the zero Status if nothing is written back.
func (w *WriteBack) Status() (st Status) {
	if w.journal == nil {
		if problem := w.Overlay.Problem(); problem != "" {
			st.Problem = errors.New(problem)
		}
		return st
	}
	st = Status{Stats: w.journal.Stats(), Progress: w.pool.Progress(), PausedBuckets: w.pausedBuckets()}
	if b, ok := w.upstream.(interface{ Broken() []string }); ok {
		st.Broken = b.Broken()
	}
	if u, ok := w.upstream.(interface{ Suspects() []string }); ok {
		st.Suspects = u.Suspects()
	}
	return st
}

// Warnings say why the journal takes no writes, though the gateway works, and what to do about it.
func (w *WriteBack) Warnings() (all []string) {
	if problem := w.Overlay.Problem(); problem != "" {
		all = append(all, "journal: "+problem)
	}
	if w.journal != nil {
		if err := w.journal.Stats().Problem; err != nil {
			all = append(all, "journal: "+err.Error()+remedy(err))
		}
	}
	return all
}

// remedy is what to do about a journal that takes no writes, to be put behind what is wrong with
// it.
func remedy(err error) string {
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

// AcceptDamage goes on with a journal that was found damaged.
func (w *WriteBack) AcceptDamage() error {
	if w.journal == nil {
		return nil
	}
	if err := w.journal.Accept(); err != nil {
		return err
	}
	w.pool.Again()
	return nil
}

// maxNotes bounds what Notes returns.
const maxNotes = 100

// Notes are the buckets whose rule `write = "back"` is not honoured, at most 100: those
// whose pending writes are not uploaded first.
func (w *WriteBack) Notes() []buckets.Note {
	if w.journal == nil {
		return nil
	}
	all := w.buckets.Notes(w.WritesBack, w.Overlay.Any)
	return all[:min(len(all), maxNotes)]
}

// ExplainWrite says why a rule `write = "back"` is not honoured for a key at present, as far as
// that is known without asking; "" if it is, or no rule says so.
func (w *WriteBack) ExplainWrite(key akigw.Key) string {
	if !w.acceptor.wanted(key) {
		return ""
	}
	if st := w.journal.Stats(); st.Problem != nil {
		return buckets.Journal.Meaning() + ": " + st.Problem.Error()
	}
	return w.buckets.Explain(key, w.Overlay.Any)
}

// ErrNotPaused: the pending writes of a bucket are not held back.
const ErrNotPaused = akigw.Error("pending writes of this bucket are not held back: see akigw status")

// ResumeFlush has the pending writes of a bucket uploaded in spite of what was found out about
// it. forget drops what else is known of the bucket, too: which unusual writes it refused, and
// that it gave another ETag than was promised.
func (w *WriteBack) ResumeFlush(bucket string, forget bool) error {
	if w.journal == nil {
		return ErrNotPaused
	}
	if forget {
		w.buckets.Reset(bucket)
	}
	if !w.buckets.Resume(bucket) && !forget {
		return ErrNotPaused
	}
	return nil
}
