package rules

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// Book is the rules in force: those of the configuration file, taken over when
// it changes. All methods but Run may be called from any goroutine.
type Book struct {
	path     string
	defaults Settings
	log      *slog.Logger
	set      atomic.Pointer[Set]
	stamp    string // of the file as it was read last; Run's
}

// Open reads the rules of a configuration file. With no path there are none,
// and the defaults hold for every key.
func Open(path string, defaults Settings, log *slog.Logger) (*Book, error) {
	b := &Book{path: path, defaults: defaults, log: log}
	return b, b.load()
}

// For returns the settings of a key. They are shared and must not be changed.
func (b *Book) For(bucket, key string) *Settings { return b.set.Load().For(bucket, key) }

// Explain says where the settings of a key come from.
func (b *Book) Explain(bucket, key string) []Explained { return b.set.Load().Explain(bucket, key) }

var (
	reloads      = metrics.NewCounter(`akigw_rules_reloads_total{result="ok"}`)
	reloadErrors = metrics.NewCounter(`akigw_rules_reloads_total{result="error"}`)
)

// lookAgain is how often the file is looked at.
const lookAgain = time.Second

// Run takes the rules over when the file changes, until ctx ends. Rules with
// mistakes are reported, and those before stay in force; so they do for what
// else is in the file, which is read at the start alone.
func (b *Book) Run(ctx context.Context) error {
	if b.path == "" {
		<-ctx.Done()
		return nil
	}
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if stampOf(b.path) == b.stamp {
			continue
		}
		if err := b.load(); err != nil {
			reloadErrors.Inc()
			b.log.Error("the rules could not be reloaded; the previous ones stay in force", "file", b.path, "error", err)
			continue
		}
		reloads.Inc()
		b.log.Info("reloaded the rules; other settings of the file need a restart", "file", b.path, "rules", len(b.set.Load().rules))
	}
}

func (b *Book) load() error {
	if b.path == "" {
		b.set.Store(NewSet(nil, b.defaults))
		return nil
	}
	b.stamp = stampOf(b.path)
	file, err := os.ReadFile(b.path)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	rules, err := Parse(file)
	if err != nil {
		return fmt.Errorf("rules in %s: %w", b.path, err)
	}
	b.set.Store(NewSet(rules, b.defaults))
	return nil
}

// stampOf changes when the file does.
func stampOf(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	return fmt.Sprint(info.ModTime().UnixNano(), " ", info.Size())
}
