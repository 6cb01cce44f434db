package gateway

import (
	"crypto/rand"
	"encoding/base32"
	"errors"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/vectors/wire"
)

// pipeline takes exchanges through the same steps, whatever accepted the connection:
//
//	parse -> verify -> route -> authorise -> limit -> check -> reserve -> handle -> record
//
// Each step is a method and is the only place that does its checks.
type pipeline struct {
	verifier   *sigv4.Verifier
	throttle   *limits.Throttle
	domains    []string
	router     *router
	access     *authoriser
	preflights *preflights
	vectors    Vectors        // nil: none
	memory     *budget.Budget // of request bodies; nil: no bound
	upstream   Upstream
	deadlines  deadliner // nil: none
	qos        *limits.QoS
	quotas     *limits.Quotas
	shadow     *shadowing // nil: none
	hostID     []string   // x-amz-id-2
	faults     bool
	errors     *errorWriter
	records    *recorder
}

// run takes an exchange through all steps, and answers an error or a panic of any of them. It
// reports whether there was a response: only an exchange on the fast path can end without one.
func (p *pipeline) run(x *exchange) (answered bool) {
	defer func() {
		defer x.close() // these two also if recovered panics again
		defer p.shadow.ended(x)
		if failure := recover(); failure != nil {
			p.identify(x)
			p.errors.recovered(x, failure)
			answered = true
		}
		if answered {
			p.records.record(x)
		}
	}()
	err := p.serve(x)
	switch {
	case err == nil:
	case x.parsed.localOnly:
		return false
	default:
		p.identify(x)
		p.errors.answer(&x.answer, x.request, x.id(), err)
	}
	return true
}

// serve takes an exchange from its parsing to its handler.
func (p *pipeline) serve(x *exchange) error {
	if x.answer.vectors || sigv4.ServiceOf(x.request) == wire.Service {
		return p.serveVectors(x)
	}
	if x.request.Method == http.MethodOptions {
		x.op = preflightOp
		p.identify(x)
		return p.preflights.answer(&x.answer, x.request)
	}
	c, err := p.admit(x)
	if err != nil {
		return err
	}
	if x.parsed.localOnly && c.route.Op != localOp {
		return errGivenUp
	}
	continueEmpty(x.answer.ResponseWriter, x.request)
	p.identify(x)
	if err := p.reserve(x, c); err != nil {
		return err
	}
	p.shadow.begin(c)
	return c.route.handle(&x.answer, c, c.identity)
}

// localOp is the operation that the fast path answers.
const localOp = "GetObject"

// steps are what a verified call passes before its handler.
var steps = [...]func(*pipeline, *exchange, *call) error{(*pipeline).route, (*pipeline).authorise, (*pipeline).limit, (*pipeline).check}

// admit does everything before the handler.
func (p *pipeline) admit(x *exchange) (*call, error) {
	if refusal := httpguard.Refusal(x.request); refusal != nil {
		return nil, refusal
	}
	httpguard.RestoreExpectation(x.request)
	c := &x.parsed
	if err := c.parse(x.request, p.domains); err != nil {
		return nil, err
	}
	if err := p.verify(x, c); err != nil {
		return nil, err
	}
	for _, step := range steps {
		if err := step(p, x, c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// verify authenticates a call, and sets it in the exchange.
func (p *pipeline) verify(x *exchange, c *call) (err error) {
	if p.qos != nil && x.request.Body != nil {
		x.request.Body = &pacedBody{ReadCloser: x.request.Body, call: c}
	}
	memory := p.memory.Of(p.upstream.Owner(c.key.Bucket))
	if isForm(c) {
		err = p.verifyForm(c)
	} else {
		c.identity, c.payload, err = p.verifier.VerifyWithin(memory, x.request, c.hostBucket, c.path, c.query)
	}
	if err != nil {
		if x.parsed.localOnly { // ServeHTTP verifies it again, and counts the failure
			return err
		}
		return p.throttle.Judge(x.request.RemoteAddr, err, time.Now())
	}
	x.answer.call = c
	c.memory = memory
	return nil
}

// route finds the operation of a call, and starts the clock of its deadline.
func (p *pipeline) route(x *exchange, c *call) (err error) {
	if err := errors.Join(c.hoist(), c.checkHeaders()); err != nil {
		return err
	}
	c.route, err = p.router.route(c)
	if c.route != nil {
		x.op = c.route.Op
	}
	if err == nil && c.route.Body == Form {
		err = c.form.accept(c)
	}
	if err != nil {
		return err
	}
	if p.deadlines != nil {
		c.deadline.begin(p.deadlines.Deadlines(c.key.Bucket).Of(c.route.sent()))
	}
	c.source, err = c.copySource()
	return err
}

// authorise decides whether the identity may do what the call asks for.
func (p *pipeline) authorise(_ *exchange, c *call) error { return p.access.authorise(c, c.route) }

// limit counts a call against the limits of its access key and bucket.
func (p *pipeline) limit(_ *exchange, c *call) error {
	c.flow.Flow.ID = c.identity.AccessKey()
	grant, err := p.qos.Admit(c.identity.AccessKey(), c.key.Bucket, c.key.Name, time.Now())
	c.flow.Flow.Weight, c.pace = grant.Weight, grant.Pace
	return err
}

// check refuses what S3 refuses before it looks at the body.
func (p *pipeline) check(_ *exchange, c *call) error {
	if c.route.Class == Refused { // its handler answers with the reason
		return nil
	}
	if err := p.access.checkKeys(c); err != nil {
		return err
	}
	if c.form != nil {
		if err := c.form.open(c); err != nil {
			return err
		}
	}
	return c.check(c.route)
}

// reserve reserves quota and memory for what a call writes, until the exchange ends.
func (p *pipeline) reserve(x *exchange, c *call) (err error) {
	if p.quotas == nil || c.reads() {
		return nil
	}
	w := limits.Write{Op: c.route.sent(), AccessKey: c.identity.AccessKey(), Key: c.key, Version: c.query.Get("versionId"), Upload: c.query.Get("uploadId"), Length: c.payload.Length}
	if c.source != nil {
		w.Source, w.SourceRange = &akigw.Key{Bucket: c.source.key.Bucket, Name: c.source.key.Name, Version: c.source.version}, c.Header.Get(copyRangeHeader)
	}
	x.quota, err = p.quotas.Begin(c.Context(), w)
	return err
}

// identify creates the request ID, and sets the headers that identify the server.
func (p *pipeline) identify(x *exchange) {
	if x.id() != "" {
		return
	}
	x.answer.requestID[0] = newRequestID()
	h := x.answer.Header()
	h["x-amz-request-id"] = x.answer.requestID[:1:1]
	h["x-amz-id-2"] = p.hostID
	if x.answer.vectors {
		h["x-amzn-requestid"] = h["x-amz-request-id"]
	}
	if p.faults {
		h["x-akigw-faults"] = []string{"enabled"} // faults can be injected into this gateway
	}
}

// newRequestID returns 16 random characters.
func newRequestID() string {
	var raw [10]byte
	rand.Read(raw[:]) // it never fails
	var text [16]byte
	base32.StdEncoding.Encode(text[:], raw[:])
	return string(text[:])
}

// continueEmpty sends the 100 response that a client asked for before an empty body. net/http sends
// it when a body is read, and nothing reads an empty one. botocore treats a final response without
// it as a refusal, and does not reuse the connection.
func continueEmpty(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 && r.Header.Get("Expect") == "100-continue" {
		w.WriteHeader(http.StatusContinue)
	}
}
