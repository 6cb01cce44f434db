// Package admin is the operator's listener: metrics, health and profiles. It
// is another listener than S3's, on loopback by default, and shares nothing
// with it but the store it reports on. Its keys are no S3 keys, and S3's are
// refused here.
package admin

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"strings"
	"sync"
	"time"

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

// New makes the handler of the admin listener.
func New(o Options) *Server {
	if o.Writes == nil {
		o.Writes = writeback.New(writeback.Options{})
	}
	if o.Traces == nil {
		o.Traces = new(trace.Recorder)
	}
	metrics.ExposeMetadata(true) // the types of metrics
	s := &Server{Options: o, mux: http.NewServeMux(), paths: map[string]bool{}, metrics: cmp.Or(o.Config.Metrics, metrics.NewSet())}
	s.authenticator = authenticator{
		verifier: &sigv4.Verifier{Region: o.Region, Keys: o.Keys}, keys: o.Keys, keysOnly: o.Config.KeysOnly, plaintext: o.Config.Plaintext, loopback: listen.Loopback(o.Config.Listen),
		log: o.Log, audit: o.Audit, refused: newSampler(), throttled: s.metrics.NewCounter("akigw_admin_throttled_credentials_total"),
	}
	s.gauges()
	s.apis = []interface{ routes() []route }{snapshotAPI{o.Snapshots}, accessAPI{o.Access}, newFaultAPI(o.Faults, o.Log, s.metrics)}
	for _, r := range s.routes() {
		s.paths[r.path] = true
		s.mux.Handle(cmp.Or(r.method, "GET")+" "+r.path, s.guard(r))
	}
	return s
}

// gauges shows what the tiers hold.
func (s *Server) gauges() {
	usage := func(pick func(tiers.Usage) int64) func() float64 {
		return func() float64 { return float64(pick(s.Store.Usage())) }
	}
	s.metrics.NewGauge("akigw_hot_used_bytes", usage(func(u tiers.Usage) int64 { return u.HotBytes }))
	s.metrics.NewGauge("akigw_hot_quota_bytes", usage(func(u tiers.Usage) int64 { return u.HotQuota }))
	s.metrics.NewGauge("akigw_hot_values", usage(func(u tiers.Usage) int64 { return int64(u.HotValues) }))
	s.metrics.NewGauge("akigw_warm_used_bytes", usage(func(u tiers.Usage) int64 { return u.WarmBytes }))
	s.metrics.NewGauge("akigw_warm_quota_bytes", usage(func(u tiers.Usage) int64 { return u.WarmQuota }))
	s.metrics.NewGauge(fmt.Sprintf("akigw_build_info{version=%q}", s.Version), func() float64 { return 1 })
}

// contended is a profile of what goroutines wait for. It costs something: so it is made while
// somebody asks for it, for the seconds that are asked for, by one at a time.
func (s *Server) contended(name string, measure func(on bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("seconds") == "" {
			http.Error(w, "seconds is needed: it is measured for so long", http.StatusBadRequest)
			return
		}
		if !s.profiling.TryLock() {
			http.Error(w, "somebody else measures at present", http.StatusConflict)
			return
		}
		defer s.profiling.Unlock()
		measure(true)
		defer measure(false)
		pprof.Handler(name).ServeHTTP(w, r)
	}
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if _, pattern := s.mux.Handler(r); pattern == "" && !s.paths[r.URL.Path] && !strings.HasPrefix(r.URL.Path, "/api/") {
		http.Error(w, "There is nothing here: this is the admin listener of akigw. S3 has another address, which the gateway printed when it started (listen).", http.StatusNotFound)
		return
	}
	if err := readable(r); err != nil {
		http.Error(w, "the query cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// health is red when acknowledged writes may be in danger: an orchestrator that
// restarts the gateway for it may mend a disk that failed for a moment. What a restart
// does not mend, a full disk above all, is said behind "ok".
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	warnings := strings.Join(s.warnings(), "\n")
	st := s.Writes.Status()
	if st.Stopped != nil {
		http.Error(w, "the journal takes no writes; see /api/v1/status\n"+warnings, http.StatusServiceUnavailable)
		return
	}
	if n := st.PausedBuckets; n > 0 { // no restart mends that
		fmt.Fprintf(w, "ok, but pending writes of %d buckets are not uploaded; see akigw status\n", n)
	} else {
		fmt.Fprintln(w, "ok")
	}
	if warnings != "" {
		fmt.Fprintln(w, warnings)
	}
}

// warnings say what does not work, though the gateway does.
func (s *Server) warnings() []string {
	all := append(s.Store.Warnings(), s.Writes.Warnings()...)
	if s.Snapshots != nil {
		if err := s.Snapshots.Problem(); err != nil {
			all = append(all, err.Error())
		}
	}
	return all
}

// readiness is red while requests should go to another gateway, and says why.
func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

// maxHead bounds the head of a request in bytes. The longest that are needed have a key of
// 1 KiB in their query, and are presigned.
const maxHead = 32 << 10

// HTTP makes the HTTP server for the admin listener. Profiles take as long as
// they are asked to; a shutdown ends what would go on for ever.
func HTTP(handler http.Handler, log *slog.Logger) *http.Server {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxHead, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	server.RegisterOnShutdown(cancel)
	return server
}
