package main

import (
	"context"
	"errors"
	"time"

	"github.com/akidb/akigw/doctor"
	"github.com/akidb/akigw/server"
	"github.com/akidb/akigw/tiers/cold"
	upstreams "github.com/akidb/akigw/vectors/remote"
)

// vectorPatience bounds the checks of the bucket for vector collections.
const vectorPatience = 20 * time.Second

// vectorBucket checks that the bucket for vector collections exists and that the upstream honours
// conditional writes there, with an object that it removes again. It takes nothing into possession.
func vectorBucket(ctx context.Context, r *doctor.Report, c *server.Config) {
	const check = "vectors"
	one := c.Upstream
	one.Retries = 0 // a check reports the first response
	upstream, err := cold.NewUpstreams(one, c.Further, c.Storage.Pool, nil)
	if err != nil {
		r.Add(doctor.Problem, check, "", "%v", err)
		return
	}
	defer upstream.Close() // closes idle connections
	ctx, cancel := context.WithTimeout(ctx, vectorPatience)
	defer cancel()
	bucket, err := upstreams.Open(ctx, upstreams.Options{Upstream: upstream, Bucket: c.Vectors.Bucket, Prefix: c.Vectors.Prefix, Writer: "doctor", Keep: c.Vectors.KeepSnapshots})
	switch {
	case errors.Is(err, upstreams.ErrConditions):
		r.Add(doctor.Problem, check, "choose an upstream that honours them, or leave vectors.bucket empty", "bucket %q cannot keep vector collections: %v", c.Vectors.Bucket, err)
		return
	case err != nil:
		r.Add(doctor.Problem, check, "create the bucket in the upstream, and let the upstream credentials read, write, list and delete below "+c.Vectors.Prefix+" in it", "bucket %q: %v", c.Vectors.Bucket, err)
		return
	}
	owner, err := bucket.Owner(ctx)
	switch {
	case errors.Is(err, upstreams.ErrAbsent):
		r.Add(doctor.OK, check, "", "bucket %q honours conditional writes; no gateway has the prefix %s yet", c.Vectors.Bucket, c.Vectors.Prefix)
	case err != nil:
		r.Add(doctor.Problem, check, "akigw vectors takeover, on the gateway that has the collections, writes it again", "the owner document below %s in bucket %q: %v", c.Vectors.Prefix, c.Vectors.Bucket, err)
	default:
		r.Add(doctor.OK, check, "", "bucket %q honours conditional writes; gateway %s has the prefix %s since %s", c.Vectors.Bucket, owner.Writer, c.Vectors.Prefix, when(owner.Since))
	}
}
