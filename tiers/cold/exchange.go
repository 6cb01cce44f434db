package cold

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw/sigv4"
)

// exchanger signs requests and sends them, each once, and watches that the response arrives and makes
// progress.
type exchanger struct {
	config    Config
	counters  *counters
	base      url.URL
	transport http.RoundTripper
	keyring   *keyring
	signer    sigv4.Signer
	deadlines Deadlines
	suspicion *suspicion   // is told of silence and of each byte
	skew      atomic.Int64 // of the clocks, in nanoseconds
}

// send sends a request once.
func (e *exchanger) send(ctx context.Context, r *Request) (*http.Response, error) {
	return e.exchange(ctx, r, e.transport)
}

// exchange sends a request once through one of the upstream's transports.
func (e *exchanger) exchange(ctx context.Context, r *Request, transport http.RoundTripper) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(httptrace.WithClientTrace(ctx, e.counters.connections))
	watch := &watchdog{cancel: cancel, suspicion: e.suspicion, patient: KindOf(r.Op) == Long || r.Op == probeOp}
	sending := &requestBody{body: r.Body, sent: e.counters.sentBytes, watch: watch, stall: e.deadlines.Write, wait: e.deadlines.Of(r.Op), over: ctx.Done()}
	req, err := e.build(ctx, r, sending)
	if err != nil {
		cancel(nil)
		return nil, unavailable(r, err)
	}
	e.counters.request(r.Op).Inc()
	if r.Op != probeOp { // the sender of a probe bounds it
		watch.start(sending.wait)
	}
	resp, err := transport.RoundTrip(req)
	if err == nil {
		watch.progress()
	}
	watch.end(errors.Is(context.Cause(ctx), ErrDeadline) || ctx.Err() == nil && timedOut(err))
	if err != nil {
		watch.close()
		cause := context.Cause(ctx)
		cancel(nil)
		e.counters.failure(r.Op).Inc()
		if sending.failed.Load() {
			err = fmt.Errorf("%w: %w", errGivenUp, err)
		}
		if cause != nil && cause != context.Canceled {
			err = cause
		}
		return nil, unavailable(r, err)
	}
	e.noteDate(resp.Header)
	e.keyring.refused(resp.StatusCode)
	e.counters.response(r.Op, resp.StatusCode).Inc()
	sending.answered.Store(true)
	resp.Body = &responseBody{ReadCloser: resp.Body, received: e.counters.receivedBytes, watch: watch, stall: e.deadlines.stall(r.Op)}
	return resp, nil
}

// build creates the HTTP request, and signs it. It contains nothing from a client's request except the
// fields of r.
func (e *exchanger) build(ctx context.Context, r *Request, sending *requestBody) (*http.Request, error) {
	keys, err := e.keyring.keys(ctx)
	if err != nil {
		return nil, err
	}
	target := e.base
	target.Path = r.path()
	own := []string{"akigw", "identity", "100-continue"}
	header := make(http.Header, len(r.Header)+ownHeaders) // an earlier attempt may still be reading its own
	maps.Copy(header, r.Header)
	header["User-Agent"], header["Accept-Encoding"] = own[0:1:1], own[1:2:2]
	if r.Expect {
		header["Expect"] = own[2:]
	}
	req := (&http.Request{Method: r.Method, URL: &target, Host: target.Host, Header: header, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1}).WithContext(ctx)
	if r.Body != nil && r.Length > 0 {
		req.Body = sending
		req.ContentLength = r.Length
		if seeker, ok := r.Body.(io.ReadSeeker); ok { // replayable on a connection that turned out dead
			req.GetBody = func() (io.ReadCloser, error) {
				_, err := seeker.Seek(0, io.SeekStart)
				return sending, err
			}
		}
	}
	e.sign(req, r, sigv4.KeyPair{AccessKey: keys.AccessKeyID, Secret: keys.SecretAccessKey, Token: keys.SessionToken})
	return req, nil
}

// ownHeaders is how many headers most requests have besides those of Request.Header.
const ownHeaders = 5

// sign signs the request. A body with trailers is sent aws-chunked without chunk signatures, over plain
// HTTP as well, because services differ in where they see the end of a signed trailer.
func (e *exchanger) sign(req *http.Request, r *Request, keys sigv4.KeyPair) {
	if len(r.Trailer) > 0 && e.config.TrailingChecksums {
		e.signer.SignTrailer(req, r.query(), keys, r.Trailer, time.Now())
		return
	}
	e.signer.Sign(req, r.query(), keys, r.SHA256, time.Now())
}

// noteDate reads the upstream's clock from the Date of a response.
func (e *exchanger) noteDate(h http.Header) {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		e.skew.Store(int64(time.Since(date)))
	}
}

// requestBody counts and watches what is sent. Its Close does nothing: whoever made the request closes
// the body. While it waits for the client's next bytes the watchdog is stopped: that time is the client's.
type requestBody struct {
	body     io.Reader
	sent     *metrics.Counter
	watch    *watchdog
	stall    time.Duration   // how long the body may make no progress
	wait     time.Duration   // how long to wait for a response after the body has ended
	over     <-chan struct{} // closed with the response's body
	answered atomic.Bool
	failed   atomic.Bool // the body could not be read
}

func (b *requestBody) Read(p []byte) (int, error) {
	b.watch.stop()
	n, err := b.body.Read(p)
	b.sent.Add(n)
	switch {
	case err == nil:
		b.watch.start(b.stall)
	case err != io.EOF && !b.answered.Load():
		b.failed.Store(true)
		b.watch.start(b.wait)
	case err != io.EOF:
		<-b.over // net/http drops what has not been read of the response when the body fails
	default:
		b.watch.start(b.wait)
	}
	return n, err
}

// Close implements io.Closer.
func (*requestBody) Close() error { return nil }

// responseBody counts and watches what is received, and ends the request's context when it is closed.
type responseBody struct {
	io.ReadCloser
	received *metrics.Counter
	watch    *watchdog
	stall    time.Duration // how long the body may make no progress
}

func (b *responseBody) Read(p []byte) (int, error) {
	b.watch.start(b.stall)
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.watch.progress()
	}
	b.watch.stop()
	b.received.Add(n)
	return n, err
}

func (b *responseBody) Close() error {
	err := b.ReadCloser.Close()
	b.watch.close()
	b.watch.cancel(nil)
	return err
}
