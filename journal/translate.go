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

// Translate says, like Done, that e is in the upstream, but with the ETag upstream.
// Both are remembered, unless the key has a later entry.
func (j *Journal) Translate(ctx context.Context, e *Entry, upstream string) error {
	return j.Flushed(ctx, e, Stored{ETag: upstream})
}

// Translation returns what is remembered of the ETags and dates of a key; false if
// nothing is.
func (j *Journal) Translation(key akigw.Key) (t Translation, ok bool) {
	if j.translated.Load() == 0 {
		return j.dates.find(key)
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	it := j.translations[index(key.Bucket, key.Name)]
	if it == nil {
		return j.dates.find(key)
	}
	t = Translation{Key: it.entry.Key, Promised: it.entry.ETag, Upstream: it.etag, PromisedModified: it.entry.Modified, number: it.entry.ID}
	t.dates(it.entry.Header)
	return t, true
}

// Translates reports whether ETags or dates of a bucket's keys are remembered.
func (j *Journal) Translates(bucket string) bool {
	if j.dates.among(bucket) {
		return true
	}
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
