package placement

import (
	"context"
	"log/slog"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// Options are what a Placement is made of. All of them are needed, except where their comment
// says otherwise.
type Options struct {
	Policy PolicyConfig
	// Dir is the directory of the worker's checkpoint.
	Dir   string
	Store *tiers.Store
	// Pins and Accesses are those that Store was made with.
	Pins     *Pins
	Accesses *Accesses
	Rules    Rules
	Upstream tiers.Upstream
	// Writes are the writes that are pending; nil: none ever are.
	Writes Writes
	// Log is where the worker reports; nil: nowhere.
	Log *slog.Logger
	// Metrics is the set that the package's metrics are in; nil: one of its own.
	Metrics *metrics.Set
}

// Rules say how each object is treated without the pins of operators.
type Rules interface {
	// For returns the settings of a key; they are shared.
	For(bucket, key string) *rules.Settings
}

// Writes are the writes that are acknowledged and not upstream yet.
type Writes interface {
	// Drain returns when nothing is pending of a key. An error says that something may be.
	Drain(ctx context.Context, key akigw.Key) error
	// HasPending reports whether a write of a key is pending.
	HasPending(key akigw.Key) bool
}

// noWrites are Writes without any.
type noWrites struct{}

// Drain implements Writes.
func (noWrites) Drain(context.Context, akigw.Key) error { return nil }

// HasPending implements Writes.
func (noWrites) HasPending(akigw.Key) bool { return false }
