package akigw

import "errors"

// Errors that callers test for with errors.Is. Only package gateway maps them to S3 error codes.
var (
	// ErrInvalidBucketName: the name breaks S3's bucket naming rules.
	ErrInvalidBucketName = errors.New("invalid bucket name")
	// ErrInvalidKey: the key is not valid UTF-8 or contains a NUL.
	ErrInvalidKey = errors.New("key is not valid UTF-8 or contains a NUL byte")
	// ErrKeyTooLong: the key is longer than MaxKeyBytes.
	ErrKeyTooLong = errors.New("key is longer than 1024 bytes")
	// ErrNoSuchKey: the key was deleted, and the upstream does not know that yet.
	ErrNoSuchKey = errors.New("no such key")
	// ErrRangeNotSatisfiable: no byte of the object lies in the range.
	ErrRangeNotSatisfiable = errors.New("range not satisfiable")
	// ErrNotModified: a condition of the request leads to a 304.
	ErrNotModified = errors.New("not modified")
	// ErrPreconditionFailed: a condition of the request leads to a 412.
	ErrPreconditionFailed = errors.New("precondition failed")
	// ErrUpstreamUnavailable: the upstream did not respond (connection failure or timeout). Whether
	// it carried out the request is unknown.
	ErrUpstreamUnavailable = errors.New("upstream unavailable")
	// ErrShortBody: the upstream ended a body before its announced length.
	ErrShortBody = errors.New("upstream body is shorter than announced")
	// ErrChecksum: data does not match its checksum.
	ErrChecksum = errors.New("checksum mismatch")
	// ErrChanged: the object was replaced while it was being read.
	ErrChanged = errors.New("object changed while it was read")
)
