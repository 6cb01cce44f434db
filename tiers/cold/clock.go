package cold

import (
	"context"
	"fmt"
	"net/http"
	"time"
)

// maxSkew is how far the clock of this machine may be from an upstream's. S3
// refuses signatures that are 15 minutes off; clients are judged by this clock.
const maxSkew = 5 * time.Minute

const (
	// clockPatience is how long a start waits for the upstreams' time, and probeTime how long they are
	// asked in the background.
	clockPatience = time.Second
	probeTime     = 10 * time.Second
)

// CheckClock asks each upstream for the time, all of them concurrently and in the background. The
// function that it returns waits for the responses, but not longer than clockPatience after CheckClock
// was called, and returns an error for an upstream whose clock is more than maxSkew off. An upstream
// that does not respond in time is no error; if it responds later and its clock is off, that is logged.
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
		return nil // no response says nothing about the clock
	}
	resp.Body.Close()
	if skew := n.Skew(); skew.Abs() > maxSkew {
		return fmt.Errorf("upstream %s: its clock differs from this machine's by %v: set the clocks (NTP), or it and clients will refuse signatures", n.name, skew.Round(time.Second))
	}
	return nil
}
