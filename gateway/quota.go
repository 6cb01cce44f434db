package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/glob"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// QuotaConfig bounds what some buckets hold together: [[quota]].
type QuotaConfig struct {
	Bucket    string     `toml:"bucket" help:"pattern of the buckets whose objects count, all of them together"`
	AccessKey string     `toml:"access_key" help:"pattern of the access keys whose writes to them are refused beyond the limit"`
	MaxBytes  size.Bytes `toml:"max_bytes" help:"bytes of current objects, of parts of uploads and of what is pending"`
}

// SetDefaults sets the values behind all others.
func (c *QuotaConfig) SetDefaults() { c.AccessKey = "*" }

// Check reports every impossible value by its key.
func (c *QuotaConfig) Check(report func(key, problem string)) {
	if c.Bucket == "" {
		report("bucket", "must not be empty")
	}
	if c.AccessKey == "" {
		report("access_key", "must not be empty")
	}
	if c.MaxBytes < 1 {
		report("max_bytes", "must be a size such as \"100GiB\"")
	}
}

// Quotas keep buckets to their numbers: how many there are, and how much some of them hold.
// Bytes are counted by listings, now and then, and by what is written in between. A nil one
// has no limits.
type Quotas struct {
	maxBuckets int
	all        []*quota
	gateway    *Gateway
	log        *slog.Logger

	creating chan struct{}           // has an element while a CreateBucket is under way: one at a time
	counts   map[string]*bucketCount // by upstream; guarded by creating

	mu      sync.Mutex
	uploads map[string]int64 // bytes of the parts of uploads that were begun since the start; guarded by mu
}

// quota is one [[quota]].
type quota struct {
	QuotaConfig
	mu       sync.Mutex
	counted  bool  // a listing has been made; guarded by mu
	used     int64 // bytes; guarded by mu
	reserved int64 // bytes of writes under way; guarded by mu
	since    int64 // bytes that came since the listing began; guarded by mu
}

// reconcileEvery is how often the buckets of quotas are listed.
const reconcileEvery = time.Hour

var overQuota = metrics.NewCounter("akigw_gateway_over_quota_total")

// NewQuotas makes the limits, nil if there are none. Limit has a gateway keep them.
func NewQuotas(maxBuckets int, configs []QuotaConfig, log *slog.Logger) *Quotas {
	if maxBuckets == 0 && len(configs) == 0 {
		return nil
	}
	q := &Quotas{maxBuckets: maxBuckets, log: log, uploads: map[string]int64{}, creating: make(chan struct{}, 1), counts: map[string]*bucketCount{}}
	for _, c := range configs {
		q.all = append(q.all, &quota{QuotaConfig: c})
	}
	return q
}

// Limit has g keep the quotas. It must be called before g serves.
func (g *Gateway) Limit(q *Quotas) {
	if q != nil {
		q.gateway, g.quotas = g, q
	}
}

// Run counts what quotas are about, again and again, until ctx ends. Until it has been counted
// for the first time nothing is refused.
func (q *Quotas) Run(ctx context.Context) error {
	if q == nil || len(q.all) == 0 {
		return nil
	}
	for {
		again := reconcileEvery
		for _, one := range q.all {
			if err := q.reconcile(ctx, one); err != nil && ctx.Err() == nil {
				q.log.Warn("the bytes of a quota could not be counted; what is known goes on to count", "bucket", one.Bucket, "error", err)
				again = time.Minute
			}
		}
		select {
		case <-time.After(again):
		case <-ctx.Done():
			return nil
		}
	}
}

// bucketsOf are the buckets that a pattern names. A plain name needs no list, for which all
// upstreams would have to answer.
func (q *Quotas) bucketsOf(ctx context.Context, pattern string) (names []string, err error) {
	if !strings.ContainsAny(pattern, "*?") {
		return []string{pattern}, nil
	}
	all, err := q.gateway.allBuckets(ctx)
	if err != nil {
		return nil, err
	}
	for _, b := range all.Buckets {
		if glob.Match(pattern, b.Name) {
			names = append(names, b.Name)
		}
	}
	return names, nil
}

