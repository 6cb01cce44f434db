package tiers

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
)

// Listing is the upstream's answer to a listing. It is shared and must not be
// changed.
type Listing struct {
	Header  http.Header
	Body    []byte
	Outcome akigw.Outcome
	// Age is the time since the upstream was asked.
	Age time.Duration

	asked time.Time
	epoch uint64
}

// maxListing is the largest listing in bytes that is kept: a thousand long keys
// fit.
const maxListing = 4 << 20

// epochs count the changes of each bucket, those that begin and those that end.
// Buckets can share a counter.
const epochs = 1024

// epoch counts the changes of a bucket through this gateway, and those that it
// heard of.
func (s *Store) epoch(bucket string) *atomic.Uint64 {
	return &s.listEpochs[xxhash.Sum64String(bucket)%epochs]
}

// ChangeBucket says that a bucket is being created, deleted or configured: listings of it from
// before end are not used any more.
func (s *Store) ChangeBucket(bucket string) (end func()) {
	s.epoch(bucket).Add(1)
	return func() { s.epoch(bucket).Add(1) }
}

// List answers a listing of a bucket: query is all that was asked, and ask sends
// it upstream. In mode TTL with list_ttl_secs it is kept in memory for so long,
// unless something in the bucket changes through this gateway. It returns nil,
// and has asked nobody, where listings are not kept.
func (s *Store) List(ctx context.Context, bucket, prefix, query string, c akigw.Conditions, ask func(context.Context) (*http.Response, error)) (*Listing, *http.Response, error) {
	settings := s.rules.For(bucket, prefix)
	if settings.Freshness != rules.TTL || settings.ListTTL == 0 || !settings.Memory {
		return nil, nil, nil
	}
	key := hotKey{key: akigw.Key{Bucket: bucket, Name: query, Version: listingVersion}}
	if v, ok := s.hot.Get(key); ok && !c.NoCache {
		age := time.Since(v.listing.asked)
		if age >= 0 && age < settings.ListTTL && (c.MaxAge == 0 || age < c.MaxAge) && v.listing.epoch == s.epoch(bucket).Load() {
			s.counters.listingsHot.Inc()
			answer := *v.listing
			answer.Outcome, answer.Age = akigw.Hot, age
			return &answer, nil, nil
		}
	}
	l := &Listing{Outcome: akigw.Cold, asked: time.Now(), epoch: s.epoch(bucket).Load()}
	resp, err := ask(ctx)
	if err != nil || resp.StatusCode != http.StatusOK || resp.ContentLength > maxListing {
		return nil, resp, err
	}
	s.counters.listingsCold.Inc()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
	switch {
	case err == nil && len(body) > maxListing: // on it goes
		resp.Body = struct {
			io.Reader
			io.Closer
		}{io.MultiReader(bytes.NewReader(body), resp.Body), resp.Body}
		return nil, resp, nil
	case err == nil && !bytes.HasSuffix(bytes.TrimSpace(body), []byte("</ListBucketResult>")):
		err = io.ErrUnexpectedEOF
	}
	resp.Body.Close()
	if err != nil {
		return nil, nil, fmt.Errorf("%w: listing of %s: %w", akigw.ErrUpstreamUnavailable, bucket, err)
	}
	l.Header, l.Body = resp.Header, body
	s.hot.Put(key, hotValue{listing: l})
	return l, nil, nil
}

// listingVersion marks the key of a listing: no version id contains a NUL.
const listingVersion = "\x00list"

// weight is the memory that a listing takes, roughly.
func (l *Listing) weight() int { return len(l.Body) + 2048 }
