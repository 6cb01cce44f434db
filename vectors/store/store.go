// Package store keeps vector collections: what vector buckets and indexes there are, the acknowledged
// vectors of each, and the tier in which it is searched.
//
// A call is acknowledged when its record is synced to the journal; from then on every read sees it, and
// it survives any crash. A flush uploads the acknowledged rows of a collection as a segment (Parquet),
// verifies it, commits a manifest that names it, and then lets the records leave the journal. Segments
// are merged when later ones have too much of the collection. The upstream has everything that was
// flushed: a gateway with an empty data directory continues from it. One gateway at a time may write to
// a prefix of the upstream, see remote.
//
// A hot collection is searched in memory, a warm one on local disk. A cold one has only its segments in
// the upstream: a read promotes it to warm first. What is not flushed yet is in memory in any tier.
package store

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/remote"
	"github.com/akidb/akigw/vectors/segment"
)

// Options are what a Store is built from.
type Options struct {
	Config vectors.Config
	// Tiering says when collections move between the tiers by themselves.
	Tiering Tiering
	// Dir is a directory for the store alone: copies of documents, and files while they are made.
	Dir string
	FS  vfs.FS
	// Writer identifies this gateway among those that may use the prefix. It is the same after a restart,
	// and another one for another data directory.
	Writer string
	// Journal has the acknowledged calls. All its records of streams are the store's.
	Journal *journal.Journal
	// Upstream has the segments, and Sender uploads large ones in parts; nil: in one piece.
	Upstream cold.Doer
	Sender   remote.Sender
	// Warm holds the collections of the warm tier. The store uses it alone; its owner runs and closes it.
	Warm *warm.Tier
	Log  *slog.Logger
	// Metrics is the set of the store's metrics, nil for none.
	Metrics *metrics.Set
	// Now is the clock; nil: time.Now.
	Now func() time.Time
}

// Store keeps vector collections. Its methods are safe for concurrent use.
type Store struct {
	*core
	*changes
	*calls
	*tierer
	*flusher
	*loader
}

// core is what all parts of a store share.
type core struct {
	config  vectors.Config
	tiering Tiering
	journal *journal.Journal
	local   *local
	warm    *warm.Tier
	log     *slog.Logger
	now     func() time.Time

	session *session
	catalog *catalog
	memory  *memory
	work    *work
	extents *extents
	pins    *pins
	orphans *orphans
	strays  *strays
	counters
}

// The parts of a store have one job each.
type (
	// changes creates, changes and deletes vector buckets and indexes, and says which there are.
	changes struct{ *core }
	// calls puts, deletes and finds vectors.
	calls struct{ *tierer }
	// tierer moves collections between the tiers.
	tierer struct {
		*core
		promotions
		// flushFirst uploads what of a collection is in memory only. The collection's turn is taken.
		flushFirst func(context.Context, *collection) error
	}
	// flusher uploads, merges and removes what collections have in the upstream.
	flusher struct{ *tierer }
	// loader brings back what there was when the store was used last.
	loader struct{ *core }
)

// Open returns a store that refuses calls until Run has loaded what there is.
func Open(o Options) (*Store, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	l, err := openLocal(o.FS, o.Dir)
	if err != nil {
		return nil, fmt.Errorf("vectors: %w", err)
	}
	kept, err := openPins(o.FS, o.Dir)
	if err != nil {
		return nil, err
	}
	shared := &core{
		config: o.Config, tiering: o.Tiering, journal: o.Journal, local: l, warm: o.Warm, log: o.Log, now: o.Now,
		session: newSession(o), catalog: newCatalog(), memory: &memory{limit: int64(o.Config.MemoryBytes)}, work: newWork(), extents: &extents{tier: o.Warm}, pins: kept, orphans: &orphans{}, strays: &strays{},
	}
	mover := &tierer{core: shared}
	uploader := &flusher{mover}
	mover.flushFirst = uploader.flushRows
	s := &Store{core: shared, changes: &changes{shared}, calls: &calls{mover}, tierer: mover, flusher: uploader, loader: &loader{shared}}
	s.register(o.Metrics)
	return s, nil
}

// Run loads what there is, and then flushes, merges and moves collections until ctx ends. The error is
// nil.
func (s *Store) Run(ctx context.Context) error {
	defer s.promotions.end()
	if !s.load(ctx) {
		return nil
	}
	var tasks sync.WaitGroup
	defer tasks.Wait()
	tasks.Go(func() { s.flushing(ctx) })
	tasks.Go(func() { s.tierings(ctx) })
	tasks.Go(func() { s.sweeping(ctx) })
	tasks.Go(func() { s.guarding(ctx) })
	<-ctx.Done()
	s.work.wait()
	return nil
}

// writable returns a collection that accepts writes, or why there is none. One that adds vectors needs
// room in the upstream; deletions make room.
func (s *calls) writable(bucket, index string, adds bool) (*collection, error) {
	if err := s.session.accepting(); err != nil {
		return nil, err
	}
	e, err := s.catalog.current.Load().index(bucket, index)
	if err != nil {
		return nil, err
	}
	if reason := e.collection.problem(); reason != "" {
		return nil, &vectors.Error{Code: vectors.Unavailable, Message: "The index is read-only: " + reason}
	}
	if limit := int64(s.config.StorageBytes); adds && limit > 0 && s.stored() >= limit {
		return nil, vectors.Errorf(vectors.QuotaExceeded, "The vector collections have reached their limit of %d bytes.", limit)
	}
	return e.collection, nil
}

// stored returns the bytes that the segments of all collections occupy in the upstream.
func (s *core) stored() (n int64) {
	for _, e := range s.catalog.current.Load().indexes {
		n += e.collection.stored()
	}
	return n
}

// collectionOf is where an index is in the upstream.
func collectionOf(i *vectors.Index) remote.Collection {
	return remote.CollectionOf(segment.HeadOf(i))
}

// temporary is the directory for files that do not outlive the process.
func temporary(dir string) string { return filepath.Join(dir, "tmp") }

func itoa(n int) string { return strconv.Itoa(n) }

// errStopped reports whether an error only says that the store is being stopped.
func errStopped(ctx context.Context, err error) bool {
	return err != nil && ctx.Err() != nil && errors.Is(err, context.Cause(ctx))
}
