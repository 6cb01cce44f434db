package server

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback"
)

// ErrPending is returned by Run if acknowledged writes were not uploaded in time. The data
// directory keeps them.
const ErrPending = akigw.Error("acknowledged writes are not upstream yet; the next start uploads them")

// drain uploads pending writes before the process ends, for timeout at most. It returns
// ErrPending if some are left.
func drain(writes *writeback.WriteBack, timeout time.Duration, show func(pending func() (int, int64), done <-chan struct{}), log *slog.Logger) error {
	pending := func() (int, int64) {
		st := writes.Status()
		return st.Pending, st.Bytes
	}
	n, bytes := pending()
	if n == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	log.Info("uploading acknowledged writes", "pending", n, "bytes", bytes)
	done := make(chan struct{})
	var shown sync.WaitGroup
	if show != nil {
		shown.Go(func() { show(pending, done) })
	}
	writes.DrainAll(ctx)
	close(done)
	shown.Wait()
	if n, bytes = pending(); n > 0 {
		log.Warn("acknowledged writes are not upstream yet; they are kept, and the next start uploads them", "pending", n, "bytes", bytes)
		return ErrPending
	}
	return nil
}
