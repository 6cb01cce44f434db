package server

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/bench"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/gateway"
	"github.com/akidb/akigw/gateway/limits"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/uploadpool"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/writeback"
)

// Config is everything that a gateway is built from: its settings, each part declared by the
// package that it configures, and Runtime. Load fills the settings.
type Config struct {
	Gateway  gateway.Config
	Admin    admin.Config
	Process  ProcessConfig
	Faults   FaultsConfig
	Upstream cold.Config             `toml:"upstream"`
	Further  []cold.FurtherConfig    `toml:"upstreams"`
	QoS      []limits.QoSConfig      `toml:"qos"`
	Quota    []limits.QuotaConfig    `toml:"quota"`
	Cache    tiers.Config            `toml:"cache"`
	Back     writeback.Config        `toml:"write_back"`
	Snapshot snapshot.Config         `toml:"snapshot"`
	Cost     cost.Config             `toml:"cost"`
	Access   gateway.AccessLogConfig `toml:"access_log"`
	Compare  compare.Config          `toml:"compare"`
	Tracing  TracingConfig           `toml:"tracing"`
	LoadTest bench.LoadConfig        `toml:"load_test"`
	Vectors  vectors.Config          `toml:"vectors"`
	Tiering  struct {
		Policy placement.PolicyConfig `toml:"policy"`
	} `toml:"tiering"`
	Storage struct {
		Pool     cold.PoolConfig           `toml:"connection_pool"`
		Parallel uploadpool.ParallelConfig `toml:"parallel_upload"`
		Batch    uploadpool.BatchConfig    `toml:"batch_upload"`
	} `toml:"storage"`

	Runtime
}

// Runtime is the part of a Config that is set by the program that runs the gateway, not by settings.
// The zero value suits a gateway in a test.
type Runtime struct {
	// File is the configuration file, "" for none. Load sets it. The rules in it are reloaded
	// when it changes.
	File string
	// Origins says where each setting comes from that is not the default, by key. Load sets it.
	Origins map[string]string
	// Version is the version of the program, as /metrics and traces show it.
	Version string
	// Restore is the ID of the snapshot to start from, or "latest"; "" for none.
	Restore string
	// Log receives the log, one JSON object per line; nil discards it.
	Log io.Writer
	// Metrics receives the metrics of this gateway, which /metrics shows; nil makes a set.
	Metrics *metrics.Set
	// LimitMemory has the server manage the memory limit of the Go runtime. The limit concerns
	// the whole process, so at most one server in a process may have it.
	LimitMemory bool
	// OnDrain, if not nil, runs on a goroutine of its own while pending writes and vectors are
	// uploaded at shutdown. It returns soon after done is closed.
	OnDrain func(pending func() Pending, done <-chan struct{})
}

// Load reads the configuration: the defaults, the file (path, may be empty), the environment
// (as from os.Environ) and the flags (by key), each overriding the one before. It reports all
// mistakes at once. The rules in the file are checked by OpenRules.
func Load(file string, env []string, flags map[string]string) (*Config, error) {
	c := Defaults()
	c.File = file
	c.Origins = map[string]string{}
	err := appconfig.Load(c, appconfig.Source{File: file, Env: env, Flags: flags, Elsewhere: []string{rules.Table}, Origins: c.Origins})
	if c.Cache.Freshness == "" {
		c.Cache.Freshness = rules.Strict
		if c.Upstream.URL == "" { // the gateway is the only writer of the embedded one
			c.Cache.Freshness = rules.Exclusive
		}
	}
	return c, err
}

// OpenRules reads the rules of the configuration file. set receives their metrics; nil discards them.
func (c *Config) OpenRules(log *slog.Logger, set *metrics.Set) (*rules.Book, error) {
	defaults := c.Cache.Settings()
	c.Tiering.Policy.Apply(&defaults)
	var classes []string
	for i := range c.QoS {
		classes = append(classes, c.QoS[i].Name)
	}
	return rules.Open(rules.Options{Path: c.File, Defaults: defaults, Classes: classes, Log: log, Metrics: set})
}

// FaultsConfig configures faults that are injected into the upstream and the disks on purpose.
type FaultsConfig struct {
	Enable    bool   `toml:"enable_faults" help:"let an operator inject faults into the upstream and the disk (akigw faults), to rehearse outages; not for production"`
	Plan      string `toml:"fault_plan" help:"file with a fault plan that is in force from the start; requires enable_faults"`
	AllowOpen bool   `toml:"allow_open_faults" help:"enable faults even if a listener is open beyond loopback"`
}

