// Package facts remembers what upstreams said about their buckets: whether a bucket exists, keeps
// versions, gives ETags that can be promised, and which unusual writes it has accepted. The facts
// survive a restart, so that writes to a known bucket can be acknowledged while the upstream does
// not respond.
//
// A fact is as old as the request that it came from. The package sends no requests, and does not
// decide how old a fact may be. Facts are a cache: an unreadable file is set aside, and everything
// is asked again. No method except Open, Run and Save uses the disk.
package facts

import (
	"container/list"
	"log/slog"
	"maps"
	"sync"
	"time"

	"github.com/akidb/akigw/internal/vfs"
)

// ID identifies a bucket as one account sees it at one endpoint.
type ID struct {
	// Endpoint is a number for the upstream's endpoint.
	Endpoint uint64
	// Account identifies the credentials that are used for the upstream. It is a hash: it contains
	// no secret, and no access key ID in the clear.
	Account string
	Bucket  string
}

// Reason says why writes to a bucket must go through to the upstream. The numbers are stored in the
// file and must not change.
type Reason byte

// The reasons.
const (
	None       Reason = iota // writes need not go through
	Absent                   // the bucket does not exist
	Forbidden                // the gateway may not ask about the bucket
	Versioned                // versioning is, or was, enabled
	Encrypted                // new objects are encrypted with KMS keys: their ETags cannot be promised
	OtherETags               // the upstream gave an object an ETag other than the promised one
	Unreadable               // the upstream's response was not understood
	reasons                  // number of reasons
)

var names = [reasons]string{"", "absent", "forbidden", "versioned", "encrypted", "etags", "unreadable"}

// String returns the name of the reason in metrics and the admin API, "" for None.
func (r Reason) String() string {
	if r < reasons {
		return names[r]
	}
	return "unreadable"
}

// Fact is what is known about one bucket.
type Fact struct {
	// Reason is the last answer, and Asked the time when its request was sent. Asked is zero if
	// there was no answer since the bucket was last changed.
	Reason Reason
	Asked  time.Time
	// Epoch is the number of the last change of the bucket through this gateway.
	Epoch uint64
	// OtherETags means that an object got an ETag other than the promised one. Only Reset clears
	// it.
	OtherETags bool
	// Resumed is the reason despite which pending writes are uploaded, by an operator's decision.
	Resumed Reason
	// Kinds records which unusual kinds of writes the upstream accepts. A kind that is missing is
	// unknown. The map is shared and must not be changed.
	Kinds map[string]bool
}

// Known reports whether there is an answer that is at most as old as most. An answer from the
// future, after the clock was set back, has an unknown age.
func (f *Fact) Known(now time.Time, most time.Duration) bool {
	age := now.Sub(f.Asked)
	return !f.Asked.IsZero() && age <= most && age > -maxSkew
}

// maxSkew is how far the clock may be set back before the age of facts is unknown.
const maxSkew = time.Hour

// Why returns the reason that applies to new writes.
func (f *Fact) Why() Reason {
	if f.Reason == None && f.OtherETags {
		return OtherETags
	}
	return f.Reason
}

// Record is a fact with the bucket that it is about.
type Record struct {
	ID
	Fact
}

// Limits of a Book. Buckets that do not exist or belong to someone else have their own limit: names
// that clients invent must not displace what is known about real buckets.
const (
	maxPresent = 10_000
	maxAbsent  = 1_000
	maxKinds   = 64 // of one bucket
)

// Book holds what is known about all buckets. Its methods are safe for concurrent use.
type Book struct {
	fs   vfs.FS
	path string // "" stores nothing
	log  *slog.Logger

	saving sync.Mutex    // one Save at a time
	soon   chan struct{} // something changed that should be on disk soon

	mu      sync.Mutex
	records map[ID]*list.Element // of *Record; guarded by mu
	present *list.List           // least recently used first; guarded by mu
	absent  *list.List           // likewise, for buckets that are absent, forbidden, or without an answer; guarded by mu
	epoch   uint64               // number of the last change of any bucket; guarded by mu
	floor   uint64               // the highest epoch of records that were dropped; guarded by mu
	changes uint64               // counts all changes of records; guarded by mu
	saved   uint64               // changes that are on disk; guarded by mu
	failing bool                 // the last save failed; guarded by mu
}

// New returns a book that is kept in memory only.
func New() *Book {
	return &Book{fs: vfs.Disk{}, soon: make(chan struct{}, 1), records: map[ID]*list.Element{}, present: list.New(), absent: list.New()}
}

// Get returns what is known about a bucket, and counts as a use of it. The zero Fact means that
// nothing is known.
func (b *Book) Get(id ID) Fact {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := b.records[id]
	if e == nil {
		return Fact{}
	}
	b.listLocked(e).MoveToBack(e)
	return e.Value.(*Record).Fact
}

// All returns all facts: those of absent and forbidden buckets first, and within each part the most
// recently used last.
func (b *Book) All() []Record {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.allLocked()
}

