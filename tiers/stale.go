package tiers

import (
	"context"
	"fmt"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// Silence is an upstream that knows when it has stopped answering.
type Silence interface {
	// Suspect reports whether the upstream that has a bucket has stopped answering,
	// and returns a channel that is closed when it does.
	Suspect(bucket string) (suspect bool, begins <-chan struct{})
}

// errImpatient ends a wait for an answer that may still come.
var errImpatient = fmt.Errorf("no answer yet: %w", cold.ErrDeadline)

// beforeDeadline is the share of a request's deadline after which it is served stale,
// while there is time left to send the answer.
const beforeDeadline = 0.9

// stalePatience is how long a reader waits for a validation before it is served
// stale, 0 for as long as it takes.
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

// unanswered is the error of a request for a key whose upstream has stopped answering,
// nil if it has not. Such a request is refused before it joins another one that waits
// for the upstream already.
func (v *validator) unanswered(key akigw.Key) error {
	if v.silence == nil {
		return nil
	}
	if suspect, _ := v.silence.Suspect(key.Bucket); !suspect {
		return nil
	}
	return fmt.Errorf("%w: %s: %w", akigw.ErrUpstreamUnavailable, key, cold.ErrSuspect)
}

// validateSoon is validate for an entry that a reader found. If the entry may be
// served stale, the reader waits no longer than it has to: not at all while the
// upstream is suspect, and else until that begins, until stale_after_ms have passed,
// or until the request is about to meet its deadline. The validation goes on without
// the reader, so that a later one finds the entry fresh.
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
