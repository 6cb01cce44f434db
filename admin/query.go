package admin

import (
	"net/http"
	"net/url"

	"github.com/akidb/akigw/sigv4"
)

// readable makes the query of r one that URL.Query reads whole, or returns why it cannot be read.
// URL.Query drops the parameters that it cannot read, and a purge without its prefix would concern
// the whole bucket.
func readable(r *http.Request) error {
	r.URL.RawQuery = sigv4.EscapeSemicolons(r.URL.RawQuery)
	_, err := url.ParseQuery(r.URL.RawQuery)
	return err
}
