package store

import (
	"bytes"
	"context"
	"slices"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
	"github.com/akidb/akigw/vectors/part"
	"github.com/akidb/akigw/vectors/search"
)

// snapshot is the state of a collection at one moment. It does not change; a block of a warm part may
// be evicted all the same, which is an error for which errors.Is(err, part.ErrMissing).
type snapshot struct {
	index vectors.Index
	tier  Tier
	mems  []tree // newest first
	parts []held
	alive []search.Bitmap // rows of each part that nothing overrides
	rows  func() []*row   // the vectors in mems, in the order of the collection
}

// merged returns the vectors in memtables of which the earlier ones override the later ones.
func merged(mems []tree) (rows []*row) {
	for i, m := range mems {
		m.Scan(func(r *row) bool {
			overridden := slices.ContainsFunc(mems[:i], func(newer tree) bool { return find(newer, r.hash, r.key) != nil })
			if !r.deleted && !overridden {
				rows = append(rows, r)
			}
			return true
		})
	}
	if len(mems) > 1 {
		slices.SortFunc(rows, compare)
	}
	return rows
}

// get returns the vector of a key, false if there is none.
func (s *snapshot) get(key string) (vectors.Vector, bool, error) {
	hash := vectors.HashKey(key)
	for _, m := range s.mems {
		if r := find(m, hash, key); r != nil {
			return r.vector(), !r.deleted, nil
		}
	}
	for i, p := range s.parts {
		if at, ok := position(p.Hashes(), hash); ok && s.alive[i].Get(uint32(at)) {
			v, err := s.row(i, at)
			return v, err == nil, err
		}
	}
	return vectors.Vector{}, false, nil
}

// row returns a row of a part. Its slices belong to the caller, or are never changed.
func (s *snapshot) row(number, at int) (vectors.Vector, error) {
	r, err := s.parts[number].Row(at)
	if err != nil {
		return vectors.Vector{}, err
	}
	return vectors.Vector{Key: r.Key, Data: r.Data, Metadata: r.Metadata}, nil
}

// place is a vector's place in a snapshot: in a part, or among the rows of the memtables if number
// is that of no part.
type place struct {
	hash       vectors.Hash
	number, at int
}

// after returns the places of the first vectors whose hashes are above a hash and at most last, in
// order, at most limit of them. A nil hash is below all hashes.
func (s *snapshot) after(hash *vectors.Hash, last vectors.Hash, limit int) (places []place) {
	start := func(hashes []vectors.Hash) int {
		if hash == nil {
			return 0
		}
		at, found := position(hashes, *hash)
		if found {
			at++
		}
		return at
	}
	for i, p := range s.parts {
		hashes := p.Hashes()
		for at, n := start(hashes), 0; at < len(hashes) && n < limit; at++ {
			if bytes.Compare(hashes[at][:], last[:]) > 0 {
				break
			}
			if s.alive[i].Get(uint32(at)) {
				places = append(places, place{hashes[at], i, at})
				n++
			}
		}
	}
	rows := s.rows()
	at := 0
	if hash != nil {
		at, _ = slices.BinarySearchFunc(rows, *hash, func(r *row, h vectors.Hash) int {
			if c := bytes.Compare(r.hash[:], h[:]); c != 0 {
				return c
			}
			return -1
		})
	}
	for n := 0; at < len(rows) && n < limit && bytes.Compare(rows[at].hash[:], last[:]) <= 0; at, n = at+1, n+1 {
		places = append(places, place{rows[at].hash, len(s.parts), at})
	}
	slices.SortFunc(places, func(a, b place) int { return bytes.Compare(a.hash[:], b.hash[:]) })
	return places[:min(limit, len(places))]
}

// at returns the vector at a place.
func (s *snapshot) at(p place) (vectors.Vector, error) {
	if p.number == len(s.parts) {
		return s.rows()[p.at].vector(), nil
	}
	return s.row(p.number, p.at)
}

// query returns the nearest vectors to v that pass the filter (nil: all), at most k, ordered by distance
// and key.
func (s *snapshot) query(ctx context.Context, v []float32, k int, filter *meta.Filter) ([]vectors.Hit, error) {
	q := search.NewQuery(part.MetricOf(s.index.Metric), v)
	rows := s.rows()
	parts := make([]part.Part, len(s.parts))
	for i, p := range s.parts {
		parts[i] = p.Part
	}
	keys := part.NewKeys(parts)
	defer keys.Release()
	top := search.NewTop(k, func(number int, at uint32) []byte {
		if number == len(s.parts) {
			return []byte(rows[at].key)
		}
		return keys.Key(number, at)
	})
	for i, p := range s.parts {
		if err := p.Search(ctx, q, top, i, s.alive[i], filter); err != nil {
			return nil, err
		}
	}
	for at, r := range rows {
		if filter == nil || filter.Match(r.metadata) {
			top.Offer(q.Distance(r.data, r.norm), len(s.parts), uint32(at))
		}
	}
	results := top.Results()
	if err := keys.Err(); err != nil {
		return nil, err
	}
	hits := make([]vectors.Hit, 0, len(results))
	for _, c := range results {
		v, err := s.at(place{number: c.Part, at: int(c.Row)})
		if err != nil {
			return nil, err
		}
		hits = append(hits, vectors.Hit{Vector: v, Distance: c.Distance})
	}
	return hits, nil
}

// count returns how many vectors there are.
func (s *snapshot) count() (n int64) {
	for _, alive := range s.alive {
		n += int64(alive.Count())
	}
	return n + int64(len(s.rows()))
}
