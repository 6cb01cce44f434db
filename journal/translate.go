package journal

import (
	"context"
	"time"

	"github.com/akidb/akigw"
)

// An upstream that encrypts may give an object another ETag than the one that was
// promised to its client. What it is called where is kept here until the key gets
// another object: one record, which takes the place of the entry's own.

// Translation is what was promised of an object, and what the upstream says of the same
// one.
type Translation struct {
	Key akigw.Key
	// Promised and Upstream are ETags with quotes. They can be the same.
	Promised, Upstream string
	// PromisedModified and UpstreamModified are its Last-Modified. The upstream's is in
	// whole seconds; it is zero, and what follows with it, if it is not known.
	PromisedModified, UpstreamModified time.Time
	Size                               int64  // bytes
	Version                            string // version id in the upstream, "" for none

	number uint64
}

// Translation returns what is remembered of the ETags and dates of a key; false if
// nothing is. It takes no lock.
func (j *Journal) Translation(key akigw.Key) (t Translation, ok bool) {
	return j.table.view.Load().translation(key)
}

// Translates reports whether ETags or dates of a bucket's keys are remembered. It takes no lock.
func (j *Journal) Translates(bucket string) bool {
	v := j.table.view.Load()
	return v.dates.has(bucket) || v.translations.has(bucket)
}

// Forget drops a translation: the key has another object. Its dates are gone when Forget returns.
// commit waits for the disk; without it they are back after a restart, and its ETags stay.
func (j *Journal) Forget(t Translation) (commit func(context.Context) error) {
	j.table.update(func(s *state) { s.hideDates(t) })
	return func(ctx context.Context) error {
		return j.committer.commit(ctx, &op{kind: kindDone, entry: t.number, key: t.Key})
	}
}
