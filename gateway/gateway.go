// Package gateway is the S3 front. It parses a request once, has its signature
// verified before anything else looks at it, routes it by a table, and answers
// it from the store or forwards it to the upstream as a new request of its own.
//
// It speaks S3's protocol and errors and holds no data: bodies stream, except
// control documents of bounded size. It never looks inside a tier.
package gateway

import (
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gorilla/mux"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/gateway/httpguard"
	"github.com/akidb/akigw/internal/budget"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// Upstream sends what is not answered from the store.
type Upstream interface {
	// Do sends a signed request and returns the answer, whatever its status.
	Do(ctx context.Context, r *cold.Request) (*http.Response, error)
	// Owner is the name of the upstream that has a bucket.
	Owner(bucket string) string
	// Names are the names of all upstreams.
	Names() []string
}

// Gateway is the S3 front as an http.Handler. It may serve any number of
// requests at a time.
type Gateway struct {
	Front
	failures *throttle
	router   *mux.Router
	routes   map[*mux.Route]*Route
	hostID   []string
	// routingHeaders are the headers that rows of the table ask for; plain is
	// what the router said of requests with neither them nor a query.
	routingHeaders []string
	plain          sync.Map     // plainest -> *Route
	minPart        int64        // see the constant; tests have smaller parts
	quickly        atomic.Int64 // quick answers under way
	quotas         *Quotas      // nil: none
	deadlines      deadliner    // nil: none
}

// Front is what a Gateway is made of.
type Front struct {
	Verifier *sigv4.Verifier
	Policies Policies
	Store    *tiers.Store
	// Writes acknowledges writes before the upstream has them; nil: all go through.
	Writes   *writeback.WriteBack
	Upstream Upstream // the store's own
	Log      *slog.Logger
	// Memory bounds what request bodies take; the Verifier's should be the same.
	Memory *budget.Budget
	// FailuresPerMinute is how many wrong signatures from one address are told
	// what is wrong; 0 means all.
	FailuresPerMinute int
	// QoS keeps identities and buckets to their limits; nil has none.
	QoS *QoS
	// Faulty says that faults can be set, which each answer tells.
	Faulty bool
	// Costs counts what clients ask for, by bucket; nil counts nothing.
	Costs *cost.Ledger
	// AccessLog has a line for each request; nil has none.
	AccessLog *AccessLog
	// Domains are the names below which the first label of a host is a bucket.
	Domains []string
}

// New makes a gateway.
func New(front Front) *Gateway {
	g := &Gateway{Front: front, hostID: []string{rand.Text()}, failures: newThrottle(front.FailuresPerMinute), minPart: minPart}
	if g.Writes == nil {
		g.Writes = writeback.New(writeback.Options{})
	}
	g.deadlines, _ = front.Upstream.(deadliner)
	g.buildRouter()
	return g
}

var panics = metrics.NewCounter("akigw_gateway_panics_total")

// ServeHTTP implements http.Handler.
func (g *Gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	requestID := rand.Text()[:16]
	sent := &answer{ResponseWriter: w, timed: g.AccessLog != nil}
	op, accessKey := "", ""
	defer func() {
		if p := recover(); p != nil {
			g.recovered(sent, r, requestID, p)
		}
		g.account(r, sent, op, accessKey, requestID, started)
	}()
	if len(r.TransferEncoding) > 0 { // what follows a chunked body has not been looked at
		w.Header()["Connection"] = []string{"close"}
	}
	if r.Method == http.MethodOptions && httpguard.Refusal(r) == nil {
		op = preflightOp
		g.identify(w.Header(), requestID)
		if err := g.preflight(sent, r); err != nil {
			g.fail(sent, r, requestID, err)
		}
		return
	}
	var body *pacedBody
	if g.QoS != nil && r.Body != nil {
		body = &pacedBody{ReadCloser: r.Body}
		r.Body = body
	}
	call, err := g.admit(r, func(err error) error { return g.failures.judge(r.RemoteAddr, err, time.Now()) })
	if call != nil && body != nil {
		body.call = call
	}
	if call != nil {
		sent.call = call
		call.requestID = requestID
		accessKey = call.identity.AccessKey()
		if call.route != nil {
			op = call.route.Op
		}
		defer g.release(call)
	}
	if err == nil {
		continueEmpty(w, r)
	}
	g.identify(w.Header(), requestID)
	if err == nil {
		var done func(status int)
		if done, err = g.quotas.begin(call); err == nil {
			defer func() { done(sent.status) }()
			err = call.route.handle(g, sent, call, call.identity)
		}
	}
	if err != nil {
		g.fail(sent, r, requestID, err)
	}
}

// identify says which request this is, and who answers it.
func (g *Gateway) identify(h http.Header, requestID string) {
	h["x-amz-request-id"] = []string{requestID}
	h["x-amz-id-2"] = g.hostID
	if g.Faulty {
		h["x-akigw-faults"] = faulty
	}
}

// faulty is the header of a gateway whose upstream can be broken on purpose.
var faulty = []string{"enabled"}

// release gives back what a call holds.
func (g *Gateway) release(c *Call) {
	c.deadline.release()
	if c.payload != nil {
		c.payload.Close()
	}
	if c.memory != nil {
		c.memory.Release(c.reserved)
	}
	for _, release := range c.held {
		release()
	}
}

// continueEmpty sends the 100 that a client asked for before an empty body.
// net/http sends it when a body is read, and an empty one never is. botocore
// takes a final answer without it for a refusal, and its connection for spoilt.
func continueEmpty(w http.ResponseWriter, r *http.Request) {
	if r.ContentLength == 0 && r.Header.Get("Expect") == "100-continue" {
		w.WriteHeader(http.StatusContinue)
	}
}

// admit does everything that comes before a handler: parse, verify, route,
// authorise, check. The call that it returns along with an error is as far as
// it got. unverified says what an error of the verification becomes.
func (g *Gateway) admit(r *http.Request, unverified func(error) error) (*Call, error) {
	if refusal := httpguard.Refusal(r); refusal != nil {
		return nil, refusal
	}
	c, err := parse(r, g.Domains)
	if err != nil {
		return nil, err
	}
	c.identity, c.payload, err = g.Verifier.Verify(r, c.path, c.query)
	if err != nil {
		return nil, unverified(err)
	}
	c.memory = g.memoryOf(c)
	c.payload.Draw(c.memory)
	if err := errors.Join(c.hoist(), c.checkHeaders()); err != nil {
		return c, err
	}
	if c.route, err = g.route(c); err != nil {
		return c, err
	}
	if g.deadlines != nil {
		c.deadline.begin(g.deadlines.Deadlines(c.key.Bucket).Of(c.route.Op))
	}
	if c.source, err = c.copySource(); err != nil {
		return c, err
	}
	if err := g.authorise(c, c.route); err != nil {
		return c, err
	}
	c.flow.Flow.ID = c.identity.AccessKey()
	if err := g.QoS.admit(c, time.Now()); err != nil {
		return c, err
	}
	if c.route.Class == Refused {
		return c, nil
	}
	if err := g.checkUpstreams(c); err != nil {
		return c, err
	}
	return c, c.check(c.route)
}

// recovered ends a request whose handler panicked, and only that one. If the
// answer has begun, its connection is cut, so that nobody takes it for whole.
func (g *Gateway) recovered(w *answer, r *http.Request, requestID string, p any) {
	if p == http.ErrAbortHandler {
		panic(p)
	}
	panics.Inc()
	g.Log.Error("a request handler panicked", "request_id", requestID, "method", r.Method, "panic", p, "stack", string(debug.Stack()))
	if w.status != 0 {
		panic(http.ErrAbortHandler)
	}
	g.fail(w, r, requestID, s3err.InternalError)
}

func clip(s string) string { return s[:min(len(s), 256)] }

// fail answers with an error. It is the one place where errors become S3's.
func (g *Gateway) fail(w *answer, r *http.Request, requestID string, err error) {
	var coded *s3err.Error
	var refused *cold.ResponseError
	switch {
	case w.status != 0 && !w.kept: // too late to say anything else
		panic(http.ErrAbortHandler)
	case errors.As(err, &coded):
	case errors.As(err, &refused):
		w.code = s3err.CodeOf(refused.Body)
		relayError(w, r, refused)
		return
	case errors.Is(err, akigw.ErrInvalidBucketName):
		coded = s3err.InvalidBucketName
	case errors.Is(err, akigw.ErrKeyTooLong):
		coded = s3err.KeyTooLong.About("MaxSizeAllowed", "1024")
	case errors.Is(err, akigw.ErrInvalidKey):
		coded = s3err.InvalidURI
	case errors.Is(err, akigw.ErrNoSuchKey):
		w.Header()["X-Akigw-Cache"] = []string{string(akigw.Overlay)}
		coded = s3err.NoSuchKey
		if w.call != nil {
			coded = coded.About("Key", w.call.key.Name)
		}
	case r.Context().Err() != nil: // nobody is listening
		coded = s3err.ServiceUnavailable
	case errors.Is(err, cold.ErrSuspect): // which has been logged
		coded = s3err.ServiceUnavailable
	case errors.Is(err, writeback.ErrNoUpload):
		coded = s3err.NoSuchUpload
		if w.call != nil {
			coded = coded.About("UploadId", w.call.query.Get("uploadId"))
		}
	case errors.Is(err, writeback.ErrNoPart):
		coded = s3err.InvalidPart
	case errors.Is(err, writeback.ErrPending), errors.Is(err, writeback.ErrJournal):
		g.Log.Warn("a write was not taken", "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err)
		coded = s3err.ServiceUnavailable
	case errors.Is(err, tiers.ErrBusy):
		coded = s3err.SlowDown
	case errors.Is(err, akigw.ErrUpstreamUnavailable), errors.Is(err, akigw.ErrShortBody), errors.Is(err, akigw.ErrChanged), errors.Is(err, akigw.ErrChecksum):
		g.Log.Warn("the upstream did not give a usable answer", "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err)
		coded = s3err.ServiceUnavailable
		if errors.Is(err, cold.ErrNoKeys) {
			coded = coded.With("The gateway has no valid credentials for the upstream at present.")
		}
	case w.call != nil && w.call.deadline.met():
		g.Log.Warn("a request met its deadline", "request_id", requestID, "op", w.call.route.Op, "path", clip(r.URL.EscapedPath()), "error", err)
		coded = s3err.ServiceUnavailable
	default:
		g.Log.Error("internal error", "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err)
		coded = s3err.InternalError
	}
	w.code = coded.Code
	if w.kept {
		w.late(r, coded.Status, s3err.Document(coded, r, requestID, g.hostID[0]))
		return
	}
	s3err.Write(w, r, coded, requestID, g.hostID[0])
}

// answer remembers what was sent.
type answer struct {
	http.ResponseWriter
	call   *Call // nil if it could not be parsed
	status int
	bytes  int64
	code   string    // of S3, of an error
	kept   bool      // the answer has begun, before its outcome was known
	timed  bool      // whether began is wanted
	began  time.Time // when its head was sent
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if status >= http.StatusOK && a.call != nil {
		a.call.deadline.answered()
	}
	a.begin(status)
}

// begin is WriteHeader without an end of the call's deadline.
func (a *answer) begin(status int) {
	if status >= http.StatusOK {
		a.status = status
		if a.timed {
			a.began = time.Now()
		}
		wireNames(a.Header())
	}
	a.ResponseWriter.WriteHeader(status)
}

// wireNames gives header names the case in which S3 sends them: clients take
// the names of user metadata from there.
func wireNames(h http.Header) {
	for name, values := range h {
		if wire := wireName(name); wire != name {
			delete(h, name)
			h[wire] = values
		}
	}
}

// commonNames saves making the names that almost every answer has.
var commonNames = map[string]string{
	"Etag": "ETag", "X-Amz-Request-Id": "x-amz-request-id", "X-Amz-Id-2": "x-amz-id-2", "X-Akigw-Cache": "x-akigw-cache",
	"X-Akigw-Commit": "x-akigw-commit", "X-Akigw-Upstream-Request-Id": "x-akigw-upstream-request-id", "X-Amz-Version-Id": "x-amz-version-id",
	"X-Amz-Storage-Class": "x-amz-storage-class", "X-Amz-Server-Side-Encryption": "x-amz-server-side-encryption",
	"X-Amz-Checksum-Crc32": "x-amz-checksum-crc32", "X-Amz-Checksum-Crc64nvme": "x-amz-checksum-crc64nvme", "X-Amz-Checksum-Type": "x-amz-checksum-type",
}

func wireName(name string) string {
	if wire, ok := commonNames[name]; ok {
		return wire
	}
	if strings.HasPrefix(name, "X-") {
		return strings.ToLower(name)
	}
	return name
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	if a.status == 0 {
		a.WriteHeader(http.StatusOK)
	}
	if a.call != nil && len(a.call.pace) > 0 {
		return a.paced(p)
	}
	n, err := a.ResponseWriter.Write(p)
	a.bytes += int64(n)
	return n, err
}

// paced writes p step by step, as fast as its call may be answered.
func (a *answer) paced(p []byte) (written int, err error) {
	for len(p) > 0 && err == nil {
		step := p[:min(len(p), paceStep)]
		if err = a.call.pace.wait(a.call.Request.Context(), len(step)); err != nil { // not the call's, whose deadline ends with the head
			return written, err
		}
		var n int
		n, err = a.ResponseWriter.Write(step)
		a.bytes += int64(n)
		written += n
		p = p[n:]
	}
	return written, err
}

// flush hands on what net/http buffers.
func (a *answer) flush() {
	if f, ok := a.ResponseWriter.(http.Flusher); ok {
		f.Flush()
	}
}

// Unwrap lets http.ResponseController reach the connection.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }
