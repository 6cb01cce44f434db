// Package admin is the operator's listener: metrics, health and profiles. It
// is another listener than S3's, on loopback by default, and shares nothing
// with it but the store it reports on. Its keys are no S3 keys, and S3's are
// refused here.
package admin

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"sync"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

// Config is the admin listener.
type Config struct {
	Listen      string `toml:"admin_listen" help:"address of the admin listener: metrics, health, profiles"`
	KeysOnly    bool   `toml:"admin_keys_only" help:"ask for an admin key on every path of the admin listener but /healthz and /readyz; without it, who reaches the listener can read"`
	EventsToken string `toml:"events_token" secret:"true" help:"bearer token with which S3 event notifications may be posted to /events of the admin listener, besides admin keys"`
	Plaintext   bool   `toml:"admin_allow_plaintext" help:"take the secrets of admin keys (the console's login, HTTP basic authentication) over plain HTTP from other machines, too: only where something in front encrypts"`
	AllowOpen   bool   `toml:"allow_open_admin" help:"open the admin listener beyond loopback without admin_keys_only: whoever reaches it can read metrics and memory profiles"`

	// Metrics is what /metrics shows, besides the metrics of the process, and receives those of
	// this package; nil makes a set.
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
		report("admin_listen", c.Listen+" is not loopback and the admin listener lets everybody read: set admin_keys_only, or allow_open_admin (--allow-open-admin) if only your monitoring can reach it")
	}
}

// Server is the admin listener's handler.
type Server struct {
	Options
	authenticator
	mux     *http.ServeMux
	paths   map[string]bool // of routes
	metrics *metrics.Set
	apis    []interface{ routes() []route } // that need no more of the server

	profiling sync.Mutex // who profiles contention
}

// Options is what a Server is made of: what it reports on, and changes, and who may do so.
type Options struct {
	Config Config
	Store  *tiers.Store
	// Writes is the write-back over Store; nil: nothing is written back.
	Writes *writeback.WriteBack
	// Placement says where objects are, and moves them.
	Placement *placement.Placement
	Snapshots *snapshot.Store
	// Rules explain which settings hold; nil explains nothing.
	Rules interface {
		Explain(bucket, key string) []rules.Explained
	}
	// Access is where users and keys are kept, nil for nowhere.
	Access *access.Store
	// Costs are what was asked for, and saved; nil counts nothing.
	Costs interface{ Report() cost.Report }
	// Logs is the log, nil if it is not kept.
	Logs interface {
		Follow(ctx context.Context, yield func(line []byte) bool)
	}
	// Traces records accesses, as an observer of the store; nil records none.
	Traces *trace.Recorder
	// Audit is where changes are taken down, nil for nowhere.
	Audit *Audit
	// Faults is the layer in which an operator may set faults; nil: they are not enabled.
	Faults *faults.Layer
	// Ready says why requests should not be sent to this gateway, nil if they should; without
	// it, the gateway is always ready.
	Ready func() error
	// Keys are the admin keys.
	Keys sigv4.Keys
	// Region is what requests are signed for.
	Region string
	// Version is the version of the gateway.
	Version string
	Log     *slog.Logger
}
