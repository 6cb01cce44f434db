package gateway

import (
	"cmp"
	"slices"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
)

// withoutObject reports whether an operation on a key neither reads nor changes its object.
func withoutObject(op string) bool {
	switch op {
	case "CreateMultipartUpload", "UploadPart", "UploadPartCopy", "AbortMultipartUpload", "ListParts":
		return true
	default:
		return false
	}
}

// needsBucketFlushed reports whether all pending writes of a bucket are flushed before an operation on it.
func needsBucketFlushed(op string) bool {
	switch op {
	case "DeleteBucket", "ListObjectVersions", "PutBucketVersioning", "PutObjectLockConfiguration", "PutBucketReplication", "PutBucketEncryption":
		return true
	default:
		return false
	}
}

// flushPending waits until the pending writes of the keys that a call affects have been uploaded:
// then the call can be forwarded. Keys that the call changes accept no new pending write until it
// has ended.
func (g *forwarder) flushPending(c *call) error {
	ctx := c.Context()
	if c.source != nil {
		if err := g.Writes.Drain(ctx, c.source.key); err != nil {
			return err
		}
	}
	if needsBucketFlushed(c.route.Op) {
		return g.Writes.DrainBucket(ctx, c.key.Bucket)
	}
	keys := slices.Clone(c.touched)
	if c.level() == ObjectLevel && !withoutObject(c.route.Op) {
		keys = append(keys, c.key.Current())
	}
	slices.SortFunc(keys, func(a, b akigw.Key) int { return cmp.Or(cmp.Compare(a.Bucket, b.Bucket), cmp.Compare(a.Name, b.Name)) })
	for _, key := range slices.Compact(keys) {
		if c.reads() {
			if err := g.Writes.Drain(ctx, key); err != nil {
				return err
			}
			continue
		}
		release, err := g.Writes.Hold(ctx, key)
		if err != nil {
			return err
		}
		c.held = append(c.held, release)
	}
	return nil
}

// change forwards a call that changes one key, and caches nothing of the response: even a 200 may
// carry an error document.
func (g *forwarder) change(w *answer, c *call, _ sigv4.Identity) error {
	out, err := g.prepare(c)
	if err != nil {
		return err
	}
	return g.whileFenced(func() error {
		resp, err := g.passAlive(w, c, out)
		if err != nil {
			return err
		}
		acknowledge(w, c, resp)
		return nil
	}, g.fence(c.key, c.query.Get("versionId"))...)
}

// fence fences a key, and the version that is named, if any.
func (g *forwarder) fence(key akigw.Key, version string) []*tiers.Write {
	changes := []*tiers.Write{g.Store.Begin(key)}
	if version != "" {
		key.Version = version
		changes = append(changes, g.Store.Begin(key))
	}
	return changes
}

// whileFenced calls do, which changes keys in the upstream, and then lifts their fences. If the
// upstream may still apply the change later, the keys stay fenced, and their next write-back is
// confirmed after its upload.
func (g *forwarder) whileFenced(do func() error, changes ...*tiers.Write) (err error) {
	finished := true
	defer func() {
		for _, change := range changes {
			if finished {
				change.End()
			} else {
				g.Writes.Doubt(change.Key())
				change.Unsettled()
			}
		}
	}()
	err = do()
	finished = !cold.Unfinished(err)
	return err
}
