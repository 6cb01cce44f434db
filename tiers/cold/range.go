package cold

import "net/http"

// NoBytes reports whether an answer is a 206 with the last bytes of an empty object. Some services
// send one, for which RFC 9110 has no form ("bytes 0--1/0"): it means what a 200 does.
func NoBytes(resp *http.Response) bool {
	return resp.StatusCode == http.StatusPartialContent && resp.ContentLength <= 0 && resp.Header.Get("Content-Range") == "bytes 0--1/0"
}
