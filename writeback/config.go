package writeback

import (
	"path/filepath"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
)

// Config says where pending writes are stored, and their limits: [write_back].
type Config struct {
	Dir              string     `toml:"dir" help:"directory of the journal; empty: journal in the data directory. Losing it loses the acknowledged writes that are not in the upstream yet"`
	SecondDir        string     `toml:"second_dir" help:"a second directory for the journal, on another disk: a write is acknowledged when it is on both. Empty: none"`
	MaxPendingBytes  size.Bytes `toml:"max_pending_bytes" help:"most bytes of bodies that are acknowledged but not in the upstream yet; beyond that, writes go through"`
	MaxPending       int        `toml:"max_pending" help:"most writes that are acknowledged but not in the upstream yet; each takes about 1 KiB of memory"`
	MaxPendingSecs   int        `toml:"max_pending_secs" help:"seconds; while the oldest of them is older, writes go through"`
	InlineBytes      size.Bytes `toml:"inline_bytes" help:"bodies up to this size share a journal file, and its syncs, with others"`
	SegmentBytes     size.Bytes `toml:"segment_bytes" help:"size at which the journal begins a new file"`
	ScrubBytesPerSec size.Bytes `toml:"scrub_bytes_per_sec" help:"with second_dir: bytes of the journal per second that are read in the background to verify both copies; damage in one is repaired from the other. 0: none"`
	MinFreeBytes     size.Bytes `toml:"min_free_bytes" help:"space that stays free on the journal's disk; with less, writes go through"`
	ReserveBytes     size.Bytes `toml:"reserve_bytes" help:"space on the journal's disk that is reserved for uploading acknowledged writes when the disk is full; 0: none"`
	MaxUploadSecs    int        `toml:"max_upload_secs" help:"seconds after which a multipart upload in the journal is aborted if no part has arrived; 0: never. Its parts count as pending bytes"`
	SyncTimeoutSecs  int        `toml:"sync_timeout_secs" help:"seconds that the disk may take for a sync before writes go through"`
	MaxDates         int        `toml:"max_dates" help:"number of flushed objects that keep the Last-Modified that their writers were promised; beyond it the objects that were flushed first get the upstream's. Each takes about 0.3 KiB of memory and 0.1 to 0.4 KiB of disk, plus its key in both. 0: an object gets the upstream's date when it is flushed"`
	DrainTimeoutSecs int        `toml:"drain_timeout_secs" help:"seconds that a shutdown waits for pending writes; the next start flushes the rest"`
	MaxFactSecs      int        `toml:"bucket_facts_max_age_secs" help:"how old, in seconds, the upstream's last response about a bucket (versioned? encrypted?) may be for the journal to acknowledge writes while the upstream does not respond, also after a restart. While it responds, it is asked once a minute"`

	// FactsFile stores what is known about buckets, "" for memory only.
	FactsFile string
	// Fault, if set, is called before the disk of the journal is used.
	Fault akigw.DiskFault
}

// Check reports each invalid value by its key.
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

// DrainTimeout is how long a shutdown waits for pending writes.
func (c *Config) DrainTimeout() time.Duration {
	return time.Duration(c.DrainTimeoutSecs) * time.Second
}

// Place returns the directory of the journal for a data directory.
func (c *Config) Place(data string) string {
	if c.Dir != "" {
		return c.Dir
	}
	return filepath.Join(data, "journal")
}
