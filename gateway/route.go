package gateway

import (
	"cmp"
	"net/http"
	"slices"

	"github.com/akidb/akigw/sigv4"
)

// Level says what kind of resource a path names.
type Level int

// The levels.
const (
	ServiceLevel Level = iota
	BucketLevel
	ObjectLevel
	AnyLevel
)

// Class says what the gateway does with an operation.
type Class string

// The classes.
const (
	// Accelerated operations are answered from the cache, or stored in it.
	Accelerated Class = "accelerated"
	// Forwarded operations are carried out by the upstream; the keys that they change are fenced.
	Forwarded Class = "forwarded"
	// Refused operations are answered with 501, and Note says why.
	Refused Class = "refused"
)

// Body is the kind of body that an operation has.
type Body int

// The kinds of bodies.
const (
	NoBody   Body = iota // no meaningful body
	Document             // XML or JSON of bounded size
	Content              // bytes of an object; the only kind that may be aws-chunked
	Form                 // multipart/form-data with the bytes of an object
)

// handler answers a verified and authorised call. The pipeline answers with the error that it
// returns. Only the verifier can create an Identity, so no handler is reached without a verified
// signature.
type handler func(w *answer, c *call, id sigv4.Identity) error

// Route is one row of the table of operations: an operation, how to recognise it, what it needs, and
// what answers it.
type Route struct {
	// Op is the S3 API name of the operation; Also are older names of the
	// same request.
	Op    string
	Also  []string
	Class Class
	Note  string // for the coverage page; of a refused operation, the reason

	Method string // empty: any of methods
	Level  Level
	// Query lists the required parameters, Options the optional ones. A request with any other
	// parameter is another operation.
	Query, Options []string
	// Header is a required header.
	Header string
	// Any accepts any query.
	Any bool

	// Action must be allowed by a policy on the resource that the path names; VersionAction
	// replaces it if the request names a version; Besides must be allowed as well.
	Action, VersionAction string
	Besides               string
	Body                  Body
	// Sent is the S3 API name of what the upstream gets, "" for Op.
	Sent string

	handle handler
}

// methods lists all methods that S3 uses.
func methods() []string {
	return []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}
}

// payloadModes lists the modes in which an operation may be sent, by the kind of its body and the
// place of its credentials. All others are refused.
var payloadModes = map[Body]map[sigv4.Place][]sigv4.Mode{
	NoBody: {
		sigv4.Header:  {sigv4.Digest, sigv4.Unsigned},
		sigv4.Query:   {sigv4.Digest, sigv4.Unsigned},
		sigv4.Nowhere: {sigv4.Undeclared},
	},
	Document: {
		sigv4.Header: {sigv4.Digest, sigv4.Unsigned},
		sigv4.Query:  {sigv4.Digest, sigv4.Unsigned},
	},
	Form: {
		sigv4.Form: {sigv4.Unsigned},
	},
	Content: {
		sigv4.Header: {sigv4.Digest, sigv4.Unsigned, sigv4.StreamingSigned, sigv4.StreamingTrailer, sigv4.UnsignedTrailer},
		sigv4.Query:  {sigv4.Digest, sigv4.Unsigned},
	},
}

// admits reports whether the operation may be sent in this payload mode, with credentials in this
// place.
func (row *Route) admits(place sigv4.Place, mode sigv4.Mode) bool {
	return slices.Contains(payloadModes[row.Body][place], mode)
}

// sent returns the S3 API name of what the upstream gets.
func (row *Route) sent() string { return cmp.Or(row.Sent, row.Op) }

func (row *Route) matches(c *call) bool {
	if row.Level != AnyLevel && row.Level != c.level() || row.Header != "" && len(c.Header[row.Header]) == 0 {
		return false
	}
	for _, name := range row.Query {
		if !c.query.Has(name) {
			return false
		}
	}
	if row.Any {
		return true
	}
	for name := range c.query {
		if !slices.Contains(row.Query, name) && !slices.Contains(row.Options, name) {
			return false
		}
	}
	return true
}
