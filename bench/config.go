package bench

import (
	"fmt"
	"math"
	"strings"

	"github.com/akidb/akigw/internal/size"
)

// LoadConfig configures "akigw bench load": [load_test] in the configuration file.
type LoadConfig struct {
	Workload       string  `toml:"workload" json:"workload" help:"what akigw bench load works on: objects, or vectors (vector collections)"`
	DurationSecs   int     `toml:"duration_secs" json:"duration_secs" help:"duration of akigw bench load, in seconds"`
	QPS            float64 `toml:"qps" json:"qps" help:"requests per second, whether or not earlier ones have finished"`
	SearchPct      float64 `toml:"search_pct" json:"search_pct" help:"share of reads (GET, ranges, HEAD, listings), or of searches"`
	InsertPct      float64 `toml:"insert_pct" json:"insert_pct" help:"share of writes, half of which overwrite"`
	TierControlPct float64 `toml:"tier_control_pct" json:"tier_control_pct" help:"share of operations that promote, demote, pin or unpin ten objects or a vector collection, or ask in which tiers a collection is; they need an admin key"`
	Collections    int     `toml:"collections" json:"collections" help:"number of prefixes of the objects, or of vector collections: a fifth starts in memory, half on disk, the others upstream only"`
	Items          int     `toml:"items" json:"items" help:"number of objects, or of vectors in all collections together"`
	ItemBytes      Sizes   `toml:"item_bytes" json:"item_bytes" help:"size of an object, or the smallest and the largest: 1KiB-64KiB, small ones more often"`
	Skew           float64 `toml:"skew" json:"skew" help:"skew of the Zipf distribution of reads; 0 reads all objects equally often"`
	Dimension      int     `toml:"dimension" json:"dimension" help:"dimension of the vectors"`
	Bucket         string  `toml:"bucket" json:"bucket" help:"bucket of the objects; they stay there and are reused by the next run. For vectors, the vector bucket; its collections are removed after the run"`
}

// The workloads of a load.
const (
	Objects = "objects"
	Vectors = "vectors"
)

// mostExact is the largest size of a collection at the beginning. From 50,000 vectors on, searches are
// approximate.
const mostExact = 40_000

// Check reports every impossible value by its key.
func (c *LoadConfig) Check(report func(key, problem string)) {
	if c.DurationSecs < 1 {
		report("duration_secs", "must be at least 1")
	}
	if !(c.QPS > 0 && c.QPS <= 1e6) {
		report("qps", "must be more than 0, and at most 1000000")
	}
	for key, share := range map[string]float64{"search_pct": c.SearchPct, "insert_pct": c.InsertPct, "tier_control_pct": c.TierControlPct} {
		if !(share >= 0 && share <= 1) {
			report(key, "must be from 0 to 1")
		}
	}
	if sum := c.SearchPct + c.InsertPct + c.TierControlPct; math.Abs(sum-1) > 0.001 {
		report("search_pct", fmt.Sprintf("the sum of search_pct, insert_pct and tier_control_pct must be 1, not %.3g", sum))
	}
	if c.Collections < 1 || c.Collections > 1000 {
		report("collections", "must be from 1 to 1000")
	}
	if c.Items < c.Collections || c.Items > 10_000_000 {
		report("items", "must be at least as many as collections, and at most 10000000")
	}
	if !(c.Skew >= 0 && c.Skew <= 5) {
		report("skew", "must be from 0 to 5")
	}
	if c.Workload != Objects && c.Workload != Vectors {
		report("workload", `must be "objects" or "vectors"`)
	}
	if c.Dimension < 1 || c.Dimension > 4096 {
		report("dimension", "must be from 1 to 4096")
	}
	if c.Workload == Vectors && c.Collections > 0 && c.Items/c.Collections > mostExact {
		report("items", fmt.Sprintf("must be at most %d for each collection: searches of larger ones are approximate, and could not be verified", mostExact))
	}
	if c.Bucket == "" {
		report("bucket", "must not be empty")
	}
}

// Sizes is a range of object sizes in bytes, from Least to Most. As text, "2KiB" or "1KiB-64KiB".
type Sizes struct{ Least, Most int64 }

// UnmarshalText implements encoding.TextUnmarshaler.
func (s *Sizes) UnmarshalText(text []byte) error {
	var least, most size.Bytes
	first, last, ranged := strings.Cut(string(text), "-")
	err := least.UnmarshalText([]byte(first))
	if most = least; err == nil && ranged {
		err = most.UnmarshalText([]byte(last))
	}
	if err != nil {
		return err
	}
	if least < headBytes || most < least || most > 5<<30 {
		return fmt.Errorf("%q: sizes must be %d bytes to 5GiB, the smaller one first", text, headBytes)
	}
	*s = Sizes{int64(least), int64(most)}
	return nil
}

// MarshalText implements encoding.TextMarshaler.
func (s Sizes) MarshalText() ([]byte, error) {
	text, err := size.Bytes(s.Least).MarshalText()
	if err != nil || s.Least == s.Most {
		return text, err
	}
	most, err := size.Bytes(s.Most).MarshalText()
	return append(append(text, '-'), most...), err
}

// of returns the size of an object, which depends only on its number.
func (s Sizes) of(item uint64) int64 {
	if s.Most <= s.Least {
		return s.Least
	}
	share := float64(mix(item)>>11) / (1 << 53)
	return int64(float64(s.Least) * math.Pow(float64(s.Most)/float64(s.Least), share))
}

// mix scrambles a number (SplitMix64).
func mix(n uint64) uint64 {
	n += 0x9e3779b97f4a7c15
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}
