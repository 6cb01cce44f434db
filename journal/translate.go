package journal

import (
	"context"
	"time"

	"github.com/akidb/akigw"
)

// An upstream that encrypts may give an object an ETag other than the one promised to the client.
// The journal remembers both until the key gets another object: in one record, which replaces the
// entry's own.

// Translation maps what was promised about an object to what the upstream reports for it.
type Translation struct {
	Key akigw.Key
	// Promised and Upstream are ETags with quotes. They can be equal.
	Promised, Upstream string
	// PromisedModified and UpstreamModified are the values of Last-Modified. The upstream's is in
	// whole seconds. It is zero if unknown, and so are the fields after it.
	PromisedModified, UpstreamModified time.Time
	Spread                             int    // bounds of UpstreamModified, see Stored.Spread
	Size                               int64  // size in bytes
	Version                            string // version ID in the upstream, "" for none

	number uint64
}

// Translation returns the remembered ETags and dates of a key; false if there are none. It takes no
// lock.
func (j *Journal) Translation(key akigw.Key) (t Translation, ok bool) {
	return j.table.view.Load().translation(key)
}

// Translates reports whether ETags or dates of any key of a bucket are remembered. It takes no
// lock.
func (j *Journal) Translates(bucket string) bool {
	v := j.table.view.Load()
	return v.dates.has(bucket) || v.translations.has(bucket)
}

// Forget drops a translation, because the key has another object. Its dates are gone when Forget returns.
// commit waits for the disk; without it they are back after a restart, and its ETags stay.
func (j *Journal) Forget(t Translation) (commit func(context.Context) error) {
	j.table.update(func(s *state) { s.hideDates(t) })
	return func(ctx context.Context) error {
		return j.committer.commit(ctx, &op{kind: kindDone, entry: t.number, key: t.Key})
	}
}
