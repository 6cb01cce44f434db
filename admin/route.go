package admin

import "net/http"

// route is something that this listener answers.
type route struct {
	path   string
	method string // "" is GET; others need a key
	// token is a bearer token that opens this route besides keys, "" for none.
	token string
	// open routes answer everybody: they say nothing but yes or no, or are pages that say
	// nothing at all.
	open bool
	// private routes need a key though they change nothing.
	private bool
	handle  http.HandlerFunc

	// The rest is for the OpenAPI document; without a summary a route is not in it.
	summary string
	query   []param
	body    any    // an example of the type of the body, nil for none
	text    string // media type of a body that is no JSON
	answer  any    // an example of the type of the answer, nil for done
	stream  string // media type of an answer that is no JSON document
}

// param is a parameter of the query.
type param struct {
	name, text string
	needed     bool
}

// done is the answer to what has none of its own.
type done struct {
	Done bool `json:"done"`
}
