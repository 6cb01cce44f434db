package wire

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http/httptest"
	"testing"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/vectors"
)

// TestWrite: an error has the status and the names that SDKs look for.
func TestWrite(t *testing.T) {
	w := httptest.NewRecorder()
	e := vectors.Invalid("/topK", "must be at most %d", 100)
	e.RetryAfter = 3
	Write(w, e)
	var body struct {
		Message   string
		FieldList []struct{ Path, Message string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
		t.Fatal(err)
	}
	if w.Code != 400 || w.Header().Get("x-amzn-ErrorType") != "ValidationException" || w.Header().Get("Retry-After") != "3" || w.Header().Get("Content-Type") != "application/json" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
	if body.Message != e.Message || len(body.FieldList) != 1 || body.FieldList[0].Path != "/topK" || body.FieldList[0].Message != "must be at most 100" {
		t.Errorf("%s", w.Body)
	}
	w = httptest.NewRecorder()
	Write(w, &vectors.Error{Code: "SomethingElse", Message: "<é>"})
	if w.Code != 500 || w.Header().Get("x-amzn-ErrorType") != "InternalServerException" || w.Body.String() != `{"message":"<é>"}`+"\n" {
		t.Errorf("%d %v %s", w.Code, w.Header(), w.Body)
	}
}

// TestTranslate: each kind of error has a code and a status of the service.
func TestTranslate(t *testing.T) {
	for _, c := range []struct {
		err    error
		code   vectors.Code
		status int
	}{
		{fmt.Errorf("put: %w", vectors.Errorf(vectors.QuotaExceeded, "full")), vectors.QuotaExceeded, 402},
		{vectors.Errorf(vectors.Conflict, "x"), vectors.Conflict, 409},
		{vectors.Errorf(vectors.NotFound, "x"), vectors.NotFound, 404},
		{vectors.Errorf(vectors.Unavailable, "x"), vectors.Unavailable, 503},
		{s3err.SignatureDoesNotMatch, InvalidSignature, 403},
		{s3err.RequestTimeTooSkewed, InvalidSignature, 403},
		{s3err.AuthorizationHeaderMalformed.With("x"), InvalidSignature, 403},
		{s3err.InvalidToken, UnrecognizedClient, 403},
		{s3err.ExpiredToken, ExpiredToken, 403},
		{s3err.AccessDenied.With("x"), vectors.AccessDenied, 403},
		{s3err.SlowDown, vectors.TooManyRequests, 429},
		{s3err.EntityTooLarge, vectors.Validation, 400},
		{s3err.ContentSHA256Mismatch, vectors.Validation, 400},
		{s3err.IncompleteBody, vectors.Validation, 400},
		{s3err.RequestTimeout, vectors.Timeout, 408},
		{s3err.ServiceUnavailable, vectors.Unavailable, 503},
		{s3err.InternalError, vectors.InternalFailure, 500},
		{context.DeadlineExceeded, vectors.Timeout, 408},
		{errors.New("secret detail"), vectors.InternalFailure, 500},
	} {
		got := Translate(c.err)
		if got.Code != c.code || Status(got.Code) != c.status || got.Message == "" || got.Message == "secret detail" {
			t.Errorf("%v: %s %d %q", c.err, got.Code, Status(got.Code), got.Message)
		}
	}
}
