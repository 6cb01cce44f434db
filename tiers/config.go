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

// Config bounds and places the tiers: [cache].
type Config struct {
	HotBytes   size.Bytes `toml:"hot_bytes" help:"memory for cached data; 0 switches the hot tier off"`
	WarmBytes  size.Bytes `toml:"warm_bytes" help:"disk space for cached data, as it is really occupied; 0 switches the warm tier off"`
	BlockBytes size.Bytes `toml:"block_bytes" help:"size of a cached block; rules can say otherwise"`
	SmallBytes size.Bytes `toml:"small_bytes" help:"objects up to this size are one entry, headers and bytes together"`
	// FetchBytes, ParallelFetches and ReadAheadBytes govern large reads from the
	// upstream.
	FetchBytes      size.Bytes `toml:"fetch_bytes" help:"how much one of several parallel requests for a large object fetches"`
	ParallelFetches int        `toml:"parallel_fetches" help:"how many requests at a time fetch a large object for one reader; 1 fetches in order"`
	ReadAheadBytes  size.Bytes `toml:"read_ahead_bytes" help:"memory for what is fetched ahead of all readers together"`
	FillBytes       size.Bytes `toml:"fill_bytes" help:"memory for what is on its way from the upstream to readers, and as much again for what is on its way from disk; who finds none waits, and if more waits than there is, reads are answered with 503 SlowDown. 0: no limit"`
	SequentialBytes size.Bytes `toml:"sequential_bytes" help:"how much is fetched at the most ahead of a reader that asks for one range of an object after the other; 0: nothing. Rules can say otherwise (read_ahead)"`
	// MD5ETags says that an ETag of 32 hex digits is the MD5 of the body.
	MD5ETags          bool   `toml:"md5_etags" help:"the upstream's plain ETags are MD5 digests, so that bodies are verified with them; switch off for a service where they are not"`
	EncryptionKeyFile string `toml:"encryption_key_file" help:"a file with at least 32 bytes, for this user alone, from which the keys are made that the data on disk is encrypted with (AES-256-GCM); with another one the warm tier starts empty. Empty: not encrypted"`
	// The rest are the defaults behind all rules.
	Freshness    rules.Freshness `toml:"freshness" help:"strict: validate each hit upstream; ttl: trust a validation for ttl_secs; immutable: keys are never given other bytes; exclusive: this gateway is the only writer; empty: exclusive for the embedded upstream, strict for any other. Rules can say otherwise (docs/rules.md), and so for the next two"`
	TTLSecs      int64           `toml:"ttl_secs" help:"how long a validation is trusted, with freshness ttl"`
	MaxStaleSecs int64           `toml:"max_stale_secs" help:"how much longer it is while the upstream gives no answer, with freshness ttl"`

	// WarmFault, if set, is asked before the disk of the warm tier is used.
	WarmFault akigw.DiskFault
}

// Settings are what holds where no rule says otherwise.
func (c *Config) Settings() rules.Settings {
	return rules.Settings{
		Freshness: c.Freshness, TTL: time.Duration(c.TTLSecs) * time.Second, MaxStale: time.Duration(c.MaxStaleSecs) * time.Second,
		Memory: true, Disk: true, Block: int64(c.BlockBytes), ReadAhead: int64(c.SequentialBytes),
	}
}

// Check reports every impossible value by its key.
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
	if c.TTLSecs < 1 || c.TTLSecs > rules.MaxSeconds {
		report("ttl_secs", "must be at least 1")
	}
	if c.MaxStaleSecs < 0 || c.MaxStaleSecs > rules.MaxSeconds {
		report("max_stale_secs", "must not be negative")
	}
}

// leastSecret is the smallest number of bytes of an encryption key file.
const leastSecret = 32

// secret reads the encryption key file, nil if there is none.
func (c *Config) secret() ([]byte, error) {
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
		err = fmt.Errorf("%s has %d bytes, and has to have at least %d", c.EncryptionKeyFile, len(secret), leastSecret)
	}
	if err != nil {
		return nil, fmt.Errorf("cache.encryption_key_file: %w", err)
	}
	return secret, nil
}
