package admin

import "net/http"

// route is one route of this listener.
type route struct {
	path   string
	method string // "" is GET; other methods require a key
	// token is a bearer token that is accepted instead of a key, "" for none.
	token string
	// open routes need no key even if keys are required: their responses reveal nothing but yes or
	// no, or are static pages.
	open bool
	// private routes require a key although they change nothing.
	private bool
	handle  http.HandlerFunc

	// The other fields are for the OpenAPI document, which leaves out routes without a summary.
	summary string
	query   []param
	body    any    // an example of the type of the body, nil for none
	text    string // media type of a body that is not JSON
	answer  any    // an example of the type of the response, nil for done
	stream  string // media type of a response that is not a single JSON document
}

// param is a parameter of the query.
type param struct {
	name, text string
	needed     bool
}

// done is the response to requests that have no other result.
type done struct {
	Done bool `json:"done"`
}
