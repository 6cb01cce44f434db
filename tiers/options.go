package tiers

import (
	"context"
	"log/slog"
	"net/http"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Options are what a Store is made of.
type Options struct {
	Config Config
	// Rules say how each object is treated.
	Rules Rules
	// Dir is the directory of the warm tier; it is not used if Config.WarmBytes is 0.
	Dir      string
	Upstream Upstream
	// Overlay has what is pending above the tiers; nil: nothing is.
	Overlay Overlay
	// Pins keep objects besides those that the rules pin; nil: none.
	Pins Pins
	// Observers are told of each access, in this order.
	Observers []Observer
	// Log is where the store reports what an operator has to know; nil: nowhere.
	Log *slog.Logger
	// Metrics is the set that the store's metrics are in; nil: one of its own.
	Metrics *metrics.Set
}

// Upstream is what the store needs of the cold tier.
type Upstream interface {
	// Do sends a signed request and returns the answer, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Origin is a number for the endpoint that a bucket's objects come from.
	Origin(bucket string) uint64
}

// Rules say how each object is to be treated.
type Rules interface {
	// For returns the settings of a key; they are shared.
	For(bucket, key string) *rules.Settings
	// Pinning returns the version of the rules, another one after each change,
	// and whether any of them pins objects.
	Pinning() (version uint64, any bool)
}

// Pins keep objects that are named one by one, besides those that the rules pin. Whoever changes
// them calls Store.Repin.
type Pins interface {
	// Apply returns what the settings of a key become under its pins: settings itself if it has
	// none. What it returns is shared.
	Apply(key akigw.Key, settings *rules.Settings) *rules.Settings
	// Any reports whether there are pins.
	Any() bool
}

// Observer is told of accesses. It is called by the goroutine of the request, so that it must
// return at once.
type Observer interface {
	Accessed(a Access)
}

// Access is one read of an object through the store, or one write into it. Reads of pending
// writes and of objects that are never cached are not observed.
type Access struct {
	// Object is the version that was read or written. It is shared.
	Object *akigw.Object
	// Settings are those of its key. They are shared.
	Settings *rules.Settings
	// Block is the size of its blocks in bytes.
	Block int64
	// Range is what was read or written of it.
	Range akigw.Range
	// Outcome is the slowest tier that the read needs, as known at its start; empty for a write.
	Outcome akigw.Outcome
}

// Write reports whether a is a write.
func (a *Access) Write() bool { return a.Outcome == "" }

// observers are told of each access, in this order.
type observers []Observer

// accessed tells of an access.
func (all observers) accessed(e *entry, settings *rules.Settings, r akigw.Range, outcome akigw.Outcome) {
	for _, o := range all {
		o.Accessed(Access{&e.Object, settings, e.block, r, outcome})
	}
}