// reconcile counts what a quota is about.
func (q *Quotas) reconcile(ctx context.Context, one *quota) error {
	one.mu.Lock()
	one.since = 0
	one.mu.Unlock()
	var sum int64
	buckets, err := q.bucketsOf(ctx, one.Bucket)
	if err != nil {
		return err
	}
	for _, b := range buckets {
		n, err := q.gateway.Store.BytesOf(ctx, b)
		var refused *cold.ResponseError
		if err != nil && (!errors.As(err, &refused) || refused.Status != http.StatusNotFound) { // a bucket that is not there holds nothing
			return err
		}
		sum += n + q.gateway.Writes.Overlay.Bytes(b)
	}
	one.mu.Lock()
	defer one.mu.Unlock()
	one.used, one.counted = sum+one.since, true
	return nil
}

// begin takes a request that is about to be done, before its body is read, or refuses it.
// What it returns is to be called when it is done, with the status of its answer.
func (q *Quotas) begin(c *Call) (done func(status int), err error) {
	switch {
	case q == nil:
		return nothingToDo, nil
	case c.route.Op == "CreateBucket" && q.maxBuckets > 0:
		return q.createBucket(c)
	case len(q.all) == 0:
		return nothingToDo, nil
	}
	var mine []*quota
	for _, one := range q.all {
		if glob.Match(one.Bucket, c.key.Bucket) {
			mine = append(mine, one)
		}
	}
	if len(mine) == 0 {
		return nothingToDo, nil
	}
	add, undo, err := q.sizes(c)
	if err != nil {
		return nil, err
	}
	for i, one := range mine {
		if one.reserve(add, glob.Match(one.AccessKey, c.identity.AccessKey())) {
			continue
		}
		for _, other := range mine[:i] {
			other.settle(add, 0)
		}
		overQuota.Inc()
		return nil, s3err.QuotaExceeded.With(fmt.Sprintf("The quota of %d bytes for buckets %q is used up.", one.MaxBytes, one.Bucket))
	}
	return func(status int) {
		change := int64(0)
		if status/100 == 2 {
			change = undo()
		}
		for _, one := range mine {
			one.settle(add, change)
		}
	}, nil
}

func nothingToDo(int) {}

// createBucket lets one more bucket be made, if there may be one more. It waits for another
// CreateBucket, which an upstream may hold up, no longer than the client does.
func (q *Quotas) createBucket(c *Call) (done func(int), err error) {
	select {
	case q.creating <- struct{}{}:
	case <-c.Context().Done():
		return nil, c.Context().Err()
	}
	n, there, err := q.countBuckets(c.Context(), c.key.Bucket)
	if err == nil && n >= q.maxBuckets && !there {
		err = s3err.TooManyBuckets // of one that is there, the upstream says so
	}
	if err != nil {
		<-q.creating
		return nil, err
	}
	return func(int) { <-q.creating }, nil
}

// bucketCount is how many buckets an upstream had when it was asked last.
type bucketCount struct {
	n     int
	again time.Time // it did not answer, and is not asked before that
}

const (
	// othersPatience is how long a CreateBucket waits for the lists of upstreams that are
	// not to make the bucket, and othersRest how long one that did not answer is not asked
	// again: what is known of it counts.
	othersPatience = 2 * time.Second
	othersRest     = 30 * time.Second
)

// countBuckets returns how many buckets there are in all, and whether one of them is bucket. The
// upstream that is to have it has to answer. Of another that does not, what it had last counts.
func (q *Quotas) countBuckets(ctx context.Context, bucket string) (n int, there bool, err error) {
	g := q.gateway
	owner := g.Upstream.Owner(bucket)
	var group errgroup.Group
	for _, name := range g.Upstream.Names() {
		count := q.counts[name]
		if count == nil {
			count = &bucketCount{}
			q.counts[name] = count
		}
		switch {
		case name == owner:
			group.Go(func() error {
				n, found, err := g.ownBuckets(ctx, name, bucket)
				if err == nil {
					count.n, there = n, found
				}
				return err
			})
		case time.Now().After(count.again):
			group.Go(func() error {
				ctx, cancel := context.WithTimeout(ctx, othersPatience)
				defer cancel()
				if n, _, err := g.ownBuckets(ctx, name, ""); err == nil {
					count.n = n
				} else {
					count.again = time.Now().Add(othersRest)
				}
				return nil
			})
		}
	}
	err = group.Wait()
	for _, count := range q.counts {
		n += count.n
	}
	return n, there, err
}