// Select returns the records of All for which keep returns true. keep must not call the book.
func (b *Book) Select(keep func(*Record) bool) (some []Record) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.eachLocked(func(r *Record) {
		if keep(r) {
			some = append(some, *r)
		}
	})
	return some
}

// allLocked is All for a caller that holds mu.
func (b *Book) allLocked() []Record {
	all := make([]Record, 0, len(b.records))
	b.eachLocked(func(r *Record) { all = append(all, *r) })
	return all
}

// eachLocked calls yield for each record, in the order of All.
func (b *Book) eachLocked(yield func(*Record)) {
	for _, l := range []*list.List{b.absent, b.present} {
		for e := l.Front(); e != nil; e = e.Next() {
			yield(e.Value.(*Record))
		}
	}
}

// Epoch returns the number to pass to Answer. Call it before sending the request.
func (b *Book) Epoch() uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.epoch
}

// Answer records the answer to a request that was sent at time asked, after Epoch returned epoch.
// It returns false, and records nothing, if the bucket was changed since: then the upstream must be
// asked again.
func (b *Book) Answer(id ID, epoch uint64, reason Reason, asked time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if e := b.records[id]; e == nil && b.floor > epoch || e != nil && e.Value.(*Record).Epoch > epoch {
		return false
	}
	b.changeLocked(id, func(f *Fact) (urgent bool) {
		urgent = f.Reason != reason || f.Asked.IsZero()
		if f.Resumed != reason { // what the operator agreed to no longer applies
			f.Resumed = None
		}
		f.Reason, f.Asked = reason, asked
		return urgent
	})
	return true
}

// Raise says that a bucket is being changed: answers to earlier requests are not recorded. What was
// known before remains valid until Forget.
func (b *Book) Raise(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch++
	b.changeLocked(id, func(f *Fact) bool {
		f.Epoch = b.epoch
		return true
	})
}

// Forget says that a bucket was, or may have been, changed. It drops the last answer, and keeps
// what was learned in other ways: OtherETags and Kinds.
func (b *Book) Forget(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch++
	b.changeLocked(id, func(f *Fact) bool {
		f.Epoch, f.Reason, f.Asked = b.epoch, None, time.Time{}
		return true
	})
}

// Reset drops everything known about a bucket, because it was deleted or an operator asked for it.
func (b *Book) Reset(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch++
	b.changeLocked(id, func(f *Fact) bool {
		*f = Fact{Epoch: b.epoch}
		return true
	})
}

// SetOtherETags records that an object of a bucket got an ETag other than the promised one.
func (b *Book) SetOtherETags(id ID) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changeLocked(id, func(f *Fact) bool {
		urgent := !f.OtherETags
		f.OtherETags = true
		return urgent
	})
}

// Resume records that pending writes of a bucket are uploaded despite a reason.
func (b *Book) Resume(id ID, reason Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.changeLocked(id, func(f *Fact) bool {
		f.Resumed = reason
		return true
	})
}

// SetKind records that the upstream accepts or refuses a kind of write to a bucket. What was
// refused once stays refused: of two writes of one kind it may accept only one.
func (b *Book) SetKind(id ID, kind string, accepted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var f Fact
	if e := b.records[id]; e != nil {
		f = e.Value.(*Record).Fact
	}
	if was, known := f.Kinds[kind]; known && (was == accepted || !was) || !known && len(f.Kinds) >= maxKinds {
		return // an unknown kind goes through, like a refused one
	}
	b.changeLocked(id, func(f *Fact) bool {
		kinds := maps.Clone(f.Kinds) // others may hold the old one
		if kinds == nil {
			kinds = map[string]bool{}
		}
		kinds[kind] = accepted
		f.Kinds = kinds
		return true
	})
}

// changeLocked changes a fact, which is created if necessary. do reports whether that should be on disk
// soon.
func (b *Book) changeLocked(id ID, do func(*Fact) (urgent bool)) {
	e := b.records[id]
	if e == nil {
		e = b.absent.PushBack(&Record{ID: id})
		b.records[id] = e
	}
	before := b.listLocked(e)
	r := e.Value.(*Record)
	urgent := do(&r.Fact)
	if after := b.listLocked(e); after != before {
		before.Remove(e)
		b.records[id] = after.PushBack(r)
	} else {
		before.MoveToBack(e)
	}
	b.trimLocked(b.present, maxPresent)
	b.trimLocked(b.absent, maxAbsent)
	b.changes++
	if urgent {
		select {
		case b.soon <- struct{}{}:
		default:
		}
	}
}

// listLocked returns the list that a record belongs to.
func (b *Book) listLocked(e *list.Element) *list.List {
	r := e.Value.(*Record)
	if (r.Asked.IsZero() || r.Reason == Absent || r.Reason == Forbidden) && !r.OtherETags && len(r.Kinds) == 0 {
		return b.absent
	}
	return b.present
}

// trimLocked drops the least recently used records of a list.
func (b *Book) trimLocked(l *list.List, most int) {
	for l.Len() > most {
		r := l.Remove(l.Front()).(*Record)
		delete(b.records, r.ID)
		b.floor = max(b.floor, r.Epoch)
	}
}
