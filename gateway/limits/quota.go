package limits

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/glob"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/internal/size"
)

// QuotaConfig limits how much some buckets hold together: [[quota]].
type QuotaConfig struct {
	Bucket    string     `toml:"bucket" help:"pattern of the buckets whose objects count, all of them together"`
	AccessKey string     `toml:"access_key" help:"pattern of the access keys whose writes to these buckets are refused beyond the limit"`
	MaxBytes  size.Bytes `toml:"max_bytes" help:"bytes of current objects, of uploaded parts and of pending writes"`
}

// SetDefaults sets the defaults.
func (c *QuotaConfig) SetDefaults() { c.AccessKey = "*" }

// Check reports every invalid value by its key.
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

// Objects gives quotas the sizes of objects in bytes.
type Objects interface {
	// BytesOf returns the size of all objects of a bucket, upstream and pending; 0 if there is no
	// such bucket.
	BytesOf(ctx context.Context, bucket string) (int64, error)
	// SizeOf returns the size of the object under a key if it is known without asking the upstream,
	// else 0.
	SizeOf(key akigw.Key) int64
	// SizeOfSource returns the size of the source of a copy, else 0.
	SizeOfSource(ctx context.Context, key akigw.Key) (int64, error)
}

// QuotaOptions configure Quotas.
type QuotaOptions struct {
	MaxBuckets int           // maximum number of buckets; 0: no limit
	Quotas     []QuotaConfig // bytes of buckets
	Objects    Objects
	Buckets    Buckets
	Log        *slog.Logger
	Metrics    *metrics.Set // nil: a private set
}

// Quotas limit how many buckets there are, and how many bytes some of them hold. Bytes are counted
// by listing buckets once an hour, and by adding up the writes in between. Methods are safe for
// concurrent use; nil Quotas limit nothing.
type Quotas struct {
	quotas  []*quota
	objects Objects
	buckets Buckets
	count   *bucketCounter
	log     *slog.Logger
	over    *metrics.Counter

	mu      sync.Mutex
	uploads map[string]int64 // bytes of the parts of uploads that were started in this epoch; guarded by mu
}

// NewQuotas returns the quotas, nil if nothing is limited.
func NewQuotas(o QuotaOptions) *Quotas {
	over := cmp.Or(o.Metrics, metrics.NewSet()).GetOrCreateCounter("akigw_gateway_over_quota_total") // it is also shown without quotas
	if o.MaxBuckets == 0 && len(o.Quotas) == 0 {
		return nil
	}
	q := &Quotas{objects: o.Objects, buckets: o.Buckets, count: newBucketCounter(o.MaxBuckets, o.Buckets), log: o.Log, over: over, uploads: map[string]int64{}}
	for _, c := range o.Quotas {
		q.quotas = append(q.quotas, &quota{QuotaConfig: c})
	}
	return q
}

// recountInterval is how often the buckets of quotas are listed, and retryInterval how soon again
// after a failure.
const recountInterval, retryInterval = time.Hour, time.Minute

// Run counts what the buckets of quotas hold, again and again, until ctx ends. A quota refuses
// nothing before it has been counted for the first time.
func (q *Quotas) Run(ctx context.Context) error {
	if q == nil || len(q.quotas) == 0 {
		return nil
	}
	for {
		next := recountInterval
		if !q.Count(ctx) {
			next = retryInterval
		}
		select {
		case <-time.After(next):
		case <-ctx.Done():
			return nil
		}
	}
}

// Count lists the buckets of every quota once. It logs failures, and reports whether there were
// none; the last known number of a quota that could not be counted stays in force.
func (q *Quotas) Count(ctx context.Context) (ok bool) {
	ok = true
	for _, one := range q.quotas {
		if err := q.recount(ctx, one); err != nil && ctx.Err() == nil {
			q.log.Warn("cannot count the bytes of a quota; the last known number stays in force", "bucket", one.Bucket, "error", err)
			ok = false
		}
	}
	return ok
}

// recount lists the buckets of one quota.
func (q *Quotas) recount(ctx context.Context, one *quota) error {
	one.beginRecount()
	buckets, err := q.matching(ctx, one.Bucket)
	if err != nil {
		return err
	}
	sum := int64(0)
	for _, b := range buckets {
		n, err := q.objects.BytesOf(ctx, b)
		if err != nil {
			return err
		}
		sum += n
	}
	one.endRecount(sum)
	return nil
}

// matching returns the buckets whose names match a pattern. A plain name needs no list, for which
// all upstreams would have to respond.
func (q *Quotas) matching(ctx context.Context, pattern string) (names []string, err error) {
	if !strings.ContainsAny(pattern, "*?") {
		return []string{pattern}, nil
	}
	for _, upstream := range q.buckets.Upstreams() {
		all, err := q.buckets.BucketsOf(ctx, upstream)
		if err != nil {
			return nil, err
		}
		for _, name := range all {
			if glob.Match(pattern, name) {
				names = append(names, name)
			}
		}
	}
	return names, nil
}

// Usage is the state of one quota.
type Usage struct {
	QuotaConfig
	Counted  bool  // whether its buckets have been listed in this epoch
	Used     int64 // bytes
	Reserved int64 // bytes of writes in progress
}

// Usage returns the state of every quota, in the order of the configuration.
func (q *Quotas) Usage() []Usage {
	if q == nil {
		return nil
	}
	all := make([]Usage, len(q.quotas))
	for i, one := range q.quotas {
		all[i] = one.usage()
	}
	return all
}

