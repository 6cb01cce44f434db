package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type size int64

func (s *size) UnmarshalText(b []byte) error {
	if _, err := fmt.Sscanf(string(b), "%dMiB", (*int64)(s)); err != nil {
		return err
	}
	return nil
}

type inner struct {
	Size  int  `toml:"pool_size"`
	Bytes size `toml:"bytes"`
}

func (i *inner) Check(report func(key, problem string)) {
	if i.Size < 1 {
		report("pool_size", "must be positive")
	}
}

type item struct {
	Name  string `toml:"name"`
	Key   string `toml:"key" secret:"true"`
	Pool  inner  // its settings are the element's own
	Aside string
}

func (i *item) SetDefaults() { i.Pool.Size = 7 }

type sample struct {
	Items []item `toml:"items"`
	Top   struct {
		Listen string `toml:"listen" env:"SHORT_LISTEN"`
		On     bool   `toml:"on"`
		Secret string `toml:"secret_key" secret:"true"`
	}
	Storage struct {
		Pool inner `toml:"connection_pool"`
	} `toml:"storage"`
}

func write(t *testing.T, text string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "akigw.toml")
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestPrecedence(t *testing.T) {
	file := write(t, "listen = \"file\"\non = true\n[storage.connection_pool]\npool_size = 5\nbytes = \"7MiB\"\n", 0o644)
	c := &sample{}
	err := Load(c, Source{File: file, Env: []string{"AKIGW_STORAGE_CONNECTION_POOL_POOL_SIZE=6", "SHORT_LISTEN=env"}, Flags: map[string]string{"listen": "flag"}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Top.Listen != "flag" || !c.Top.On || c.Storage.Pool.Size != 6 || c.Storage.Pool.Bytes != 7 {
		t.Errorf("%+v", c)
	}
}

// TestAllMistakesAtOnce: unknown keys, wrong types and impossible values are reported together, by
// key.
func TestAllMistakesAtOnce(t *testing.T) {
	file := write(t, `
listen = 5
on = "yes"
lisen = "x"
pool_size = 3
secret_key = "s"
storage.connection_pool.pool_size = 0
storage.connection_pool.bytes = "much"
[nonsense]
a = 1
`, 0o644)
	err := Load(&sample{}, Source{File: file, Env: []string{"AKIGW_ON=perhaps"}})
	for _, want := range []string{
		"listen: must be a string, not a whole number", "on: must be true or false, not a string", "lisen: unknown setting; did you mean listen?",
		"pool_size: unknown setting; did you mean storage.connection_pool.pool_size?", "storage.connection_pool.pool_size: must be positive",
		"storage.connection_pool.bytes: must be", "nonsense: unknown setting", "AKIGW_ON: must be true or false", "chmod 600",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in: %v", want, err)
		}
	}
}

func TestUnreadableFiles(t *testing.T) {
	for name, file := range map[string]string{"absent": "/nonexistent/akigw.toml", "no TOML": write(t, "listen = \n", 0o600)} {
		if err := Load(&sample{}, Source{File: file}); err == nil || !strings.Contains(err.Error(), "configuration file") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Scenarios: S47.
func TestSecretsNeedAPrivateFile(t *testing.T) {
	text := "secret_key = \"s\"\n[storage.connection_pool]\npool_size = 1\n"
	if err := Load(&sample{}, Source{File: write(t, text, 0o600)}); err != nil {
		t.Error(err)
	}
	if err := Load(&sample{}, Source{File: write(t, text, 0o640)}); err == nil {
		t.Error("a file with a secret that others can read was accepted")
	}
}

// TestLists: [[items]] tables fill a list, element by element, and mistakes
// name the element.
func TestLists(t *testing.T) {
	c := &sample{}
	c.Storage.Pool.Size = 1
	if err := Load(c, Source{File: write(t, "[[items]]\nname = \"a\"\n[[items]]\nname = \"b\"\n", 0o600)}); err != nil {
		t.Fatal(err)
	}
	if len(c.Items) != 2 || c.Items[0].Name != "a" || c.Items[1].Name != "b" || c.Items[1].Pool.Size != 7 {
		t.Errorf("%+v", c.Items)
	}
	for text, want := range map[string]string{
		"[[items]]\nname = \"a\"\n[[items]]\nnames = \"b\"\n": "items[2].names: unknown setting; did you mean items[2].name?",
		"[[items]]\npool_size = 0\n":                          "items[1].pool_size: must be positive",
		"[[items]]\npool_size = \"x\"\n":                      "items[1].pool_size: must be a whole number",
		"[items]\nname = \"a\"\n":                             "items: must be written as [[items]] tables",
		"[[items]]\naside = \"x\"\n":                          "items[1].aside: unknown setting",
		"[[items]]\nkey = \"x\"\n":                            "holds a secret",
	} {
		err := Load(&sample{Storage: c.Storage}, Source{File: write(t, text, 0o644)})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
