package compare

import (
	"context"
	"net/http"
	"net/textproto"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// Sample is an answer that a client got from the cache, and what the upstream has to be asked for to
// compare it.
type Sample struct {
	Key akigw.Key
	// Method is GET or HEAD.
	Method string
	// Range is the range of a 206, as a Range header; "" for a 200.
	Range string
	// Checksums says that the client asked for the x-amz-checksum-* headers and got them. Otherwise they
	// are not compared.
	Checksums bool
	// Replaced are the canonical names of the headers that the client's request set itself
	// (response-content-type and the like). They are not compared.
	Replaced []string
	// RequestID is the x-amz-request-id of the answer.
	RequestID string
	// At is when the request arrived, and Age the time since the upstream had last confirmed the object.
	At  time.Time
	Age time.Duration
	// Tier is where the answer came from.
	Tier akigw.Outcome
	// Settings are those of the key. They are shared.
	Settings *rules.Settings
	Answer   Answer
	Watch    Watch
}

// Watch observes what a key holds since a client was answered.
type Watch interface {
	// Changed reports whether the key has changed, as far as the gateway knows.
	Changed() bool
	// Confirm has the cache validate the object once more, and reports whether the upstream has it still.
	Confirm(ctx context.Context) bool
	// Close ends the observation.
	Close()
}

// Answer is what a client or the gateway got of an object.
type Answer struct {
	Status int `json:"status"`
	// Header has the headers that describe the object; see Header.
	Header http.Header `json:"header"`
	// Length is the Content-Length, -1 if it is not known.
	Length int64 `json:"length"`
	// Digest is the XXH64 of the body in hex, "" if there is none or it was not read.
	Digest string `json:"digest,omitempty"`

	date time.Time // of the upstream's answer, zero if it has none
}

// Header returns the headers of an answer that are compared, by their canonical names: those that
// describe the object, and Content-Range. The values are shared with h.
func Header(h http.Header) http.Header {
	canonical := make(http.Header, len(h))
	for name, values := range h {
		canonical[textproto.CanonicalMIMEHeaderKey(name)] = values
	}
	kept := tiers.ObjectHeader(canonical)
	if v, ok := canonical["Content-Range"]; ok {
		kept["Content-Range"] = v
	}
	return kept
}

// get returns the value of a header.
func (a *Answer) get(name string) string { return a.Header.Get(name) }

// Result is the result of a comparison.
type Result string

// The results.
const (
	// Equal: status, headers and body are the same.
	Equal Result = "equal"
	// Different: they are not, and the freshness mode does not explain it.
	Different Result = "different"
	// Allowed: they are not, and the freshness mode allows an answer of that age.
	Allowed Result = "allowed"
)

// Reason says why a chosen answer was not compared.
type Reason string

// The reasons.
const (
	// Changed: the key was written, invalidated or validated anew between the answer and the comparison.
	Changed Reason = "changed"
	// Unanswered: the upstream gave no answer in time, or one that says nothing of the object (5xx, 429).
	Unanswered Reason = "unanswered"
	// Conditional: the answer was the result of a condition or range that was not met (304, 412, 416).
	Conditional Reason = "conditional"
	// Part: one part was read by its number.
	Part Reason = "part"
	// Aborted: the client did not read the answer to its end.
	Aborted Reason = "aborted"
	// Large: reading the body from the upstream would take too long at max_bytes_per_sec.
	Large Reason = "large"
	// TooMany: the limit of requests was reached.
	TooMany Reason = "too_many"
	// Busy: requests of clients were waiting for the upstream.
	Busy Reason = "busy"
)

// differing returns what differs between the answer and the upstream's: "status", "body" and names of
// headers. If the status does, nothing else is compared.
func (s *Sample) differing(theirs *Answer) (what []string) {
	mine := &s.Answer
	if mine.Status != theirs.Status {
		return []string{"status"}
	}
	if theirs.Length >= 0 && mine.Length != theirs.Length {
		what = append(what, "Content-Length")
	}
	for name, values := range mine.Header {
		if !slices.Equal(values, theirs.Header[name]) && s.compared(name) {
			what = append(what, name)
		}
	}
	for name := range theirs.Header {
		if _, both := mine.Header[name]; !both && s.compared(name) {
			what = append(what, name)
		}
	}
	slices.Sort(what)
	if theirs.Digest != "" && mine.Digest != theirs.Digest {
		what = append(what, "body")
	}
	return what
}

// compared reports whether a header is compared, by its canonical name.
func (s *Sample) compared(name string) bool {
	checksum := len(name) > len(checksumPrefix) && name[:len(checksumPrefix)] == checksumPrefix
	return !slices.Contains(s.Replaced, name) && (s.Checksums || !checksum)
}

const checksumPrefix = "X-Amz-Checksum-"

// clockStep is how exact ages and dates are: HTTP dates are whole seconds.
const clockStep = time.Second

// judge says what a comparison means, from what differs. An age that the freshness mode allows explains
// any difference but one: two bodies of the same version.
func (s *Sample) judge(what []string, theirs *Answer) Result {
	if len(what) == 0 {
		return Equal
	}
	if slices.Contains(what, "body") && s.sameVersion(theirs) {
		return Different
	}
	trusted := time.Duration(0)
	switch s.Settings.Freshness {
	case rules.TTL:
		trusted = s.Settings.TTL
		if s.Tier == akigw.Stale {
			trusted += s.Settings.MaxStale
		}
	case rules.Events:
		trusted = s.Settings.TTL
	}
	if trusted > 0 && s.Age < trusted+clockStep {
		return Allowed
	}
	return Different
}

// sameVersion reports whether both answers are about the same version of the object.
func (s *Sample) sameVersion(theirs *Answer) bool {
	for _, name := range [...]string{"Etag", "Last-Modified", "X-Amz-Version-Id"} {
		if s.Answer.get(name) != theirs.get(name) {
			return false
		}
	}
	return s.Answer.Status == theirs.Status
}

// overtaken reports whether another client has changed the object upstream between its validation for the
// answer and the comparison. Only modes that validate each answer expect that: immutable and exclusive
// promise that it does not happen, and the others allow it by age.
func (s *Sample) overtaken(ctx context.Context, theirs *Answer) bool {
	validated := s.Settings.Freshness == rules.Strict || s.Settings.Freshness == rules.Exclusive && s.Key.Version != ""
	switch {
	case !validated || s.sameVersion(theirs):
		return false
	case theirs.Status >= http.StatusBadRequest: // the answer does not say since when the object is gone
		return !s.Watch.Confirm(ctx)
	}
	modified, err := http.ParseTime(theirs.get("Last-Modified"))
	if err != nil || theirs.date.IsZero() {
		return false
	}
	confirmed := theirs.date.Add(-time.Since(s.At) - s.Age) // by the upstream's clock
	return modified.After(confirmed.Add(-2 * clockStep))
}
