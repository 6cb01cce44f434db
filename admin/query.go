package admin

import (
	"net/http"
	"net/url"

	"github.com/akidb/akigw/sigv4"
)

// readable rewrites the query of r so that URL.Query reads all of it, or returns an error. URL.Query
// silently drops parameters that it cannot parse, and a purge without its prefix would purge the
// whole bucket.
func readable(r *http.Request) error {
	r.URL.RawQuery = sigv4.EscapeSemicolons(r.URL.RawQuery)
	_, err := url.ParseQuery(r.URL.RawQuery)
	return err
}
