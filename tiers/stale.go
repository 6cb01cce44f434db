package tiers

import (
	"context"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Silence is an upstream that detects that it has stopped responding.
type Silence interface {
	// Suspect reports whether the upstream of a bucket has stopped responding, and returns a
	// channel that is closed when it does.
	Suspect(bucket string) (suspect bool, begins <-chan struct{})
}

// errImpatient ends a wait for a response that may still arrive.
var errImpatient = fmt.Errorf("no response yet: %w", cold.ErrDeadline)

// beforeDeadline is the fraction of a request's deadline after which a stale object is served,
// while there is time left to send it.
const beforeDeadline = 0.9

// stalePatience is how long a reader waits for a validation before it is served a stale object, 0
// for no limit.
func stalePatience(ctx context.Context, settings *rules.Settings) time.Duration {
	patience := settings.StaleAfter
	if deadline, ok := ctx.Deadline(); ok {
		most := max(1, time.Duration(beforeDeadline*float64(time.Until(deadline))))
		if patience == 0 || most < patience {
			patience = most
		}
	}
	return patience
}

// unanswered returns the error for a request for a key whose upstream has stopped responding, nil
// if it has not. Such a request is refused before it joins one that is already waiting for the
// upstream.
func (v *validator) unanswered(key akigw.Key) error {
	if v.silence == nil {
		return nil
	}
	if suspect, _ := v.silence.Suspect(key.Bucket); !suspect {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", akigw.ErrUpstreamUnavailable, key, cold.ErrSuspect)
}

// validateSoon is validate for an entry that may be served stale: the reader waits no longer than
// necessary. It does not wait at all while the upstream is suspect; otherwise it waits until that
// begins, until stale_after_ms have passed, or until the request is about to meet its deadline. The
// validation continues without the reader, so that a later one finds the entry fresh.
func (v *validator) validateSoon(ctx context.Context, known *entry, settings *rules.Settings, conditions akigw.Conditions) (*entry, error) {
	if !v.usable(known, settings, conditions) {
		return v.validate(ctx, known)
	}
	if err := v.unanswered(known.Key); err != nil {
		return nil, err
	}
	var begins <-chan struct{}
	if v.silence != nil {
		_, begins = v.silence.Suspect(known.Key.Bucket)
	}
	q := v.upcoming(cold.FlowOf(ctx), known)
	var enough <-chan time.Time
	if patience := stalePatience(ctx, settings); patience > 0 {
		timer := time.NewTimer(patience)
		defer timer.Stop()
		enough = timer.C
	}
	select {
	case <-q.done:
		return q.entry, q.err
	case <-begins:
	case <-enough:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	return nil, fmt.Errorf("%w: validation of %s: %w", akigw.ErrUpstreamUnavailable, known.Key, errImpatient)
}
