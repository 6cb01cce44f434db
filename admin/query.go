package admin

import (
	"net/http"
	"net/url"

	"github.com/akidb/akigw"
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

// pattern reads which objects a request is about. If it is not clear, it has been answered.
func pattern(w http.ResponseWriter, q url.Values) (what akigw.Pattern, ok bool) {
	what = akigw.Pattern{Bucket: q.Get("bucket"), Prefix: q.Get("prefix")}
	if q.Has("key") {
		what.Prefix, what.Exactly = q.Get("key"), true
	}
	if akigw.CheckBucketName(what.Bucket) != nil || q.Has("key") && (q.Has("prefix") || what.Prefix == "") {
		http.Error(w, "bucket must be the name of a bucket; with it may come a prefix, or a key", http.StatusBadRequest)
		return what, false
	}
	return what, true
}
