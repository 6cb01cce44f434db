package gateway

import (
	"net/http"
	"strings"
	"time"

	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/wire"
)

// Vectors answers requests of S3 Vectors.
type Vectors interface {
	// ServeVectors answers a request whose signature was verified, as the sender id. It routes by the
	// path as it arrived. body is all of the request's body and valid until ServeVectors returns. op is
	// the name of the operation, "" if the request is none. It writes no response if it returns an
	// error, which the gateway answers with as the service does (wire.Translate).
	ServeVectors(w http.ResponseWriter, r *http.Request, id sigv4.Identity, body []byte) (op string, err error)
}

// MaxVectorsBody is the size of the largest body of a request of S3 Vectors in bytes, as the service
// has it.
const MaxVectorsBody = 20 << 20

// VectorsHandler returns the handler of a listener for S3 Vectors alone: it takes every request for
// one of that service. Requests pass the same steps as on the S3 listener, which serves the service,
// too.
func (g *Gateway) VectorsHandler() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.TransferEncoding) > 0 { // httpguard has not inspected what follows a chunked body
			w.Header()["Connection"] = []string{"close"}
		}
		defer httpguard.Answered(r)
		x := newExchange(w, r, false)
		x.answer.vectors = true
		g.pipeline.run(x)
	})
}

// serveVectors takes an exchange of S3 Vectors through the steps that it has in common with S3:
// its head and its signature are verified, and it counts against the limits of its access key. It
// never runs on the fast path.
func (p *pipeline) serveVectors(x *exchange) error {
	if x.parsed.localOnly {
		return errGivenUp
	}
	x.answer.vectors = true
	if refusal := httpguard.Refusal(x.request); refusal != nil {
		return refusal
	}
	httpguard.RestoreExpectation(x.request)
	if p.vectors == nil {
		return vectors.Errorf(vectors.AccessDenied, "This gateway has no vector collections: [vectors] bucket is not set in its configuration.")
	}
	continueEmpty(x.answer.ResponseWriter, x.request)
	c := &x.parsed
	body, err := p.verifyVectors(x, c)
	if err != nil {
		return p.throttle.Judge(x.request.RemoteAddr, err, time.Now())
	}
	defer body.Close()
	x.answer.call = c
	p.identify(x)
	if err := p.limitVectors(c, len(body.Bytes)); err != nil {
		return err
	}
	x.op, err = p.vectors.ServeVectors(&x.answer, x.request, c.identity, body.Bytes)
	return err
}

// verifyVectors authenticates a request, and reads its body into memory.
func (p *pipeline) verifyVectors(x *exchange, c *call) (*sigv4.Body, error) {
	r := x.request
	c.Request, c.path = r, r.URL.Path
	c.deadline.Context = r.Context()
	c.flow.Context = &c.deadline
	if r.URL.Opaque != "" || r.URL.Host != "" && r.URL.Host != r.Host || strings.Count(r.URL.RawQuery, "&") >= maxParameters {
		return nil, s3err.InvalidURI
	}
	query, err := sigv4.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, s3err.InvalidURI
	}
	id, body, err := p.verifier.VerifyWhole(p.memory.Of(p.upstream.Owner(p.access.Reserved.Bucket)), r, wire.Service, query, MaxVectorsBody)
	c.identity = id
	return body, err
}

// limitVectors counts a request against the limits of its access key. The body has arrived already:
// the request waits as long as it should have taken.
func (p *pipeline) limitVectors(c *call, body int) error {
	grant, err := p.qos.Admit(c.identity.AccessKey(), "", "", time.Now())
	c.pace = grant.Pace
	for ; err == nil && body > 0 && len(c.pace) > 0; body -= limits.PaceStep {
		err = c.pace.Wait(c.Context(), min(body, limits.PaceStep))
	}
	return err
}

// answerVectors answers a request of S3 Vectors with an error, and logs what an operator should know.
func (e *errorWriter) answerVectors(w *answer, r *http.Request, requestID string, err error) {
	coded := wire.Translate(err)
	w.code = string(coded.Code)
	if wire.Status(coded.Code) >= http.StatusInternalServerError && r.Context().Err() == nil {
		e.log.Warn("a request of S3 Vectors failed", "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err, "cause", coded.Cause)
	}
	wire.Write(w, coded)
}
