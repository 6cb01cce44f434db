// Package gateway is the S3 front. Every request passes one pipeline (pipeline.go): it is parsed
// once, its signature is verified before anything else uses it, a table of operations routes it, a
// policy authorises it, and a handler answers it from the cache or forwards it to the upstream as a
// new request.
//
// The package speaks S3's protocol and errors and stores no data: bodies are streamed, except
// control documents, whose size is limited. It does not know how the tiers of the cache work.
package gateway

import (
	"cmp"
	"context"
	"crypto/rand"
	"log/slog"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/compare"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/shadow"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/writeback"
)

// Options configure a Gateway.
type Options struct {
	Verifier *sigv4.Verifier
	Policies Policies
	Store    *tiers.Store
	// Writes acknowledges writes before the upstream has them. Nil: all writes go through.
	Writes   *writeback.WriteBack
	Upstream Upstream // the same as the store's
	Log      *slog.Logger
	// Metrics is the set of the gateway's metrics; nil: a private one.
	Metrics *metrics.Set
	// Memory limits the memory of request bodies; nil means no limit.
	Memory *budget.Budget
	// FailuresPerMinute is how many authentication failures per minute and address get a detailed
	// error; 0 means all of them.
	FailuresPerMinute int
	// QoS holds the limits of access keys and buckets; nil means none.
	QoS *limits.QoS
	// MaxBuckets is the maximum number of buckets; 0 means no limit.
	MaxBuckets int
	// Quotas limit the bytes of buckets.
	Quotas []limits.QuotaConfig
	// FaultsEnabled announces in each response that faults can be injected.
	FaultsEnabled bool
	// Costs counts requests and bytes by bucket; nil counts nothing.
	Costs *cost.Ledger
	// AccessLog gets a line for each request; nil writes none.
	AccessLog *AccessLog
	// Compare compares answers from the cache with the upstream's, where a rule says so; nil compares none.
	Compare *compare.Comparer
	// Shadow is told of each request whose settings have a shadow mode; nil: nothing is counted.
	Shadow *shadow.Shadow
	// Vectors answers requests of S3 Vectors; nil: they are refused.
	Vectors Vectors
	// Reserved are the keys of vector collections, which S3 clients have no access to.
	Reserved Reserved
	// Domains are the names below which the first label of a host name is a bucket.
	Domains []string
}

// Gateway is the S3 front as an http.Handler. It is safe for concurrent use.
type Gateway struct {
	options  Options
	pipeline *pipeline
	handlers *handlers
	quotas   *limits.Quotas
	fast     atomic.Int64 // requests on the fast path in progress
}

// New returns a gateway that is ready to serve. Run keeps its quotas up to date.
func New(o Options) *Gateway {
	hostID := rand.Text()
	if o.Writes == nil {
		o.Writes = writeback.New(writeback.Options{})
	}
	count := newCounters(cmp.Or(o.Metrics, metrics.NewSet()))
	h := newHandlers(o.Store, o.Writes, o.Upstream, o.Reserved, o.Compare, o.Log)
	quotas := limits.NewQuotas(limits.QuotaOptions{MaxBuckets: o.MaxBuckets, Quotas: o.Quotas, Objects: objectSizes{o.Store, o.Writes}, Buckets: h.buckets, Log: o.Log, Metrics: o.Metrics})
	deadlines, _ := o.Upstream.(deadliner)
	return &Gateway{options: o, handlers: h, quotas: quotas, pipeline: &pipeline{
		verifier:   o.Verifier,
		throttle:   limits.NewThrottle(o.FailuresPerMinute, o.Metrics),
		domains:    o.Domains,
		router:     newRouter(routes(h)),
		access:     &authoriser{o.Policies, o.Store, o.Writes, o.Upstream, o.Reserved},
		preflights: &preflights{o.Upstream, o.Domains},
		vectors:    o.Vectors,
		memory:     o.Memory,
		upstream:   o.Upstream,
		deadlines:  deadlines,
		qos:        o.QoS,
		quotas:     quotas,
		shadow:     newShadowing(o.Shadow, o.Store),
		hostID:     []string{hostID},
		faults:     o.FaultsEnabled,
		errors:     &errorWriter{log: o.Log, hostID: hostID, panics: count.panics},
		records:    &recorder{log: o.Log, counters: count, costs: o.Costs, accessLog: o.AccessLog, hostID: hostID},
	}}
}

// Run counts what the buckets with quotas hold until ctx ends.
func (g *Gateway) Run(ctx context.Context) error { return g.quotas.Run(ctx) }

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if len(r.TransferEncoding) > 0 { // httpguard has not inspected what follows a chunked body
		w.Header()["Connection"] = []string{"close"}
	}
	defer httpguard.Answered(r)
	x := newExchange(w, r, false)
	g.pipeline.run(x)
}

// ServeLocal is the fast path (httpguard.FastPath): it answers a GetObject whose object is in
// memory or on local disk, on the goroutine that read the request. It uses the same pipeline as
// ServeHTTP. For every other request, including errors and conditions that end a read, it returns
// false and has sent nothing; ServeHTTP then handles the request from the start.
func (g *Gateway) ServeLocal(w http.ResponseWriter, r *http.Request) (answered bool) {
	g.fast.Add(1)
	defer g.fast.Add(-1)
	x := newExchange(w, r, true)
	return g.pipeline.run(x)
}

// Finish waits for running requests on the fast path after the server was shut down: net/http
// considers their connections idle. httpguard cuts them off after ten seconds.
func (g *Gateway) Finish() error {
	for g.fast.Load() > 0 {
		time.Sleep(time.Millisecond)
	}
	return nil
}
