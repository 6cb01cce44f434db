package writeback

import (
	"bytes"
	"context"
	"io"
	"sort"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/writeback/overlay"
)

// DeadLetter is a write that could not be uploaded.
type DeadLetter struct {
	ID       uint64    `json:"id"`
	Bucket   string    `json:"bucket"`
	Key      string    `json:"key"`
	Deleted  bool      `json:"deleted,omitempty"` // whether it is a deletion
	Size     int64     `json:"size"`              // bytes
	ETag     string    `json:"etag,omitempty"`
	Modified time.Time `json:"acknowledged"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
}

// ErrNoDeadLetter: there is no dead letter with that number.
const ErrNoDeadLetter = akigw.Error("no such dead letter: see akigw dead-letters list")

// DeadLetters manages the writes that could not be uploaded, for an operator.
type DeadLetters struct {
	journal *journal.Journal // nil: nothing is written back
	bodies  *overlay.Overlay
	cache   overlay.Cache
	send    func(ctx context.Context, to akigw.Key, contentType string, body io.ReaderAt, size int64) error
}

// List returns all dead letters, the oldest first.
func (l *DeadLetters) List() []DeadLetter {
	all := []DeadLetter{}
	for _, d := range l.entries() {
		all = append(all, DeadLetter{d.ID, d.Key.Bucket, d.Key.Name, d.Deleted, d.Size, d.ETag, d.Modified, d.Reason, d.Since})
	}
	return all
}

// entries returns the dead letters of the journal.
func (l *DeadLetters) entries() []journal.DeadLetter {
	if l.journal == nil {
		return nil
	}
	return l.journal.DeadLetters()
}

// find finds a dead letter by its number.
func (l *DeadLetters) find(id uint64) (*journal.Entry, error) {
	for _, d := range l.entries() {
		if d.ID == id {
			return d.Entry, nil
		}
	}
	return nil, ErrNoDeadLetter
}

// Retry makes a dead letter pending again.
func (l *DeadLetters) Retry(ctx context.Context, id uint64) error {
	e, err := l.find(id)
	if err != nil {
		return err
	}
	return l.journal.Revive(ctx, e)
}

// Drop deletes a dead letter: from then on its key holds what the upstream has.
func (l *DeadLetters) Drop(ctx context.Context, id uint64) error {
	e, err := l.find(id)
	if err != nil {
		return err
	}
	defer l.cache.Begin(e.Key).End()
	dropped := make(chan error, 1)
	if err := l.journal.Flushed(e, journal.Stored{}, func(err error) { dropped <- err }); err != nil {
		return err
	}
	select {
	case err := <-dropped:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Body opens the body of a dead letter, so that an operator can save it. The caller closes it.
func (l *DeadLetters) Body(ctx context.Context, id uint64) (io.ReadSeekCloser, error) {
	e, err := l.find(id)
	if err != nil {
		return nil, err
	}
	return l.bodies.File(ctx, l.cache, e)
}

// Archive writes the bodies of all dead letters into one object in the upstream: a pack, whose
// index names each by bucket, slash and key. They stay dead letters. It returns how many bodies it
// contains; deletions have none and are left out.
func (l *DeadLetters) Archive(ctx context.Context, to akigw.Key) (n int, err error) {
	bodies := &deadBodies{ctx: ctx, letters: l}
	for _, d := range l.entries() {
		if !d.Deleted {
			bodies.entries = append(bodies.entries, d.Entry)
			bodies.objects = append(bodies.objects, pack.Object{Name: d.Key.Bucket + "/" + d.Key.Name, Size: d.Size, ETag: d.ETag, Modified: d.Modified, Header: d.Header})
		}
	}
	if len(bodies.entries) == 0 {
		return 0, ErrNoDeadLetter
	}
	bodies.tail = pack.Layout(bodies.objects)
	last := bodies.objects[len(bodies.objects)-1]
	bodies.end = last.Offset + last.Size
	return len(bodies.entries), l.send(ctx, to, pack.ContentType, bodies, bodies.end+int64(len(bodies.tail)))
}

// deadBodies are the concatenated bodies of dead letters, and the index of the pack that they make.
// It is safe for concurrent reads.
type deadBodies struct {
	ctx     context.Context // for the whole archiving, because io.ReaderAt takes no context
	letters *DeadLetters
	entries []*journal.Entry
	objects []pack.Object // the index, in order
	end     int64         // offset after the last body
	tail    []byte
}

// ReadAt implements io.ReaderAt.
func (d *deadBodies) ReadAt(p []byte, at int64) (n int, err error) {
	for n < len(p) && at+int64(n) < d.end {
		from := at + int64(n)
		i := sort.Search(len(d.objects), func(i int) bool { return d.objects[i].Offset+d.objects[i].Size > from })
		o := d.objects[i]
		want := p[n:min(int64(len(p)), int64(n)+o.Offset+o.Size-from)]
		if err := d.read(d.entries[i], want, from-o.Offset); err != nil {
			return n, err
		}
		n += len(want)
	}
	if n < len(p) {
		k, err := bytes.NewReader(d.tail).ReadAt(p[n:], at+int64(n)-d.end)
		return n + k, err
	}
	return n, nil
}

// read reads a range of the body of an entry.
func (d *deadBodies) read(e *journal.Entry, p []byte, from int64) error {
	body, _, err := d.letters.bodies.Body(d.ctx, d.letters.cache, e, akigw.Range{Start: from, Length: int64(len(p))})
	if err != nil {
		return err
	}
	defer body.Close()
	for len(p) > 0 {
		data, err := body.Next()
		if err != nil {
			return err
		}
		p = p[copy(p, data):]
	}
	return nil
}
