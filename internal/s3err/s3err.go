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

// Is compares codes, so that an error with another message is still the same to errors.Is. The target
// is a Code or an *Error.
func (e *Error) Is(target error) bool {
	switch t := target.(type) {
	case Code:
		return string(t) == e.Code
	case *Error:
		return t.Code == e.Code
	default:
		return false
	}
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

// Code is the code of an error that the gateway itself, or the embedded upstream, responds with. It
// is an error with the status and the message that S3 has for that code: errors.As makes an *Error of
// it. Errors of the upstream are passed on unchanged.
type Code string

// The codes.
const (
	AccessDenied                 Code = "AccessDenied"
	AccessForbidden              Code = "AccessForbidden"
	AuthorizationHeaderMalformed Code = "AuthorizationHeaderMalformed"
	AuthorizationQueryParameters Code = "AuthorizationQueryParametersError"
	BadDigest                    Code = "BadDigest"
	BadRequest                   Code = "BadRequest"
	BucketAlreadyOwned           Code = "BucketAlreadyOwnedByYou"
	BucketNotEmpty               Code = "BucketNotEmpty"
	ContentSHA256Mismatch        Code = "XAmzContentSHA256Mismatch"
	EntityTooLarge               Code = "EntityTooLarge"
	EntityTooSmall               Code = "EntityTooSmall"
	ExpiredToken                 Code = "ExpiredToken"
	IncompleteBody               Code = "IncompleteBody"
	InternalError                Code = "InternalError"
	InvalidArgument              Code = "InvalidArgument"
	InvalidBucketName            Code = "InvalidBucketName"
	InvalidDigest                Code = "InvalidDigest"
	InvalidPart                  Code = "InvalidPart"
	InvalidPartNumber            Code = "InvalidPartNumber"
	InvalidPartOrder             Code = "InvalidPartOrder"
	InvalidPolicyDocument        Code = "InvalidPolicyDocument"
	InvalidRange                 Code = "InvalidRange"
	InvalidRequest               Code = "InvalidRequest"
	InvalidStorageClass          Code = "InvalidStorageClass"
	InvalidToken                 Code = "InvalidToken"
	InvalidURI                   Code = "InvalidURI"
	KeyTooLong                   Code = "KeyTooLongError"
	MalformedPOSTRequest         Code = "MalformedPOSTRequest"
	MalformedTrailer             Code = "MalformedTrailerError"
	MalformedXML                 Code = "MalformedXML"
	MaxPostPreDataLength         Code = "MaxPostPreDataLengthExceeded"
	MessageTooLong               Code = "MaxMessageLengthExceeded"
	MetadataTooLarge             Code = "MetadataTooLarge"
	MethodNotAllowed             Code = "MethodNotAllowed"
	MissingContentLength         Code = "MissingContentLength"
	NoSuchBucket                 Code = "NoSuchBucket"
	NoSuchKey                    Code = "NoSuchKey"
	NoSuchUpload                 Code = "NoSuchUpload"
	NotImplemented               Code = "NotImplemented"
	NotModified                  Code = "NotModified"
	PreconditionFailed           Code = "PreconditionFailed"
	QuotaExceeded                Code = "QuotaExceeded"
	RequestHeaderSectionTooLarge Code = "RequestHeaderSectionTooLarge"
	RequestTimeTooSkewed         Code = "RequestTimeTooSkewed"
	RequestTimeout               Code = "RequestTimeout"
	ServiceUnavailable           Code = "ServiceUnavailable"
	SignatureDoesNotMatch        Code = "SignatureDoesNotMatch"
	SlowDown                     Code = "SlowDown"
	TooManyBuckets               Code = "TooManyBuckets"
	VersionNotSupported          Code = "HttpVersionNotSupported"
)

// standard are the errors of the codes. They are not changed.
var standard = map[Code]*Error{
	AccessDenied:                 {string(AccessDenied), http.StatusForbidden, "Access Denied", nil},
	AccessForbidden:              {string(AccessForbidden), http.StatusForbidden, "CORSResponse: This CORS request is not allowed. This is usually because the evalution of Origin, request method / Access-Control-Request-Method or Access-Control-Request-Headers are not whitelisted by the resource's CORS spec.", nil},
	AuthorizationHeaderMalformed: {string(AuthorizationHeaderMalformed), http.StatusBadRequest, "The authorization header that you provided is not valid.", nil},
	AuthorizationQueryParameters: {string(AuthorizationQueryParameters), http.StatusBadRequest, "The authorization query parameters that you provided are not valid.", nil},
	BadDigest:                    {string(BadDigest), http.StatusBadRequest, "The Content-MD5 or checksum value that you specified did not match what the server received.", nil},
	BadRequest:                   {string(BadRequest), http.StatusBadRequest, "Insufficient information. Origin request header needed.", nil},
	BucketAlreadyOwned:           {string(BucketAlreadyOwned), http.StatusConflict, "Your previous request to create the named bucket succeeded and you already own it.", nil},
	BucketNotEmpty:               {string(BucketNotEmpty), http.StatusConflict, "The bucket you tried to delete is not empty", nil},
	ContentSHA256Mismatch:        {string(ContentSHA256Mismatch), http.StatusBadRequest, "The provided 'x-amz-content-sha256' header does not match what was computed.", nil},
	EntityTooLarge:               {string(EntityTooLarge), http.StatusBadRequest, "Your proposed upload exceeds the maximum allowed object size.", nil},
	EntityTooSmall:               {string(EntityTooSmall), http.StatusBadRequest, "Your proposed upload is smaller than the minimum allowed size", nil},
	ExpiredToken:                 {string(ExpiredToken), http.StatusBadRequest, "The provided token has expired.", nil},
	IncompleteBody:               {string(IncompleteBody), http.StatusBadRequest, "The request body terminated unexpectedly", nil},
	InternalError:                {string(InternalError), http.StatusInternalServerError, "We encountered an internal error. Please try again.", nil},
	InvalidArgument:              {string(InvalidArgument), http.StatusBadRequest, "Invalid Argument", nil},
	InvalidBucketName:            {string(InvalidBucketName), http.StatusBadRequest, "The specified bucket is not valid.", nil},
	InvalidDigest:                {string(InvalidDigest), http.StatusBadRequest, "The Content-Md5 you specified is not valid.", nil},
	InvalidPart:                  {string(InvalidPart), http.StatusBadRequest, "One or more of the specified parts could not be found.  The part may not have been uploaded, or the specified entity tag may not match the part's entity tag.", nil},
	InvalidPartNumber:            {string(InvalidPartNumber), http.StatusRequestedRangeNotSatisfiable, "The requested partnumber is not satisfiable", nil},
	InvalidPartOrder:             {string(InvalidPartOrder), http.StatusBadRequest, "The list of parts was not in ascending order. Parts must be ordered by part number.", nil},
	InvalidPolicyDocument:        {string(InvalidPolicyDocument), http.StatusBadRequest, "The content of the form does not meet the conditions specified in the policy document.", nil},
	InvalidRange:                 {string(InvalidRange), http.StatusRequestedRangeNotSatisfiable, "The requested range is not satisfiable", nil},
	InvalidRequest:               {string(InvalidRequest), http.StatusBadRequest, "The request is not valid.", nil},
	InvalidStorageClass:          {string(InvalidStorageClass), http.StatusBadRequest, "", nil},
	InvalidToken:                 {string(InvalidToken), http.StatusBadRequest, "The provided token is malformed or otherwise invalid.", nil},
	InvalidURI:                   {string(InvalidURI), http.StatusBadRequest, "Couldn't parse the specified URI.", nil},
	KeyTooLong:                   {string(KeyTooLong), http.StatusBadRequest, "Your key is too long", nil},
	MalformedPOSTRequest:         {string(MalformedPOSTRequest), http.StatusBadRequest, "The body of your POST request is not well-formed multipart/form-data.", nil},
	MalformedTrailer:             {string(MalformedTrailer), http.StatusBadRequest, "The request contained trailing data that was not well-formed or did not conform to our published schema.", nil},
	MalformedXML:                 {string(MalformedXML), http.StatusBadRequest, "The XML you provided was not well-formed or did not validate against our published schema.", nil},
	MaxPostPreDataLength:         {string(MaxPostPreDataLength), http.StatusBadRequest, "Your POST request fields preceding the upload file were too large.", nil},
	MessageTooLong:               {string(MessageTooLong), http.StatusBadRequest, "Your request was too big.", nil},
	MetadataTooLarge:             {string(MetadataTooLarge), http.StatusBadRequest, "Your metadata headers exceed the maximum allowed metadata size", nil},
	MethodNotAllowed:             {string(MethodNotAllowed), http.StatusMethodNotAllowed, "The specified method is not allowed against this resource.", nil},
	MissingContentLength:         {string(MissingContentLength), http.StatusLengthRequired, "You must provide the Content-Length HTTP header.", nil},
	NoSuchBucket:                 {string(NoSuchBucket), http.StatusNotFound, "The specified bucket does not exist", nil},
	NoSuchKey:                    {string(NoSuchKey), http.StatusNotFound, "The specified key does not exist.", nil},
	NoSuchUpload:                 {string(NoSuchUpload), http.StatusNotFound, "The specified upload does not exist. The upload ID may be invalid, or the upload may have been aborted or completed.", nil},
	NotImplemented:               {string(NotImplemented), http.StatusNotImplemented, "A header or query you provided implies functionality that is not implemented.", nil},
	NotModified:                  {string(NotModified), http.StatusNotModified, "Not Modified", nil},
	PreconditionFailed:           {string(PreconditionFailed), http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold.", nil},
	QuotaExceeded:                {string(QuotaExceeded), http.StatusForbidden, "The quota is used up.", nil},
	RequestHeaderSectionTooLarge: {string(RequestHeaderSectionTooLarge), http.StatusRequestHeaderFieldsTooLarge, "Your request header section exceeds the maximum allowed request header section size.", nil},
	RequestTimeTooSkewed:         {string(RequestTimeTooSkewed), http.StatusForbidden, "The difference between the request time and the current time is too large.", nil},
	RequestTimeout:               {string(RequestTimeout), http.StatusBadRequest, "Your socket connection to the server was not read from or written to within the timeout period.", nil},
	ServiceUnavailable:           {string(ServiceUnavailable), http.StatusServiceUnavailable, "Service is unable to handle request.", nil},
	SignatureDoesNotMatch:        {string(SignatureDoesNotMatch), http.StatusForbidden, "The request signature we calculated does not match the signature you provided. Check your key and signing method.", nil},
	SlowDown:                     {string(SlowDown), http.StatusServiceUnavailable, "Please reduce your request rate.", nil},
	TooManyBuckets:               {string(TooManyBuckets), http.StatusBadRequest, "You have attempted to create more buckets than allowed", nil},
	VersionNotSupported:          {string(VersionNotSupported), http.StatusHTTPVersionNotSupported, "The HTTP version specified is not supported.", nil},
}

// Err returns the error with the status and the message of the code. Callers must not change it.
func (c Code) Err() *Error { return standard[c] }

// With returns the error with another message.
func (c Code) With(message string) *Error { return c.Err().With(message) }

// About returns the error with a detail element.
func (c Code) About(name, value string) *Error { return c.Err().About(name, value) }

// Error implements error.
func (c Code) Error() string { return c.Err().Error() }

// Is compares codes, see Error.Is.
func (c Code) Is(target error) bool { return c.Err().Is(target) }

// As makes an *Error of the code, for errors.As.
func (c Code) As(target any) bool {
	e, ok := target.(**Error)
	if ok {
		*e = c.Err()
	}
	return ok
}

// CodeOf returns the code in an error document, "" if there is none.
func CodeOf(document []byte) string {
	_, rest, ok := bytes.Cut(document, []byte("<Code>"))
	code, _, ended := bytes.Cut(rest, []byte("</Code>"))
	if !ok || !ended || len(code) > 64 {
		return ""
	}
	return string(code)
}
