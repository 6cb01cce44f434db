package journal

import (
	"context"
	"encoding/binary"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tidwall/btree"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// A client was promised a Last-Modified when its write was acknowledged. The upstream
// dates the object when it is flushed. Both dates are kept here, with what tells that
// version of the object from any other, so that clients go on seeing the promised one.
// The pair is a part of the done record: it is durable when the entry leaves the overlay.
// An older release reads these records as plain done records.
//
// The number of pairs is bounded (Config.MaxDates): the pair that was recorded first
// leaves first. Each takes about 0.3 KiB of memory and 0.1 KiB in a segment, plus its key.

// Stored is how the upstream describes an object that was flushed.
type Stored struct {
	// ETag is its ETag, with quotes, if that is another one than was promised, else "".
	ETag string
	// Modified is its Last-Modified, in whole seconds, zero if it is not known.
	Modified time.Time
	// Version is its version id, "" for none.
	Version string
}

// Flushed says, like Done, that e is in the upstream, where it is stored as s. The ETag
// and the Last-Modified that were promised are remembered where the upstream has others,
// unless the key has a later entry.
func (j *Journal) Flushed(ctx context.Context, e *Entry, s Stored) error {
	if s.ETag != "" {
		small := &Entry{Key: e.Key, ETag: e.ETag, Modified: e.Modified, Header: s.header(e.Size)}
		return j.commit(ctx, &op{kind: kindTranslate, entry: e.ID, put: small, key: e.Key, text: s.ETag})
	}
	o := &op{kind: kindDone, entry: e.ID, key: e.Key}
	if !s.Modified.IsZero() && !e.Modified.IsZero() && !e.Deleted && j.config.MaxDates > 0 {
		o.when, o.dated = e.Modified, &dated{stored: s.Modified.Unix(), size: e.Size, etag: e.ETag, version: s.Version}
	}
	return j.commit(ctx, o)
}

// dated is the pair of dates of an object in the upstream, and what it is known by.
type dated struct {
	stored  int64 // Last-Modified in the upstream, in seconds since 1970
	size    int64 // bytes
	etag    string
	version string // "" for none

	key      akigw.Key
	entry    uint64
	order    uint64 // number of the record that first said so
	promised int64  // Last-Modified as it was promised, in nanoseconds since 1970
	segment  *segment
	record   int64 // bytes in the segment
}

// dates are all pairs. They change under the journal's mutex and their own, so either is
// enough to read them; readers of objects take only their own.
type dates struct {
	mu      sync.RWMutex
	buckets map[string]map[string]*dated // by bucket and key
	orders  btree.Map[uint64, *dated]    // by order
	floor   uint64                       // pairs up to this order have left to keep the bound
	count   atomic.Int64                 // nobody takes a mutex while there are none
}

// datedVersion is the first byte of what a done record says of dates.
const datedVersion = 1

// encode is what a done record says of a pair. order is 0 in the record that first says
// so: then it is the record's own number.
func (d *dated) encode(order, floor uint64) string {
	b := []byte{datedVersion}
	for _, n := range [...]uint64{order, floor, uint64(d.stored), uint64(d.size)} {
		b = binary.AppendUvarint(b, n)
	}
	b = codec.AppendString(b, d.etag)
	b = codec.AppendString(b, d.version)
	return string(b)
}

// decodeDated parses what encode wrote. It returns nil for anything else, such as what a
// later release may write: then the upstream's date is shown.
func decodeDated(text string) (d *dated, order, floor uint64) {
	in := codec.NewDecoder([]byte(text))
	if in.Byte() != datedVersion {
		return nil, 0, 0
	}
	d = &dated{}
	order, floor, d.stored, d.size = in.Uvarint(), in.Uvarint(), int64(in.Uvarint()), int64(in.Uvarint())
	d.etag, d.version = in.String(), in.String()
	if in.Bad() {
		return nil, 0, 0
	}
	return d, order, floor
}

// header is what a translate record says of dates. An older release keeps it and does not
// look at it.
func (s Stored) header(size int64) http.Header {
	if s.Modified.IsZero() {
		return nil
	}
	h := http.Header{"Last-Modified": {s.Modified.UTC().Format(http.TimeFormat)}, "Content-Length": {strconv.FormatInt(size, 10)}}
	if s.Version != "" {
		h["X-Amz-Version-Id"] = []string{s.Version}
	}
	return h
}

// dates adds what a translate record says of dates.
func (t *Translation) dates(h http.Header) {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	size, sizeErr := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err == nil && sizeErr == nil {
		t.UpstreamModified, t.Size, t.Version = modified, size, h.Get("X-Amz-Version-Id")
	}
}

// find returns what is known of a key.
func (d *dates) find(key akigw.Key) (t Translation, ok bool) {
	if d.count.Load() == 0 {
		return t, false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	p := d.buckets[key.Bucket][key.Name]
	if p == nil {
		return t, false
	}
	return Translation{Key: p.key, Promised: p.etag, Upstream: p.etag, PromisedModified: time.Unix(0, p.promised), UpstreamModified: time.Unix(p.stored, 0), Size: p.size, Version: p.version, number: p.entry}, true
}

// among reports whether something is known of a key of a bucket.
func (d *dates) among(bucket string) bool {
	if d.count.Load() == 0 {
		return false
	}
	d.mu.RLock()
	defer d.mu.RUnlock()
	return len(d.buckets[bucket]) > 0
}

// makeRoom drops pairs until those that are about to be written fit the bound, so that
// their records can say which have left. It is the syncer's.
func (j *Journal) makeRoom(batch []*writing) {
	j.mu.Lock()
	defer j.mu.Unlock()
	var ops []*op
	added := 0
	for _, w := range batch {
		for _, o := range w.ops {
			if o.dated != nil {
				ops = append(ops, o)
			}
		}
	}
	for _, o := range ops {
		if j.dates.buckets[o.key.Bucket][o.key.Name] == nil {
			added++
		}
	}
	if len(ops) == 0 {
		return
	}
	j.trimDates(j.config.MaxDates - added)
	for i, o := range ops {
		o.floor = j.dates.floor
		if i < added-j.config.MaxDates {
			o.dated = nil // it would leave at once
		}
	}
}

// applyDone keeps the pair of a done record, or drops what is known up to an entry. It,
// like the functions after it, needs mu.
func (j *Journal) applyDone(o *op, p place, in *segment) {
	older := j.dates.buckets[o.key.Bucket][o.key.Name]
	if older != nil && older.entry > o.entry {
		return
	}
	if older != nil {
		j.dropDate(older)
	}
	if o.dated == nil {
		return
	}
	d := *o.dated
	d.key, d.entry, d.order, d.promised, d.segment, d.record = o.key, o.entry, o.order, o.when.UnixNano(), in, p.size
	if d.order == 0 {
		d.order = p.number
	}
	if o.floor > j.dates.floor { // at a start: records of those that left may be here yet
		j.forgetDates(o.floor)
	}
	if d.order > j.dates.floor {
		j.addDate(&d)
	}
}

// HideDates drops the dates of a translation at once. It is Forget that keeps them from
// being back after a restart.
func (j *Journal) HideDates(t Translation) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if d := j.dates.buckets[t.Key.Bucket][t.Key.Name]; d != nil && d.entry == t.number {
		j.dropDate(d)
	}
}

func (j *Journal) addDate(d *dated) {
	j.dates.mu.Lock()
	defer j.dates.mu.Unlock()
	names := j.dates.buckets[d.key.Bucket]
	if names == nil {
		names = map[string]*dated{}
		if j.dates.buckets == nil {
			j.dates.buckets = map[string]map[string]*dated{}
		}
		j.dates.buckets[d.key.Bucket] = names
	}
	names[d.key.Name] = d
	j.dates.orders.Set(d.order, d)
	j.dates.count.Add(1)
	d.segment.dates[d] = struct{}{}
	d.segment.datedBytes += d.record
	j.records += d.record
}

func (j *Journal) dropDate(d *dated) {
	j.dates.mu.Lock()
	defer j.dates.mu.Unlock()
	names := j.dates.buckets[d.key.Bucket]
	if delete(names, d.key.Name); len(names) == 0 {
		delete(j.dates.buckets, d.key.Bucket)
	}
	j.dates.orders.Delete(d.order)
	j.dates.count.Add(-1)
	delete(d.segment.dates, d)
	d.segment.datedBytes -= d.record
	j.records -= d.record
}

// trimDates drops the oldest pairs until limit are left.
func (j *Journal) trimDates(limit int) {
	for j.dates.orders.Len() > max(limit, 0) {
		order, d, _ := j.dates.orders.Min()
		j.dropDate(d)
		j.dates.floor = max(j.dates.floor, order)
	}
}

// forgetDates drops the pairs up to an order: they had left when a record was written.
func (j *Journal) forgetDates(floor uint64) {
	j.dates.floor = floor
	for {
		order, d, ok := j.dates.orders.Min()
		if !ok || order > floor {
			return
		}
		j.dropDate(d)
	}
}

// datesOf are the records of the pairs of a segment, or of some of them.
func (j *Journal) datesOf(s *segment) (ops []*op) {
	size := int64(0)
	for d := range s.dates {
		ops = append(ops, &op{kind: kindDone, entry: d.entry, key: d.key, when: time.Unix(0, d.promised), dated: d, order: d.order})
		if size += d.record; size > maxBatch {
			break
		}
	}
	return ops
}

// onlyDates reports whether a segment holds nothing but dates, and so few or so small a
// number of bytes that writing them once more is cheaper than keeping the segment. Without
// this a journal whose writes are all upstream would not give up its segments.
func (j *Journal) onlyDates(s *segment) bool {
	few := s.datedBytes <= s.size/4 || s.size < j.config.SegmentBytes/4
	return len(s.dates) > 0 && len(s.items)+len(s.spoils) == 0 && few
}
