// Package limits decides how much a client may do: Throttle limits authentication failures by
// address, QoS limits requests and bandwidth by access key and by bucket, and Quotas limit how many
// buckets there are and how many bytes they hold.
//
// The package knows neither HTTP requests nor the cache. The gateway describes requests to it, at
// fixed points of its pipeline. A refusal is an *s3err.Error.
package limits