// open reads the plan and returns the fault layer, nil if faults are not enabled. It refuses to
// enable faults when one of the listeners is open beyond loopback, unless that is allowed.
func (f *FaultsConfig) open(set *metrics.Set, listeners ...string) (*faults.Layer, error) {
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
	layer := &faults.Layer{Metrics: set}
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

// ProcessConfig has the settings of the process as a whole.
type ProcessConfig struct {
	Data     string `toml:"data" help:"directory for everything the gateway stores"`
	LogLevel string `toml:"log_level" help:"debug, info, warn or error"`
}

// Check reports every impossible value by its key.
func (p *ProcessConfig) Check(report func(key, problem string)) {
	if p.Data == "" {
		report("data", "must not be empty")
	}
	if _, err := ParseLogLevel(p.LogLevel); err != nil {
		report("log_level", "must be debug, info, warn or error")
	}
}

// ParseLogLevel returns the log level of a name: debug, info, warn or error, in any case.
func ParseLogLevel(name string) (level slog.Level, err error) {
	err = level.UnmarshalText([]byte(name))
	return level, err
}

// path returns the path of a file or directory in the data directory.
func (c *Config) path(name string) string { return filepath.Join(c.Process.Data, name) }

// listenAddresses returns the addresses of all listeners.
func (c *Config) listenAddresses() []string {
	addresses := []string{c.Gateway.Listen, c.Admin.Listen}
	if c.Vectors.Enabled() && c.Vectors.Listen != "" {
		addresses = append(addresses, c.Vectors.Listen)
	}
	return addresses
}

// FactsFile returns the path of the file with the known facts about the buckets of the upstreams.
func (c *Config) FactsFile() string { return c.path("bucket-facts") }

// Defaults returns the configuration without a file, environment or flags.
func Defaults() *Config {
	c := &Config{
		Gateway: gateway.Config{Listen: "127.0.0.1:9000", Region: "us-east-1", Domains: "localhost", AcceptV2: sigv4.V2Presigned, MaxConnections: 10000, MaxBuckets: 1000, MinRate: 1 << 10, FailuresPerMinute: 600, RequestMemory: 128 << 20},
		Admin:   admin.Config{Listen: "127.0.0.1:9001"},
		Process: ProcessConfig{Data: "./data", LogLevel: "info"},
		Cache:   tiers.Config{HotBytes: 256 << 20, WarmBytes: 10 << 30, BlockBytes: 256 << 10, SmallBytes: 64 << 10, MD5ETags: true, TTLSecs: 60, FetchBytes: 2 << 20, ParallelFetches: 12, ReadAheadBytes: 32 << 20, SequentialBytes: 4 << 20, FillBytes: 128 << 20, Shadow: rules.ShadowOff},
	}
	c.Upstream.SetDefaults()
	c.Storage.Pool = cold.PoolConfig{PoolSize: 20, IdleTimeoutSecs: 90}
	c.Storage.Parallel = uploadpool.ParallelConfig{Enabled: true, Concurrency: 10, MaxRetries: 3, BackoffBaseMs: 100, MaxAgeSecs: 7 * 24 * 3600, VerifyFlush: "answer", ConfirmAfterMs: 1500}
	c.Storage.Batch = uploadpool.BatchConfig{Enabled: true, BatchSize: 10, FlushIntervalSecs: 5, MaxPacked: 1_000_000}
	c.Back = writeback.Config{MaxPendingBytes: 10 << 30, MaxPending: 100_000, MaxPendingSecs: 24 * 3600, InlineBytes: 64 << 10, SegmentBytes: 64 << 20, ScrubBytesPerSec: 16 << 20, MinFreeBytes: 1 << 30, ReserveBytes: 16 << 20, MaxUploadSecs: 7 * 24 * 3600, MaxDates: 100_000, SyncTimeoutSecs: 30, DrainTimeoutSecs: 60, MaxFactSecs: 7 * 24 * 3600}
	c.Snapshot = snapshot.Config{IntervalSecs: 24 * 3600, MaxBytes: 1 << 30, RestoreRate: 64 << 20}
	c.Tiering.Policy = placement.PolicyConfig{HotTTLHours: 6, WarmTTLDays: 7, PromotionThreshold: 10, AccessWindowHours: 1, WorkerIntervalSecs: 300}
	c.Cost, c.Access, c.Tracing = cost.Default(), gateway.AccessLogConfig{MaxMiB: 100, Keep: 10}, TracingConfig{Share: 1}
	c.Compare = compare.Default()
	c.Vectors.SetDefaults()
	c.LoadTest = bench.LoadConfig{Workload: bench.Objects, DurationSecs: 600, QPS: 100, SearchPct: 0.7, InsertPct: 0.2, TierControlPct: 0.1, Collections: 100, Items: 100_000, ItemBytes: bench.Sizes{Least: 2 << 10, Most: 2 << 10}, Skew: 0.9, Dimension: 512, Bucket: "akigw-bench"}
	return c
}
