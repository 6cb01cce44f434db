package tiers

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Options configure a Store.
type Options struct {
	Config Config
	// Rules gives the settings of each object.
	Rules Rules
	// Dir is the directory of the warm tier. It is not used if Config.WarmBytes is 0.
	Dir      string
	Upstream Upstream
	// Overlay holds the pending writes that reads see above the tiers; nil: none.
	Overlay Overlay
	// Pins are the pinned objects besides those that the rules pin; nil: none.
	Pins Pins
	// Observers are called for each access, in this order.
	Observers []Observer
	// Validations is told the result of each validation; nil: nobody is.
	Validations Validations
	// Log is for what an operator has to know; nil: nothing is logged.
	Log *slog.Logger
	// Metrics is the set of the store's metrics; nil: a private one.
	Metrics *metrics.Set
}

// Upstream is the part of the cold tier that the store uses.
type Upstream interface {
	// Do sends a signed request and returns the response, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Origin returns a number for the endpoint that a bucket's objects come from.
	Origin(bucket string) uint64
}

// Rules gives the settings of each object.
type Rules interface {
	// For returns the settings of a key. They are shared.
	For(bucket, key string) *rules.Settings
	// Pinning returns the version of the rules, which differs after each change, and whether any
	// rule pins objects.
	Pinning() (version uint64, any bool)
}

// Pins are objects that are pinned individually, besides those that the rules pin. After changing
// them, call Store.Repin.
type Pins interface {
	// Apply returns the settings of a key with its pins applied: settings itself if it has none.
	// The result is shared.
	Apply(key akigw.Key, settings *rules.Settings) *rules.Settings
	// Any reports whether there are pins.
	Any() bool
}

// Observer is notified of accesses. It is called on the goroutine of the request, so it must return
// at once.
type Observer interface {
	Accessed(a Access)
}

// Validations is told what the upstream answered when it was asked whether a cached object is still
// current. It is called on a goroutine on which requests wait, so it must return at once.
type Validations interface {
	// Validated reports whether an object of a bucket had not changed since it was cached, and how long
	// the upstream took to say so. A refusal counts as a change: it confirms nothing.
	Validated(bucket string, unchanged bool, took time.Duration)
}

// Access is one read of an object through the store, or one write into it. Reads of pending writes
// and of uncacheable objects are not observed.
type Access struct {
	// Object is the version that was read or written. It is shared.
	Object *akigw.Object
	// Settings are the settings of the key. They are shared.
	Settings *rules.Settings
	// Block is the size of its blocks in bytes.
	Block int64
	// Range is the part that was read or written.
	Range akigw.Range
	// Outcome is the slowest tier that the read needs, as known at its start; empty for a write.
	Outcome akigw.Outcome
}

// Write reports whether a is a write.
func (a *Access) Write() bool { return a.Outcome == "" }

// observers are notified of each access, in this order.
type observers []Observer

// accessed notifies the observers of an access.
func (all observers) accessed(e *entry, settings *rules.Settings, r akigw.Range, outcome akigw.Outcome) {
	for _, o := range all {
		o.Accessed(Access{&e.Object, settings, e.block, r, outcome})
	}
}
