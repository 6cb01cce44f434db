package placement

import (
	"fmt"
	"time"

	"github.com/akidb/akigw/rules"
)

// PolicyConfig says when objects move between the tiers automatically: [tiering.policy].
// Independently of it, a full tier evicts what is used least.
type PolicyConfig struct {
	HotTTLHours        float64 `toml:"hot_tier_ttl_hours" help:"hours after its last use when an object leaves memory; 0: only when space is needed. Rules can override this key and the next three"`
	WarmTTLDays        float64 `toml:"warm_tier_ttl_days" help:"days after its last use when an object leaves the disk; 0: only when space is needed"`
	PromotionThreshold int64   `toml:"hot_promotion_threshold" help:"accesses within access_window_hours that bring an object from disk into memory as a whole; 0: never"`
	AccessWindowHours  float64 `toml:"access_window_hours" help:"hours over which accesses are counted"`
	WorkerIntervalSecs int64   `toml:"worker_interval_secs" help:"seconds between two passes over the catalog that apply this policy; 0: never"`
}

// Apply sets the policy in the default settings.
func (c *PolicyConfig) Apply(s *rules.Settings) {
	s.HotIdle, _ = rules.Units(c.HotTTLHours, time.Hour) // Check has validated them
	s.WarmIdle, _ = rules.Units(c.WarmTTLDays, rules.Day)
	s.AccessWindow, _ = rules.Units(c.AccessWindowHours, time.Hour)
	s.PromoteAt = uint32(c.PromotionThreshold)
}

// Check reports each invalid value by its key.
func (c *PolicyConfig) Check(report func(key, problem string)) {
	for _, d := range []struct {
		key  string
		n    float64
		unit time.Duration
	}{{"hot_tier_ttl_hours", c.HotTTLHours, time.Hour}, {"warm_tier_ttl_days", c.WarmTTLDays, rules.Day}, {"access_window_hours", c.AccessWindowHours, time.Hour}} {
		if _, ok := rules.Units(d.n, d.unit); !ok {
			report(d.key, rules.DurationValues)
		}
	}
	if c.PromotionThreshold < 0 || c.PromotionThreshold > rules.MaxPromoteAt {
		report("hot_promotion_threshold", fmt.Sprintf("must be 0 to %d", rules.MaxPromoteAt))
	}
	if c.WorkerIntervalSecs < 0 || c.WorkerIntervalSecs > rules.MaxSeconds {
		report("worker_interval_secs", "must not be negative")
	}
}
