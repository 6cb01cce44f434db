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
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/internal/listen"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/trace"
	"github.com/akidb/akigw/writeback"
)

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
