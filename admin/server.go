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
	"github.com/akidb/akigw/vectors/store"
	"github.com/akidb/akigw/writeback"
)

// New returns the handler of the admin listener.
func New(o Options) *Server {
	if o.Writes == nil {
		o.Writes = writeback.New(writeback.Options{})
	}
	if o.Traces == nil {
		o.Traces = new(trace.Recorder)
	}
	metrics.ExposeMetadata(true) // adds # TYPE lines
	s := &Server{Options: o, mux: http.NewServeMux(), paths: map[string]bool{}, metrics: cmp.Or(o.Config.Metrics, metrics.NewSet())}
	s.authenticator = authenticator{
		verifier: &sigv4.Verifier{Region: o.Region, Keys: o.Keys}, keys: o.Keys, keysOnly: o.Config.KeysOnly, plaintext: o.Config.Plaintext, loopback: listen.Loopback(o.Config.Listen),
		log: o.Log, audit: o.Audit, refused: newSampler(), throttled: s.metrics.NewCounter("akigw_admin_throttled_credentials_total"),
	}
	s.gauges()
	s.apis = []interface{ routes() []route }{snapshotAPI{o.Snapshots}, accessAPI{o.Access}, newFaultAPI(o.Faults, o.Log, s.metrics), shadowAPI{o.Shadow}, vectorAPI{o.Vectors}}
	for _, r := range s.routes() {
		s.paths[r.path] = true
		s.mux.Handle(cmp.Or(r.method, "GET")+" "+r.path, s.guard(r))
	}
	return s
}

// gauges registers gauges for the contents of the tiers.
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

// contended serves the mutex and block profiles. Collecting them slows the process down, so they are
// collected only during a request for one, for the requested number of seconds, one request at a
// time.
func (s *Server) contended(name string, measure func(on bool)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("seconds") == "" {
			http.Error(w, "seconds is required: the duration of the measurement", http.StatusBadRequest)
			return
		}
		if !s.profiling.TryLock() {
			http.Error(w, "another measurement is running", http.StatusConflict)
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
		http.Error(w, "Not found. This is the admin listener of akigw. The S3 listener has another address (setting: listen), which the gateway printed when it started.", http.StatusNotFound)
		return
	}
	if err := readable(r); err != nil {
		http.Error(w, "the query cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	s.mux.ServeHTTP(w, r)
}

// health responds with 503 when acknowledged writes may be in danger. An orchestrator then restarts
// the gateway, which helps if a disk failed only for a moment. Problems that a restart does not fix,
// such as a full disk, are listed after "ok".
func (s *Server) health(w http.ResponseWriter, _ *http.Request) {
	warnings := strings.Join(s.warnings(), "\n")
	if s.Vectors != nil {
		if problem := s.Vectors.Problem(); store.InDanger(problem) {
			http.Error(w, "vector collections: "+problem.Error()+"; see akigw vectors ls\n"+warnings, http.StatusServiceUnavailable)
			return
		}
	}
	st := s.Writes.Status()
	if st.Stopped != nil {
		http.Error(w, "the journal takes no writes; see /api/v1/status\n"+warnings, http.StatusServiceUnavailable)
		return
	}
	if n := st.PausedBuckets; n > 0 { // a restart does not fix that
		fmt.Fprintf(w, "ok, but pending writes of %d buckets are not uploaded; see akigw status\n", n)
	} else {
		fmt.Fprintln(w, "ok")
	}
	if warnings != "" {
		fmt.Fprintln(w, warnings)
	}
}

// warnings returns a line for each part that does not work, although the gateway serves requests.
func (s *Server) warnings() []string {
	all := append(s.Store.Warnings(), s.Writes.Warnings()...)
	if s.Snapshots != nil {
		if err := s.Snapshots.Problem(); err != nil {
			all = append(all, err.Error())
		}
	}
	if s.Vectors != nil {
		if err := s.Vectors.Problem(); err != nil {
			all = append(all, "vector collections: "+err.Error())
		}
	}
	return all
}

// readiness responds with 503 and the reason while requests should go to another gateway.
func (s *Server) readiness(w http.ResponseWriter, _ *http.Request) {
	if s.Ready != nil {
		if err := s.Ready(); err != nil {
			http.Error(w, "not ready: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
	}
	fmt.Fprintln(w, "ready")
}

// maxHead bounds the head of a request in bytes. The longest legitimate requests are presigned and
// have a key of 1 KiB in their query.
const maxHead = 32 << 10

// HTTP returns the HTTP server of the admin listener. It has no write timeout, because profiles and
// streams may take long; a shutdown ends endless streams.
func HTTP(handler http.Handler, log *slog.Logger) *http.Server {
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: maxHead, IdleTimeout: time.Minute, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	server.RegisterOnShutdown(cancel)
	return server
}
