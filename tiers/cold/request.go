package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/akidb/akigw"
)

// Request is one S3 request, in parsed form.
type Request struct {
	// Op is the S3 API name, for metrics: "GetObject".
	Op     string
	Method string
	Key    akigw.Key // an empty Bucket addresses the service, an empty Name the bucket; a Version becomes versionId
	// Upstream names the upstream; "" is the one that has the bucket.
	Upstream string
	Query    url.Values
	// Header is sent unchanged, with the headers that signing adds.
	Header http.Header
	// Body is sent once; Length is its exact length. A nil Body is empty.
	Body   io.Reader
	Length int64
	// SHA256 is the hex digest of the body when it is known.
	SHA256 string
	// Trailer announces trailing headers. Its values are placeholders of the
	// right length until Body returns io.EOF; by then they must be set.
	Trailer http.Header
	// Expect asks the upstream to judge the head before the body is read.
	Expect bool
	// Bytes is the approximate length of the response, 0 if it is not known.
	Bytes int64
	// Relayed says that the response is sent to a client, at the client's pace.
	Relayed bool
	// Repeat says that the request repeats one that failed, and draws on the allowance like a retry.
	Repeat bool
}

// path is the path of the URL, decoded.
func (r *Request) path() string {
	if r.Key.Name == "" {
		return "/" + r.Key.Bucket
	}
	return "/" + r.Key.Bucket + "/" + r.Key.Name
}

// query is the query, with the key's version id.
func (r *Request) query() url.Values {
	if r.Key.Version == "" {
		return r.Query
	}
	query := url.Values{"versionId": {r.Key.Version}}
	maps.Copy(query, r.Query)
	return query
}

// repeatable reports whether a request may be sent twice: a read without a body. A change is repeated by
// the caller, who knows what a second time means.
func (r *Request) repeatable() bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && r.Length == 0
}

// probeOp names the probe of whether an upstream responds: a HEAD of the service, which is not an S3
// operation.
const probeOp = "Probe"

// sender sends a request and returns the response, whatever its status.
type sender func(ctx context.Context, r *Request) (*http.Response, error)

// ResponseError is an upstream response that is not a success. Its body has been read, up to 64 KiB, so
// that it can be passed on.
type ResponseError struct {
	Status int
	Header http.Header
	Body   []byte
}

// Error implements error.
func (e *ResponseError) Error() string { return "upstream responded with " + strconv.Itoa(e.Status) }

// NewResponseError reads and closes resp's body.
func NewResponseError(resp *http.Response) *ResponseError {
	defer resp.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 64<<10)) // a truncated error document still identifies the error
	return &ResponseError{Status: resp.StatusCode, Header: resp.Header, Body: body}
}

// ErrNotSent marks a request that was not sent: the upstream does not know of it.
const ErrNotSent = akigw.Error("not sent")

// ErrDeadline is the cause of a context that ended because a deadline expired. It says something about
// the upstream; a client that leaves does not.
const ErrDeadline = akigw.Error("no response within the deadline")

// errGivenUp marks a request that its sender cancelled, or whose body its sender did not finish: it says
// nothing about the upstream.
const errGivenUp = akigw.Error("abandoned by its sender")

// UnfinishedFor is how long an upstream may still carry out a request to which it has not responded:
// S3 refuses signatures that are older than 15 minutes.
const UnfinishedFor = 16 * time.Minute

// Unfinished reports whether a request that failed with err may still be carried out: the upstream has
// it, and the gateway stopped waiting because of a deadline or because the client left. An upstream that
// broke the connection has finished with the request, in one way or the other.
func Unfinished(err error) bool {
	return errors.Is(err, akigw.ErrUpstreamUnavailable) && !errors.Is(err, ErrNotSent) &&
		(errors.Is(err, ErrDeadline) || errors.Is(err, context.Canceled))
}

// unavailable wraps the reason why a request got no response.
func unavailable(r *Request, cause error) error {
	return fmt.Errorf("%w: %s %s: %w", akigw.ErrUpstreamUnavailable, r.Op, r.Key, cause)
}

// throttled reports whether a status asks for fewer requests (S3: SlowDown).
func throttled(status int) bool {
	return status == http.StatusServiceUnavailable || status == http.StatusTooManyRequests
}

// transient reports whether a request that got a status may succeed soon.
func transient(status int) bool {
	return throttled(status) || status == http.StatusInternalServerError || status == http.StatusBadGateway || status == http.StatusGatewayTimeout
}

// cancelledBody ends the context of a request when its body is closed.
type cancelledBody struct {
	io.ReadCloser
	cancel context.CancelFunc
}

func (b *cancelledBody) Close() error {
	defer b.cancel()
	return b.ReadCloser.Close()
}
