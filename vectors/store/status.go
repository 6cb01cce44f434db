package store

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/vectors/remote"
)

// Status is the condition of a collection, for operators.
type Status struct {
	Bucket string `json:"bucket"`
	Index  string `json:"index"`
	Tier   Tier   `json:"tier"`
	// Pinned is the tier that an operator keeps it in, "" for none.
	Pinned string `json:"pinned,omitempty"`
	// Vectors is how many vectors it has; -1 while it is cold: what is deleted is not known then.
	Vectors   int64 `json:"vectors"`
	Dimension int   `json:"dimension"`
	// Pending is the memory of vectors that are not in the upstream yet, in bytes, and Oldest when the
	// first of them was acknowledged.
	Pending int64 `json:"pending_bytes"`
	// Rows is how many vectors and deletions these are.
	Rows   int       `json:"pending_vectors"`
	Oldest time.Time `json:"oldest,omitzero"`
	// Stored is the size of its segments in the upstream, in bytes, and Segments how many it has.
	Stored   int64 `json:"stored_bytes"`
	Segments int   `json:"segments"`
	// Searches is how many searches there were in the window of the tiering policy, LastUse when it was
	// used last.
	Searches int       `json:"recent_searches"`
	LastUse  time.Time `json:"last_use,omitzero"`
	// Degraded says why it is read-only, "" if it is not.
	Degraded string `json:"degraded,omitempty"`
}

// Statuses returns the condition of all collections, by bucket and index.
func (s *Store) Statuses() []Status {
	var all []Status
	for _, e := range s.catalog.current.Load().indexes {
		all = append(all, s.status(e.collection))
	}
	slices.SortFunc(all, func(a, b Status) int {
		return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Index, b.Index))
	})
	return all
}

func (s *Store) status(c *collection) Status {
	snap, state := c.snapshot(), c.state()
	st := Status{Bucket: c.index.Bucket, Index: c.index.Name, Dimension: c.index.Dimension, Tier: snap.tier, Vectors: -1, Stored: c.stored(), Segments: len(state.refs()), Degraded: c.problem()}
	if snap.tier != Cold {
		st.Vectors = snap.count()
	}
	st.Pending, st.Oldest = c.pending()
	st.Rows = c.rows()
	st.Searches, st.LastUse = c.use.state(s.now())
	if tier, ok := s.pins.get(c); ok {
		st.Pinned = tier.String()
	}
	return st
}

// Problem returns what an operator should look at, nil if all is well.
func (s *Store) Problem() error {
	err := s.session.problem()
	for _, e := range s.catalog.current.Load().indexes {
		if reason := e.collection.problem(); reason != "" {
			err = errors.Join(err, fmt.Errorf("%w: %s in vector bucket %s: %s", ErrDegraded, e.Name, e.Bucket, reason))
		}
	}
	return err
}

// ErrDegraded: a collection is damaged in the upstream, and was restored to an earlier state.
const ErrDegraded = akigw.Error("a vector collection is read-only")

// Owner is who has the prefix in the upstream.
type Owner struct {
	// Gateway is this gateway, and Writer the one that has the prefix as far as it is known, "" if not.
	Gateway string    `json:"gateway"`
	Writer  string    `json:"writer,omitempty"`
	Epoch   uint64    `json:"epoch,omitempty"`
	Since   time.Time `json:"since,omitzero"`
	// Loaded says that collections can be read here, and Fenced that none can be written.
	Loaded bool `json:"loaded"`
	Fenced bool `json:"fenced"`
}

// Owner returns who has the prefix. It does not ask the upstream.
func (s *Store) Owner() Owner { return s.session.holder() }

// Totals are the sums over all collections.
type Totals struct {
	Collections int `json:"collections"`
	Hot         int `json:"hot"`
	Warm        int `json:"warm"`
	Cold        int `json:"cold"`
	// Pending is how many vectors, deletions and changes of the catalog are not in the upstream, or how
	// many calls while nothing is loaded. PendingBytes is their memory, and Oldest when the first was
	// acknowledged.
	Pending      int       `json:"pending"`
	PendingBytes int64     `json:"pending_bytes"`
	Oldest       time.Time `json:"oldest,omitzero"`
	// Stored is the size of the segments in the upstream, in bytes.
	Stored int64 `json:"stored_bytes"`
	// HotBytes is the memory of hot collections.
	HotBytes int64 `json:"hot_bytes"`
}

// Totals returns the sums over all collections.
func (s *Store) Totals() (t Totals) {
	_, t.HotBytes = s.memory.used()
	if s.session.ready() != nil {
		s.journal.Records.All(func(journal.Record) bool { t.Pending++; return true })
		return t
	}
	t.Pending = s.catalog.unwritten()
	for _, e := range s.catalog.current.Load().indexes {
		c := e.collection
		state := c.state()
		t.Collections++
		*[...]*int{&t.Cold, &t.Warm, &t.Hot}[state.tier]++
		bytes, oldest := c.pending()
		t.Pending, t.PendingBytes, t.Stored = t.Pending+c.rows(), t.PendingBytes+bytes, t.Stored+c.stored()
		if !oldest.IsZero() && (t.Oldest.IsZero() || oldest.Before(t.Oldest)) {
			t.Oldest = oldest
		}
	}
	return t
}

// unwritten returns how many changes the catalog object does not have.
func (c *catalog) unwritten() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.records)
}

// rows returns how many rows are not in the upstream.
func (c *collection) rows() (n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.settle()
	n = c.active.rows.Len()
	if c.frozen != nil {
		n += c.frozen.rows.Len()
	}
	return n
}

// InDanger reports whether a problem means that acknowledged vectors may be lost, or that another gateway
// has the collections: it does not end by itself, as an outage of the upstream does.
func InDanger(problem error) bool {
	return errors.Is(problem, ErrDegraded) || errors.Is(problem, remote.ErrFenced) || errors.Is(problem, remote.ErrOwned)
}
