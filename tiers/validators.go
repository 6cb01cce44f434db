package tiers

import (
	"net/http"
	"time"
)

// validatorAge is how much older than the upstream's answer a Last-Modified has to be for
// it, with the ETag, to tell each later version from the one that was answered. Dates have
// whole seconds, so the same bytes can be put again with other headers in the second of
// both. RFC 9110 §8.8.2.2 asks for one second if one clock made both dates; a minute
// allows for nodes of an upstream whose clocks differ, and for an answer that was slow to
// come after the object had been looked at.
const validatorAge = time.Minute

// strongValidator reports whether a later 304 on the ETag of an answer, with the same
// Last-Modified, is going to say that its headers are still those of the object. It is
// judged by the two dates of the answer itself: a 304 hours later proves no more. An answer
// without either date, or with a Date before Last-Modified, proves nothing.
func strongValidator(h http.Header) bool {
	date, err := http.ParseTime(h.Get("Date"))
	if err != nil {
		return false
	}
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	return err == nil && date.Sub(modified) >= validatorAge
}
