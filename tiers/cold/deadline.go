package cold

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"strings"
	"time"
)

// Deadlines bound how long a request may go without the head of its response. The gateway applies them
// to each client request, and an Upstream to each request that it sends, with its retries and hedges.
type Deadlines struct {
	// Read is for short operations (GET, HEAD, listings, DELETE), from their start.
	Read time.Duration
	// Write is for PutObject and UploadPart, from the last byte of the body. A body that makes no
	// progress for so long, in either direction, ends its request as well.
	Write time.Duration
	// Long is for operations that may take minutes upstream: CompleteMultipartUpload, copies,
	// DeleteObjects, and changes that are only forwarded.
	Long time.Duration
}

func (c *Config) deadlines() Deadlines {
	seconds := func(n, standard int) time.Duration { return time.Duration(cmp.Or(n, standard)) * time.Second }
	return Deadlines{Read: seconds(c.RequestDeadlineSecs, defaultRead), Write: seconds(c.WriteDeadlineSecs, defaultWrite), Long: seconds(c.LongDeadlineSecs, defaultLong)}
}

// Kind is the class of an operation, by the deadline that applies to it.
type Kind int

// The kinds.
const (
	Short Kind = iota // Deadlines.Read
	Body              // Deadlines.Write
	Long              // Deadlines.Long
)

// isShort reports whether an operation (by its S3 API name) changes something and is still answered as fast
// as reads by an upstream that works.
func isShort(op string) bool {
	switch op {
	case "AbortMultipartUpload", "CreateMultipartUpload", "DeleteObject", "OptionsObject", probeOp:
		return true
	default:
		return false
	}
}

// KindOf is the kind of an operation, by its S3 API name.
func KindOf(op string) Kind {
	switch {
	case isShort(op), strings.HasPrefix(op, "Get"), strings.HasPrefix(op, "Head"), strings.HasPrefix(op, "List"):
		return Short
	case op == "PutObject" || op == "UploadPart":
		return Body
	}
	return Long
}

// Of is the deadline of an operation, by its S3 API name.
func (d Deadlines) Of(op string) time.Duration {
	switch KindOf(op) {
	case Short:
		return d.Read
	case Body:
		return d.Write
	default:
		return d.Long
	}
}

// stall is how long the body of a response may make no progress. A long operation may begin its response
// before it is done.
func (d Deadlines) stall(op string) time.Duration {
	if KindOf(op) == Long {
		return 2 * d.Write
	}
	return d.Write
}

// bound sends a request within its deadline, which all attempts and the waits between them share. The
// deadline ends with the head of the response; its body is watched for progress. Only short operations
// are bounded here. The deadline of others begins with the end of their body: see exchange.
func (d Deadlines) bound(ctx context.Context, r *Request, next sender) (*http.Response, error) {
	if KindOf(r.Op) != Short {
		return next(ctx, r)
	}
	within, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(d.Read, func() { cancel(ErrDeadline) })
	resp, err := next(within, r)
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
