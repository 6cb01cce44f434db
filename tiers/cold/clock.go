package cold

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// MaxSkew is how far the clock of this machine may be from an upstream's. S3
// refuses signatures that are 15 minutes off; clients are judged by this clock.
const MaxSkew = 5 * time.Minute

// noteDate learns the upstream's clock from an answer's Date.
func (u *Upstream) noteDate(h http.Header) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		u.skew.Store(int64(time.Since(date)))
	}
}

// Skew is how much this clock is ahead of the upstream's, as its last answer
// said, in whole seconds or so.
func (u *Upstream) Skew() time.Duration { return time.Duration(u.skew.Load()) }

const (
	// clockPatience is how long a start waits for the time of upstreams, and probeTime
	// how long they are asked in the background.
	clockPatience = time.Second
	probeTime     = 10 * time.Second
)

// CheckClock asks each upstream for the time, all at once and in the background. The function
// that it returns waits for the answers, but not longer than clockPatience after CheckClock was
// called, and returns an error for an upstream whose clock is more than MaxSkew away. One that
// does not answer says nothing; if it answers later, and is that far away, the log says so.
func (us *Upstreams) CheckClock(ctx context.Context) (wait func() error) {
	ctx, us.endProbes = context.WithTimeout(ctx, probeTime)
	found := make(chan error, len(us.all))
	patience := time.Now().Add(clockPatience)
	for i := range us.all {
		us.probes.Go(func() {
			err := us.all[i].checkClock(ctx)
			if log := us.all[i].config.Log; err != nil && log != nil && time.Now().After(patience) {
				log.Error("the clocks are too far apart", "error", err)
			}
			found <- err
		})
	}
	return func() error {
		timer := time.NewTimer(time.Until(patience))
		defer timer.Stop()
		for range us.all {
			select {
			case err := <-found:
				if err != nil {
					return err
				}
			case <-timer.C:
				return nil
			}
		}
		return nil
	}
}

// checkClock asks for the time once.
func (n *named) checkClock(ctx context.Context) error {
	resp, err := n.send(ctx, &Request{Op: probeOp, Method: http.MethodHead})
	if err != nil {
		return nil // it says nothing
	}
	resp.Body.Close()
	if skew := n.Skew(); skew.Abs() > MaxSkew {
		return fmt.Errorf("upstream %s: its clock differs from this machine's by %v: set the clocks (NTP), or it and clients will refuse signatures", n.name, skew.Round(time.Second))
	}
	return nil
}
