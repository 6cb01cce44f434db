package cold

import "net/http"

// NoBytes reports whether a response is a 206 for a suffix range of an empty object. Some services
// send one, which RFC 9110 has no form for ("bytes 0--1/0"): it means the same as a 200.
func NoBytes(resp *http.Response) bool {
	return resp.StatusCode == http.StatusPartialContent && resp.ContentLength <= 0 && resp.Header.Get("Content-Range") == "bytes 0--1/0"
}
