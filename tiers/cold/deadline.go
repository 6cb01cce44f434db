package cold

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/akidb/akigw"
)

// Deadlines bound how long a request may go without the head of its answer. The
// gateway applies them to each client request, and an Upstream to each request
// that it sends, retries and hedges included.
type Deadlines struct {
	// Read is for short operations (GET, HEAD, listings, DELETE), from their start.
	Read time.Duration
	// Write is for PutObject and UploadPart, from the last byte of the body. A body
	// that stands still for so long in either direction ends its request, too.
	Write time.Duration
	// Long is for what may legitimately take minutes upstream: Complete, copies,
	// DeleteObjects, and changes that are only forwarded.
	Long time.Duration
}

// The defaults of request_deadline_secs, write_deadline_secs and long_deadline_secs.
const (
	defaultRead  = 15
	defaultWrite = 30
	defaultLong  = 600
)

func (c *Config) deadlines() Deadlines {
	seconds := func(n, standard int) time.Duration { return time.Duration(cmp.Or(n, standard)) * time.Second }
	return Deadlines{Read: seconds(c.RequestDeadlineSecs, defaultRead), Write: seconds(c.WriteDeadlineSecs, defaultWrite), Long: seconds(c.LongDeadlineSecs, defaultLong)}
}

// Kind says which deadline an operation has.
type Kind int

// The kinds.
const (
	Short Kind = iota
	Body
	Long
)

// shortOperations are answered at once by any upstream that works, like all that
// only read. By their S3 API names.
var shortOperations = map[string]bool{"AbortMultipartUpload": true, "CreateMultipartUpload": true, "DeleteObject": true, "OptionsObject": true, probeOp: true}

// KindOf is the kind of an operation, by its S3 API name.
func KindOf(op string) Kind {
	switch {
	case shortOperations[op], strings.HasPrefix(op, "Get"), strings.HasPrefix(op, "Head"), strings.HasPrefix(op, "List"):
		return Short
	case op == "PutObject" || op == "UploadPart":
		return Body
	}
	return Long
}

// Of is the deadline of an operation, by its S3 API name.
func (d Deadlines) Of(op string) time.Duration {
	return map[Kind]time.Duration{Short: d.Read, Body: d.Write, Long: d.Long}[KindOf(op)]
}

// stall is how long the body of an answer may stand still. What takes long may answer
// before it is done.
func (d Deadlines) stall(op string) time.Duration {
	if KindOf(op) == Long {
		return 2 * d.Write
	}
	return d.Write
}

// ErrDeadline is the cause of a context that ends because a deadline was met. It
// says something of the upstream; a client that leaves does not.
var ErrDeadline = errors.New("no answer within the deadline")

// UnfinishedFor is how long an upstream may still carry out a request that it has not answered: S3
// refuses signatures that are older than 15 minutes.
const UnfinishedFor = 16 * time.Minute

// Unfinished reports whether a request that failed with err may still be carried out: the
// upstream has it, and the gateway stopped waiting, by a deadline or because the client left. An
// upstream that broke the connection has done with it, one way or the other.
func Unfinished(err error) bool {
	return errors.Is(err, akigw.ErrUpstreamUnavailable) && !errors.Is(err, ErrNotSent) &&
		(errors.Is(err, ErrDeadline) || errors.Is(err, context.Canceled))
}

// bounded sends a request within its deadline, which all of its attempts and the
// waits between them share. It ends with the head of the answer: the body is
// watched by its progress. Only short operations are bounded here. The deadline of
// the others begins with the end of their body, see exchange.
func (u *Upstream) bounded(ctx context.Context, r *Request) (*http.Response, error) {
	if KindOf(r.Op) != Short {
		return u.retry(ctx, r)
	}
	within, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(u.deadlines.Read, func() { cancel(ErrDeadline) })
	resp, err := u.retry(within, r)
	switch {
	case err == nil && !timer.Stop(): // its body is being cut off already
		resp.Body.Close()
		err = unavailable(r, ErrDeadline)
	case err == nil:
		resp.Body = &cancelledBody{resp.Body, func() { cancel(nil) }}
		return resp, nil
	case context.Cause(within) == ErrDeadline && !errors.Is(err, ErrDeadline):
		err = unavailable(r, errors.Join(ErrDeadline, err))
	}
	timer.Stop()
	cancel(nil)
	return nil, err
}

// checkDeadlines reports impossible deadlines by their keys.
func (c *Config) checkDeadlines(report func(key, problem string)) {
	for _, k := range []struct {
		key         string
		value, most int
	}{
		{"request_deadline_secs", c.RequestDeadlineSecs, 3600},
		{"write_deadline_secs", c.WriteDeadlineSecs, 3600},
		{"long_deadline_secs", c.LongDeadlineSecs, 24 * 3600},
		{"suspect_after_ms", c.SuspectAfterMs, 3_600_000},
		{"probe_timeout_ms", c.ProbeTimeoutMs, 3_600_000},
	} {
		if k.value < 1 || k.value > k.most {
			report(k.key, fmt.Sprintf("must be 1 to %d", k.most))
		}
	}
}

// probeOp names the gateway's own question whether an upstream answers: a HEAD of
// the service, an operation that S3 does not have.
const probeOp = "Probe"
