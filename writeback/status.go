package writeback

import (
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/writeback/buckets"
)

// Status is the state of the write-back.
type Status struct {
	// Stats are the journal's. Its Problem also says why there is no journal although there should
	// be one.
	journal.Stats
	uploadpool.Progress
	Broken []string // buckets whose breakers are open
	// Suspects are the names of the upstreams that have stopped responding.
	Suspects []string
	// PausedBuckets is the number of buckets whose pending writes are held back until an operator
	// decides.
	PausedBuckets int
}

// Status returns the current state: the zero Status if nothing is written back.
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

// Warnings says why the journal accepts no writes although the gateway runs, and what to do about
// it.
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

// remedy says what to do about a journal that accepts no writes. It is appended to the problem.
func remedy(err error) string {
	switch {
	case errors.Is(err, journal.ErrMoved):
		return "; bring the directory back, and restart the gateway"
	case errors.Is(err, journal.ErrFailed):
		return "; repair the disk, and restart the gateway"
	case errors.Is(err, journal.ErrDamaged):
		return "; look at the damage, then run: akigw journal accept"
	case errors.Is(err, journal.ErrFull):
		return "; free some space, or remount the disk read-write, and the journal resumes by itself"
	}
	return ""
}

// AcceptDamage resumes a journal that was found damaged.
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

// Notes returns the buckets whose rule `write = "back"` is not honoured, at most 100, those whose
// pending writes are not uploaded first.
func (w *WriteBack) Notes() []buckets.Note {
	if w.journal == nil {
		return nil
	}
	all := w.buckets.Notes(w.WritesBack, w.Overlay.Any)
	return all[:min(len(all), maxNotes)]
}

// ExplainWrite says why a rule `write = "back"` is currently not honoured for a key, as far as that
// is known without asking the upstream; "" if it is honoured, or there is no such rule.
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

// ResumeFlush uploads the pending writes of a bucket despite what was learned about it. forget also
// drops everything else that is known about the bucket: which unusual writes it refused, and that
// it gave an ETag other than the promised one.
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