// ownBuckets is how many buckets an upstream has that it is asked for, and whether one of them is
// bucket.
func (g *Gateway) ownBuckets(ctx context.Context, upstream, bucket string) (n int, there bool, err error) {
	list, err := g.bucketsOf(ctx, upstream)
	if err != nil {
		return 0, false, err
	}
	for _, b := range list.Buckets {
		if g.Upstream.Owner(b.Name) == upstream {
			n, there = n+1, there || b.Name == bucket
		}
	}
	return n, there, nil
}

// reserve takes bytes for a write, unless it is to be refused for lack of them.
func (o *quota) reserve(bytes int64, bound bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bound && bytes > 0 && o.counted && o.used+o.reserved+bytes > int64(o.MaxBytes) {
		return false
	}
	o.reserved += bytes
	return true
}

// settle ends a reservation, and counts what came of it.
func (o *quota) settle(reserved, change int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reserved -= reserved
	o.used = max(0, o.used+change)
	o.since += change
}

// sizes is how many bytes a request adds while it is under way, and what says, when it was
// done, how many it changed.
func (q *Quotas) sizes(c *Call) (add int64, change func() int64, err error) {
	same := func() int64 { return 0 }
	switch c.route.Op {
	case "PutObject":
		held := q.held(c.key)
		add = max(0, c.payload.Length)
		return add, func() int64 { return add - held }, nil
	case "CopyObject":
		held := q.held(c.key)
		add, err = q.sourceSize(c)
		return add, func() int64 { return add - held }, err
	case "UploadPart", "UploadPartCopy":
		add = max(0, c.payload.Length)
		if c.source != nil {
			if add, err = q.sourceSize(c); err != nil {
				return 0, nil, err
			}
		}
		id := c.query.Get("uploadId")
		return add, func() int64 {
			q.mu.Lock()
			defer q.mu.Unlock()
			q.uploads[id] += add // a part that is sent again counts again, until the next listing
			return add
		}, nil
	case "CompleteMultipartUpload":
		held := q.held(c.key)
		return 0, func() int64 { q.forget(c); return -held }, nil
	case "AbortMultipartUpload":
		return 0, func() int64 { return -q.forget(c) }, nil
	case "DeleteObject":
		if c.query.Get("versionId") != "" {
			return 0, same, nil
		}
		held := q.held(c.key)
		return 0, func() int64 { return -held }, nil
	}
	return 0, same, nil
}

// held is how many bytes the object has that a key holds, as far as that is known: 0 if it is
// not.
func (q *Quotas) held(key akigw.Key) int64 {
	if n, pending := q.gateway.Writes.Overlay.Size(key); pending {
		return n
	}
	return q.gateway.Store.SizeOf(key)
}

// forget returns the bytes of the parts of an upload that is over.
func (q *Quotas) forget(c *Call) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	id := c.query.Get("uploadId")
	defer delete(q.uploads, id)
	return q.uploads[id]
}

// sourceSize is how much a copy copies.
func (q *Quotas) sourceSize(c *Call) (int64, error) {
	if spec := akigw.ParseRange(c.Header.Get("X-Amz-Copy-Source-Range")); !spec.Whole() {
		if first, last := spec.Bounds(); last >= first {
			return last - first + 1, nil
		}
	}
	key := c.source.key
	key.Version = c.source.version
	reader, err := q.gateway.Store.Head(c.Context(), key, akigw.RangeSpec{}, akigw.Conditions{})
	var refused *cold.ResponseError
	switch {
	case errors.Is(err, tiers.ErrUncacheable):
		return 0, nil // the next listing knows
	case errors.As(err, &refused), errors.Is(err, akigw.ErrNoSuchKey):
		return 0, nil // and the copy is refused as well
	case err != nil:
		return 0, err
	}
	defer reader.Close()
	return reader.Object.Size, nil
}
