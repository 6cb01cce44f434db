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
	// wrongPause delays the response to wrong credentials.
	wrongPause = 300 * time.Millisecond
	// wrongLimit is how many wrong credentials an address may present in wrongWindow. After that, no
	// credentials from the address are checked until the window ends. Checking them would let an
	// attacker go on guessing.
	wrongLimit  = 10
	wrongWindow = time.Minute
	// maxAttempts bounds the number of addresses that are remembered.
	maxAttempts = 4096
)

// attempts counts wrong credentials by source address, however they are presented. Each address has
// a counter of its own, so that one client cannot lock out another. All loopback addresses share a
// counter, and so does each IPv6 /64, because one client may own all of its addresses. When too many
// addresses are known, some are forgotten. The zero value is ready to use, and all methods may be
// called concurrently.
type attempts struct {
	mu    sync.Mutex
	wrong map[netip.Addr]*attempt // guarded by mu
	swept time.Time               // when old counters were last dropped; guarded by mu
}

// attempt counts the wrong credentials of one address since the start of its window.
type attempt struct {
	since time.Time
	count int
}

// origin maps a remote address to the address whose counter it shares. All malformed addresses share
// one.
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

// blocked returns for how long credentials from an address will not be checked.
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

// makeRoom makes room for one more address. It forgets expired counters or, if there are none, an
// arbitrary one. The caller holds mu.
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

// presents reports whether a request has credentials in a header or, presigned, in its query.
// Session cookies do not count, because they cannot be guessed.
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

// pause waits for wrongPause or until the client disconnects.
func pause(ctx context.Context) {
	select {
	case <-time.After(wrongPause):
	case <-ctx.Done():
	}
}
