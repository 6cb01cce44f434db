package vectors

import (
	"net"
	"strings"

	"github.com/akidb/akigw/internal/size"
)

// Config configures vector collections: [vectors] of the configuration file.
type Config struct {
	Bucket  string `toml:"bucket" help:"bucket of the upstream that vector collections are stored in; empty: no vector collections. S3 clients have no access to the prefix in it"`
	Prefix  string `toml:"prefix" help:"what the keys in that bucket begin with; one gateway at a time may use a prefix"`
	Listen  string `toml:"listen" help:"address of a listener for the S3 Vectors API alone; empty: the S3 listener serves it, which it does in any case"`
	Account string `toml:"account" help:"account ID in the ARNs of vector buckets and indexes: 12 digits"`

	MaxCollections int        `toml:"max_collections" help:"most indexes of all vector buckets together; creating another one fails with ServiceQuotaExceededException"`
	MemoryBytes    size.Bytes `toml:"memory_bytes" help:"memory for collections in the hot tier, and for vectors that are not in the upstream yet"`
	StorageBytes   size.Bytes `toml:"storage_bytes" help:"most bytes that collections may occupy in the upstream; above it, PutVectors fails with ServiceQuotaExceededException. 0: no limit"`
	WarmBytes      size.Bytes `toml:"warm_bytes" help:"disk space for collections in the warm tier"`
	FlushSecs      int        `toml:"flush_secs" help:"seconds after which acknowledged vectors are uploaded at the latest"`
	SegmentBytes   size.Bytes `toml:"segment_bytes" help:"acknowledged bytes of a collection at which they are uploaded before flush_secs have passed"`
	KeepSnapshots  int        `toml:"keep_snapshots" help:"how many earlier manifests of a collection keep their files in the upstream"`
	SearchSecs     int        `toml:"search_secs" help:"seconds that a search waits while a cold collection is promoted; then it gets 503, and the promotion goes on"`
}

// Enabled reports whether there are vector collections.
func (c *Config) Enabled() bool { return c.Bucket != "" }

// SetDefaults sets the values that apply where the configuration sets none.
func (c *Config) SetDefaults() {
	*c = Config{Prefix: "vectors/", Account: "000000000000", MaxCollections: 1000, MemoryBytes: 1 << 30, WarmBytes: 10 << 30,
		FlushSecs: 60, SegmentBytes: 32 << 20, KeepSnapshots: 3, SearchSecs: 20}
}

// Check reports each invalid value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if _, _, err := net.SplitHostPort(c.Listen); c.Listen != "" && err != nil {
		report("listen", "must be HOST:PORT, or empty")
	}
	if c.Listen != "" && !c.Enabled() {
		report("listen", "needs bucket: without it there are no vector collections to serve")
	}
	if !ValidAccount(c.Account) {
		report("account", "must be 12 digits")
	}
	if c.Prefix == "" || !strings.HasSuffix(c.Prefix, "/") || strings.HasPrefix(c.Prefix, "/") || len(c.Prefix) > 512 {
		report("prefix", "must end with a slash, must not begin with one, and has at most 512 bytes")
	}
	for key, n := range map[string]int64{"max_collections": int64(c.MaxCollections), "memory_bytes": int64(c.MemoryBytes), "flush_secs": int64(c.FlushSecs), "segment_bytes": int64(c.SegmentBytes), "search_secs": int64(c.SearchSecs)} {
		if n < 1 {
			report(key, "must be at least 1")
		}
	}
	if c.KeepSnapshots < 1 {
		report("keep_snapshots", "must be at least 1: the inputs of the last merge are kept for it")
	}
	if c.WarmBytes < 64<<20 {
		report("warm_bytes", "must be at least 64MiB")
	}
	if c.StorageBytes < 0 {
		report("storage_bytes", "must not be negative")
	}
}
