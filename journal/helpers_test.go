package journal

import (
	"context"
)

// What follows is for tests: the product has no use for it.

// Len is the number of entries, dead letters among them.
func (j *Journal) Len() int { return j.table.view.Load().live }

// Newest is what Notify returns.
func (j *Journal) Newest() uint64 { return j.newest }

// Accepting returns nil if writes are taken, else why not.
func (j *Journal) Accepting() error { return j.health.accepting() }

// Done says that e is in the upstream as it was promised.
func (j *Journal) Done(ctx context.Context, e *Entry) error { return j.Flushed(ctx, e, Stored{}) }

// Translate says that e is in the upstream with another ETag.
func (j *Journal) Translate(ctx context.Context, e *Entry, upstream string) error {
	return j.Flushed(ctx, e, Stored{ETag: upstream})
}

// Orphans are the uploads that have to be aborted.
func (j *Journal) Orphans() []Orphan {
	orphans, _ := j.Garbage()
	return orphans
}

// EmptyPacks are packs that nothing is in.
func (j *Journal) EmptyPacks() []Pack {
	_, packs := j.Garbage()
	return packs
}

// Aborted says that an orphan is gone from the upstream.
func (j *Journal) Aborted(ctx context.Context, o Orphan) error {
	return j.Uploading(ctx, o.Entry, o.Key, "")
}
