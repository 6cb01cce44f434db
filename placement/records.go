package placement

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

const (
	// flushEvery is how often counts are written to disk, at least.
	flushEvery = time.Minute
	// orphanAge is how long the access record of a key without an object is kept: an object may be
	// about to be written.
	orphanAge = 24 * time.Hour
)

// records are the access statistics of objects: the counts of Accesses added to what is on disk
// next to the catalog. Without a warm tier they are only the former.
type records struct {
	accesses *Accesses
	store    *tiers.Store
	log      *slog.Logger

	flushing sync.Mutex // one flush at a time; guards orphans
	orphans  []string   // places of records that the next flush removes
}

func newRecords(accesses *Accesses, store *tiers.Store, log *slog.Logger) *records {
	if store.HasDisk() {
		accesses.most.Store(4 * maxCounted)
	}
	return &records{accesses: accesses, store: store, log: log}
}

// of returns the usage of an object.
func (r *records) of(key akigw.Key) usage {
	key = key.Current()
	for {
		flushes := r.accesses.shard(key).flushes.Load()
		if u, ok := r.accesses.with(key, decodeUsage(r.store.Accesses(key)), flushes); ok {
			return u
		}
	}
}

// reader returns a function that tells the usage of an object from its record on disk, which was
// read after the call of reader. It reads the record again if a flush has ended since.
func (r *records) reader() func(key akigw.Key, record []byte) usage {
	var flushes [accessShards]uint64 // when reader was called
	for i := range flushes {
		flushes[i] = r.accesses.shards[i].flushes.Load()
	}
	return func(key akigw.Key, record []byte) usage {
		if u, ok := r.accesses.with(key, decodeUsage(record), flushes[r.accesses.index(key.Current())]); ok {
			return u
		}
		return r.of(key)
	}
}

// run flushes until ctx ends.
func (r *records) run(ctx context.Context) {
	timer := time.NewTicker(flushEvery)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-r.accesses.full:
		case <-ctx.Done():
			return
		}
		if err := r.flush(); err != nil {
			r.log.Warn("could not write access statistics to disk", "error", err)
		}
	}
}

// flush writes the counts to disk, and removes orphans.
func (r *records) flush() error {
	if !r.store.HasDisk() {
		return nil
	}
	r.flushing.Lock()
	defer r.flushing.Unlock()
	for i := range r.accesses.shards {
		if err := r.flushShard(&r.accesses.shards[i]); err != nil {
			return err
		}
	}
	orphans := r.orphans
	r.orphans = nil
	return r.store.DropAccesses(orphans)
}

// flushShard writes the counts of a shard. If that fails they are lost; they are only statistics.
func (r *records) flushShard(s *accessShard) error {
	counted := s.beginFlush()
	defer s.endFlush()
	sums, keys, values := r.sums(counted)
	s.sum(sums)
	return r.store.PutAccesses(keys, values)
}

// sums adds counts to what is on disk, and returns the records to write, decoded and encoded.
func (r *records) sums(counted map[akigw.Key]*usage) (sums map[akigw.Key]*usage, keys []akigw.Key, values [][]byte) {
	sums = make(map[akigw.Key]*usage, len(counted))
	for key, u := range counted {
		all := decodeUsage(r.store.Accesses(key))
		all.add(*u)
		sums[key], keys, values = &all, append(keys, key), append(values, appendUsage(nil, all))
	}
	return sums, keys, values
}

// orphaned schedules the record of a key without an object for removal, once it is old.
func (r *records) orphaned(k tiers.Known) {
	if decodeUsage(k.Accesses).idle(time.Now()) < orphanAge {
		return
	}
	r.flushing.Lock()
	defer r.flushing.Unlock()
	if len(r.orphans) < maxCounted {
		r.orphans = append(r.orphans, k.Place)
	}
}
