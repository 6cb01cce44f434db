package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/akidb/akigw/admin/client"
	"github.com/akidb/akigw/compare"
)

// compareCommand is "akigw compare".
type compareCommand struct {
	List compareList `cmd:"" name:"ls" help:"List answers from the cache that differ from the upstream's, newest first; --json shows the headers of both."`
}

type compareList struct {
	remote
	Allowed bool `help:"List those that the freshness mode allows, by their age."`
}

// Run lists the differences. It requires an admin key.
func (c *compareList) Run() error {
	r, err := ask(&c.remote, (*client.Client).Compared)
	if err != nil {
		return err
	}
	all := r.Differences
	if c.Allowed {
		all = r.Allowed
	}
	if c.JSON {
		return printJSON(all)
	}
	fmt.Printf("since %s: %d different, %d different but allowed, %d equal\n", r.Since.Local().Format(time.DateTime), r.Compared[compare.Different], r.Compared[compare.Allowed], r.Compared[compare.Equal])
	if r.Queued > 0 {
		fmt.Println("waiting to be compared:", r.Queued)
	}
	var skipped []string
	for _, reason := range sortedKeys(r.Skipped) {
		if n := r.Skipped[reason]; n > 0 {
			skipped = append(skipped, fmt.Sprintf("%d %s", n, strings.ReplaceAll(string(reason), "_", " ")))
		}
	}
	if len(skipped) > 0 {
		fmt.Println("not compared:", strings.Join(skipped, ", "))
	} else if r.Compared[compare.Different]+r.Compared[compare.Allowed]+r.Compared[compare.Equal] == 0 && r.Queued == 0 {
		fmt.Println("Nothing was compared yet. Answers from the cache are where a rule has compare, such as compare = 0.01 for one in a hundred.")
	}
	if len(all) == 0 {
		return nil
	}
	fmt.Println()
	return table([]string{"ANSWERED", "OBJECT", "REQUEST", "MODE", "FROM", "AGE", "DIFFERS IN"}, all, func(d compare.Difference) []any {
		object := fmt.Sprintf("%s/%q", d.Bucket, d.Key)
		if d.Version != "" {
			object += fmt.Sprintf("?versionId=%q", d.Version)
		}
		age := time.Duration(d.Age * float64(time.Second)).Round(time.Millisecond)
		return []any{d.At.Local().Format(time.DateTime), object, strings.TrimSpace(d.Method + " " + d.Range), d.Freshness, d.Tier, age, strings.Join(d.Differs, ", ")}
	})
}
