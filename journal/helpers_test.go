package journal

import (
	"context"
)

// The functions below are for tests only; the product does not use them.

// Len is the number of entries, dead letters among them.
func (j *Journal) Len() int { return j.table.view.Load().live }

// Newest returns the number of the newest record, as Notify does.
func (j *Journal) Newest() uint64 { return j.newest }

// Accepting returns nil if the journal accepts writes, otherwise the reason.
func (j *Journal) Accepting() error { return j.health.accepting() }

// FlushedNow is Flushed with a sync of its own.
func (j *Journal) FlushedNow(ctx context.Context, e *Entry, s Stored) error {
	return j.committer.commit(ctx, s.record(e, j.config.MaxDates > 0))
}

// Done records that e is in the upstream with the ETag that was promised.
func (j *Journal) Done(ctx context.Context, e *Entry) error { return j.FlushedNow(ctx, e, Stored{}) }

// Translate records that e is in the upstream with a different ETag.
func (j *Journal) Translate(ctx context.Context, e *Entry, upstream string) error {
	return j.FlushedNow(ctx, e, Stored{ETag: upstream})
}

// Orphans returns the upstream uploads that have to be aborted.
func (j *Journal) Orphans() []Orphan {
	orphans, _ := j.Garbage()
	return orphans
}

// EmptyPacks returns the packs that hold no entries.
func (j *Journal) EmptyPacks() []Pack {
	_, packs := j.Garbage()
	return packs
}

// Aborted records that an orphan no longer exists in the upstream.
func (j *Journal) Aborted(ctx context.Context, o Orphan) error {
	return j.Uploading(ctx, o.Entry, o.Key, "")
}
