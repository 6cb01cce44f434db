package limits

import (
	"context"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/akidb/akigw/internal/s3err"
)

// Buckets lists the existing buckets.
type Buckets interface {
	// Upstreams returns the names of all upstreams.
	Upstreams() []string
	// OwnerOf returns the name of the upstream that a bucket belongs to.
	OwnerOf(bucket string) string
	// BucketsOf asks an upstream for the names of the buckets that belong to it.
	BucketsOf(ctx context.Context, upstream string) ([]string, error)
}

// bucketCounter limits the number of buckets. Only one CreateBucket is in progress at a time.
type bucketCounter struct {
	max     int // 0: no limit
	buckets Buckets

	creating chan struct{}           // holds an element while a CreateBucket is in progress
	counts   map[string]*bucketCount // by upstream; guarded by creating
}

// bucketCount is the number of buckets that an upstream had when it was last asked.
type bucketCount struct {
	n       int
	retryAt time.Time // after a failure, the upstream is not asked before then
}

func newBucketCounter(most int, buckets Buckets) *bucketCounter {
	return &bucketCounter{max: most, buckets: buckets, creating: make(chan struct{}, 1), counts: map[string]*bucketCount{}}
}

// begin allows a CreateBucket, or refuses it with TooManyBuckets. It waits for another
// CreateBucket that is in progress, which an upstream may delay, no longer than the client does.
func (c *bucketCounter) begin(ctx context.Context, bucket string) (Reservation, error) {
	select {
	case c.creating <- struct{}{}:
	case <-ctx.Done():
		return Reservation{}, ctx.Err()
	}
	n, exists, err := c.countLocked(ctx, bucket)
	if err == nil && n >= c.max && !exists { // for an existing bucket the upstream decides
		err = s3err.TooManyBuckets
	}
	if err != nil {
		<-c.creating
		return Reservation{}, err
	}
	return Reservation{func(int) { <-c.creating }}, nil
}

const (
	// otherPatience is how long a CreateBucket waits for the lists of the upstreams that will not
	// own the bucket, and otherRetry how long such an upstream is not asked again after a failure:
	// its last known number counts meanwhile.
	otherPatience = 2 * time.Second
	otherRetry    = 30 * time.Second
)

// countLocked returns the number of buckets, and whether bucket is one of them. The upstream that
// will own bucket must respond. For any other one that fails, the last known number counts.
func (c *bucketCounter) countLocked(ctx context.Context, bucket string) (n int, exists bool, err error) {
	owner := c.buckets.OwnerOf(bucket)
	var group errgroup.Group
	for _, name := range c.buckets.Upstreams() {
		count := c.counts[name]
		if count == nil {
			count = &bucketCount{}
			c.counts[name] = count
		}
		switch {
		case name == owner:
			group.Go(func() (err error) {
				exists, err = c.countOwner(ctx, count, name, bucket)
				return err
			})
		case time.Now().After(count.retryAt):
			group.Go(func() error {
				c.countOther(ctx, count, name)
				return nil
			})
		}
	}
	err = group.Wait()
	for _, count := range c.counts {
		n += count.n
	}
	return n, exists, err
}

// countOwner counts the buckets of the upstream that will own bucket.
func (c *bucketCounter) countOwner(ctx context.Context, count *bucketCount, upstream, bucket string) (exists bool, err error) {
	names, err := c.buckets.BucketsOf(ctx, upstream)
	if err != nil {
		return false, err
	}
	count.n = len(names)
	for _, name := range names {
		exists = exists || name == bucket
	}
	return exists, nil
}

// countOther counts the buckets of another upstream, for a short time only.
func (c *bucketCounter) countOther(ctx context.Context, count *bucketCount, upstream string) {
	ctx, cancel := context.WithTimeout(ctx, otherPatience)
	defer cancel()
	names, err := c.buckets.BucketsOf(ctx, upstream)
	if err != nil {
		count.retryAt = time.Now().Add(otherRetry)
		return
	}
	count.n = len(names)
}
