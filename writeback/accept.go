package writeback

import (
	"context"
	"net/http"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/buckets"
	"github.com/akidb/akigw/writeback/overlay"
)

// Accept starts a PUT of size bytes, with these headers, that the journal will acknowledge. It
// returns nil if the write must go through to the upstream: no rule wants it written back, the
// bucket is versioned, the upstream has not accepted a write of such an unusual kind yet, or the
// journal accepts no more. An error means that the write cannot go through either.
func (w *WriteBack) Accept(ctx context.Context, key akigw.Key, size int64, header http.Header) (*Write, error) {
	if !w.acceptor.wanted(key) {
		return nil, nil
	}
	size = max(size, 0)
	epoch := w.buckets.Epoch(key.Bucket) // before asking about the bucket
	if ok, err := w.acceptor.accepts(ctx, key, size, header); !ok {
		return nil, err
	}
	return &Write{acceptor: w.acceptor, cache: w.cache, hashers: w.hashers, key: key, draft: w.journal.Receive(size), size: size, epoch: epoch}, nil
}

// Remove acknowledges the deletion of at least one key of one bucket in the journal. It returns
// false if the deletion must go through, for one of the reasons of Accept.
func (w *WriteBack) Remove(ctx context.Context, keys []akigw.Key) (bool, error) {
	for _, key := range keys {
		if !w.acceptor.wanted(key) {
			return false, nil
		}
	}
	for _, key := range keys[1:] { // accepts checks the first one, which stands for the bucket
		if w.acceptor.unusual(key, nil) {
			return false, nil
		}
	}
	if ok, err := w.acceptor.accepts(ctx, keys[0], 0, nil); !ok {
		return false, err
	}
	replaced(w.cache, keys...)
	return true, w.acceptor.acknowledged(w.journal.Delete(ctx, keys, now()))
}

// Through counts a write that goes through although a rule wants it written back, because it asks
// for more than the journal can promise. Other reasons are counted where they are decided.
func (w *WriteBack) Through(key akigw.Key) {
	if w.acceptor.wanted(key) {
		w.counters.through[buckets.Request].Inc()
	}
}

// Accepted says that the upstream accepted a write that went through: the journal may acknowledge
// the next write of its kinds.
func (w *WriteBack) Accepted(key akigw.Key, header http.Header) {
	if w.acceptor.wanted(key) {
		w.buckets.Accepted(key, header)
	}
}

// replaced drops the cached data of keys whose change the journal is about to acknowledge.
//
// Its changes of the cache end before that, although what is acknowledged replaces the data only then. A
// read in between caches the old object again, which does no harm: reads find the pending change first,
// and its upload drops what is cached. But the upload may begin before the goroutine that waits for the
// journal runs again. If that one had a change of the key open, the cache could not tell the two apart,
// and would keep nothing of what was uploaded.
func replaced(cache overlay.Cache, keys ...akigw.Key) {
	for _, key := range keys {
		cache.Begin(key).End()
	}
}
