package gateway

import (
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/writeback"
)

// errorWriter answers requests with errors. It is the only place that maps errors to those of S3.
type errorWriter struct {
	log    *slog.Logger
	hostID string // x-amz-id-2
	panics *metrics.Counter
}

// recovered ends a request whose handler panicked, and only that one. If the response has begun,
// its connection is closed, so that no client takes it for complete.
func (e *errorWriter) recovered(x *exchange, failure any) {
	if failure == http.ErrAbortHandler {
		panic(failure)
	}
	e.panics.Inc()
	e.log.Error("a request handler panicked", "request_id", x.id(), "method", x.request.Method, "panic", failure, "stack", string(debug.Stack()))
	if x.answer.status != 0 {
		panic(http.ErrAbortHandler)
	}
	e.answer(&x.answer, x.request, x.id(), s3err.InternalError)
}

// answer answers a request with an error. An error of the upstream is passed on unchanged.
func (e *errorWriter) answer(w *answer, r *http.Request, requestID string, err error) {
	if w.status != 0 && !w.kept { // too late for an error document
		panic(http.ErrAbortHandler)
	}
	if w.vectors {
		e.answerVectors(w, r, requestID, err)
		return
	}
	var refused *cold.ResponseError
	coded := clientError(w, err)
	if coded == nil && errors.As(err, &refused) {
		w.code = s3err.CodeOf(refused.Body)
		relayError(w, r, refused)
		return
	}
	if coded == nil {
		coded = e.serverError(w, r, requestID, err)
	}
	w.code = coded.Code
	if w.kept {
		w.finishLate(r, coded.Status, s3err.Document(coded, r, requestID, e.hostID))
		return
	}
	s3err.Write(w, r, coded, requestID, e.hostID)
}

// clientError returns the S3 error for a fault of the request, nil if err is something else.
func clientError(w *answer, err error) *s3err.Error {
	var coded *s3err.Error
	var refused *cold.ResponseError
	switch {
	case errors.As(err, &coded):
		return coded
	case errors.As(err, &refused):
		return nil
	case errors.Is(err, akigw.ErrInvalidBucketName):
		return s3err.InvalidBucketName.Err()
	case errors.Is(err, akigw.ErrKeyTooLong):
		return s3err.KeyTooLong.About("MaxSizeAllowed", "1024")
	case errors.Is(err, akigw.ErrInvalidKey):
		return s3err.InvalidURI.Err()
	case errors.Is(err, akigw.ErrNoSuchKey):
		w.Header()["X-Akigw-Cache"] = []string{string(akigw.Overlay)}
		if w.call == nil {
			return s3err.NoSuchKey.Err()
		}
		return s3err.NoSuchKey.About("Key", w.call.key.Name)
	}
	return nil
}

// serverError returns the S3 error for a fault of the gateway or the upstream, and logs what an
// operator should know.
func (e *errorWriter) serverError(w *answer, r *http.Request, requestID string, err error) *s3err.Error {
	log := func(message string) {
		e.log.Warn(message, "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err)
	}
	switch {
	case r.Context().Err() != nil: // the client has disconnected
		return s3err.ServiceUnavailable.Err()
	case errors.Is(err, cold.ErrSuspect): // it has been logged
		return s3err.ServiceUnavailable.Err()
	case errors.Is(err, writeback.ErrNoUpload):
		if w.call == nil {
			return s3err.NoSuchUpload.Err()
		}
		return s3err.NoSuchUpload.About("UploadId", w.call.query.Get("uploadId"))
	case errors.Is(err, writeback.ErrNoPart):
		return s3err.InvalidPart.Err()
	case errors.Is(err, writeback.ErrPending), errors.Is(err, writeback.ErrJournal):
		log("a write was not accepted")
		return s3err.ServiceUnavailable.Err()
	case errors.Is(err, tiers.ErrBusy):
		return s3err.SlowDown.Err()
	case errors.Is(err, akigw.ErrUpstreamUnavailable), errors.Is(err, akigw.ErrShortBody), errors.Is(err, akigw.ErrChanged), errors.Is(err, akigw.ErrChecksum):
		log("the upstream gave no usable response")
		if errors.Is(err, cold.ErrNoKeys) {
			return s3err.ServiceUnavailable.With("The gateway currently has no valid credentials for the upstream.")
		}
		return s3err.ServiceUnavailable.Err()
	case w.call != nil && w.call.deadline.met():
		e.log.Warn("a request exceeded its deadline", "request_id", requestID, "op", w.call.route.Op, "path", clip(r.URL.EscapedPath()), "error", err)
		return s3err.ServiceUnavailable.Err()
	}
	e.log.Error("internal error", "request_id", requestID, "path", clip(r.URL.EscapedPath()), "error", err)
	return s3err.InternalError.Err()
}
