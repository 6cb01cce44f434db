package main

import (
	"bufio"
	"cmp"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	appconfig "github.com/akidb/akigw/internal/config"
	"github.com/akidb/akigw/server"
)

// configCommand is "akigw config".
type configCommand struct {
	Check        configCheck        `cmd:"" help:"Read the configuration as serve would and report every mistake."`
	PrintDefault configPrintDefault `cmd:"" help:"Print a configuration file with every setting, its default and its meaning."`
	Explain      configExplain      `cmd:"" help:"Print the meaning and value of a setting and where the value comes from."`
}

// configFile holds the flag for the configuration file.
type configFile struct {
	Config string `help:"TOML configuration file." placeholder:"FILE" env:"AKIGW_CONFIG"`
}

type configCheck struct{ configFile }

// Run checks the configuration.
func (k *configCheck) Run() error {
	c, err := server.Load(k.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	if _, err := c.OpenRules(slog.New(slog.DiscardHandler), nil); err != nil {
		return err
	}
	fmt.Printf("the configuration is valid; %d settings are given\n", len(c.Origins))
	return nil
}

type configPrintDefault struct{}

// Run prints the defaults.
func (configPrintDefault) Run() error { return printDefaults(os.Stdout) }

// printDefaults writes the defaults as a configuration file. Reading that file gives the
// defaults.
func printDefaults(to io.Writer) error {
	w := bufio.NewWriter(to)
	fmt.Fprintln(w, "# Every setting with its default. Settings that are commented out have none.")
	table := ""
	for _, s := range appconfig.Settings(server.Defaults()) {
		name := s.Key
		if dot := strings.LastIndexByte(s.Key, '.'); dot >= 0 {
			if s.Key[:dot] != table {
				table = s.Key[:dot]
				fmt.Fprintf(w, "\n[%s]\n", table)
			}
			name = s.Key[dot+1:]
		}
		fmt.Fprintf(w, "\n# %s\n", s.Help)
		if s.Text() == "" {
			fmt.Fprint(w, "# ")
		}
		fmt.Fprintf(w, "%s = %s\n", name, s.TOML())
	}
	return w.Flush()
}

type configExplain struct {
	configFile
	Key  string `arg:"" help:"Key of the setting, such as cache.hot_bytes, or a table, such as cache." optional:""`
	JSON bool   `name:"json" help:"Print JSON."`
}

// explained describes a setting.
type explained struct {
	Key      string `json:"key"`
	Value    string `json:"value"` // in TOML syntax
	Meaning  string `json:"meaning"`
	From     string `json:"from"`
	Variable string `json:"variable,omitempty"` // Variable and Default are empty for settings within lists
	Default  string `json:"default,omitempty"`
}

// Run explains a setting, all settings of a table, or all settings.
func (k *configExplain) Run() error {
	c, err := server.Load(k.Config, os.Environ(), nil)
	if err != nil {
		return err
	}
	standard := map[string]string{}
	for _, s := range appconfig.Settings(server.Defaults()) {
		standard[s.Key] = s.TOML()
	}
	var all []explained
	for _, s := range appconfig.Settings(c) {
		if s.Key != k.Key && k.Key != "" && !strings.HasPrefix(s.Key, k.Key+".") {
			continue
		}
		e := explained{s.Key, s.TOML(), s.Help, cmp.Or(c.Origins[s.Key], "the default"), s.Env, standard[s.Key]}
		if s.Secret && s.Text() != "" {
			e.Value = "(a secret)"
		}
		all = append(all, e)
	}
	if len(all) == 0 {
		return fmt.Errorf("unknown setting %q%s; akigw config explain lists all of them", k.Key, appconfig.Suggestion(server.Defaults(), k.Key))
	}
	if k.JSON {
		return printJSON(all)
	}
	for i, e := range all {
		if i > 0 {
			fmt.Println()
		}
		fmt.Printf("%s = %s\n  %s\n  from:     %s\n", e.Key, e.Value, e.Meaning, e.From)
		if e.Variable != "" {
			fmt.Printf("  variable: %s\n  default:  %s\n", e.Variable, e.Default)
		}
	}
	return nil
}
