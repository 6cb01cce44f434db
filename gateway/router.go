package gateway

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/gorilla/mux"

	"github.com/akidb/akigw/internal/s3err"
	"github.com/akidb/akigw/sigv4"
)

// Level is what a path names.
type Level int

// The levels.
const (
	ServiceLevel Level = iota
	BucketLevel
	ObjectLevel
	AnyLevel
)

func (c *call) level() Level {
	switch {
	case c.key.Bucket == "":
		return ServiceLevel
	case c.key.Name == "":
		return BucketLevel
	}
	return ObjectLevel
}

// Class is what the gateway does with an operation.
type Class string

// The classes.
const (
	// Accelerated operations are answered from the cache, or kept in it.
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
	NoBody   Body = iota // none that has a meaning
	Document             // XML or JSON of bounded size
	Content              // bytes of an object; the only kind that may be aws-chunked
)

// handler answers a verified and authorised call. The pipeline answers the error that it returns.
// Only the verifier can make the Identity, so no handler is reached without a verified signature.
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
	// Query are the required parameters, Options the optional ones. A request with any other
	// parameter is another operation.
	Query, Options []string
	// Header is a required header.
	Header string
	// Any accepts every query.
	Any bool

	// Action is what a policy has to allow on the resource that the path names, VersionAction takes
	// its place if the request names a version, and Besides has to be allowed as well.
	Action, VersionAction string
	Besides               string
	Body                  Body

	handle handler
}

// methods are all that S3 uses.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}

// payloadModes are those in which an operation may be sent, by the kind of its body and the place of
// its credentials. What is not listed is refused.
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

type callKey struct{}

// router finds the operation of a call. Any goroutine may use it.
type router struct {
	mux  *mux.Router
	rows map[*mux.Route]*Route
	// headers are those that rows of the table ask for.
	headers []string
	// plain caches the row of requests with neither a query nor one of headers.
	plain sync.Map // plainKey -> *Route
}

// newRouter builds a router of a table. The path is matched as it was sent, neither cleaned nor
// decoded.
func newRouter(table []Route) *router {
	rt := &router{mux: mux.NewRouter().SkipClean(true).UseEncodedPath(), rows: make(map[*mux.Route]*Route, len(table))}
	for i := range table {
		row := &table[i]
		r := rt.mux.NewRoute().MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
			return row.matches(r.Context().Value(callKey{}).(*call))
		})
		if row.Method != "" {
			r.Methods(row.Method)
		} else {
			r.Methods(slices.Clone(methods)...) // which writes to them
		}
		rt.rows[r] = row
		if row.Header != "" && !slices.Contains(rt.headers, row.Header) {
			rt.headers = append(rt.headers, row.Header)
		}
	}
	return rt
}

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

// plainKey is all that tells requests apart that have neither a query nor a header of the table.
type plainKey struct {
	method string
	level  Level
}

// route finds the row of a call, an error if S3 refuses its shape. The row of a request without
// query and without the headers of the table is cached: nothing else of it matters.
func (rt *router) route(c *call) (*Route, error) {
	plain := len(c.query) == 0
	for _, name := range rt.headers {
		plain = plain && len(c.Header[name]) == 0
	}
	if !plain {
		return rt.match(c)
	}
	id := plainKey{c.Method, c.level()}
	if row, ok := rt.plain.Load(id); ok {
		return row.(*Route), nil
	}
	row, err := rt.match(c)
	if err == nil {
		rt.plain.Store(id, row)
	}
	return row, err
}

// match goes through the table.
func (rt *router) match(c *call) (*Route, error) {
	var match mux.RouteMatch
	r := c.Request.WithContext(context.WithValue(c.Request.Context(), callKey{}, c))
	if !rt.mux.Match(r, &match) {
		return nil, notAllowed(c.Method, [...]string{"SERVICE", "BUCKET", "OBJECT"}[c.level()])
	}
	row := rt.rows[match.Route]
	if row.Any {
		for i := range misshapen {
			if m := &misshapen[i]; m.Method == c.Method && m.matches(c) {
				return row, m.err
			}
		}
	}
	return row, nil
}

func notAllowed(method, resource string) *s3err.Error {
	return s3err.MethodNotAllowed.About("Method", method).About("ResourceType", resource)
}

// misshapen are requests that are no operation of S3 and that S3 refuses for their shape alone,
// whoever sends them. The first row that matches decides.
var misshapen = []struct {
	Route
	err error
}{
	{Route{Method: "GET", Level: ObjectLevel, Query: []string{"uploads"}, Any: true}, s3err.InvalidRequest.With("Key is not expected for the GET method ?uploads subresource")},
	{Route{Method: "GET", Level: ObjectLevel, Query: []string{"versions"}, Any: true}, s3err.InvalidRequest.With("There is no such thing as the ?versions sub-resource for a key")},
	{Route{Method: "PUT", Level: ObjectLevel, Query: []string{"uploadId"}}, notAllowed("PUT", "UPLOAD")},
	{Route{Method: "PUT", Level: ObjectLevel, Query: []string{"partNumber"}}, s3err.InvalidArgument.With("This operation does not accept partNumber without uploadId").About("ArgumentName", "partNumber").About("ArgumentValue", "partNumber")},
	{Route{Method: "POST", Level: ObjectLevel}, notAllowed("POST", "SERVICE")},
	{Route{Method: "POST", Level: ServiceLevel}, notAllowed("POST", "SERVICE")},
}
