package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// An upstream that hangs accepts connections and does not respond: its process was stopped, or packets
// are dropped on the way. Each request would wait for its whole deadline. So that only the first ones
// do, an upstream becomes suspect when several requests saw no byte for a while and a probe timed out as
// well. While it is suspect, requests are refused at once, and probes find out, one at a time, whether
// it is back.
//
// A slow upstream does not become suspect. A probe is a HEAD of the service, which costs an upstream
// next to nothing, and it waits longer than slow upstreams take; any byte that arrives meanwhile clears
// the upstream.

const (
	// several is how many requests have to be silent before a probe is sent.
	several = 2
	// memory is how long a request counts that met its deadline without a byte.
	memory = time.Minute
	// firstProbe is how long the first probes of a suspect upstream wait, as a share of probe_timeout_ms;
	// the longer the suspicion lasts the longer they wait, up to all of it. Short probes notice a return
	// soon even if one of them is lost. Long ones let a slow upstream return.
	firstProbe = 0.3
	// probeGrowth is the share of the suspicion's age by which a probe waits longer.
	probeGrowth = 0.05
	// restBetweenProbes is the pause after a probe that was refused at once.
	restBetweenProbes = time.Second
)

// ErrSuspect: the request was refused because the upstream has stopped responding.
var ErrSuspect = fmt.Errorf("%w: the upstream has stopped responding and is probed until it responds", ErrNotSent)

// suspicion detects that one upstream has stopped responding. Its methods may be called from any
// goroutine.
type suspicion struct {
	counters *counters
	after    time.Duration                   // without a byte, after which a request is silent
	patience time.Duration                   // of a probe
	probe    func(ctx context.Context) error // asks the upstream; nil: it responded
	changed  func(suspect bool)              // is told of a beginning and an end, one at a time
	work     *sync.WaitGroup
	stop     context.Context // ends with the upstream

	heard atomic.Int64 // when the last byte arrived, in Unix nanoseconds

	mu      sync.Mutex
	silent  int           // requests under way that saw no byte for a while; guarded by mu
	missed  int           // requests that met a deadline in silence since the last byte; guarded by mu
	miss    time.Time     // when the last of them did; guarded by mu
	probing bool          // guarded by mu
	probed  time.Time     // when the last probe ended; guarded by mu
	since   time.Time     // when the suspicion began, zero for none; guarded by mu
	begins  chan struct{} // closed when a suspicion begins, replaced when it ends; guarded by mu
}

func newSuspicion(ctx context.Context, c *Config, counters *counters, work *sync.WaitGroup, probe func(context.Context) error) *suspicion {
	ms := func(n, standard int) time.Duration { return time.Duration(cmp.Or(n, standard)) * time.Millisecond }
	return &suspicion{after: ms(c.SuspectAfterMs, defaultSuspectAfter), patience: ms(c.ProbeTimeoutMs, defaultProbeTimeout),
		counters: counters, probe: probe, changed: func(bool) {}, work: work, stop: ctx, begins: make(chan struct{})}
}

// now reports whether the upstream is suspect, and returns a channel that is closed
// when it becomes so.
func (s *suspicion) now() (suspect bool, begins <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return !s.since.IsZero(), s.begins
}

// hears notes that a byte arrived from the upstream.
func (s *suspicion) hears() { s.heard.Store(time.Now().UnixNano()) }

// becameSilent counts a request that has seen no byte for a while, until silenceEnded.
func (s *suspicion) becameSilent() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent++
	s.considerLocked()
}

// silenceEnded ends the silence of a request: by a byte, by its sender, or by a deadline of the gateway.
func (s *suspicion) silenceEnded(byDeadline bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.silent--
	if byDeadline {
		s.missed = s.rememberedLocked() + 1
		s.miss = time.Now()
		s.considerLocked()
	}
}

// rememberedLocked is how many requests met a deadline lately; 0 if a byte has arrived since.
func (s *suspicion) rememberedLocked() int {
	if s.miss.UnixNano() <= s.heard.Load() || time.Since(s.miss) > memory {
		return 0
	}
	return s.missed
}

// considerLocked starts a probe if there is a reason for one.
func (s *suspicion) considerLocked() {
	if s.probing || !s.since.IsZero() || s.silent+s.rememberedLocked() < several || time.Since(s.probed) < s.after || s.stop.Err() != nil {
		return
	}
	s.probing = true
	s.work.Go(s.investigate)
}

// investigate sends a probe. If it times out and nothing else arrives meanwhile, the upstream is suspect
// until it responds to a probe.
func (s *suspicion) investigate() {
	asked := time.Now()
	err := s.ask(s.patience)
	s.mu.Lock()
	s.probing, s.probed = false, time.Now()
	if !timedOut(err) || s.heard.Load() >= asked.UnixNano() || s.silent+s.rememberedLocked() < several || s.stop.Err() != nil {
		s.mu.Unlock()
		return
	}
	s.since = time.Now()
	close(s.begins)
	s.mu.Unlock()
	s.counters.suspected.Inc()
	s.changed(true)
	s.await()
}

// await probes until there is a response, which ends the suspicion.
func (s *suspicion) await() {
	began := time.Now()
	for s.ask(min(s.patience, time.Duration(firstProbe*float64(s.patience)+probeGrowth*float64(time.Since(began))))) != nil {
		if s.stop.Err() != nil {
			return
		}
	}
	s.mu.Lock()
	s.since, s.probed, s.missed = time.Time{}, time.Now(), 0
	s.begins = make(chan struct{})
	s.mu.Unlock()
	s.changed(false)
}

// ask sends one probe. If it was refused at once it waits before it returns.
func (s *suspicion) ask(patience time.Duration) error {
	s.counters.probes.Inc()
	ctx, cancel := context.WithTimeoutCause(s.stop, patience, ErrDeadline)
	defer cancel()
	err := s.probe(ctx)
	if err != nil && !timedOut(err) {
		select {
		case <-time.After(min(restBetweenProbes, patience)):
		case <-s.stop.Done():
		}
	}
	return err
}

// timedOut reports whether an error says that nothing came from the upstream, rather than that something
// went wrong. A time-out of the source of keys says nothing about the upstream.
func timedOut(err error) bool {
	if err == nil {
		return false
	}
	var timeout net.Error
	return !errors.Is(err, ErrNoKeys) && (errors.Is(err, ErrDeadline) || errors.As(err, &timeout) && timeout.Timeout())
}
