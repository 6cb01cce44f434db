package server

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/akidb/akigw/gateway/limits"
	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/tiers/cold"
)

var update = flag.Bool("update", false, "rewrite docs/configuration.md")

// TestRefusals: configurations that are insecure or cannot work are refused.
func TestRefusals(t *testing.T) {
	keys := []string{"AKIGW_ACCESS_KEY=someaccess", "AKIGW_SECRET_KEY=some-secret-key"}
	for _, c := range []struct {
		name string
		env  []string
		want string // "" is accepted
	}{
		{"defaults", nil, ""},
		{"S1 beyond loopback without TLS", append(keys, "AKIGW_LISTEN=0.0.0.0:9000"), "allow_plaintext"},
		{"S1 the same, accepted", append(keys, "AKIGW_LISTEN=0.0.0.0:9000", "AKIGW_ALLOW_PLAINTEXT=true"), ""},
		{"all addresses", append(keys, "AKIGW_LISTEN=:9000"), "allow_plaintext"},
		{"trial keys beyond loopback", []string{"AKIGW_LISTEN=0.0.0.0:9000", "AKIGW_ALLOW_PLAINTEXT=true"}, "allow_trial_keys"},
		{"S43 admin beyond loopback", append(keys, "AKIGW_ADMIN_LISTEN=0.0.0.0:9001"), "allow_open_admin"},
		{"S49 well-known keys", []string{"AKIGW_ACCESS_KEY=minioadmin", "AKIGW_SECRET_KEY=minioadmin"}, "well-known"},
		{"S49 short secret", []string{"AKIGW_ACCESS_KEY=someaccess", "AKIGW_SECRET_KEY=short"}, "at least 8"},
		{"half a key pair", []string{"AKIGW_ACCESS_KEY=someaccess"}, "need each other"},
		{"upstream without keys", []string{"AKIGW_UPSTREAM=http://127.0.0.1:1"}, "AKIGW_UPSTREAM_SECRET_KEY"},
		{"upstream with a path", []string{"AKIGW_UPSTREAM=http://127.0.0.1:1/x", "AKIGW_UPSTREAM_ACCESS_KEY=a", "AKIGW_UPSTREAM_SECRET_KEY=b"}, "must not have a path"},
		{"upstream without a scheme", []string{"AKIGW_UPSTREAM=s3.example.com", "AKIGW_UPSTREAM_ACCESS_KEY=a", "AKIGW_UPSTREAM_SECRET_KEY=b"}, "http://HOST"},
		{"pool of nothing", []string{"AKIGW_STORAGE_CONNECTION_POOL_POOL_SIZE=0"}, "1 to 10000"},
		{"odd block size", []string{"AKIGW_CACHE_BLOCK_BYTES=100KiB"}, "power of two"},
		{"tiny warm tier", []string{"AKIGW_CACHE_WARM_BYTES=1MiB"}, "at least 32MiB"},
		{"size in words", []string{"AKIGW_CACHE_HOT_BYTES=plenty"}, "AKIGW_CACHE_HOT_BYTES"},
		{"freshness nobody knows", []string{"AKIGW_CACHE_FRESHNESS=sometimes"}, "strict"},
		{"log level nobody knows", []string{"AKIGW_LOG_LEVEL=loud"}, "debug, info"},
	} {
		_, err := Load("", c.env, nil)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

// TestConfigurationIsDocumented compares docs/configuration.md with the code:
// go test ./server -update rewrites it.
func TestConfigurationIsDocumented(t *testing.T) {
	const path = "../docs/configuration.md"
	got, err := os.ReadFile(path)
	if err != nil && !*update {
		t.Fatal(err)
	}
	want := configurationPage()
	if *update {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if string(got) != want {
		t.Errorf("%s is not what the code says; run go test ./server -update", path)
	}
}

func configurationPage() string {
	var b strings.Builder
	b.WriteString(`# Configuration

Every setting is a key of the TOML file that ` + "`akigw serve --config FILE`" + ` reads, and an environment variable. Settings that are often changed for one
start are flags as well (` + "`akigw serve --help`" + `). Flags override variables, and variables override the file. Unknown keys, wrong types and impossible
values are reported all at once, by name, and akigw does not start.

A file that holds a secret must not be readable by others (chmod 600). Sizes are written as "256MiB", "10GiB" or a
number of bytes.

This page is generated from the code and checked by a test.

| key | variable | default | meaning |
|---|---|---|---|
`)
	for _, s := range appconfig.Settings(Defaults()) {
		fmt.Fprintf(&b, "| `%s` | `%s` | %s | %s |\n", s.Key, s.Env, defaultOf(s), s.Help)
	}
	b.WriteString("\n## Further upstreams\n\nEach `[[upstreams]]` table of the file is one more upstream, which has some of the buckets. Its settings are those of `[upstream]`, and:\n\n| key | meaning |\n|---|---|\n")
	further := &struct {
		Upstreams []cold.FurtherConfig `toml:"upstreams"`
	}{make([]cold.FurtherConfig, 1)}
	for _, s := range appconfig.Settings(further)[:2] {
		fmt.Fprintf(&b, "| `%s` | %s |\n", strings.TrimPrefix(s.Key, "upstreams[1]."), s.Help)
	}
	b.WriteString("\nObjects cannot be copied from one upstream to another by CopyObject (501). ListBuckets is one list of all upstreams.\n")
	b.WriteString("\n## Classes of service\n\nEach `[[qos]]` table of the file is a class; [rules](rules.md) say which objects belong to it.\n\n| key | default | meaning |\n|---|---|---|\n")
	classes := &struct {
		QoS []limits.QoSConfig `toml:"qos"`
	}{make([]limits.QoSConfig, 1)}
	classes.QoS[0].SetDefaults()
	for _, s := range appconfig.Settings(classes) {
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", strings.TrimPrefix(s.Key, "qos[1]."), defaultOf(s), s.Help)
	}
	b.WriteString("\n## Example\n\n```toml\nlisten = \"127.0.0.1:9000\"\ndata = \"/var/lib/akigw\"\n\n[upstream]\nurl = \"https://s3.eu-central-1.amazonaws.com\"\nregion = \"eu-central-1\"\n\n[cache]\nhot_bytes = \"4GiB\"\nwarm_bytes = \"200GiB\"\n\n[storage.connection_pool]\npool_size = 50\n```\n")
	return b.String()
}

func defaultOf(s appconfig.Setting) string {
	if text := s.Text(); text != "" {
		return "`" + text + "`"
	}
	return ""
}
