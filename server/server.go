// Package server builds a whole gateway from a Config and runs it. It is the one place where the
// packages of the product are wired together.
//
//	config, err := server.Load("akigw.toml", os.Environ(), nil)
//	...
//	s, err := server.New(*config)
//	...
//	err = s.Run(ctx)
//
// A gateway stores nothing outside its Config's data directory and changes no state of the process,
// except for the memory limit if Runtime.LimitMemory is set, so a process can run several. Package
// server decides nothing about S3 and prints nothing; cmd/akigw does the printing.
package server

import (
	"context"
	"errors"
	"net"
	"slices"
	"sync/atomic"

	"github.com/akidb/akigw"
)

// Server is a whole gateway with its listeners bound. Either Run or Close has to be called, once.
type Server struct {
	config Config
	trial  *Trial
	*instruments
	storage  *storage
	front    *front
	operator *listener
	opened   *closers

	state readiness
	ready chan struct{}
	used  atomic.Bool
}

// New opens the data directory, the upstreams, the tiers and the journal, and binds both
// listeners. It generates the credentials of a trial if none are configured. Nothing is served
// before Run. If New fails it has closed what it opened.
func New(c Config) (_ *Server, err error) {
	c.Further = slices.Clone(c.Further)
	opened := &closers{}
	defer func() {
		if err != nil {
			err = errors.Join(err, opened.close())
		}
	}()
	release, err := lockData(c.Process.Data)
	if err != nil {
		return nil, err
	}
	opened.add(release)
	s := &Server{opened: opened, ready: make(chan struct{})}
	s.state.enter(errStarting)
	if s.instruments, err = openInstruments(&c, opened); err != nil {
		return nil, err
	}
	if s.trial, err = bootstrap(&c); err != nil {
		return nil, err
	}
	if err := startTrialUpstream(&c, s.log, opened); err != nil {
		return nil, err
	}
	if s.storage, err = openStorage(&c, s.instruments, opened); err != nil {
		return nil, err
	}
	if s.front, err = openFront(&c, s.storage, s.instruments, opened); err != nil {
		return nil, err
	}
	if s.operator, err = openOperator(&c, s.storage, s.front.users, s.instruments, s.notReady, opened); err != nil {
		return nil, err
	}
	s.config = c
	return s, nil
}

// Addr returns the address that the S3 listener is bound to.
func (s *Server) Addr() net.Addr { return s.front.socket.Addr() }

// VectorsAddr returns the address of the listener for S3 Vectors alone, nil if there is none.
func (s *Server) VectorsAddr() net.Addr {
	if s.front.vectors == nil {
		return nil
	}
	return s.front.vectors.socket.Addr()
}

// AdminAddr returns the address that the admin listener is bound to.
func (s *Server) AdminAddr() net.Addr { return s.operator.socket.Addr() }

// Trial returns the generated credentials, nil if a root key pair is configured.
func (s *Server) Trial() *Trial { return s.trial }

// Ready returns a channel that is closed when both listeners are served.
func (s *Server) Ready() <-chan struct{} { return s.ready }

// notReady returns why /readyz is not 200, nil if it is.
func (s *Server) notReady() error { return errors.Join(s.state.check(), s.storage.journalProblem()) }

const errUsed = akigw.Error("a server.Server runs once")

// Close closes a Server that is not going to run. After Run it does nothing.
func (s *Server) Close() error {
	if s.used.Swap(true) {
		return nil
	}
	return s.opened.close()
}

// Run serves until ctx is done, finishes the requests under way, uploads pending writes and closes
// everything. The error is ErrPending, among others, if writes are left. If a task that the gateway
// cannot do without fails, Run logs that, shuts down at once without uploading, and returns the
// error. Run can be called once.
func (s *Server) Run(ctx context.Context) (err error) {
	if s.used.Swap(true) {
		return errUsed
	}
	defer func() { err = errors.Join(err, s.opened.close()) }()
	p := s.plan()
	if id := s.config.Restore; id != "" {
		refetch, err := s.storage.restore(ctx, id, int64(s.config.Snapshot.RestoreRate), s.log)
		if err != nil {
			return err
		}
		p.workers = append(p.workers, task{"refetch", endReadiness, refetch})
	}
	return s.serve(ctx, p)
}

// serve runs the tasks of a plan until ctx is done or a task ends the server.
func (s *Server) serve(ctx context.Context, p plan) error {
	ctx, end := context.WithCancel(ctx)
	defer end()
	var fatal atomic.Bool
	failed := func(t task, err error) error {
		if t.on == endReadiness {
			s.log.Error("a background task failed: the gateway continues without it, and is not ready until it is restarted", "task", t.name, "error", err)
			s.state.fail(err)
			return nil
		}
		s.log.Error("a background task failed that the gateway cannot run without: the gateway ends", "task", t.name, "error", err)
		fatal.Store(true)
		end()
		return err
	}
	accounts, work, listeners := start(p.accounts, failed), start(p.workers, failed), start(p.listeners, failed)
	s.begun()
	<-ctx.Done()
	s.state.enter(errStopping)
	s.log.Info("stopping: finishing requests under way")
	err := errors.Join(s.front.shutdown(), s.operator.shutdown(), listeners.stop())
	if !fatal.Load() {
		d := &drainer{s.storage.writes, s.storage.vectors.collections(), s.log}
		err = errors.Join(err, d.drain(s.config.Back.DrainTimeout(), s.config.OnDrain))
	}
	return errors.Join(err, work.stop(), accounts.stop())
}

// begun says that requests are accepted.
func (s *Server) begun() {
	s.log.Info("serving", "version", s.config.Version, "listen", s.Addr().String(), "admin_listen", s.AdminAddr().String(), "freshness", s.config.Cache.Freshness, "shadow", s.config.Cache.Shadow)
	s.state.enter(nil)
	close(s.ready)
}

// plan returns the tasks of a server in the order in which they are stopped. The listeners are first, so
// that requests under way can finish. The tasks that work on objects follow when no writes are pending
// any more, and then the tasks that record statistics.
type plan struct{ listeners, workers, accounts []task }

func (s *Server) plan() plan {
	p := plan{
		listeners: []task{
			{"admin listener", endServer, s.operator.serve},
			{"S3 listener", endServer, s.front.serve},
		},
		workers: []task{
			{"tiers", endServer, s.storage.store.Run}, // frees disk space
			{"write-back", endServer, s.storage.writes.Run},
			{"users and keys", endServer, s.front.users.Run},
			{"rules", endReadiness, s.storage.rules.Run},
			{"quotas", endReadiness, s.front.gateway.Run},
			{"snapshots", endReadiness, s.storage.snapshots.Run},
			{"compare", endReadiness, s.storage.compare.Run},
		},
		accounts: []task{
			{"placement", endReadiness, s.storage.placement.Run}, // records accesses, and runs the policy worker
			{"cost", endReadiness, s.costs.Run},
		},
	}
	if l := s.front.vectors; l != nil {
		p.listeners = append(p.listeners, task{"S3 Vectors listener", endServer, l.serve})
	}
	if v := s.storage.vectors; v != nil {
		p.workers = append(p.workers, task{"vector collections on disk", endServer, v.warm.Run}, task{"vector collections", endServer, v.store.Run})
	}
	if s.config.LimitMemory {
		p.accounts = append(p.accounts, task{"memory limit", endReadiness, s.config.limitMemory})
	}
	return p
}
