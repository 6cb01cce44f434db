package gateway

import (
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/uploadpool"
)

// testBack, testParallel and testBatch are settings for tests: nothing waits long.
var (
	testBack     = tiers.BackConfig{MaxPendingBytes: 1 << 30, MaxPending: 100_000, MaxPendingSecs: 3600, InlineBytes: 16 << 10, SegmentBytes: 1 << 20, SyncTimeoutSecs: 10, DrainTimeoutSecs: 10}
	testParallel = uploadpool.ParallelConfig{Enabled: true, Concurrency: 8, MaxRetries: 5, BackoffBaseMs: 2, MaxAgeSecs: 3600}
	testBatch    = uploadpool.BatchConfig{Enabled: true, BatchSize: 10}
)
