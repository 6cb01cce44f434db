package server

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors/store"
	"github.com/akidb/akigw/writeback"
)

// ErrPending is returned by Run if acknowledged writes were not uploaded in time. The data
// directory keeps them.
const ErrPending = akigw.Error("acknowledged writes are not upstream yet; the next start uploads them")

// Pending is what was acknowledged and is not in the upstream.
type Pending struct {
	Writes int   // of objects
	Bytes  int64 // size of their bodies, and memory of the vectors
	// Vectors is how many vectors, deletions of vectors and changes of vector buckets and indexes there are.
	Vectors int
}

// drainer uploads what is pending before the process ends.
type drainer struct {
	writes  *writeback.WriteBack
	vectors *store.Store // nil: none
	log     *slog.Logger
}

func (d *drainer) pending() Pending {
	st := d.writes.Status()
	p := Pending{Writes: st.Pending, Bytes: st.Bytes}
	if d.vectors != nil {
		t := d.vectors.Totals()
		p.Vectors, p.Bytes = t.Pending, p.Bytes+t.PendingBytes
	}
	return p
}

// drain uploads for timeout at most. It returns ErrPending if something is left.
func (d *drainer) drain(timeout time.Duration, show func(pending func() Pending, done <-chan struct{})) error {
	p := d.pending()
	if p.Writes == 0 && p.Vectors == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	d.log.Info("uploading acknowledged writes", "pending", p.Writes, "pending_vectors", p.Vectors, "bytes", p.Bytes)
	done := make(chan struct{})
	var shown, uploads sync.WaitGroup
	if show != nil {
		shown.Go(func() { show(d.pending, done) })
	}
	if p.Vectors > 0 {
		uploads.Go(func() { d.flush(ctx) })
	}
	if p.Writes > 0 {
		d.writes.DrainAll(ctx)
	}
	uploads.Wait()
	close(done)
	shown.Wait()
	if p = d.pending(); p.Writes > 0 || p.Vectors > 0 {
		d.log.Warn("acknowledged writes are not upstream yet; they are kept, and the next start uploads them", "pending", p.Writes, "pending_vectors", p.Vectors, "bytes", p.Bytes)
		return ErrPending
	}
	return nil
}

// flushEvery is how long flush waits after a failure.
const flushEvery = time.Second

// flush uploads vectors, again after failures, until none are pending, ctx ends, or another gateway has
// the collections.
func (d *drainer) flush(ctx context.Context) {
	for {
		err := d.vectors.Flush(ctx)
		switch {
		case d.vectors.Totals().Pending == 0 || ctx.Err() != nil:
			return
		case store.InDanger(err) && d.vectors.Owner().Fenced:
			d.log.Error("acknowledged vectors cannot be uploaded", "error", err)
			return
		case err != nil && !errors.Is(err, context.DeadlineExceeded):
			d.log.Warn("acknowledged vectors could not be uploaded; it is tried again until write_back.drain_timeout_secs have passed", "error", err)
		}
		select {
		case <-time.After(flushEvery):
		case <-ctx.Done():
			return
		}
	}
}
