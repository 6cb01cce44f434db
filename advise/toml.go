package advise

import (
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/akidb/akigw/internal/size"
)

// quoted is text as a TOML string. The text is valid UTF-8.
func quoted(text string) string {
	special := func(r rune) bool { return r == '"' || r == '\\' || r < ' ' || r == 0x7f }
	if !strings.ContainsFunc(text, special) {
		return `"` + text + `"`
	}
	b, _ := toml.Marshal(map[string]string{"v": text}) // a string never fails
	return strings.TrimSpace(strings.TrimPrefix(string(b), "v = "))
}

// sizesTOML are the settings of tiers of some sizes.
func sizesTOML(memory, disk int64) string {
	text := func(n int64) string {
		b, _ := size.Bytes(n).MarshalText() // never fails
		return string(b)
	}
	return fmt.Sprintf("[cache]\nhot_bytes = %q\nwarm_bytes = %q\n", text(memory), text(disk))
}

// rule begins a rule for a bucket.
func rule(bucket string) string { return fmt.Sprintf("[[rule]]\nbucket = %s\n", quoted(bucket)) }

// freshnessTOML is a rule with a ttl in seconds.
func freshnessTOML(bucket string, ttl int64, unchanged bool) string {
	text := rule(bucket) + fmt.Sprintf("freshness = \"ttl\"\nttl_secs = %d\n", ttl)
	if unchanged {
		return text + "# freshness = \"immutable\" # only if you promise that nobody ever replaces these objects, through this gateway or past it\n"
	}
	return text + "# freshness = \"exclusive\" # only if you promise that nobody ever writes to this bucket past this gateway\n"
}

// pinsTOML are rules that pin objects.
func pinsTOML(bucket string, keys []string) string {
	var b strings.Builder
	for i, key := range keys {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%skey = %s\npin = true\n", rule(bucket), quoted(key))
	}
	return b.String()
}

// writeTOML is a rule that writes back. write is what the bucket's rules say now.
func writeTOML(bucket, write string, packs bool) string {
	text := rule(bucket)
	if write != "back" {
		text += "# " + lostDisk + "\nwrite = \"back\"\n"
	}
	if packs {
		text += fmt.Sprintf("# %s\npack_bytes = \"%dKiB\"\n", lostPacks, small>>10)
	}
	return text
}

// toml joins all proposals.
func (r *Report) toml() string {
	var all []string
	for _, b := range r.Buckets {
		for _, p := range b.Proposals {
			all = append(all, p.TOML)
		}
	}
	if len(all) > 0 {
		all[0] = "# Before the other rules: for each field, the first rule that matches decides.\n" + all[0]
	}
	if r.Sizes != nil && (r.Sizes.Memory != r.Facts.Memory.Quota || r.Sizes.Disk != r.Facts.Disk.Quota) {
		all = append([]string{"# In place of the same keys of the configuration file's [cache]; TOML allows that table only once.\n" + r.Sizes.TOML}, all...)
	}
	return strings.Join(all, "\n")
}
