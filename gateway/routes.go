package gateway

import (
	"context"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/VictoriaMetrics/metrics"
	"github.com/gorilla/mux"

	"github.com/akidb/akigw/gateway/sigv4"
	"github.com/akidb/akigw/internal/s3err"
)

// level is what a path addresses.
type level int

const (
	serviceLevel level = iota
	bucketLevel
	objectLevel
	anyLevel
)

func (c *Call) level() level {
	switch {
	case c.key.Bucket == "":
		return serviceLevel
	case c.key.Name == "":
		return bucketLevel
	}
	return objectLevel
}

// handler answers a verified call. An error that it returns is answered by the
// gateway. The Identity can only have come from the verifier.
type handler func(g *Gateway, w *answer, c *Call, id sigv4.Identity) error

// Route is one row of the routing table.
type Route struct {
	// Op is the S3 API name of the operation.
	Op     string
	Method string // empty: any method in methods
	Level  level
	// Query are parameters that must be there; Header is a header that must.
	Query  []string
	Header string
	// Plain routes match only when the query has nothing but what Allowed
	// lets through: everything else is another operation.
	Plain   bool
	Allowed func(parameter string) bool
	// Streaming operations take an aws-chunked body.
	Streaming bool
	handle    handler
}

// methods are all that S3 uses.
var methods = []string{http.MethodGet, http.MethodHead, http.MethodPut, http.MethodPost, http.MethodDelete}

func responseOverride(name string) bool { return strings.HasPrefix(name, "response-") }

// Routes is the routing table; the first row that matches decides. What no row
// accelerates is forwarded.
var Routes = []Route{
	{Op: "GetObject", Method: "GET", Level: objectLevel, Plain: true, Allowed: responseOverride, handle: (*Gateway).getObject},
	{Op: "HeadObject", Method: "HEAD", Level: objectLevel, Plain: true, Allowed: responseOverride, handle: (*Gateway).headObject},
	{Op: "CopyObject", Method: "PUT", Level: objectLevel, Header: "X-Amz-Copy-Source", Plain: true, handle: (*Gateway).copyObject},
	{Op: "PutObject", Method: "PUT", Level: objectLevel, Plain: true, Streaming: true, handle: (*Gateway).putObject},
	{Op: "DeleteObject", Method: "DELETE", Level: objectLevel, Plain: true, handle: (*Gateway).change},
	{Op: "UploadPartCopy", Method: "PUT", Level: objectLevel, Query: []string{"uploadId", "partNumber"}, Header: "X-Amz-Copy-Source", handle: (*Gateway).uploadPartCopy},
	{Op: "UploadPart", Method: "PUT", Level: objectLevel, Query: []string{"uploadId", "partNumber"}, Streaming: true, handle: (*Gateway).pass},
	{Op: "CreateMultipartUpload", Method: "POST", Level: objectLevel, Query: []string{"uploads"}, handle: (*Gateway).pass},
	{Op: "CompleteMultipartUpload", Method: "POST", Level: objectLevel, Query: []string{"uploadId"}, handle: (*Gateway).completeMultipartUpload},
	{Op: "AbortMultipartUpload", Method: "DELETE", Level: objectLevel, Query: []string{"uploadId"}, handle: (*Gateway).pass},
	{Op: "ListParts", Method: "GET", Level: objectLevel, Query: []string{"uploadId"}, handle: (*Gateway).pass},
	{Op: "GetObject", Method: "GET", Level: objectLevel, Plain: true, Allowed: readOption, handle: (*Gateway).bypass},
	{Op: "HeadObject", Method: "HEAD", Level: objectLevel, Plain: true, Allowed: readOption, handle: (*Gateway).bypass},
	{Op: "DeleteObject", Method: "DELETE", Level: objectLevel, Query: []string{"versionId"}, handle: (*Gateway).change},
	{Op: "DeleteObjects", Method: "POST", Level: bucketLevel, Query: []string{"delete"}, handle: (*Gateway).deleteObjects},
	{Op: "ListObjectsV2", Method: "GET", Level: bucketLevel, Query: []string{"list-type"}, handle: (*Gateway).pass},
	{Op: "ListMultipartUploads", Method: "GET", Level: bucketLevel, Query: []string{"uploads"}, handle: (*Gateway).pass},
	{Op: "ListObjectVersions", Method: "GET", Level: bucketLevel, Query: []string{"versions"}, handle: (*Gateway).pass},
	{Op: "GetBucketLocation", Method: "GET", Level: bucketLevel, Query: []string{"location"}, handle: (*Gateway).pass},
	{Op: "ListObjects", Method: "GET", Level: bucketLevel, Plain: true, Allowed: listOption, handle: (*Gateway).pass},
	{Op: "CreateBucket", Method: "PUT", Level: bucketLevel, Plain: true, handle: (*Gateway).pass},
	{Op: "DeleteBucket", Method: "DELETE", Level: bucketLevel, Plain: true, handle: (*Gateway).pass},
	{Op: "HeadBucket", Method: "HEAD", Level: bucketLevel, Plain: true, handle: (*Gateway).pass},
	{Op: "PostObject", Method: "POST", Level: bucketLevel, Plain: true, handle: (*Gateway).postForm},
	{Op: "ListBuckets", Method: "GET", Level: serviceLevel, handle: (*Gateway).pass},
	{Op: "Other", Level: objectLevel, handle: (*Gateway).other},
	{Op: "Other", Level: anyLevel, handle: (*Gateway).pass},
}

