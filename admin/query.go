package admin

import (
	"net/http"
	"net/url"

	"github.com/akidb/akigw"
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

// pattern reads which objects a request applies to. If they are not clear, it sends the error
// response and returns false.
func pattern(w http.ResponseWriter, q url.Values) (what akigw.Pattern, ok bool) {
	what = akigw.Pattern{Bucket: q.Get("bucket"), Prefix: q.Get("prefix")}
	if q.Has("key") {
		what.Prefix, what.Exactly = q.Get("key"), true
	}
	if akigw.CheckBucketName(what.Bucket) != nil || q.Has("key") && (q.Has("prefix") || what.Prefix == "") {
		http.Error(w, "bucket must be the name of a bucket, optionally with prefix or key", http.StatusBadRequest)
		return what, false
	}
	return what, true
}
