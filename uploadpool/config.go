package uploadpool

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// ParallelConfig says how many uploads run in parallel, and what happens to one that fails:
// [storage.parallel_upload] of the configuration file.
type ParallelConfig struct {
	Enabled       bool `toml:"enabled" help:"upload several objects in parallel"`
	Concurrency   int  `toml:"concurrency" help:"most uploads that run in parallel; fewer while the upstream throttles. With several upstreams half of them are reserved in equal shares, at least one for each, so that an upstream that hangs does not hold up the others"`
	MaxRetries    int  `toml:"max_retries" help:"how many times a failed upload is retried quickly; after that it goes to the end of the queue, and waits longer each time, up to a minute"`
	BackoffBaseMs int  `toml:"backoff_base_ms" help:"milliseconds: the upper bound of the wait before the first retry. It doubles with each retry; the wait is a random time below it"`
	MaxAgeSecs    int  `toml:"max_age_secs" help:"seconds after which a write that could not be uploaded becomes a dead letter"`

	VerifyFlush string `toml:"verify_flush" help:"how it is verified that the upstream has an uploaded write: \"answer\", by its response to the upload where that proves it (and by a HEAD for the first uploads of a bucket, and one in a thousand later); \"always\", by a HEAD of each"`

	ConfirmAfterMs int `toml:"confirm_after_ms" help:"milliseconds for which an uploaded write stays pending, once the upstream responds again, if an older request for its key was never answered. Then it is confirmed once more, and uploaded again if the older request was carried out after it. A longer time helps behind a proxy that holds requests longer"`
}

// The values of VerifyFlush.
const (
	verifyByAnswer = "answer"
	verifyAlways   = "always"
)

// Check reports each invalid value by its key.
func (c *ParallelConfig) Check(report func(key, problem string)) {
	if c.Concurrency < 1 || c.Concurrency > 1000 {
		report("concurrency", "must be 1 to 1000")
	}
	if c.MaxRetries < 0 || c.MaxRetries > 100 {
		report("max_retries", "must be 0 to 100")
	}
	if c.BackoffBaseMs < 1 || c.BackoffBaseMs > 60_000 {
		report("backoff_base_ms", "must be 1 to 60000")
	}
	if c.MaxAgeSecs < 60 || c.MaxAgeSecs > 365*24*3600 {
		report("max_age_secs", "must be 60 to 31536000")
	}
	if c.VerifyFlush != verifyByAnswer && c.VerifyFlush != verifyAlways {
		report("verify_flush", `must be "answer" or "always"`)
	}
	if c.ConfirmAfterMs < 0 || time.Duration(c.ConfirmAfterMs)*time.Millisecond > cold.UnfinishedFor {
		report("confirm_after_ms", "must be 0 to 960000")
	}
}

// confirmAfter is ConfirmAfterMs as a duration.
func (c *ParallelConfig) confirmAfter() time.Duration {
	return time.Duration(c.ConfirmAfterMs) * time.Millisecond
}

// BatchConfig says what is combined into one request: [storage.batch_upload] of the configuration
// file.
type BatchConfig struct {
	Enabled           bool `toml:"enabled" help:"send pending deletions of a bucket in one DeleteObjects, and small objects in one pack where a rule says so (pack_bytes)"`
	BatchSize         int  `toml:"batch_size" help:"most deletions, or objects of a pack, in one request"`
	FlushIntervalSecs int  `toml:"flush_interval_secs" help:"seconds that an object waits for others that go into the same pack"`
	MaxPacked         int  `toml:"max_packed" help:"most objects in packs; each takes about 1 KiB of memory. Beyond that, objects are uploaded one by one"`
}

// Check reports each invalid value by its key.
func (c *BatchConfig) Check(report func(key, problem string)) {
	if c.BatchSize < 1 || c.BatchSize > 1000 {
		report("batch_size", "must be 1 to 1000")
	}
	if c.FlushIntervalSecs < 0 || c.FlushIntervalSecs > 3600 {
		report("flush_interval_secs", "must be 0 to 3600")
	}
	if c.MaxPacked < 0 || c.MaxPacked > 100_000_000 {
		report("max_packed", "must be 0 to 100000000")
	}
}

// Upstream sends requests.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Owner returns the name of the upstream that has a bucket.
	Owner(bucket string) string
}

// Change is a change of a key as the cache sees it. It is used by one goroutine, which must call
// End.
type Change interface {
	// Keeps reports whether the cache takes the body of an object of size bytes.
	Keeps(size int64) bool
	// Parts says that the object is uploaded in parts of these numbers and sizes in bytes, which it does
	// not retain.
	Parts(numbers []int, sizes []int64)
	// Body passes on the next bytes of the new object.
	Body(p []byte)
	// Written says that the upstream has that object. sent and answer are the headers of the
	// upload's request and response, and seen those of a HEAD that verified it, nil for none.
	Written(sent, answer, seen http.Header)
	// Found says that the upstream turned out to have that object, with this ETag, although no response
	// to its upload said so.
	Found(etag string)
	// End ends the change. After Written and Found it does nothing.
	End()
}

// Config configures a Pool. Parallel, Batch, Journal, Upstream, Begin and Log are required.
type Config struct {
	Parallel ParallelConfig
	Batch    BatchConfig
	Journal  *journal.Journal
	Upstream Upstream
	// Begin tells the cache that a key is about to change in the upstream.
	Begin func(key akigw.Key) Change
	// OnETagMismatch is called when an object of a bucket got an ETag other than the promised one:
	// nothing more should be promised there. It may be nil.
	OnETagMismatch func(bucket string)
	// Admit returns how long the uploads of a bucket must wait, 0 if they may proceed; Pool.Ready
	// ends the wait. It must not block or call the pool. nil: no bucket waits.
	Admit func(bucket string) time.Duration
	// OnNoResponse is called when the upstream did not respond to an upload of a bucket. It must
	// not block or call the pool. It may be nil.
	OnNoResponse func(bucket string)
	// OnRecovery is called when an upload of a bucket succeeds after uploads to its upstream
	// failed. It must not block or call the pool. It may be nil.
	OnRecovery func(bucket string)
	// OnNoSuchBucket is called when the upstream says that a bucket does not exist. It reports
	// whether the bucket's uploads wait for Admit instead of becoming dead letters. It must not
	// block. nil: none wait.
	OnNoSuchBucket func(bucket string) (wait bool)
	// OnRejected is called when the upstream has rejected a write for good, with the error code. It
	// may be nil.
	OnRejected func(key akigw.Key, header http.Header, code string)
	// Packs reports whether an object of size bytes goes into a pack with others. nil:
	// none does.
	Packs func(key akigw.Key, size int64) bool
	Log   *slog.Logger
	// Metrics is the set in which the metrics of the pool are registered, nil for none.
	Metrics *metrics.Set
}
