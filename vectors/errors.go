package vectors

import "fmt"

// Code is the name of an error of the API: the shape in the service's model, as x-amzn-ErrorType
// has it.
type Code string

// The codes that the gateway answers with, and their HTTP statuses.
const (
	Validation       Code = "ValidationException"           // 400
	AccessDenied     Code = "AccessDeniedException"         // 403
	NotFound         Code = "NotFoundException"             // 404
	Timeout          Code = "RequestTimeoutException"       // 408
	Conflict         Code = "ConflictException"             // 409
	QuotaExceeded    Code = "ServiceQuotaExceededException" // 402
	TooManyRequests  Code = "TooManyRequestsException"      // 429
	InternalFailure  Code = "InternalServerException"       // 500
	Unavailable      Code = "ServiceUnavailableException"   // 503
	UnknownOperation Code = "UnknownOperationException"     // 404, for a path that is no operation
)

// Error is an error of the API. Its message is for the client.
type Error struct {
	Code    Code
	Message string
	// Fields are the fields of the request that a ValidationException is about.
	Fields []Field
	// RetryAfter is how many seconds the client should wait before it tries again, 0 for no hint.
	RetryAfter int
	// Cause is for the log, nil for none.
	Cause error
}

// Field is a field of a request that is not valid.
type Field struct {
	// Path is the JSON path of the field, such as "/vectors/3/data".
	Path    string `json:"path"`
	Message string `json:"message"`
}

// Error implements error.
func (e *Error) Error() string { return string(e.Code) + ": " + e.Message }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Errorf returns an error with a code and a formatted message. With %w the message has a cause.
func Errorf(code Code, format string, args ...any) *Error {
	wrapped := fmt.Errorf(format, args...)
	e := &Error{Code: code, Message: wrapped.Error()}
	if u, ok := wrapped.(interface{ Unwrap() error }); ok {
		e.Cause = u.Unwrap()
	}
	return e
}

// Invalid returns a ValidationException about one field.
func Invalid(path, format string, args ...any) *Error {
	message := fmt.Sprintf(format, args...)
	return &Error{Code: Validation, Message: "Invalid request: " + path + " " + message, Fields: []Field{{Path: path, Message: message}}}
}
