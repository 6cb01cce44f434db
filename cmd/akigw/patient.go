package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/akidb/akigw"
)

// patient is a RoundTripper for requests to a running gateway, which may take as long as the gateway
// works on them: a recording of an hour, a drain. It shows a progress line meanwhile. It gives up when
// the gateway answers nothing at all any more, because a stopped process keeps its connections open
// and would be waited for without end.
type patient struct{ http.RoundTripper }

const (
	// probeEvery is the time between two probes of a gateway that is being waited for.
	probeEvery = 5 * time.Second
	// silence is how long it may take to answer one.
	silence = 20 * time.Second
)

// errSilent is the error of a request to a gateway that has stopped responding.
const errSilent = akigw.Error("it accepts connections but has answered nothing for 20 s. Is its process stopped, or its machine overloaded? Its log and its /healthz may say more")

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	defer busy("waiting for the gateway")()
	ctx, cancel := context.WithCancelCause(r.Context())
	probes := &probes{cancel: cancel}
	probes.ended.Go(func() { p.probe(ctx, cancel, r.URL.Host) })
	resp, err := p.RoundTripper.RoundTrip(r.WithContext(ctx))
	if err != nil {
		probes.stop()
		if errors.Is(err, syscall.ECONNREFUSED) {
			err = fmt.Errorf("%w. Is it running, and is this its admin_listen? --admin names another address", err)
		}
		return nil, err
	}
	resp.Body = &probed{resp.Body, probes}
	return resp, nil
}

// probe asks the gateway at an address again and again whether it is alive, until ctx ends. It cancels the
// request if there is no answer in time. Any answer will do, and so will a refused connection: a gateway
// that is being stopped ends its listener before its requests.
func (p patient) probe(ctx context.Context, cancel context.CancelCauseFunc, address string) {
	for {
		select {
		case <-time.After(probeEvery):
		case <-ctx.Done():
			return
		}
		limited, end := context.WithTimeout(ctx, silence)
		alive := p.ask(limited, "http://"+address+"/healthz")
		late := limited.Err() != nil
		end()
		if !alive && late {
			cancel(errSilent) // has no effect if ctx has ended
			return
		}
	}
}

// ask reports whether a URL was answered, by whatever.
func (p patient) ask(ctx context.Context, url string) bool {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return false
	}
	resp, err := p.RoundTripper.RoundTrip(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return errors.Join(err, resp.Body.Close()) == nil
}

// probes are the probes during a request.
type probes struct {
	cancel context.CancelCauseFunc
	ended  sync.WaitGroup
}

// stop ends them, and the request.
func (p *probes) stop() {
	p.cancel(nil)
	p.ended.Wait()
}

// probed is the body of a response. The probes go on until it is closed.
type probed struct {
	io.ReadCloser
	probes *probes
}

// Close implements io.Closer.
func (b *probed) Close() error {
	err := b.ReadCloser.Close()
	b.probes.stop()
	return err
}
