package placement

import (
	"fmt"
	"time"

	"github.com/akidb/akigw/rules"
)

// PolicyConfig says when objects move between the tiers by themselves: [tiering.policy].
// Besides, a tier that is full evicts what is used least, at all times.
type PolicyConfig struct {
	HotTTLHours        float64 `toml:"hot_tier_ttl_hours" help:"hours after its last use that an object leaves memory; 0: when there is no room. Rules can say otherwise, and so for the next three"`
	WarmTTLDays        float64 `toml:"warm_tier_ttl_days" help:"days after its last use that an object leaves the disk; 0: when there is no room"`
	PromotionThreshold int64   `toml:"hot_promotion_threshold" help:"accesses within access_window_hours that bring an object from disk into memory as a whole; 0: never"`
	AccessWindowHours  float64 `toml:"access_window_hours" help:"hours over which accesses are counted"`
	WorkerIntervalSecs int64   `toml:"worker_interval_secs" help:"how often the catalog is gone through for all of this; 0: never"`
}

// Apply puts the policy into the settings behind all rules.
func (c *PolicyConfig) Apply(s *rules.Settings) {
	s.HotIdle, _ = rules.Units(c.HotTTLHours, time.Hour) // Check has seen that they are possible
	s.WarmIdle, _ = rules.Units(c.WarmTTLDays, rules.Day)
	s.AccessWindow, _ = rules.Units(c.AccessWindowHours, time.Hour)
	s.PromoteAt = uint32(c.PromotionThreshold)
}

// Check reports every impossible value by its key.
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
