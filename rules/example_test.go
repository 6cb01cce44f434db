package rules_test

import (
	"fmt"
	"time"

	"github.com/akidb/akigw/rules"
)

// Each setting of a key comes from the first rule that matches the key and has that setting.
func Example() {
	parsed, err := rules.Parse([]byte(`
[[rule]]
bucket = "logs"
key = "raw/*"
tiers = []

[[rule]]
bucket = "logs"
freshness = "immutable"
`))
	if err != nil {
		fmt.Println(err)
		return
	}
	set := rules.NewSet(parsed, rules.Settings{Freshness: rules.TTL, TTL: time.Minute, Memory: true, Disk: true})
	for _, key := range []string{"raw/1.gz", "2026/day.parquet"} {
		s := set.For("logs", key)
		fmt.Println(key, s.Freshness, s.Cached())
	}
	fmt.Println(set.For("other", "key").Freshness)
	// Output:
	// raw/1.gz immutable false
	// 2026/day.parquet immutable true
	// ttl
}
