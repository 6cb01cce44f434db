package tiers

import (
	"net/http"
	"time"
)

// validatorAge is how much older than the response a Last-Modified must be so that it, together
// with the ETag, distinguishes each later version from this one. Dates have a resolution of one
// second, so the same bytes can be put again with other headers within the same second. RFC 9110
// §8.8.2.2 asks for one second if one clock produced both dates; a minute allows for upstream nodes
// whose clocks differ, and for a response that was sent long after the object was looked up.
const validatorAge = time.Minute

// strongValidator reports whether a later 304 on the ETag of a response, with the same
// Last-Modified, will prove that its headers are unchanged. The two dates of the response itself
// decide that: a 304 hours later proves no more. A response without either date, or with a Date
// before Last-Modified, proves nothing.
func strongValidator(h http.Header) bool {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	return err == nil && date.Sub(modified) >= validatorAge
}
