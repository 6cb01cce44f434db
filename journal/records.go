package journal

import (
	"fmt"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal/internal/spool"
)

// A record of a stream is an acknowledged change of something that is not an object, such as a
// collection of vectors. The journal does not know what it means: it keeps the record's bytes, in
// the order in which they were appended, until its owner says that they are in the upstream. Unlike
// an entry, a record never replaces another one.

// maxStream is the length in bytes of the longest name of a stream.
const maxStream = 1 << 10

// maxDone is how many numbers of records one journal record holds at most: about 1 MB.
const maxDone = 100_000

const (
	errStream = akigw.Error("the name of a stream in the journal is longer than 1024 bytes")
	errEnded  = akigw.Error("the prepared record was appended or discarded before")
)

// Record is a record of a stream.
type Record struct {
	// ID is the number of the record: later ones, of any stream, have higher numbers.
	ID uint64
	// Stream is the name of the stream, at most 1024 bytes. The journal compares it with nothing.
	Stream string
	// Size is the length of the body in bytes.
	Size int64
	// At is the time of the acknowledgement.
	At time.Time
}

// Held says how much a journal holds of something.
type Held struct {
	Number int
	Bytes  int64     // of their bodies
	Oldest time.Time // when the oldest was acknowledged; zero for none
}

// Records manages the records of streams in a journal.
type Records struct{ journal *Journal }

// Prepared is a record whose body is durable, or small enough for its journal record. It is for one
// goroutine, which must end it with Append or Discard.
type Prepared struct {
	journal *Journal
	op      *op // nil once it has ended
}

// Prepare makes d, which Journal.Receive has started, the body of a record that is not queued yet. It
// waits for the disk if the body is spooled. An error means that the journal accepts nothing now, or
// that the body could not be written; the journal is unchanged. Prepare always ends d.
func (r *Records) Prepare(d *Draft) (*Prepared, error) {
	o := &op{kind: kindRecord, put: &Entry{Size: d.Size()}}
	if err := r.journal.finish(d, o); err != nil {
		return nil, err
	}
	return &Prepared{r.journal, o}, nil
}

// Append queues the record as one of a stream, acknowledged at a time. Records are in the log in the
// order of the calls. Append does no I/O, so that callers may hold a lock to order their records.
//
// If Append returns nil, the goroutine that commits calls then once, in the order of the log, after
// the sync. then must not wait for the journal. Its error means that the record was not acknowledged:
// it may or may not survive a restart, but is not in All until then. If Append returns an error,
// nothing was queued, the body is dropped, and then is not called.
func (p *Prepared) Append(stream string, at time.Time, then func(Record, error)) error {
	o := p.op
	if o == nil {
		return errEnded
	}
	if len(stream) > maxStream {
		p.Discard()
		return errStream
	}
	p.op = nil
	o.key = akigw.Key{Name: stream}
	o.put.Key, o.put.Modified = o.key, at
	err := p.journal.committer.enqueue(&writing{ops: []*op{o}, then: func(err error) {
		if err != nil {
			then(Record{}, err)
			return
		}
		then(recordOf(o.put), nil)
	}})
	if err != nil {
		p.journal.spool.Discard(o.own())
	}
	return err
}

// Discard drops a record that will not be appended. It does nothing after Append.
func (p *Prepared) Discard() {
	if p.op != nil {
		p.journal.spool.Discard(p.op.own())
		p.op = nil
	}
}

// Append is Prepare and Prepared.Append in one. Calls that overlap are ordered by the time at which
// their bodies are durable.
func (r *Records) Append(d *Draft, stream string, at time.Time, then func(Record, error)) error {
	p, err := r.Prepare(d)
	if err != nil {
		return err
	}
	return p.Append(stream, at, then)
}

func recordOf(e *Entry) Record { return Record{e.ID, e.Key.Name, e.Size, e.Modified} }

// All calls yield with the records of all streams in the order of their numbers, until it returns
// false. yield may call the journal: a record that leaves meanwhile may be seen or not, and one that
// is appended meanwhile as well.
func (r *Records) All(yield func(Record) bool) {
	for next, more := uint64(0), true; more; {
		var page []Record
		page, next, more = r.journal.table.recordsFrom(next)
		for _, one := range page {
			if !yield(one) {
				return
			}
		}
	}
}

// recordsFrom returns a page of records, starting at a number, and where the next page starts.
func (t *table) recordsFrom(from uint64) (page []Record, next uint64, more bool) {
	const size = 256
	t.read(func(s *state) {
		s.streams.live.Ascend(from, func(n uint64, it *item) bool {
			if more = len(page) == size; more {
				next = n
				return false
			}
			page = append(page, recordOf(it.entry))
			return true
		})
	})
	return page, next, more
}

// Body opens the body of a record, which the caller must close. Every byte that it returns has been
// verified. The error, also that of a read, wraps akigw.ErrChecksum if the body is damaged, in both
// directories if there are two. It is ErrGone if the record has left the journal.
func (r *Records) Body(rec Record) (*spool.Body, error) {
	var e *Entry
	r.journal.table.read(func(s *state) {
		if it, ok := s.streams.live.Get(rec.ID); ok {
			e = it.entry
		}
	})
	if e == nil {
		return nil, fmt.Errorf("record %d of stream %q: %w", rec.ID, rec.Stream, ErrGone)
	}
	return r.journal.bodies.open(e, 0, e.Size)
}

// Done says that records, given by their numbers, are in the upstream: they leave the journal. Ones
// that have left before are ignored. This is written with the next sync that somebody waits for, or
// within a tenth of a second, also while the disk is full. If Done returns nil, the goroutine that
// commits calls then with the result; then must not wait for the journal. After a crash before that,
// or an error, some or all of the records may be there again, so their owner must recognise what the
// upstream has. Done does not keep records.
func (r *Records) Done(records []uint64, then func(error)) error {
	sorted := slices.Clone(records)
	slices.Sort(sorted)
	sorted = slices.DeleteFunc(slices.Compact(sorted), func(n uint64) bool { return n == 0 }) // no record has the number 0
	ops := []*op{{kind: kindRecordsDone, done: sorted[:min(len(sorted), maxDone)]}}
	for at := maxDone; at < len(sorted); at += maxDone {
		ops = append(ops, &op{kind: kindRecordsDone, done: sorted[at:min(len(sorted), at+maxDone)]})
	}
	return r.journal.committer.enqueue(&writing{ops: ops, then: then, patient: true})
}
