package api

import (
	"cmp"
	"context"
	"fmt"
	"strconv"

	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/meta"
)

// decimal returns a number in decimal.
func decimal(n int) string { return strconv.Itoa(n) }

// checkData checks a vector for an index. With cosine distance, a vector needs a direction.
func checkData(path string, data []float32, i *vectors.Index) error {
	if len(data) != i.Dimension {
		return vectors.Invalid(path, "has %d values; the index has dimension %d", len(data), i.Dimension)
	}
	if i.Metric != vectors.Cosine {
		return nil
	}
	for _, f := range data {
		if f != 0 {
			return nil
		}
	}
	return vectors.Invalid(path, "must not be a zero vector: the index has cosine distance")
}

func (a *API) putVectors(ctx context.Context, c *call) (document, error) {
	index, err := a.Engine.Index(c.bucket, c.index)
	if err != nil {
		return nil, err
	}
	all := make([]vectors.Vector, len(c.vectors))
	for i, v := range c.vectors {
		if err := checkData(fmt.Sprintf("/vectors/%d/data", i), v.data, &index); err != nil {
			return nil, err
		}
		metadata, problem := meta.Compact(v.metadata, index.NonFilterable)
		if problem != nil {
			return nil, problem.At(fmt.Sprintf("/vectors/%d/metadata", i))
		}
		all[i] = vectors.Vector{Key: v.key, Data: v.data, Metadata: metadata}
	}
	return done(a.Engine.Put(ctx, c.bucket, c.index, all))
}

func (a *API) getVectors(ctx context.Context, c *call) (document, error) {
	if len(c.keys) > vectors.MaxGet {
		return nil, vectors.Invalid("/keys", "must have at most %d keys", vectors.MaxGet)
	}
	found, err := a.Engine.Get(ctx, c.bucket, c.index, c.keys)
	if err != nil {
		return nil, err
	}
	d := append(document("{").name("vectors"), '[')
	for i, v := range found {
		if i > 0 {
			d = append(d, ',')
		}
		d = d.vector(v, c.wants, 0)
	}
	return append(d, "]}"...), nil
}

func (a *API) deleteVectors(ctx context.Context, c *call) (document, error) {
	return done(a.Engine.Delete(ctx, c.bucket, c.index, c.keys))
}

const (
	// maxVectorsPage is the largest page of vectors, and vectorsPage the default.
	maxVectorsPage = 1000
	vectorsPage    = 500
	// maxPageBytes is where a page of vectors ends that has fewer.
	maxPageBytes = 1 << 20
)

func (a *API) listVectors(ctx context.Context, c *call) (document, error) {
	at := position{segments: max(c.page.segments, 1), segment: c.page.segment}
	switch {
	case c.seen["segmentCount"] != c.seen["segmentIndex"]:
		return nil, vectors.Invalid("/segmentIndex", "and segmentCount need each other")
	case at.segment >= at.segments:
		return nil, vectors.Invalid("/segmentIndex", "must be less than segmentCount")
	}
	index, err := a.Engine.Index(c.bucket, c.index)
	if err != nil {
		return nil, err
	}
	at.incarnation = index.Incarnation
	after, last := segmentRange(at.segment, at.segments)
	if c.page.token != "" {
		if at, err = parsePosition(c.page.token, at); err != nil {
			return nil, err
		}
		after = &at.last
	}
	d, full := append(document("{").name("vectors"), '['), false
	more, err := a.Engine.List(ctx, c.bucket, c.index, after, last, cmp.Or(c.page.max, vectorsPage), func(v vectors.Vector) bool {
		before := len(d)
		if d[before-1] != '[' {
			d = append(d, ',')
		}
		d = d.vector(v, c.wants, 0)
		if full = len(d) > maxPageBytes && d[before-1] != '['; full { // one vector is always returned
			d = d[:before]
			return false
		}
		at.last = vectors.HashKey(v.Key)
		return true
	})
	if err != nil {
		return nil, err
	}
	any := d[len(d)-1] != '['
	if d = append(d, ']'); (more || full) && any {
		d = d.member("nextToken", at.token())
	}
	return append(d, '}'), nil
}

func (a *API) queryVectors(ctx context.Context, c *call) (document, error) {
	index, err := a.Engine.Index(c.bucket, c.index)
	if err != nil {
		return nil, err
	}
	if err := checkData("/queryVector/float32", c.sought, &index); err != nil {
		return nil, err
	}
	var filter *meta.Filter
	if c.filter != nil {
		if filter, err = meta.Parse(c.filter, index.NonFilterable); err != nil {
			return nil, err
		}
	}
	hits, err := a.Engine.Query(ctx, c.bucket, c.index, c.sought, c.topK, filter)
	if err != nil {
		return nil, err
	}
	d := append(document("{").name("vectors"), '[')
	for i, hit := range hits {
		if i > 0 {
			d = append(d, ',')
		}
		d = d.vector(hit.Vector, c.wants, hit.Distance)
	}
	return append(append(d, ']').member("distanceMetric", string(index.Metric)), '}'), nil
}
