package journal

import (
	"context"

	"github.com/akidb/akigw"
)

// An upstream that encrypts may give an object another ETag than the one that was
// promised to its client. What it is called where is kept here until the key gets
// another object: one record, which takes the place of the entry's own.

// Translation is an ETag that was promised, and what the upstream calls the same
// object.
type Translation struct {
	Key akigw.Key
	// Promised and Upstream are ETags with quotes.
	Promised, Upstream string

	number uint64
}

// Translate says, like Done, that e is in the upstream, but with the ETag upstream.
// Both are remembered, unless the key has a later entry.
func (j *Journal) Translate(ctx context.Context, e *Entry, upstream string) error {
	small := &Entry{Key: e.Key, ETag: e.ETag, Modified: e.Modified}
	return j.commit(ctx, &op{kind: kindTranslate, entry: e.ID, put: small, key: e.Key, text: upstream})
}

// Translation returns what is remembered of the ETags of a key; false if nothing is.
func (j *Journal) Translation(key akigw.Key) (t Translation, ok bool) {
	if j.translated.Load() == 0 {
		return t, false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	it := j.translations[index(key.Bucket, key.Name)]
	if it == nil {
		return t, false
	}
	return Translation{it.entry.Key, it.entry.ETag, it.etag, it.entry.ID}, true
}

// Translates reports whether ETags of a bucket's keys are remembered.
func (j *Journal) Translates(bucket string) bool {
	if j.translated.Load() == 0 {
		return false
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, it := range j.translations {
		if it.entry.Key.Bucket == bucket {
			return true
		}
	}
	return false
}

// Forget drops a translation: the key has another object.
func (j *Journal) Forget(ctx context.Context, t Translation) error {
	return j.commit(ctx, &op{kind: kindDone, entry: t.number, key: t.Key})
}

// applyTranslate, like the function after it, needs mu.
func (j *Journal) applyTranslate(o *op, p place, in *segment) {
	name := index(o.key.Bucket, o.key.Name)
	if it := j.ids[o.entry]; it == nil || it.kind != kindTranslate {
		j.settled(name, o.entry)
	}
	it := j.place(o, p, in)
	if it == nil {
		return
	}
	if items, _ := j.keys.Get(name); len(items) > 0 {
		return // a later one is going to take its place
	}
	it.etag = o.text
	j.translations[name] = it
	j.translated.Add(1)
	j.hold(it)
}

// untranslate drops what is remembered of a key up to an entry.
func (j *Journal) untranslate(name string, entry uint64) {
	if it := j.translations[name]; it != nil && it.entry.ID <= entry {
		delete(j.translations, name)
		j.translated.Add(-1)
		j.free(it)
	}
}
