package placement

import (
	"context"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// Options configure a Placement. All fields are required, unless their comment says otherwise.
type Options struct {
	Policy PolicyConfig
	// Dir is the directory of the worker's checkpoint.
	Dir   string
	Store *tiers.Store
	// Pins and Accesses are those of the Store.
	Pins     *Pins
	Accesses *Accesses
	Rules    Rules
	Upstream tiers.Upstream
	// Writes are the pending writes; nil: there are never any.
	Writes Writes
	// Log is for the worker's reports; nil: nothing is logged.
	Log *slog.Logger
	// Metrics is the set of the package's metrics; nil: a private one.
	Metrics *metrics.Set
}

// Rules gives the settings of each object, without operators' pins.
type Rules interface {
	// For returns the settings of a key. They are shared.
	For(bucket, key string) *rules.Settings
}

// Writes are the acknowledged writes that are not in the upstream yet.
type Writes interface {
	// Drain returns when nothing of a key is pending. An error means that something may be.
	Drain(ctx context.Context, key akigw.Key) error
	// HasPending reports whether a key has a pending write.
	HasPending(key akigw.Key) bool
}

// noWrites is a Writes without any.
type noWrites struct{}

// Drain implements Writes.
func (noWrites) Drain(context.Context, akigw.Key) error { return nil }

// HasPending implements Writes.
func (noWrites) HasPending(akigw.Key) bool { return false }
