package rules

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync/atomic"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/watch"
)

// Book holds the rules in force: those of the configuration file, reloaded when it changes. All
// methods but Run may be called from any goroutine.
type Book struct {
	path     string
	defaults Settings
	classes  []string
	log      *slog.Logger
	counters counters
	set      atomic.Pointer[Set]
	version  atomic.Uint64 // counts the sets
	seen     os.FileInfo   // of the file as last read; used by Run only
}

// Options configure a Book.
type Options struct {
	// Path is the configuration file, "" for no rules.
	Path string
	// Defaults are the settings that apply where no rule sets another value.
	Defaults Settings
	// Classes are the names of the classes of service that rules may refer to.
	Classes []string
	Log     *slog.Logger
	// Metrics receives the metrics; nil discards them.
	Metrics *metrics.Set
}

// Open reads the rules of a configuration file.
func Open(o Options) (*Book, error) {
	b := &Book{path: o.Path, defaults: o.Defaults, classes: o.Classes, log: o.Log, counters: newCounters(o.Metrics)}
	return b, b.load()
}

// counters count how often the rules were reloaded.
type counters struct{ reloads, errors *metrics.Counter }

func newCounters(set *metrics.Set) counters {
	set = cmp.Or(set, metrics.NewSet())
	return counters{set.NewCounter(`akigw_rules_reloads_total{result="ok"}`), set.NewCounter(`akigw_rules_reloads_total{result="error"}`)}
}

// For returns the settings of a key. They are shared and must not be changed.
func (b *Book) For(bucket, key string) *Settings { return b.set.Load().For(bucket, key) }

// Pinning returns the version of the rules, which changes with each reload, and whether any rule
// pins objects.
func (b *Book) Pinning() (version uint64, any bool) {
	version = b.version.Load() // read first, so that a reload in between changes the version that the caller sees next
	_, any = b.set.Load().Pinning()
	return version, any
}

// Backs reports whether writes to some key of a bucket may be written back.
func (b *Book) Backs(bucket string) bool { return b.set.Load().Backs(bucket) }

// BacksAny is Set.BacksAny.
func (b *Book) BacksAny() bool { return b.set.Load().BacksAny() }

// Explain returns the settings of a key and the rules that they come from.
func (b *Book) Explain(bucket, key string) []Explained { return b.set.Load().Explain(bucket, key) }

// Run reloads the rules when the file changes, until ctx ends. If the new rules have mistakes, Run logs
// them, and the previous rules stay in force. The rest of the file is read at the start only.
func (b *Book) Run(ctx context.Context) error {
	if b.path == "" {
		<-ctx.Done()
		return nil
	}
	watch.Poll(ctx, func() {
		if !watch.Changed(b.path, b.seen) {
			return
		}
		if err := b.load(); err != nil {
			b.counters.errors.Inc()
			b.log.Error("the rules could not be reloaded; the previous ones stay in force", "file", b.path, "error", err)
			return
		}
		b.counters.reloads.Inc()
		b.log.Info("reloaded the rules; other settings of the file need a restart", "file", b.path, "rules", len(b.set.Load().rules))
	})
	return nil
}

// checkClasses reports classes that are not configured.
func checkClasses(rules []Rule, classes []string) (err error) {
	for i := range rules {
		name, set := rules[i].value("qos").(string)
		if set && name != "" && !slices.Contains(classes, name) {
			err = errors.Join(err, fmt.Errorf("line %d: rule.qos: no [[qos]] table is named %q", rules[i].Line, name))
		}
	}
	return err
}

func (b *Book) load() error {
	if b.path == "" {
		b.set.Store(NewSet(nil, b.defaults))
		return nil
	}
	b.seen, _ = os.Stat(b.path) // nil if the file cannot be read
	file, err := os.ReadFile(b.path)
	if err != nil {
		return fmt.Errorf("rules: %w", err)
	}
	rules, err := Parse(file)
	if err == nil {
		err = errors.Join(checkClasses(rules, b.classes), checkShadow(rules, b.defaults.Shadow))
	}
	if err != nil {
		return fmt.Errorf("rules in %s: %w", b.path, err)
	}
	b.set.Store(NewSet(rules, b.defaults))
	b.version.Add(1)
	return nil
}
