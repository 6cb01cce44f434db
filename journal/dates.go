package journal

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

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

// record is the record that an entry is in the upstream, where it is stored as s. dates says that
// its dates are to be remembered.
func (s Stored) record(e *Entry, dates bool) *op {
	if s.ETag != "" {
		small := &Entry{Key: e.Key, ETag: e.ETag, Modified: e.Modified, Header: s.header(e.Size)}
		return &op{kind: kindTranslate, entry: e.ID, put: small, key: e.Key, text: s.ETag}
	}
	o := &op{kind: kindDone, entry: e.ID, key: e.Key}
	if dates && !s.Modified.IsZero() && !e.Modified.IsZero() && !e.Deleted {
		o.when, o.dated = e.Modified, &dated{stored: s.Modified.Unix(), size: e.Size, etag: e.ETag, version: s.Version}
	}
	return o
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
	segment  uint64
	record   int64 // bytes in the segment
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

// done is the record that says once more what is known of a pair.
func (d *dated) done() *op {
	return &op{kind: kindDone, entry: d.entry, key: d.key, when: time.Unix(0, d.promised), dated: d, order: d.order}
}
