package akigw

// Error is an error that callers test for with errors.Is. It is a constant, so that no package can
// replace the errors of another one. Two of the same text are the same error: each text exists once.
type Error string

// Error implements error.
func (e Error) Error() string { return string(e) }

// The errors of this package. Package gateway maps them to S3 codes, in one place.
const (
	// ErrInvalidBucketName: the name breaks S3's bucket naming rules.
	ErrInvalidBucketName = Error("invalid bucket name")
	// ErrInvalidKey: the key is not valid UTF-8 or contains a NUL.
	ErrInvalidKey = Error("key is not valid UTF-8 or contains a NUL byte")
	// ErrKeyTooLong: the key is longer than MaxKeyBytes.
	ErrKeyTooLong = Error("key is longer than 1024 bytes")
	// ErrNoSuchKey: the key was deleted, and the upstream does not know that yet.
	ErrNoSuchKey = Error("no such key")
	// ErrRangeNotSatisfiable: no byte of the object lies in the range.
	ErrRangeNotSatisfiable = Error("range not satisfiable")
	// ErrNotModified: a condition of the request leads to a 304.
	ErrNotModified = Error("not modified")
	// ErrPreconditionFailed: a condition of the request leads to a 412.
	ErrPreconditionFailed = Error("precondition failed")
	// ErrUpstreamUnavailable: the upstream did not respond (connection failure or timeout). Whether
	// it carried out the request is unknown.
	ErrUpstreamUnavailable = Error("upstream unavailable")
	// ErrShortBody: the upstream ended a body before its announced length.
	ErrShortBody = Error("upstream body is shorter than announced")
	// ErrChecksum: data does not match its checksum.
	ErrChecksum = Error("checksum mismatch")
	// ErrChanged: the object was replaced while it was being read.
	ErrChanged = Error("object changed while it was read")
)
