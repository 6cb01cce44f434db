package tiers

import (
	"errors"
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// Access is one read of an object through the tiers, or one write into them: a line of a
// trace. Reads of what is pending are none, and what no tier may hold is not in a trace.
type Access struct {
	At int64 `json:"at"` // milliseconds since 1970
	// Bucket and Key are empty in a trace without names, and ID and Version are numbers by
	// which they are known again within one trace.
	Bucket  string `json:"bucket,omitempty"`
	Key     string `json:"key,omitempty"`
	ID      string `json:"id,omitempty"`
	Version string `json:"version"`
	Write   bool   `json:"write,omitempty"`
	Size    int64  `json:"size"`   // bytes of the object
	Block   int64  `json:"block"`  // bytes of a block
	Start   int64  `json:"start"`  // first byte that is read
	Length  int64  `json:"length"` // how many are
	// Outcome is the slowest tier that a read needed.
	Outcome akigw.Outcome `json:"outcome,omitempty"`
	// NoMemory and NoDisk say that rules keep the object out of a tier.
	NoMemory bool `json:"no_memory,omitempty"`
	NoDisk   bool `json:"no_disk,omitempty"`
}

// ErrTracing says that somebody else records at present.
var ErrTracing = errors.New("a trace is being recorded already")

// tracer takes accesses down. It keeps nobody waiting: what is not fetched in time is lost,
// and counted.
type tracer struct {
	accesses chan Access
	lost     atomic.Int64
	nameless bool
	seed     maphash.Seed
}

// Tracing is a trace that is being recorded.
type Tracing struct {
	tracer *tracer
	store  *Store
}

// Trace begins to record accesses, one trace at a time. With nameless no name or ETag is in
// it, only numbers that nobody can compute again. Close ends it.
func (s *Store) Trace(nameless bool) (*Tracing, error) {
	t := &tracer{accesses: make(chan Access, 1<<14), nameless: nameless, seed: maphash.MakeSeed()}
	if !s.tracer.CompareAndSwap(nil, t) {
		return nil, ErrTracing
	}
	return &Tracing{t, s}, nil
}

// Accesses are what is recorded, as it comes. It is never closed.
func (t *Tracing) Accesses() <-chan Access { return t.tracer.accesses }

// Lost is how many accesses are missing, because nobody fetched them in time.
func (t *Tracing) Lost() int64 { return t.tracer.lost.Load() }

// Close ends the trace.
func (t *Tracing) Close() { t.store.tracer.CompareAndSwap(t.tracer, nil) }

// trace takes an access down, if somebody records.
func (s *Store) trace(e *entry, settings *rules.Settings, read akigw.Range, outcome akigw.Outcome) {
	t := s.tracer.Load()
	if t == nil {
		return
	}
	a := Access{
		At: time.Now().UnixMilli(), Version: e.ETag, Write: outcome == "",
		Size: e.Size, Block: e.block, Start: read.Start, Length: read.Length, Outcome: outcome,
		NoMemory: !settings.Memory, NoDisk: !settings.Disk,
	}
	if t.nameless {
		a.ID = strconv.FormatUint(maphash.Comparable(t.seed, e.Key), 36)
		a.Version = strconv.FormatUint(maphash.String(t.seed, e.ETag), 36)
	} else {
		a.Bucket, a.Key = e.Key.Bucket, e.Key.Name
	}
	select {
	case t.accesses <- a:
	default:
		t.lost.Add(1)
	}
}
