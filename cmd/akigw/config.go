package main

import (
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/gateway"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// config is the whole configuration: each room's part, declared in the room.
type config struct {
	Gateway  gateway.Config
	Admin    admin.Config
	Process  process
	Upstream cold.Config  `toml:"upstream"`
	Cache    tiers.Config `toml:"cache"`
	Storage  struct {
		Pool cold.PoolConfig `toml:"connection_pool"`
	} `toml:"storage"`

	embedded bool // the trial upstream is used
}

// process is what concerns the process as a whole.
type process struct {
	Data     string `toml:"data" help:"directory for everything that the gateway keeps"`
	LogLevel string `toml:"log_level" help:"debug, info, warn or error"`
}

// Check reports every impossible value by its key.
func (p *process) Check(report func(key, problem string)) {
	if p.Data == "" {
		report("data", "must not be empty")
	}
	if _, err := logLevel(p.LogLevel); err != nil {
		report("log_level", "must be debug, info, warn or error")
	}
}

func defaults() *config {
	c := &config{
		Gateway:  gateway.Config{Listen: "127.0.0.1:9000", Region: "us-east-1"},
		Admin:    admin.Config{Listen: "127.0.0.1:9001"},
		Process:  process{Data: "./data", LogLevel: "info"},
		Upstream: cold.Config{Region: "us-east-1", TrailingChecksums: true},
		Cache:    tiers.Config{HotBytes: 256 << 20, WarmBytes: 10 << 30, BlockBytes: 256 << 10, SmallBytes: 64 << 10, MD5ETags: true},
	}
	c.Storage.Pool = cold.PoolConfig{PoolSize: 20, IdleTimeoutSecs: 90}
	return c
}

// reserved are settings that have a name and a default (docs/configuration.md)
// and that nothing reads yet: setting one is refused.
var reserved = []string{
	"storage.batch_upload.enabled", "storage.batch_upload.batch_size", "storage.batch_upload.flush_interval_secs",
	"storage.parallel_upload.enabled", "storage.parallel_upload.concurrency", "storage.parallel_upload.max_retries", "storage.parallel_upload.backoff_base_ms",
	"tiering.policy.hot_tier_ttl_hours", "tiering.policy.warm_tier_ttl_days", "tiering.policy.hot_promotion_threshold",
	"tiering.policy.access_window_hours", "tiering.policy.worker_interval_secs",
	"load_test.duration_secs", "load_test.qps", "load_test.search_pct", "load_test.insert_pct", "load_test.tier_control_pct",
}
