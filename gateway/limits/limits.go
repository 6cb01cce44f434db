// Package limits decides how much a client may do: Throttle limits authentication failures by
// address, QoS limits requests and bandwidth by access key and by bucket, and Quotas limit how many
// buckets there are and how many bytes they hold.
//
// The package knows neither HTTP requests nor the cache. The gateway describes requests to it, at
// fixed points of its pipeline. A refusal is an *s3err.Error.
package limits

// Reservation is room that Quotas.Begin took for a write. The zero value holds nothing.
type Reservation struct{ end func(status int) }

// End ends the reservation of a write that was answered with an HTTP status.
func (r Reservation) End(status int) {
	if r.end != nil {
		r.end(status)
	}
}
