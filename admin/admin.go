// Package admin serves the operator's HTTP API, the console, metrics, health and profiles. It has a
// listener of its own, on loopback by default, and shares only the store with the S3 listener. Admin
// keys and S3 keys are distinct: neither listener accepts the keys of the other.
package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/advise"
	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/shadow"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/vectors/store"
	"github.com/akidb/akigw/writeback"
)

// Config configures the admin listener.
type Config struct {
	Listen      string `toml:"admin_listen" help:"address of the admin listener: metrics, health, profiles"`
	KeysOnly    bool   `toml:"admin_keys_only" help:"require an admin key on every path of the admin listener except /healthz and /readyz; without it, anyone who can reach the listener can read"`
	EventsToken string `toml:"events_token" secret:"true" help:"bearer token with which S3 event notifications may be posted to /events of the admin listener, besides admin keys"`
	Plaintext   bool   `toml:"admin_allow_plaintext" help:"accept the secrets of admin keys (the console's login, HTTP basic authentication) over plain HTTP from other machines, too: only behind something that encrypts"`
	AllowOpen   bool   `toml:"allow_open_admin" help:"open the admin listener beyond loopback without admin_keys_only: anyone who can reach it can read metrics and memory profiles"`

	// Metrics is the set that /metrics shows besides the metrics of the process. The metrics of
	// this package are added to it. nil creates a set.
	Metrics *metrics.Set
}

// Check reports every impossible value by its key.
func (c *Config) Check(report func(key, problem string)) {
	if c.EventsToken != "" && len(c.EventsToken) < 16 {
		report("events_token", "must have at least 16 characters")
	}
	_, _, err := net.SplitHostPort(c.Listen)
	switch {
	case err != nil:
		report("admin_listen", "must be HOST:PORT")
	case !listen.Loopback(c.Listen) && !c.KeysOnly && !c.AllowOpen:
		report("admin_listen", c.Listen+" is not loopback and anyone can read from the admin listener: set admin_keys_only, or allow_open_admin (--allow-open-admin) if only your monitoring can reach it")
	}
}

// Server is the admin listener's handler.
type Server struct {
	Options
	authenticator
	mux     *http.ServeMux
	paths   map[string]bool // the paths of all routes
	metrics *metrics.Set
	apis    []interface{ routes() []route } // groups of routes that do not need the Server

	profiling sync.Mutex // held while contention is profiled
}

// Options are the dependencies of a Server.
type Options struct {
	Config Config
	Store  *tiers.Store
	// Writes is the write-back over Store; nil if nothing is written back.
	Writes *writeback.WriteBack
	// Placement knows where objects are and moves them.
	Placement *placement.Placement
	Snapshots *snapshot.Store
	// Vectors keeps vector collections; nil if none are configured.
	Vectors *store.Store
	// Rules explain which settings apply; nil explains nothing.
	Rules interface {
		Explain(bucket, key string) []rules.Explained
	}
	// Access stores users and keys; nil if the gateway keeps none.
	Access *access.Store
	// Costs counts requests and savings; nil if they are not counted.
	Costs interface{ Report() cost.Report }
	// Compare compares answers from the cache with the upstream's; nil compares none.
	Compare interface{ Report() compare.Report }
	// Shadow predicts what serving from the cache would save; nil predicts nothing.
	Shadow interface{ Report() shadow.Report }
	// Logs is the log, nil if it is not kept.
	Logs interface {
		Follow(ctx context.Context, yield func(line []byte) bool)
	}
	// Traces records accesses, as an observer of the store; nil records none.
	Traces *trace.Recorder
	// Validations counts what the upstream answers to validations; nil: they are not counted.
	Validations *advise.Validations
	// Audit records changes; nil records them in the log only.
	Audit *Audit
	// Faults is the layer in which an operator may set faults; nil if faults are not enabled.
	Faults *faults.Layer
	// Ready returns nil if the gateway is ready for requests, else the reason why it is not. If Ready
	// is nil, the gateway is always ready.
	Ready func() error
	// Keys are the admin keys.
	Keys sigv4.Keys
	// Region is the region that requests are signed for.
	Region string
	// Version is the version of the gateway.
	Version string
	Log     *slog.Logger
}