func readOption(name string) bool {
	return responseOverride(name) || name == "versionId" || name == "partNumber"
}

func listOption(name string) bool {
	switch name {
	case "prefix", "marker", "max-keys", "delimiter", "encoding-type":
		return true
	}
	return false
}

type callKey struct{}

// buildRouter puts the table into the router. The path is matched as it was
// sent: no cleaning, no decoding.
func (g *Gateway) buildRouter() {
	g.router = mux.NewRouter().SkipClean(true).UseEncodedPath()
	g.routes = make(map[*mux.Route]*Route, len(Routes))
	for i := range Routes {
		row := &Routes[i]
		r := g.router.NewRoute().MatcherFunc(func(r *http.Request, _ *mux.RouteMatch) bool {
			return row.matches(r.Context().Value(callKey{}).(*Call))
		})
		if row.Method != "" {
			r.Methods(row.Method)
		} else {
			r.Methods(methods...)
		}
		g.routes[r] = row
	}
}

func (row *Route) matches(c *Call) bool {
	if row.Level != anyLevel && row.Level != c.level() || row.Header != "" && len(c.Header[row.Header]) == 0 {
		return false
	}
	for _, name := range row.Query {
		if !c.query.Has(name) {
			return false
		}
	}
	return !row.Plain || c.plain(row.Allowed)
}

func (g *Gateway) route(c *Call) (*Route, error) {
	var match mux.RouteMatch
	r := c.Request.WithContext(context.WithValue(c.Request.Context(), callKey{}, c))
	if !g.router.Match(r, &match) {
		return nil, s3err.MethodNotAllowed.About("Method", c.Method)
	}
	return g.routes[match.Route], nil
}

// requestCounters avoids formatting a metric's name on every request.
var requestCounters sync.Map // of requestLabels to *metrics.Counter

type requestLabels struct {
	op     string
	status int
}

func requestCounter(op string, status int) *metrics.Counter {
	labels := requestLabels{op, status}
	if c, ok := requestCounters.Load(labels); ok {
		return c.(*metrics.Counter)
	}
	c := metrics.GetOrCreateCounter(`akigw_gateway_requests_total{op="` + op + `",status="` + strconv.Itoa(status) + `"}`)
	requestCounters.Store(labels, c)
	return c
}
