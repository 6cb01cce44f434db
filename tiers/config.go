package tiers

import (
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// Config configures the tiers: [cache].
type Config struct {
	HotBytes   size.Bytes `toml:"hot_bytes" help:"memory for cached data; 0 switches the hot tier off"`
	WarmBytes  size.Bytes `toml:"warm_bytes" help:"disk space for cached data, as actually occupied; 0 switches the warm tier off"`
	BlockBytes size.Bytes `toml:"block_bytes" help:"size of a cached block; rules can say otherwise"`
	SmallBytes size.Bytes `toml:"small_bytes" help:"objects up to this size are stored as one entry, headers and bytes together"`
	// FetchBytes, ParallelFetches and ReadAheadBytes control large reads from the upstream.
	FetchBytes      size.Bytes `toml:"fetch_bytes" help:"how much each of several parallel requests for a large object fetches"`
	ParallelFetches int        `toml:"parallel_fetches" help:"how many parallel requests fetch a large object for one reader; 1 fetches in order"`
	ReadAheadBytes  size.Bytes `toml:"read_ahead_bytes" help:"memory for data fetched ahead of all readers together"`
	FillBytes       size.Bytes `toml:"fill_bytes" help:"memory for data on its way from the upstream to readers, and as much again for data on its way from disk. A read waits until memory is released; while more memory is waited for than there is, new reads get 503 SlowDown. 0: no limit"`
	SequentialBytes size.Bytes `toml:"sequential_bytes" help:"how much is fetched ahead of a reader that requests one range of an object after another, at most; 0: nothing. Rules can override it (read_ahead)"`
	// MD5ETags means that an ETag of 32 hex digits is the MD5 of the body.
	MD5ETags          bool   `toml:"md5_etags" help:"the upstream's plain ETags are MD5 digests, and bodies are verified with them; switch this off for a service where they are not"`
	EncryptionKeyFile string `toml:"encryption_key_file" help:"a file with at least 32 bytes, readable by this user only. The keys that encrypt the data on disk (AES-256-GCM) are derived from it; with a different file the warm tier starts empty. Empty: no encryption"`
	// The rest are the defaults that rules can override.
	Freshness    rules.Freshness `toml:"freshness" help:"strict: validate each hit upstream; ttl: trust a validation for ttl_secs; immutable: an object is never overwritten; exclusive: this gateway is the only writer; empty: exclusive for the embedded upstream, strict for any other. Rules can override this key and the next two (docs/rules.md)"`
	TTLSecs      int64           `toml:"ttl_secs" help:"how long a validation is trusted, with freshness ttl"`
	MaxStaleSecs int64           `toml:"max_stale_secs" help:"how much longer it is while the upstream gives no answer, with freshness ttl"`
	Shadow       rules.Shadow    `toml:"shadow" help:"off: serve from the cache; metadata: every request goes to the upstream, and the gateway counts what it would have saved (akigw shadow report); bodies: likewise, and what passes fills the tiers. Rules can override it"`

	// WarmFault, if set, is called before each disk operation of the warm tier.
	WarmFault akigw.DiskFault
}

// Settings returns the settings that apply where no rule says otherwise.
func (c *Config) Settings() rules.Settings {
	return rules.Settings{
		Freshness: c.Freshness, TTL: time.Duration(c.TTLSecs) * time.Second, MaxStale: time.Duration(c.MaxStaleSecs) * time.Second,
		Memory: true, Disk: true, Block: int64(c.BlockBytes), ReadAhead: int64(c.SequentialBytes), Shadow: c.Shadow,
	}
}

// Check reports each invalid value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.HotBytes < 0 {
		report("hot_bytes", "must not be negative")
	}
	if c.WarmBytes != 0 && c.WarmBytes < warm.MinQuota {
		report("warm_bytes", "must be 0 or at least 32MiB")
	}
	if !rules.BlockSize(int64(c.BlockBytes)) {
		report("block_bytes", rules.BlockSizes)
	}
	if c.SmallBytes < 0 || c.SmallBytes > c.BlockBytes {
		report("small_bytes", "must be 0 to block_bytes")
	}
	if c.FetchBytes < c.BlockBytes || c.FetchBytes > 1<<30 {
		report("fetch_bytes", "must be block_bytes to 1GiB")
	}
	if c.ParallelFetches < 1 || c.ParallelFetches > 64 {
		report("parallel_fetches", "must be 1 to 64")
	}
	if c.ReadAheadBytes < 0 {
		report("read_ahead_bytes", "must not be negative")
	}
	if c.FillBytes < 0 || c.FillBytes > 0 && c.FillBytes < (window+2)*c.BlockBytes {
		report("fill_bytes", "must be 0 or at least six blocks")
	}
	if c.SequentialBytes < 0 {
		report("sequential_bytes", "must not be negative")
	}
	if c.Freshness != "" && !slices.Contains(rules.Modes(), c.Freshness) {
		report("freshness", fmt.Sprintf("must be one of %q", rules.Modes()))
	}
	if c.Shadow != "" && !slices.Contains(rules.Shadows(), c.Shadow) {
		report("shadow", fmt.Sprintf("must be one of %q", rules.Shadows()))
	}
	if c.TTLSecs < 1 || c.TTLSecs > rules.MaxSeconds {
		report("ttl_secs", "must be at least 1")
	}
	if c.MaxStaleSecs < 0 || c.MaxStaleSecs > rules.MaxSeconds {
		report("max_stale_secs", "must not be negative")
	}
}

// leastSecret is the smallest number of bytes of an encryption key file.
const leastSecret = 32

// Secret reads the key that encrypts values on disk from the encryption key file; nil if there is none.
func (c *Config) Secret() ([]byte, error) {
	if c.EncryptionKeyFile == "" {
		return nil, nil
	}
	info, err := os.Stat(c.EncryptionKeyFile)
	if err != nil {
		return nil, fmt.Errorf("cache.encryption_key_file: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("cache.encryption_key_file: %s can be read by others; run: chmod 600 %s", c.EncryptionKeyFile, c.EncryptionKeyFile)
	}
	secret, err := os.ReadFile(c.EncryptionKeyFile)
	if err == nil && len(secret) < leastSecret {
		err = fmt.Errorf("%s has %d bytes, but needs at least %d", c.EncryptionKeyFile, len(secret), leastSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("cache.encryption_key_file: %w", err)
	}
	return secret, nil
}
