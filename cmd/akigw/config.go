package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/gateway"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/uploadpool"
)

// config is the whole configuration: each room's part, declared in the room.
type config struct {
	Gateway  gateway.Config
	Admin    admin.Config
	Process  process
	Faults   faultsConfig
	Upstream cold.Config             `toml:"upstream"`
	Further  []cold.FurtherConfig    `toml:"upstreams"`
	QoS      []gateway.QoSConfig     `toml:"qos"`
	Quota    []gateway.QuotaConfig   `toml:"quota"`
	Cache    tiers.Config            `toml:"cache"`
	Back     tiers.BackConfig        `toml:"write_back"`
	Snapshot snapshot.Config         `toml:"snapshot"`
	Cost     cost.Config             `toml:"cost"`
	Access   gateway.AccessLogConfig `toml:"access_log"`
	Tracing  tracingConfig           `toml:"tracing"`
	LoadTest bench.LoadConfig        `toml:"load_test"`
	Tiering  struct {
		Policy tiers.PolicyConfig `toml:"policy"`
	} `toml:"tiering"`
	Storage struct {
		Pool     cold.PoolConfig           `toml:"connection_pool"`
		Parallel uploadpool.ParallelConfig `toml:"parallel_upload"`
		Batch    uploadpool.BatchConfig    `toml:"batch_upload"`
	} `toml:"storage"`

	origins  map[string]string // where the values come from that are no defaults
	restore  string            // snapshot to start from, "" for none
	file     string            // it was read from, may be empty
	embedded bool              // the trial upstream is used
}

// load reads the whole configuration. The rules are in the same file and are
// read where they are needed.
func load(file string, env []string, flags map[string]string) (*config, error) {
	c := defaults()
	c.file = file
	c.origins = map[string]string{}
	err := appconfig.Load(c, appconfig.Source{File: file, Env: env, Flags: flags, Elsewhere: []string{rules.Table}, Origins: c.origins})
	if c.Cache.Freshness == "" {
		c.Cache.Freshness = rules.Strict
		if c.Upstream.URL == "" { // nobody else writes to the embedded one
			c.Cache.Freshness = rules.Exclusive
		}
	}
	return c, err
}

// settings are what holds behind all rules.
func (c *config) settings() rules.Settings {
	s := c.Cache.Settings()
	c.Tiering.Policy.Apply(&s)
	return s
}

// classes are the names of the classes of service.
func (c *config) classes() (names []string) {
	for i := range c.QoS {
		names = append(names, c.QoS[i].Name)
	}
	return names
}

// faultsConfig breaks the upstream on purpose.
type faultsConfig struct {
	Enable    bool   `toml:"enable_faults" help:"let an operator break the way to the upstream, and the disk, on purpose (akigw faults): to rehearse outages, not in production"`
	Plan      string `toml:"fault_plan" help:"file with a plan of faults that is in force from the start; needs enable_faults"`
	AllowOpen bool   `toml:"allow_open_faults" help:"enable faults though a listener is open beyond loopback"`
}

// open reads the plan, and returns the layer that keeps it; nil if faults are not enabled.
func (f *faultsConfig) open(listeners ...string) (*faults.Layer, error) {
	if !f.Enable {
		if f.Plan != "" {
			return nil, errors.New("fault_plan: faults are not enabled; add --enable-faults")
		}
		return nil, nil
	}
	for _, address := range listeners {
		if !f.AllowOpen && !listen.Loopback(address) {
			return nil, fmt.Errorf("faults are enabled and %s is open beyond loopback: is this production? --allow-open-faults says that it is not", address)
		}
	}
	layer := &faults.Layer{}
	if f.Plan == "" {
		return layer, nil
	}
	raw, err := os.ReadFile(f.Plan)
	if err != nil {
		return nil, fmt.Errorf("fault_plan: %w", err)
	}
	plan, err := faults.Parse(raw)
	if err == nil {
		err = layer.Set(plan)
	}
	if err != nil {
		return nil, fmt.Errorf("fault_plan %s: %w", f.Plan, err)
	}
	return layer, nil
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
		Gateway: gateway.Config{Listen: "127.0.0.1:9000", Region: "us-east-1", Domains: "localhost", MaxConnections: 10000, MaxBuckets: 1000, MinRate: 1 << 10, FailuresPerMinute: 600, RequestMemory: 128 << 20},
		Admin:   admin.Config{Listen: "127.0.0.1:9001"},
		Process: process{Data: "./data", LogLevel: "info"},
		Cache:   tiers.Config{HotBytes: 256 << 20, WarmBytes: 10 << 30, BlockBytes: 256 << 10, SmallBytes: 64 << 10, MD5ETags: true, TTLSecs: 60, FetchBytes: 2 << 20, ParallelFetches: 12, ReadAheadBytes: 32 << 20, SequentialBytes: 4 << 20, FillBytes: 128 << 20},
	}
	c.Upstream.SetDefaults()
	c.Storage.Pool = cold.PoolConfig{PoolSize: 20, IdleTimeoutSecs: 90}
	c.Storage.Parallel = uploadpool.ParallelConfig{Enabled: true, Concurrency: 10, MaxRetries: 3, BackoffBaseMs: 100, MaxAgeSecs: 7 * 24 * 3600, ConfirmAfterMs: 1500}
	c.Storage.Batch = uploadpool.BatchConfig{Enabled: true, BatchSize: 10, FlushIntervalSecs: 5, MaxPacked: 1_000_000}
	c.Back = tiers.BackConfig{MaxPendingBytes: 10 << 30, MaxPending: 100_000, MaxPendingSecs: 24 * 3600, InlineBytes: 64 << 10, SegmentBytes: 64 << 20, ScrubBytesPerSec: 16 << 20, MinFreeBytes: 1 << 30, ReserveBytes: 16 << 20, MaxUploadSecs: 7 * 24 * 3600, MaxDates: 100_000, SyncTimeoutSecs: 30, DrainTimeoutSecs: 60, MaxFactSecs: 7 * 24 * 3600}
	c.Snapshot = snapshot.Config{IntervalSecs: 24 * 3600, MaxBytes: 1 << 30, RestoreRate: 64 << 20}
	c.Tiering.Policy = tiers.PolicyConfig{HotTTLHours: 6, WarmTTLDays: 7, PromotionThreshold: 10, AccessWindowHours: 1, WorkerIntervalSecs: 300}
	c.Cost, c.Access, c.Tracing = cost.Default(), gateway.AccessLogConfig{MaxMiB: 100, Keep: 10}, tracingConfig{Share: 1}
	c.LoadTest = bench.LoadConfig{DurationSecs: 600, QPS: 100, SearchPct: 0.7, InsertPct: 0.2, TierControlPct: 0.1, Collections: 100, Items: 100_000, ItemBytes: bench.Sizes{Least: 2 << 10, Most: 2 << 10}, Skew: 0.9, Bucket: "akigw-bench"}
	return c
}
