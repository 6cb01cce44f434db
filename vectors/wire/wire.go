// Package wire is the form of errors of S3 Vectors in HTTP: a status, the name of the error in
// x-amzn-ErrorType, and a JSON document with the message and the fields. It translates the errors of
// signatures, which the S3 listener has in common with S3, to those of the service.
package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/vectors"
)

// Service is the name of S3 Vectors in a credential scope.
const Service = "s3vectors"

// The errors of signatures, which all services of AWS with this protocol have in common.
const (
	InvalidSignature   vectors.Code = "InvalidSignatureException"   // 403
	UnrecognizedClient vectors.Code = "UnrecognizedClientException" // 403
	ExpiredToken       vectors.Code = "ExpiredTokenException"       // 403
)

// statuses are the HTTP statuses of the errors.
var statuses = map[vectors.Code]int{
	vectors.Validation: http.StatusBadRequest, vectors.AccessDenied: http.StatusForbidden, vectors.NotFound: http.StatusNotFound,
	vectors.Timeout: http.StatusRequestTimeout, vectors.Conflict: http.StatusConflict, vectors.QuotaExceeded: http.StatusPaymentRequired,
	vectors.TooManyRequests: http.StatusTooManyRequests, vectors.InternalFailure: http.StatusInternalServerError,
	vectors.Unavailable: http.StatusServiceUnavailable, vectors.UnknownOperation: http.StatusNotFound,
	InvalidSignature: http.StatusForbidden, UnrecognizedClient: http.StatusForbidden, ExpiredToken: http.StatusForbidden,
}

// Status returns the HTTP status of an error. An unknown code is a fault of the gateway: 500.
func Status(code vectors.Code) int {
	if status := statuses[code]; status != 0 {
		return status
	}
	return http.StatusInternalServerError
}

// Write answers a request with an error. An unknown code is sent as InternalServerException.
func Write(w http.ResponseWriter, e *vectors.Error) {
	code := e.Code
	if statuses[code] == 0 {
		code = vectors.InternalFailure
	}
	var body bytes.Buffer
	encoder := json.NewEncoder(&body)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(struct {
		Message string          `json:"message"`
		Fields  []vectors.Field `json:"fieldList,omitempty"`
	}{e.Message, e.Fields})
	if err != nil { // strings only: it cannot happen
		body.Reset()
		body.WriteString(`{"message":"internal error"}`)
	}
	h := w.Header()
	h.Set("X-Amzn-Errortype", string(code))
	if e.RetryAfter > 0 {
		h.Set("Retry-After", strconv.Itoa(e.RetryAfter))
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(Status(code))
	_, _ = w.Write(body.Bytes()) // a client that has disconnected does not read it
}

// Translate returns the service's error for any error: one of the service as it is, those of sigv4 and
// of the limits of the gateway as the service would say it, and InternalServerException for all others,
// with err as its cause.
func Translate(err error) *vectors.Error {
	var own *vectors.Error
	var coded *s3err.Error
	switch {
	case errors.As(err, &own):
		return own
	case errors.As(err, &coded):
		return translateS3(coded)
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return &vectors.Error{Code: vectors.Timeout, Message: "The request was not finished in time.", Cause: err}
	}
	return &vectors.Error{Code: vectors.InternalFailure, Message: "An internal error occurred. The log of the gateway has the cause.", Cause: err}
}

func translateS3(e *s3err.Error) *vectors.Error {
	to := func(code vectors.Code) *vectors.Error {
		return &vectors.Error{Code: code, Message: e.Message, Cause: e}
	}
	switch s3err.Code(e.Code) {
	case s3err.SignatureDoesNotMatch, s3err.RequestTimeTooSkewed, s3err.AuthorizationHeaderMalformed:
		return to(InvalidSignature)
	case s3err.InvalidToken:
		return to(UnrecognizedClient)
	case s3err.ExpiredToken:
		return to(ExpiredToken)
	case s3err.SlowDown:
		t := to(vectors.TooManyRequests)
		t.RetryAfter = 1
		return t
	case s3err.RequestTimeout:
		return to(vectors.Timeout)
	case s3err.ServiceUnavailable:
		return to(vectors.Unavailable)
	case s3err.InternalError:
		return to(vectors.InternalFailure)
	case s3err.EntityTooLarge:
		t := to(vectors.Validation)
		t.Message = "The request body is larger than the service accepts."
		return t
	}
	switch {
	case e.Status == http.StatusForbidden:
		return to(vectors.AccessDenied)
	case e.Status < http.StatusInternalServerError:
		return to(vectors.Validation)
	}
	return to(vectors.InternalFailure)
}
