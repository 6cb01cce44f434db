package admin

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

const (
	// wrongPause is how long wrong credentials wait for their answer.
	wrongPause = 300 * time.Millisecond
	// wrongLimit is how many wrong credentials an address may present in wrongWindow.
	// Beyond it, no credentials from there are looked at until the window ends: they
	// may be right, and the answer would say so.
	wrongLimit  = 10
	wrongWindow = time.Minute
	// maxAttempts bounds the memory: so many addresses are known.
	maxAttempts = 4096
)

// attempts counts wrong credentials by the address that they come from, however they are
// presented. Each address has a counter of its own, so that nobody is held up for what
// others do; all of this machine's count as one, and so do those of an IPv6 network of 64
// bits, because one client may have all of them. When too many addresses are known some
// are forgotten, which holds nobody up. The zero value is ready, and any goroutine may use
// it.
type attempts struct {
	mu    sync.Mutex
	wrong map[netip.Addr]*attempt // guarded by mu
	swept time.Time               // when old counters were dropped last; guarded by mu
}

// attempt is what is known of an address: how many credentials were wrong since when.
type attempt struct {
	since time.Time
	count int
}

// origin is the address that an address counts as. What is no address counts as one, too.
func origin(remote string) netip.Addr {
	from, err := netip.ParseAddrPort(remote)
	if err != nil {
		return netip.Addr{}
	}
	a := from.Addr().Unmap().WithZone("")
	switch {
	case a.IsLoopback():
		return netip.IPv6Loopback()
	case a.Is6():
		network, _ := a.Prefix(64) // 64 bits are in the range of IPv6
		return network.Addr()
	}
	return a
}

// blocked returns for how long no credentials from an address are looked at.
func (a *attempts) blocked(from netip.Addr, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if one := a.wrong[from]; one != nil && one.count >= wrongLimit {
		return max(0, one.since.Add(wrongWindow).Sub(now))
	}
	return 0
}

// failed counts wrong credentials.
func (a *attempts) failed(from netip.Addr, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	one := a.wrong[from]
	if one == nil {
		a.makeRoom(now)
		one = &attempt{since: now}
		a.wrong[from] = one
	}
	if now.Sub(one.since) >= wrongWindow {
		*one = attempt{since: now}
	}
	one.count++
}

// makeRoom has room for one more address: old ones are forgotten, or else any one. It needs
// mu.
func (a *attempts) makeRoom(now time.Time) {
	if a.wrong == nil {
		a.wrong = map[netip.Addr]*attempt{}
	}
	if len(a.wrong) < maxAttempts {
		return
	}
	if now.Sub(a.swept) >= time.Second {
		a.swept = now
		for from, one := range a.wrong {
			if now.Sub(one.since) >= wrongWindow {
				delete(a.wrong, from)
			}
		}
	}
	for from := range a.wrong {
		if len(a.wrong) < maxAttempts {
			return
		}
		delete(a.wrong, from)
	}
}

// presents reports whether a request brings credentials, in a header or, presigned, in its
// query. A session's cookie is not meant: nobody guesses one.
func presents(r *http.Request) bool {
	if len(r.Header["Authorization"]) > 0 {
		return true
	}
	for name := range r.URL.Query() { // decoded, as the verifier sees it
		if strings.HasPrefix(name, "X-Amz-") {
			return true
		}
	}
	return false
}

// pause waits for a moment, or until the client leaves.
func pause(ctx context.Context) {
	select {
	case <-time.After(wrongPause):
	case <-ctx.Done():
	}
}
