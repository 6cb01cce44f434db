package server

import (
	"cmp"
	"io"
	"log/slog"
	"net/http"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/logtail"
	"github.com/akidb/akigw/shadow"
)

// instruments observe a gateway, or break it on purpose.
type instruments struct {
	log     *slog.Logger
	tail    *logtail.Tail // the end of log
	metrics *metrics.Set
	costs   *cost.Book
	shadow  *shadow.Shadow
	faults  *faults.Layer // nil: faults are not enabled
	tracing *tracing      // nil: off
}

// openInstruments opens the log first, so that everything after it can use the log.
func openInstruments(c *Config, opened *closers) (*instruments, error) {
	level, err := ParseLogLevel(c.Process.LogLevel)
	if err != nil {
		return nil, err
	}
	var to io.Writer = io.Discard
	if c.Log != nil {
		to = c.Log
	}
	i := &instruments{tail: logtail.New(to), metrics: c.Metrics}
	i.metrics = cmp.Or(i.metrics, metrics.NewSet())
	i.log = slog.New(slog.NewJSONHandler(i.tail, &slog.HandlerOptions{Level: level}))
	if i.faults, err = c.Faults.open(i.metrics, c.listenAddresses()...); err != nil {
		return nil, err
	}
	if i.tracing, err = c.Tracing.open(c.Version); err != nil {
		return nil, err
	}
	if i.tracing != nil {
		opened.add(i.tracing.close)
	}
	i.costs = cost.Open(c.Cost, c.path("cost.json"), i.log)
	i.shadow = shadow.New(shadow.Options{Cache: c.Cache, Prices: c.Cost, Metrics: i.metrics})
	return i, nil
}

// transport wraps a transport to an upstream with the instruments. Faults are innermost, so that their
// effects are counted and traced.
func (i *instruments) transport(t http.RoundTripper) http.RoundTripper {
	if i.faults != nil {
		t = i.faults.Wrap(t)
	}
	t = i.costs.Upstream.Wrap(t)
	if i.tracing != nil {
		t = i.tracing.client(t)
	}
	return t
}

// handler returns the middleware around the S3 handler, nil for none.
func (i *instruments) handler() func(http.Handler) http.Handler {
	if i.tracing == nil {
		return nil
	}
	return i.tracing.server
}