// Write describes a request to Quotas.
type Write struct {
	Op          string // S3 API name
	AccessKey   string
	Key         akigw.Key
	Version     string     // the version that is named, "" for none
	Upload      string     // the upload ID that is named
	Length      int64      // bytes of the body; negative: unknown
	Source      *akigw.Key // source of a copy, nil for other requests
	SourceRange string     // x-amz-copy-source-range
}

// Begin reserves space for a request before its body is read, or refuses the request with
// QuotaExceeded or TooManyBuckets. The caller ends the reservation when the request has been
// answered.
func (q *Quotas) Begin(ctx context.Context, w Write) (Reservation, error) {
	switch {
	case q == nil:
		return Reservation{}, nil
	case w.Op == "CreateBucket" && q.count.max > 0:
		return q.count.begin(ctx, w.Key.Bucket)
	}
	affected := q.of(w.Key.Bucket)
	if len(affected) == 0 {
		return Reservation{}, nil
	}
	add, changed, err := q.sizes(ctx, w)
	if err != nil {
		return Reservation{}, err
	}
	for i, one := range affected {
		if one.reserve(add, glob.Match(one.AccessKey, w.AccessKey)) {
			continue
		}
		for _, other := range affected[:i] {
			other.release(add, 0)
		}
		q.over.Inc()
		return Reservation{}, s3err.QuotaExceeded.With(fmt.Sprintf("The quota of %d bytes for buckets %q is used up.", one.MaxBytes, one.Bucket))
	}
	return Reservation{func(status int) {
		change := int64(0)
		if status/100 == 2 || status == http.StatusSeeOther { // where a form sends the browser after its upload
			change = changed()
		}
		for _, one := range affected {
			one.release(add, change)
		}
	}}, nil
}

// of returns the quotas of a bucket.
func (q *Quotas) of(bucket string) (affected []*quota) {
	for _, one := range q.quotas {
		if glob.Match(one.Bucket, bucket) {
			affected = append(affected, one)
		}
	}
	return affected
}

// sizes returns the bytes that a request adds while it is in progress, and a function to be called
// if it succeeds, which returns by how many bytes it changed the bucket.
func (q *Quotas) sizes(ctx context.Context, w Write) (add int64, changed func() int64, err error) {
	switch w.Op {
	case "PutObject":
		held := q.objects.SizeOf(w.Key)
		add = max(0, w.Length)
		return add, func() int64 { return add - held }, nil
	case "CopyObject":
		held := q.objects.SizeOf(w.Key)
		add, err = q.sourceSize(ctx, w)
		return add, func() int64 { return add - held }, err
	case "UploadPart", "UploadPartCopy":
		add = max(0, w.Length)
		if w.Source != nil {
			if add, err = q.sourceSize(ctx, w); err != nil {
				return 0, nil, err
			}
		}
		return add, func() int64 { return q.addPart(w.Upload, add) }, nil
	case "CompleteMultipartUpload":
		held := q.objects.SizeOf(w.Key)
		return 0, func() int64 { q.forget(w.Upload); return -held }, nil
	case "AbortMultipartUpload":
		return 0, func() int64 { return -q.forget(w.Upload) }, nil
	case "DeleteObject":
		if w.Version == "" {
			held := q.objects.SizeOf(w.Key)
			return 0, func() int64 { return -held }, nil
		}
	}
	return 0, func() int64 { return 0 }, nil
}

// addPart counts a part. A part that is sent again is counted again until the next listing.
func (q *Quotas) addPart(upload string, size int64) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.uploads[upload] += size
	return size
}

// forget returns the bytes of the parts of an upload that has ended.
func (q *Quotas) forget(upload string) int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	defer delete(q.uploads, upload)
	return q.uploads[upload]
}

// sourceSize returns how many bytes a copy adds.
func (q *Quotas) sourceSize(ctx context.Context, w Write) (int64, error) {
	if spec := akigw.ParseRange(w.SourceRange); !spec.Whole() {
		if first, last := spec.Bounds(); last >= first {
			return last - first + 1, nil
		}
	}
	return q.objects.SizeOfSource(ctx, *w.Source)
}

// quota is one [[quota]].
type quota struct {
	QuotaConfig
	mu       sync.Mutex
	counted  bool  // a listing has been completed; guarded by mu
	used     int64 // bytes; guarded by mu
	reserved int64 // bytes of writes in progress; guarded by mu
	since    int64 // bytes added since the current listing began; guarded by mu
}

func (o *quota) beginRecount() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = 0
}

func (o *quota) endRecount(listed int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.used, o.counted = listed+o.since, true
}

// reserve reserves bytes for a write. It returns false if the quota applies to the write and there
// is not enough space.
func (o *quota) reserve(bytes int64, bound bool) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if bound && bytes > 0 && o.counted && o.used+o.reserved+bytes > int64(o.MaxBytes) {
		return false
	}
	o.reserved += bytes
	return true
}

// release ends a reservation, and counts the change that the write made.
func (o *quota) release(reserved, change int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.reserved -= reserved
	o.used = max(0, o.used+change)
	o.since += change
}

func (o *quota) usage() Usage {
	o.mu.Lock()
	defer o.mu.Unlock()
	return Usage{QuotaConfig: o.QuotaConfig, Counted: o.counted, Used: o.used, Reserved: o.reserved}
}
