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

// probeTime is how long a probe of the clock waits for an answer.
const probeTime = 3 * time.Second

// CheckClock asks each upstream for the time and returns an error for one whose
// clock is more than MaxSkew away. One that does not answer says nothing.
func (us *Upstreams) CheckClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTime)
	defer cancel()
	for i := range us.all {
		u := &us.all[i]
		resp, err := u.send(ctx, &Request{Op: probeOp, Method: http.MethodHead})
		if err != nil {
			continue
		}
		resp.Body.Close()
		if skew := u.Skew(); skew.Abs() > MaxSkew {
			return fmt.Errorf("upstream %s: its clock differs from this machine's by %v: set the clocks (NTP), or it and clients will refuse signatures", u.name, skew.Round(time.Second))
		}
	}
	return nil
}
