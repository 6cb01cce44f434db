package buckets

import (
	"maps"
	"slices"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/writeback/facts"
)

// Note says why writes to one bucket are not acknowledged in the journal, or pending ones are not
// uploaded.
type Note struct {
	Bucket string `json:"bucket"`
	// Reason is why all new writes go through, "" if they do not: absent, forbidden, versioned,
	// encrypted, etags or unreadable.
	Reason  string `json:"reason,omitempty"`
	Meaning string `json:"meaning,omitempty"`
	// Paused means that pending writes are not uploaded, for Reason. Remedy ends that.
	Paused bool   `json:"paused,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	// RefusedKinds are unusual kinds of writes that the upstream refused: they go through.
	RefusedKinds []string `json:"refused_kinds,omitempty"`
}

// NoteOf returns the note for a record, nil if there is nothing to say.
func NoteOf(r *facts.Record) *Note {
	n := &Note{Bucket: r.Bucket}
	if why := r.Why(); !r.Asked.IsZero() || why == facts.OtherETags {
		n.Reason, n.Meaning = why.String(), because(why).Meaning()
	}
	for _, kind := range slices.Sorted(maps.Keys(r.Kinds)) {
		if !r.Kinds[kind] {
			n.RefusedKinds = append(n.RefusedKinds, kind)
		}
	}
	if n.Reason == "" && n.RefusedKinds == nil {
		return nil
	}
	return n
}

// Notes returns the notes of all buckets for which keep returns true, those whose pending writes
// are held back first. pending reports whether a bucket has any.
func (b *Buckets) Notes(keep, pending func(bucket string) bool) []Note {
	var paused, rest []Note
	for _, r := range b.book.Select(func(r *facts.Record) bool { return r.Why() != facts.None || len(r.Kinds) > 0 }) {
		n := b.note(&r, pending)
		switch {
		case n == nil || r.ID != b.id(r.Bucket) || !keep(r.Bucket): // the record may be of an upstream that no longer has the bucket
		case n.Paused:
			paused = append(paused, *n)
		default:
			rest = append(rest, *n)
		}
	}
	return append(paused, rest...)
}

// note is NoteOf, with the pause of a bucket that has pending writes.
func (b *Buckets) note(r *facts.Record, pending func(bucket string) bool) *Note {
	n := NoteOf(r)
	why := b.PausedBy(r.Bucket)
	if why == facts.None || !pending(r.Bucket) {
		return n
	}
	if n == nil {
		n = &Note{Bucket: r.Bucket}
	}
	n.Reason, n.Meaning, n.Paused, n.Remedy = why.String(), because(why).Meaning(), true, Remedy(r.Bucket, why)
	return n
}

// Explain says why writes to a key currently go through, as far as that is known without asking the
// upstream; "" if they do not.
func (b *Buckets) Explain(key akigw.Key, pending func(bucket string) bool) string {
	record := facts.Record{ID: b.id(key.Bucket)}
	record.Fact = b.book.Get(record.ID)
	if n := b.note(&record, pending); n != nil && n.Reason != "" {
		text := n.Meaning
		if n.Paused {
			text += "; its pending writes are not uploaded: " + n.Remedy
		}
		return text
	}
	if missing := b.Missing(key, nil); len(missing) > 0 {
		return Kind.Meaning() + ": " + strings.Join(missing, ", ")
	}
	return ""
}
