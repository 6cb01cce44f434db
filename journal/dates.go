package journal

import (
	"encoding/binary"
	"net/http"
	"strconv"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// A client is promised a Last-Modified when its write is acknowledged. The upstream sets a later
// date when the object is flushed. The journal keeps both dates, with what identifies that version
// of the object, so that clients keep seeing the promised one. The pair is part of the done record:
// it is durable when the entry leaves the overlay. An older release reads these records as plain
// done records.
//
// The number of pairs is bounded (Config.MaxDates); the oldest pair is dropped first. Each takes
// about 0.3 KiB of memory and 0.1 KiB in a segment, plus its key.

// Stored is how the upstream describes a flushed object.
type Stored struct {
	// ETag is its ETag, with quotes, if it differs from the promised one, else "".
	ETag string
	// Modified is its Last-Modified in whole seconds, zero if unknown.
	Modified time.Time
	// Spread is not 0 if Last-Modified is only known within bounds: it is between Spread seconds
	// before Modified and a second after it.
	Spread int
	// Version is its version ID, "" for none.
	Version string
}

// DateBounds returns the earliest and the latest that a date can be which is known with a spread, see
// Stored.Spread. They are equal if it is known exactly.
func DateBounds(date time.Time, spread int) (earliest, latest time.Time) {
	if spread == 0 {
		return date, date
	}
	return date.Add(-time.Duration(spread) * time.Second), date.Add(time.Second)
}

// record returns the record that says that an entry is in the upstream, stored as s. dates asks to
// remember its dates.
func (s Stored) record(e *Entry, dates bool) *op {
	if s.ETag != "" {
		small := &Entry{Key: e.Key, ETag: e.ETag, Modified: e.Modified, Header: s.header(e.Size)}
		return &op{kind: kindTranslate, entry: e.ID, put: small, key: e.Key, text: s.ETag}
	}
	o := &op{kind: kindDone, entry: e.ID, key: e.Key}
	if dates && !s.Modified.IsZero() && !e.Modified.IsZero() && !e.Deleted {
		o.when, o.dated = e.Modified, &dated{stored: s.Modified.Unix(), spread: s.Spread, size: e.Size, etag: e.ETag, version: s.Version}
	}
	return o
}

// dated is the date pair of an object in the upstream, and what identifies the object.
type dated struct {
	stored  int64 // Last-Modified in the upstream, in seconds since 1970
	spread  int   // see Stored.Spread
	size    int64 // bytes
	etag    string
	version string // version ID, "" for none

	key      akigw.Key
	entry    uint64
	order    uint64 // number of the record that first stored the pair
	promised int64  // Last-Modified as it was promised, in nanoseconds since 1970
	segment  uint64
	record   int64 // size in the segment, bytes
}

// datedVersion is the first byte of the encoded pair in a done record.
const datedVersion = 1

// encode encodes a pair for a done record. order is 0 in the first record of the pair, and then
// means the record's own number.
func (d *dated) encode(order, floor uint64) string {
	b := []byte{datedVersion}
	for _, n := range [...]uint64{order, floor, uint64(d.stored), uint64(d.size)} {
		b = binary.AppendUvarint(b, n)
	}
	b = codec.AppendString(b, d.etag)
	b = codec.AppendString(b, d.version)
	if d.spread > 0 { // an older release ignores it, and takes the date for exact
		b = binary.AppendUvarint(b, uint64(d.spread))
	}
	return string(b)
}

// decodeDated parses what encode wrote. It returns nil for anything else, such as a later release's
// format; then clients see the upstream's date.
func decodeDated(text string) (d *dated, order, floor uint64) {
	in := codec.NewDecoder([]byte(text))
	if in.Byte() != datedVersion {
		return nil, 0, 0
	}
	d = &dated{}
	order, floor, d.stored, d.size = in.Uvarint(), in.Uvarint(), int64(in.Uvarint()), int64(in.Uvarint())
	d.etag, d.version = in.String(), in.String()
	if len(in.Rest()) > 0 {
		d.spread = int(in.Uvarint())
	}
	if in.Bad() || d.spread < 0 {
		return nil, 0, 0
	}
	return d, order, floor
}

// header encodes the dates for a translate record. An older release keeps the header and ignores
// it.
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

// dates reads the dates from the header of a translate record.
func (t *Translation) dates(h http.Header) {
	modified, err := http.ParseTime(h.Get("Last-Modified"))
	size, sizeErr := strconv.ParseInt(h.Get("Content-Length"), 10, 64)
	if err == nil && sizeErr == nil {
		t.UpstreamModified, t.Size, t.Version = modified, size, h.Get("X-Amz-Version-Id")
	}
}

// done returns a done record that repeats a pair.
func (d *dated) done() *op {
	return &op{kind: kindDone, entry: d.entry, key: d.key, when: time.Unix(0, d.promised), dated: d, order: d.order}
}
