// Package admin is the operator's listener: metrics, health and profiles. It
// is another listener than S3's, on loopback by default, and shares nothing
// with it but the store it reports on. Its keys are no S3 keys, and S3's are
// refused here.
package admin

import (
	"cmp"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/gateway/sigv4"
	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/snapshot"
	"github.com/akidb/akigw/tiers"
)

// Config is the admin listener.
type Config struct {
	Listen      string `toml:"admin_listen" help:"address of the admin listener: metrics, health, profiles"`
	KeysOnly    bool   `toml:"admin_keys_only" help:"ask for an admin key on every path of the admin listener but /healthz and /readyz; without it, who reaches the listener can read"`
	EventsToken string `toml:"events_token" secret:"true" help:"bearer token with which S3 event notifications may be posted to /events of the admin listener, besides admin keys"`
	AllowOpen   bool   `toml:"allow_open_admin" help:"open the admin listener beyond loopback without admin_keys_only: whoever reaches it can read metrics and memory profiles"`
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
	door
	mux     *http.ServeMux
	metrics *metrics.Set
	ready   atomic.Bool
	store   *tiers.Store
	faults  *faults.Layer // nil: they are not enabled
	// snapshots of the catalog.
	snapshots *snapshot.Store

	eventsToken string
	profiling   sync.Mutex // who profiles contention
	version     string
}

// New makes the handler that reports on a store. keys are the admin keys,
// region what they sign for.
func New(config Config, store *tiers.Store, snapshots *snapshot.Store, keys sigv4.Keys, region, version string, log *slog.Logger) *Server {
	s := &Server{mux: http.NewServeMux(), metrics: metrics.NewSet(), store: store, snapshots: snapshots, eventsToken: config.EventsToken, version: version}
	s.door = door{verifier: &sigv4.Verifier{Region: region, Keys: keys}, keys: keys, keysOnly: config.KeysOnly, loopback: listen.Loopback(config.Listen), log: log}
	usage := func(pick func(tiers.Usage) int64) func() float64 {
		return func() float64 { return float64(pick(store.Usage())) }
	}
	s.metrics.NewGauge("akigw_hot_used_bytes", usage(func(u tiers.Usage) int64 { return u.HotBytes }))
	s.metrics.NewGauge("akigw_hot_quota_bytes", usage(func(u tiers.Usage) int64 { return u.HotQuota }))
	s.metrics.NewGauge("akigw_hot_values", usage(func(u tiers.Usage) int64 { return int64(u.HotValues) }))
	s.metrics.NewGauge("akigw_warm_used_bytes", usage(func(u tiers.Usage) int64 { return u.WarmBytes }))
	s.metrics.NewGauge("akigw_warm_quota_bytes", usage(func(u tiers.Usage) int64 { return u.WarmQuota }))
	s.metrics.NewGauge(fmt.Sprintf("akigw_build_info{version=%q}", version), func() float64 { return 1 })
	for _, r := range s.routes() {
		s.mux.Handle(cmp.Or(r.method, "GET")+" "+r.path, s.guard(r))
	}
	return s
}

type route struct {
	path   string
	method string // "" is GET; others need a key
	// token is a bearer token that opens this route besides keys, "" for none.
	token string
	// open routes answer everybody: they say nothing but yes or no.
	open   bool
	handle http.HandlerFunc
}

// routes is everything that this listener answers.
func (s *Server) routes() []route {
	return []route{
		{path: "/metrics", handle: s.writeMetrics},
		{path: "/healthz", open: true, handle: s.health},
		{path: "/readyz", open: true, handle: s.readiness},
		{path: "/events", method: http.MethodPost, token: s.eventsToken, handle: s.takeEvents},
		{path: "/api/v1/status", handle: s.status},
		{path: "/api/v1/tier", handle: s.tier},
		{path: "/api/v1/tier", method: http.MethodPost, handle: s.moveTier},
		{path: "/api/v1/tier/objects", handle: s.tierObjects},
		{path: "/api/v1/tier/pins", handle: s.pins},
		{path: "/api/v1/metrics/tiers", handle: s.tierMetrics},
		{path: "/api/v1/snapshots", handle: s.listSnapshots},
		{path: "/api/v1/snapshots", method: http.MethodPost, handle: s.createSnapshot},
		{path: "/api/v1/snapshots/{id}", handle: s.showSnapshot},
		{path: "/api/v1/snapshots/{id}", method: http.MethodDelete, handle: s.deleteSnapshot},
		{path: "/api/v1/snapshots-diff", handle: s.diffSnapshots},
		{path: "/api/v1/warm", method: http.MethodPost, handle: s.warm},
		{path: "/api/v1/purge", method: http.MethodPost, handle: s.purge},
		{path: "/api/v1/dead-letters", handle: s.deadLetters},
		{path: "/api/v1/dead-letters/retry", method: http.MethodPost, handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.store.RetryDeadLetter(r.Context(), id) })},
		{path: "/api/v1/dead-letters/drop", method: http.MethodPost, handle: s.onDeadLetter(func(r *http.Request, id uint64) error { return s.store.DropDeadLetter(r.Context(), id) })},
		{path: "/api/v1/dead-letters/archive", method: http.MethodPost, handle: s.archiveDeadLetters},
		{path: "/api/v1/dead-letters/export", method: http.MethodPost, handle: s.exportDeadLetter},
		{path: "/api/v1/journal/unpack", method: http.MethodPost, handle: s.unpack},
		{path: "/api/v1/journal/accept", method: http.MethodPost, handle: func(w http.ResponseWriter, _ *http.Request) { answer(w, s.store.AcceptDamage()) }},
		{path: "/api/v1/trace", handle: s.recordTrace},
		{path: "/api/v1/faults", handle: s.withFaults(s.reportFaults)},
		{path: "/api/v1/faults", method: http.MethodPost, handle: s.withFaults(s.setFaults)},
		{path: "/api/v1/faults", method: http.MethodDelete, handle: s.withFaults(s.clearFaults)},
		{path: "/debug/pprof/", handle: pprof.Index},
		{path: "/debug/pprof/cmdline", handle: pprof.Cmdline},
		{path: "/debug/pprof/profile", handle: pprof.Profile},
		{path: "/debug/pprof/mutex", handle: s.contended("mutex", func(on bool) { runtime.SetMutexProfileFraction(map[bool]int{true: 10}[on]) })},
		{path: "/debug/pprof/block", handle: s.contended("block", func(on bool) { runtime.SetBlockProfileRate(map[bool]int{true: 10_000}[on]) })},
		{path: "/debug/pprof/symbol", handle: pprof.Symbol},
		{path: "/debug/pprof/trace", handle: pprof.Trace},
	}
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
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.mux.ServeHTTP(w, r) }

// SetReady says whether /readyz answers 200: from when requests are accepted
// until shutdown begins.
func (s *Server) SetReady(ready bool) { s.ready.Store(ready) }

// health is red when acknowledged writes may be in danger: an orchestrator that
// restarts the gateway for it may mend a disk that failed for a moment.
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	if b := s.store.BackStatus(); b != nil && b.Problem != nil {
		http.Error(w, "the journal takes no writes; see /api/v1/status", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) {
	if !s.ready.Load() {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

func (s *Server) writeMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	s.metrics.WritePrometheus(w)
	metrics.WritePrometheus(w, true)
	metrics.WriteFDMetrics(w)
}

// HTTP makes the HTTP server for the admin listener. Profiles take as long as
// they are asked to.
func HTTP(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}
}
