// Package overlay shows pending writes to readers: what a key holds once the journal has
// acknowledged a PUT or a DELETE that the upstream does not have yet, what a listing has to merge
// in, and under which ETag and date clients know an object to which the upstream gave others.
//
// It only reads the journal, except that it drops translations of objects that no longer exist. It
// decides nothing: package writeback decides which writes are acknowledged and when they are
// uploaded.
package overlay

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// Upstream sends requests.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
}

// Overlay is the pending writes of a journal as reads see them. It implements tiers.Overlay. All
// methods except Close are safe for concurrent use.
type Overlay struct {
	journal  *journal.Journal // nil: nothing is written back
	problem  string
	upstream Upstream

	// Translations are dropped in the background, until Close.
	ctx    context.Context
	cancel context.CancelFunc
	work   sync.WaitGroup
}

// New returns the overlay of a journal. Close closes the journal. Packs that no tier may hold are
// read from the upstream.
func New(j *journal.Journal, upstream Upstream) *Overlay {
	o := &Overlay{journal: j, upstream: upstream}
	o.ctx, o.cancel = context.WithCancel(context.Background())
	return o
}

// Off returns an overlay without a journal: nothing is ever pending. problem says why there is no
// journal although there should be one, "" if there should be none.
func Off(problem string) *Overlay {
	o := New(nil, nil)
	o.problem = problem
	return o
}

// Close closes the journal. No other method may be running.
func (o *Overlay) Close() error {
	o.cancel()
	o.work.Wait()
	if o.journal == nil {
		return nil
	}
	return o.journal.Close()
}

// Journal returns the journal, nil if there is none.
func (o *Overlay) Journal() *journal.Journal { return o.journal }

// Problem says why there is no journal although there should be one, "" for no problem.
func (o *Overlay) Problem() string { return o.problem }

// last returns the pending change of a key, nil for none. A key with a version never has one.
func (o *Overlay) last(key akigw.Key) *journal.Entry {
	if o.journal == nil || key.Version != "" {
		return nil
	}
	return o.journal.Last(key)
}

// Size returns the size in bytes of the object that a key holds after its pending change, 0 for a
// deletion; false if none is pending.
func (o *Overlay) Size(key akigw.Key) (n int64, ok bool) {
	e := o.last(key.Current())
	if e == nil {
		return 0, false
	}
	return e.Size, true
}

// each calls yield with the pending changes of a bucket in key order, starting at from, until yield
// returns false.
func (o *Overlay) each(bucket, from string, yield func(*journal.Entry) bool) {
	if o.journal != nil {
		o.journal.Ascend(bucket, from, yield)
	}
}

// Bytes returns the total size of the pending objects of a bucket.
func (o *Overlay) Bytes(bucket string) (sum int64) {
	o.each(bucket, "", func(e *journal.Entry) bool {
		sum += e.Size
		return true
	})
	return sum
}

// Any reports whether a change of a bucket is pending.
func (o *Overlay) Any(bucket string) (any bool) {
	o.each(bucket, "", func(*journal.Entry) bool {
		any = true
		return false
	})
	return any
}

// Change is a pending change of a key, as listings need it.
type Change struct {
	Name     string
	Deleted  bool
	Size     int64 // bytes
	ETag     string
	Modified time.Time
}

// Changes returns up to limit pending changes of a bucket in key order, for keys with prefix,
// starting at from. more means that others follow.
func (o *Overlay) Changes(bucket, prefix, from string, limit int) (all []Change, more bool) {
	o.each(bucket, max(prefix, from), func(e *journal.Entry) bool {
		if !strings.HasPrefix(e.Key.Name, prefix) {
			return false
		}
		if more = len(all) == limit; more {
			return false
		}
		all = append(all, Change{e.Key.Name, e.Deleted, e.Size, e.ETag, e.Modified})
		return true
	})
	return all, more
}
