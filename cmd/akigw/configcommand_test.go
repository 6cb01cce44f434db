package main

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/server"
)

// TestDefaultsAreAFile: reading the output of "akigw config print-default" gives the defaults, with the
// file as their origin.
func TestDefaultsAreAFile(t *testing.T) {
	var text bytes.Buffer
	if err := printDefaults(&text); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "akigw.toml")
	if err := os.WriteFile(path, text.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := server.Load(path, []string{"AKIGW_LOG_LEVEL=warn"}, map[string]string{"listen": "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"log_level": "warn", "listen": "127.0.0.1:1", "cache.freshness": "exclusive"}
	standard := appconfig.Settings(server.Defaults())
	for i, s := range appconfig.Settings(c) {
		if value, changed := want[s.Key]; changed && s.Text() != value || !changed && s.Text() != standard[i].Text() {
			t.Errorf("%s is %q, its default %q", s.Key, s.Text(), standard[i].Text())
		}
	}
	for key, from := range map[string]string{"log_level": "AKIGW_LOG_LEVEL in the environment", "listen": "--listen", "cache.hot_bytes": path, "upstream.url": ""} {
		if c.Origins[key] != from {
			t.Errorf("%s comes from %q, want %q", key, c.Origins[key], from)
		}
	}
}
