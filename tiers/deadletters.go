package tiers

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sort"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
)

// DeadLetter is a write that could not be taken to the upstream.
type DeadLetter struct {
	ID       uint64    `json:"id"`
	Bucket   string    `json:"bucket"`
	Key      string    `json:"key"`
	Deleted  bool      `json:"deleted,omitempty"` // it is a deletion
	Size     int64     `json:"size"`              // bytes
	ETag     string    `json:"etag,omitempty"`
	Modified time.Time `json:"acknowledged"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
}

// DeadLetters are all of them, the oldest first.
func (s *Store) DeadLetters() []DeadLetter {
	all := []DeadLetter{}
	if s.back == nil {
		return all
	}
	for _, d := range s.back.journal.DeadLetters() {
		all = append(all, DeadLetter{d.ID, d.Key.Bucket, d.Key.Name, d.Deleted, d.Size, d.ETag, d.Modified, d.Reason, d.Since})
	}
	return all
}

// ErrNoDeadLetter: there is no dead letter of that number.
var ErrNoDeadLetter = errors.New("no such dead letter: see akigw dead-letters list")

// dead finds a dead letter by its number.
func (s *Store) dead(id uint64) (*journal.Entry, error) {
	if s.back != nil {
		for _, d := range s.back.journal.DeadLetters() {
			if d.ID == id {
				return d.Entry, nil
			}
		}
	}
	return nil, ErrNoDeadLetter
}

// RetryDeadLetter has a dead letter tried again.
func (s *Store) RetryDeadLetter(ctx context.Context, id uint64) error {
	e, err := s.dead(id)
	if err != nil {
		return err
	}
	return s.back.journal.Revive(ctx, e)
}

// DropDeadLetter gives a dead letter up: its key holds from then on what the
// upstream has.
func (s *Store) DropDeadLetter(ctx context.Context, id uint64) error {
	e, err := s.dead(id)
	if err != nil {
		return err
	}
	defer s.Begin(e.Key).End()
	return s.back.journal.Flushed(ctx, e, journal.Stored{})
}

// DeadLetterBody opens the body of a dead letter, for an operator to keep.
func (s *Store) DeadLetterBody(ctx context.Context, id uint64) (body io.ReadSeeker, closer io.Closer, err error) {
	e, err := s.dead(id)
	if err != nil {
		return nil, nil, err
	}
	if key, at, packed := s.back.journal.Packs.Find(e); packed {
		data, _, err := s.fromPack(ctx, e, key, at)
		return bytes.NewReader(data), io.NopCloser(nil), err
	}
	b, err := s.back.journal.Body(e, 0, e.Size)
	if err != nil {
		return nil, nil, err
	}
	return b, b, nil
}

// ArchiveDeadLetters writes the bodies of all dead letters into one object upstream: a
// pack, whose index names each by bucket, slash and key. They stay dead letters. It
// returns how many there are in it; deletions have no body, and are left out.
func (s *Store) ArchiveDeadLetters(ctx context.Context, to akigw.Key) (n int, err error) {
	if s.back == nil {
		return 0, ErrNoDeadLetter
	}
	bodies := &deadBodies{ctx: ctx, store: s}
	for _, d := range s.back.journal.DeadLetters() {
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
	defer s.Begin(to).End()
	return len(bodies.entries), s.back.pool.Send(ctx, to, pack.ContentType, bodies, bodies.end+int64(len(bodies.tail)))
}

// deadBodies are the bodies of dead letters one after the other, and the index of the
// pack that they make. It may be read by several at a time.
type deadBodies struct {
	ctx     context.Context // of the archiving; an io.ReaderAt has no other way to it
	store   *Store
	entries []*journal.Entry
	objects []pack.Object // theirs
	end     int64         // of the last body
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

// read reads a stretch of the body of an entry.
func (d *deadBodies) read(e *journal.Entry, p []byte, from int64) error {
	body, _, err := d.store.pendingBody(d.ctx, e, akigw.Range{Start: from, Length: int64(len(p))})
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
