package server

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/akidb/akigw/access"
	"github.com/akidb/akigw/admin"
	"github.com/akidb/akigw/gateway"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/sigv4"
)

// finishTimeout is how long requests under way may take at shutdown.
const finishTimeout = 30 * time.Second

// listener is an HTTP server and the socket that it is bound to.
type listener struct {
	name   string
	socket net.Listener
	http   *http.Server
	finish func() error // waits for responses that net/http does not track; nil for none
	log    *slog.Logger
}

// newListener returns a listener whose socket is closed with opened.
func newListener(name string, socket net.Listener, server *http.Server, log *slog.Logger, opened *closers) *listener {
	opened.add(func() error {
		if err := socket.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	})
	return &listener{name: name, socket: socket, http: server, log: log}
}

// serve answers requests until shutdown is called or the socket fails.
func (l *listener) serve(context.Context) error {
	if err := l.http.Serve(l.socket); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("the %s on %s ended: %w", l.name, l.socket.Addr(), err)
	}
	return nil
}

// shutdown accepts no more requests and waits for those under way. It cuts them off after
// finishTimeout.
func (l *listener) shutdown() error {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	err := l.http.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		l.log.Warn("cut off requests that did not finish in time", "seconds", finishTimeout.Seconds())
		err = l.http.Close()
	}
	if l.finish != nil {
		err = errors.Join(err, l.finish())
	}
	return err
}

// front is the S3 side of a gateway.
type front struct {
	*listener
	users   *access.Keyring
	gateway *gateway.Gateway
	vectors *listener // for S3 Vectors alone; nil: none
}

// shutdown shuts both listeners down.
func (f *front) shutdown() error {
	if f.vectors == nil {
		return f.listener.shutdown()
	}
	done := make(chan error, 1)
	go func() { done <- f.vectors.shutdown() }()
	return errors.Join(f.listener.shutdown(), <-done)
}

// openFront builds the S3 handler over a storage and binds the S3 listener.
func openFront(c *Config, s *storage, i *instruments, opened *closers) (*front, error) {
	users := c.users()
	users.Metrics = i.metrics
	keyring, err := users.Open(i.log)
	if err != nil {
		return nil, err
	}
	qos, err := limits.NewQoS(c.QoS, s.rules, i.metrics)
	if err != nil {
		return nil, err
	}
	accessLog := gateway.OpenAccessLog(c.Access)
	if accessLog != nil {
		opened.add(accessLog.Close)
	}
	memory := gateway.NewMemory(int64(c.Gateway.RequestMemory), i.metrics, s.upstream.Names()...)
	handler := gateway.New(gateway.Options{
		Vectors: s.vectors.api(c, keyring), Reserved: s.vectors.reserved(c),
		Verifier: &sigv4.Verifier{Region: c.Gateway.Region, Keys: keyring, V2: c.Gateway.AcceptV2}, Memory: memory,
		FaultsEnabled: i.faults != nil, Policies: keyring, QoS: qos, Store: s.store, Writes: s.writes, Upstream: s.upstream, Log: i.log, Costs: &i.costs.Clients, AccessLog: accessLog, Compare: s.compare, Domains: c.Gateway.DomainList(), FailuresPerMinute: c.Gateway.FailuresPerMinute,
		MaxBuckets: c.Gateway.MaxBuckets, Quotas: c.Quota, Metrics: i.metrics, Shadow: i.shadow,
	})
	socket, err := gateway.Bind(&c.Gateway, i.metrics, i.log)
	if err != nil {
		return nil, err
	}
	l := newListener("S3 listener", socket, gateway.Server(handler, i.handler(), i.log), i.log, opened)
	l.finish = handler.Finish
	f := &front{listener: l, users: keyring, gateway: handler}
	if s.vectors != nil && c.Vectors.Listen != "" {
		if socket, err = gateway.BindVectors(&c.Gateway, c.Vectors.Listen, i.metrics, i.log); err != nil {
			return nil, err
		}
		f.vectors = newListener("S3 Vectors listener", socket, gateway.VectorsServer(handler, i.handler(), i.log), i.log, opened)
	}
	return f, nil
}

// openOperator builds the handler of the admin listener and binds it. ready is what /readyz says.
func openOperator(c *Config, s *storage, keyring *access.Keyring, i *instruments, ready func() error, opened *closers) (*listener, error) {
	audit := admin.OpenAudit(c.path("audit.jsonl"))
	opened.add(audit.Close)
	users := c.users()
	c.Admin.Metrics = i.metrics
	handler := admin.New(admin.Options{
		Config: c.Admin, Store: s.store, Writes: s.writes, Placement: s.placement, Snapshots: s.snapshots, Vectors: s.vectors.collections(), Rules: s.rules, Traces: s.traces, Validations: s.validated,
		Access: &users, Costs: i.costs, Compare: s.compare, Shadow: i.shadow, Logs: i.tail, Audit: audit, Faults: i.faults, Ready: ready,
		Keys: access.Admins{Keyring: keyring}, Region: c.Gateway.Region, Version: c.Version, Log: i.log,
	})
	socket, err := net.Listen("tcp", c.Admin.Listen)
	if err != nil {
		return nil, fmt.Errorf("admin listener: %w; is another process using the port? (--admin-listen)", err)
	}
	return newListener("admin listener", socket, admin.HTTP(handler, i.log), i.log, opened), nil
}
