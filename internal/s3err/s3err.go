// Package s3err defines the S3 errors of the gateway: their codes, statuses and messages. The
// verifier returns them, the gateway maps every other error to one of them, and only the gateway
// writes them to clients.
package s3err

import (
	"bytes"
	"net/http"
)

// Error is an error as an S3 client sees it ("Error responses" in the Amazon
// S3 API reference). Values are immutable; With and About return copies.
type Error struct {
	Code    string
	Status  int
	Message string
	// Detail holds further elements of the error document in order, such as
	// {"ArgumentName", "partNumber"}.
	Detail [][2]string
}

// Error implements error.
func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Is compares codes, so that a copy with another message is still the same error to errors.Is.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code
}

// With returns a copy with another message.
func (e *Error) With(message string) *Error {
	c := *e
	c.Message = message
	return &c
}

// About returns a copy with one more detail element.
func (e *Error) About(name, value string) *Error {
	c := *e
	c.Detail = append(c.Detail[:len(c.Detail):len(c.Detail)], [2]string{name, value})
	return &c
}

// The errors with which the gateway itself responds. Errors of the upstream are passed on
// unchanged.
var (
	AccessDenied                 = &Error{"AccessDenied", http.StatusForbidden, "Access Denied", nil}
	AuthorizationHeaderMalformed = &Error{"AuthorizationHeaderMalformed", http.StatusBadRequest, "The authorization header that you provided is not valid.", nil}
	AuthorizationQueryParameters = &Error{"AuthorizationQueryParametersError", http.StatusBadRequest, "The authorization query parameters that you provided are not valid.", nil}
	BadDigest                    = &Error{"BadDigest", http.StatusBadRequest, "The Content-MD5 or checksum value that you specified did not match what the server received.", nil}
	EntityTooLarge               = &Error{"EntityTooLarge", http.StatusBadRequest, "Your proposed upload exceeds the maximum allowed object size.", nil}
	EntityTooSmall               = &Error{"EntityTooSmall", http.StatusBadRequest, "Your proposed upload is smaller than the minimum allowed size", nil}
	ExpiredToken                 = &Error{"ExpiredToken", http.StatusBadRequest, "The provided token has expired.", nil}
	IncompleteBody               = &Error{"IncompleteBody", http.StatusBadRequest, "The request body terminated unexpectedly", nil}
	InternalError                = &Error{"InternalError", http.StatusInternalServerError, "We encountered an internal error. Please try again.", nil}
	InvalidArgument              = &Error{"InvalidArgument", http.StatusBadRequest, "Invalid Argument", nil}
	InvalidBucketName            = &Error{"InvalidBucketName", http.StatusBadRequest, "The specified bucket is not valid.", nil}
	InvalidDigest                = &Error{"InvalidDigest", http.StatusBadRequest, "The Content-Md5 you specified is not valid.", nil}
	InvalidPart                  = &Error{"InvalidPart", http.StatusBadRequest, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.", nil}
	InvalidPartOrder             = &Error{"InvalidPartOrder", http.StatusBadRequest, "The list of parts was not in ascending order. Parts must be ordered by part number.", nil}
	InvalidRange                 = &Error{"InvalidRange", http.StatusRequestedRangeNotSatisfiable, "The requested range is not satisfiable", nil}
	InvalidRequest               = &Error{"InvalidRequest", http.StatusBadRequest, "The request is not valid.", nil}
	InvalidToken                 = &Error{"InvalidToken", http.StatusBadRequest, "The provided token is malformed or otherwise invalid.", nil}
	InvalidURI                   = &Error{"InvalidURI", http.StatusBadRequest, "Couldn't parse the specified URI.", nil}
	KeyTooLong                   = &Error{"KeyTooLongError", http.StatusBadRequest, "Your key is too long", nil}
	MalformedTrailer             = &Error{"MalformedTrailerError", http.StatusBadRequest, "The request contained trailing data that was not well-formed or did not conform to our published schema.", nil}
	MalformedXML                 = &Error{"MalformedXML", http.StatusBadRequest, "The XML you provided was not well-formed or did not validate against our published schema.", nil}
	MetadataTooLarge             = &Error{"MetadataTooLarge", http.StatusBadRequest, "Your metadata headers exceed the maximum allowed metadata size", nil}
	MethodNotAllowed             = &Error{"MethodNotAllowed", http.StatusMethodNotAllowed, "The specified method is not allowed against this resource.", nil}
	MissingContentLength         = &Error{"MissingContentLength", http.StatusLengthRequired, "You must provide the Content-Length HTTP header.", nil}
	NoSuchKey                    = &Error{"NoSuchKey", http.StatusNotFound, "The specified key does not exist.", nil}
	NoSuchUpload                 = &Error{"NoSuchUpload", http.StatusNotFound, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", nil}
	NotImplemented               = &Error{"NotImplemented", http.StatusNotImplemented, "A header or query you provided implies functionality that is not implemented.", nil}
	NotModified                  = &Error{"NotModified", http.StatusNotModified, "Not Modified", nil}
	PreconditionFailed           = &Error{"PreconditionFailed", http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold.", nil}
	RequestHeaderSectionTooLarge = &Error{"RequestHeaderSectionTooLarge", http.StatusRequestHeaderFieldsTooLarge, "Your request header section exceeds the maximum allowed request header section size.", nil}
	RequestTimeout               = &Error{"RequestTimeout", http.StatusBadRequest, "Your socket connection to the server was not read from or written to within the timeout period.", nil}
	RequestTimeTooSkewed         = &Error{"RequestTimeTooSkewed", http.StatusForbidden, "The difference between the request time and the current time is too large.", nil}
	ServiceUnavailable           = &Error{"ServiceUnavailable", http.StatusServiceUnavailable, "Service is unable to handle request.", nil}
	QuotaExceeded                = &Error{"QuotaExceeded", http.StatusForbidden, "The quota is used up.", nil}
	SlowDown                     = &Error{"SlowDown", http.StatusServiceUnavailable, "Please reduce your request rate.", nil}
	TooManyBuckets               = &Error{"TooManyBuckets", http.StatusBadRequest, "You have attempted to create more buckets than allowed", nil}
	SignatureDoesNotMatch        = &Error{"SignatureDoesNotMatch", http.StatusForbidden, "The request signature we calculated does not match the signature you provided. Check your key and signing method.", nil}
	ContentSHA256Mismatch        = &Error{"XAmzContentSHA256Mismatch", http.StatusBadRequest, "The provided 'x-amz-content-sha256' header does not match what was computed.", nil}
)

// CodeOf returns the code in an error document, "" if there is none.
func CodeOf(document []byte) string {
	_, rest, ok := bytes.Cut(document, []byte("<Code>"))
	code, _, ended := bytes.Cut(rest, []byte("</Code>"))
	if !ok || !ended || len(code) > 64 {
		return ""
	}
	return string(code)
}
