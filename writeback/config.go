package writeback

import (
	"path/filepath"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
)

// Config bounds and places what is written back: [write_back].
type Config struct {
	Dir              string     `toml:"dir" help:"directory of the journal; empty: journal in the data directory. Losing it loses writes that were acknowledged and are not upstream yet"`
	SecondDir        string     `toml:"second_dir" help:"a second directory for the journal, on another disk: a write is acknowledged when it is on both. Empty: none"`
	MaxPendingBytes  size.Bytes `toml:"max_pending_bytes" help:"bodies that may be acknowledged and not upstream yet; beyond that writes go through"`
	MaxPending       int        `toml:"max_pending" help:"the same, counted; each takes about 1 KiB of memory"`
	MaxPendingSecs   int        `toml:"max_pending_secs" help:"if the oldest of them is older than so many seconds, writes go through"`
	InlineBytes      size.Bytes `toml:"inline_bytes" help:"bodies up to this size share a journal file, and its syncs, with others"`
	SegmentBytes     size.Bytes `toml:"segment_bytes" help:"how long a file of the journal gets before the next one is begun"`
	ScrubBytesPerSec size.Bytes `toml:"scrub_bytes_per_sec" help:"with second_dir: bytes of the journal that are read in a second, in the background, to verify both copies: what is damaged in one is repaired from the other. 0: none"`
	MinFreeBytes     size.Bytes `toml:"min_free_bytes" help:"space that is left free on the journal's disk; with less writes go through"`
	ReserveBytes     size.Bytes `toml:"reserve_bytes" help:"space on the journal's disk that is kept for the journal: when the disk is full, what was acknowledged is still taken to the upstream with it; 0: none"`
	MaxUploadSecs    int        `toml:"max_upload_secs" help:"seconds after which a multipart upload in the journal is aborted if no part came; 0: never. Its parts count as pending bytes"`
	SyncTimeoutSecs  int        `toml:"sync_timeout_secs" help:"seconds that the disk may take for a sync before writes go through"`
	MaxDates         int        `toml:"max_dates" help:"number of flushed objects that keep the Last-Modified that their writers were promised; beyond it the objects that were flushed first get the upstream's. Each takes about 0.3 KiB of memory and 0.1 to 0.4 KiB of disk, plus its key in both. 0: an object gets the upstream's date when it is flushed"`
	DrainTimeoutSecs int        `toml:"drain_timeout_secs" help:"seconds that a stop waits for what is pending; what is left then is flushed by the next start"`
	MaxFactSecs      int        `toml:"bucket_facts_max_age_secs" help:"how old, in seconds, the upstream's last answer about a bucket (versioned? encrypted?) may be for writes to be acknowledged by it while the upstream does not answer, also after a restart. While it answers, it is asked once a minute"`

	// FactsFile is where what is known of buckets is kept, "" for memory only.
	FactsFile string
	// Fault, if set, is asked before the disk of the journal is used.
	Fault akigw.DiskFault
}

// Check reports every impossible value by its key.
func (c *Config) Check(report func(key, problem string)) {
	const year = 365 * 24 * 3600
	if c.SecondDir != "" && filepath.Clean(c.SecondDir) == filepath.Clean(c.Dir) {
		report("second_dir", "must be another directory than dir")
	}
	for _, v := range []struct {
		ok           bool
		key, problem string
	}{
		{c.MaxPendingBytes >= 1<<20, "max_pending_bytes", "must be at least 1MiB"},
		{within(c.MaxPending, 1, 10_000_000), "max_pending", "must be 1 to 10000000"},
		{within(c.MaxPendingSecs, 1, year), "max_pending_secs", "must be 1 to 31536000"},
		{within(c.InlineBytes, 0, 1<<20), "inline_bytes", "must be 0 to 1MiB"},
		{within(c.SegmentBytes, 1<<20, 1<<30), "segment_bytes", "must be 1MiB to 1GiB"},
		{c.ScrubBytesPerSec >= 0, "scrub_bytes_per_sec", "must not be negative"},
		{c.MinFreeBytes >= 0, "min_free_bytes", "must not be negative"},
		{c.ReserveBytes == 0 || within(c.ReserveBytes, 64<<10, 1<<30), "reserve_bytes", "must be 0, or 64KiB to 1GiB"},
		{within(c.MaxUploadSecs, 0, year), "max_upload_secs", "must be 0 to 31536000"},
		{within(c.SyncTimeoutSecs, 1, 3600), "sync_timeout_secs", "must be 1 to 3600"},
		{within(c.MaxFactSecs, 60, year), "bucket_facts_max_age_secs", "must be 60 to 31536000"},
		{within(c.MaxDates, 0, 10_000_000), "max_dates", "must be 0 to 10000000"},
		{within(c.DrainTimeoutSecs, 0, 24*3600), "drain_timeout_secs", "must be 0 to 86400"},
	} {
		if !v.ok {
			report(v.key, v.problem)
		}
	}
}

// within reports whether least <= n <= most.
func within[N int | size.Bytes](n, least, most N) bool { return n >= least && n <= most }

// DrainTimeout is how long a stop waits for what is pending.
func (c *Config) DrainTimeout() time.Duration {
	return time.Duration(c.DrainTimeoutSecs) * time.Second
}

// Place is the directory of the journal of a gateway with this data directory.
func (c *Config) Place(data string) string {
	if c.Dir != "" {
		return c.Dir
	}
	return filepath.Join(data, "journal")
}
