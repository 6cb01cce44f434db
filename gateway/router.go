package gateway

import (
	"context"
	"net/http"
	"slices"
	"sync"

	"github.com/gorilla/mux"

	"github.com/akidb/akigw/internal/s3err"
)

type callKey struct{}

// router finds the operation of a call. It is safe for concurrent use.
type router struct {
	mux  *mux.Router
	rows map[*mux.Route]*Route
	// headers are the headers that rows of the table require.
	headers []string
	// plain caches the row for requests with neither a query nor one of headers.
	plain sync.Map // plainKey -> *Route
}

// newRouter builds a router for a table. The path is matched as it was sent, neither cleaned nor
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
			r.Methods(methods()...) // it modifies its arguments
		}
		rt.rows[r] = row
		if row.Header != "" && !slices.Contains(rt.headers, row.Header) {
			rt.headers = append(rt.headers, row.Header)
		}
	}
	return rt
}

// plainKey is everything that distinguishes requests with neither a query nor a header of the
// table.
type plainKey struct {
	method string
	level  Level
}

// route returns the row for a call, or an error if S3 refuses its form. The row for a request
// without a query and without the headers of the table is cached: nothing else of it matters.
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

// match searches the table.
func (rt *router) match(c *call) (*Route, error) {
	var match mux.RouteMatch
	r := c.Request.WithContext(context.WithValue(c.Request.Context(), callKey{}, c))
	if !rt.mux.Match(r, &match) {
		return nil, notAllowed(c.Method, [...]string{"SERVICE", "BUCKET", "OBJECT"}[c.level()])
	}
	row := rt.rows[match.Route]
	if row.Any {
		for i := range malformedRoutes {
			if m := &malformedRoutes[i]; m.Method == c.Method && m.matches(c) {
				return row, m.err
			}
		}
	}
	return row, nil
}

func notAllowed(method, resource string) *s3err.Error {
	return s3err.MethodNotAllowed.About("Method", method).About("ResourceType", resource)
}

// malformedRoutes lists requests that are not S3 operations and that S3 refuses for their form alone,
// whoever sends them. The first matching row decides.
var malformedRoutes = []struct {
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
