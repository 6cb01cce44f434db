package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// kind says what a record is about. The numbers are on disk.
type kind byte

const (
	kindSegment kind = 1 + iota // the first record of a segment
	kindPut                     // a key has a new body
	kindDelete                  // a key has none
	kindDone                    // all of a key up to an entry is in the upstream
	kindDead                    // an entry is a dead letter
	kindAlive                   // it is not any more
	kindUpload                  // the upstream's upload id of an entry
	kindMark                    // nothing, but what a frame says of what is durable
)

// op is one record in parsed form.
type op struct {
	kind  kind
	entry uint64 // that it is about; 0 in a new Put or Delete: its own number
	put   *Entry // of Put and Delete
	data  []byte // an inline body
	spool uint64 // number of the spool file, 0 for an inline body
	key   akigw.Key
	text  string // a reason, or an upload id
	when  time.Time
	seg   segmentHead
}

// segmentHead is what the first record of a segment says of those before it, so
// that nothing of them can be missing without being missed.
type segmentHead struct {
	id, epoch uint64
	before    uint64 // the segment before this one, 0 for none
	length    int64  // how much of that one counts
	holes     []hole // what is known to be damaged in segments before this one
}

// hole is a damaged stretch of a segment.
type hole struct {
	segment  uint64
	from, to int64
}

const formatVersion = 1

var errRecord = errors.New("malformed journal record")

// encode appends the payload of a record.
func (o *op) encode(b []byte) []byte {
	b = append(b, byte(o.kind))
	switch o.kind {
	case kindSegment:
		b = append(b, formatVersion)
		b = binary.AppendUvarint(b, o.seg.id)
		b = binary.AppendUvarint(b, o.seg.epoch)
		b = binary.AppendUvarint(b, o.seg.before)
		b = binary.AppendUvarint(b, uint64(o.seg.length))
		b = binary.AppendUvarint(b, uint64(len(o.seg.holes)))
		for _, h := range o.seg.holes {
			b = binary.AppendUvarint(b, h.segment)
			b = binary.AppendUvarint(b, uint64(h.from))
			b = binary.AppendUvarint(b, uint64(h.to))
		}
	case kindPut, kindDelete:
		e := o.put
		b = binary.AppendUvarint(b, o.entry)
		b = codec.AppendString(b, e.Key.Bucket)
		b = codec.AppendString(b, e.Key.Name)
		b = codec.AppendTime(b, e.Modified)
		b = codec.AppendString(b, e.ETag)
		b = codec.AppendHeader(b, e.Header)
		b = binary.AppendUvarint(b, uint64(e.Size))
		b = binary.AppendUvarint(b, o.spool)
		b = append(b, o.data...)
	case kindDone, kindDead, kindAlive, kindUpload:
		b = binary.AppendUvarint(b, o.entry)
		b = codec.AppendString(b, o.key.Bucket)
		b = codec.AppendString(b, o.key.Name)
		b = codec.AppendString(b, o.text)
		b = codec.AppendTime(b, o.when)
	}
	return b
}

// decode parses a payload. An inline body is a part of b.
func decode(b []byte) (*op, error) {
	d := codec.NewDecoder(b)
	o := &op{kind: kind(d.Byte())}
	switch o.kind {
	case kindSegment:
		if v := d.Byte(); v != formatVersion {
			return nil, errRecord
		}
		o.seg = segmentHead{id: d.Uvarint(), epoch: d.Uvarint(), before: d.Uvarint(), length: int64(d.Uvarint())}
		for range d.Uvarint() {
			if d.Bad() {
				break
			}
			o.seg.holes = append(o.seg.holes, hole{d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint())})
		}
	case kindPut, kindDelete:
		o.entry = d.Uvarint()
		e := &Entry{Key: akigw.Key{Bucket: d.String(), Name: d.String()}, Deleted: o.kind == kindDelete, Modified: d.Time(), ETag: d.String(), Header: d.Header()}
		e.Size = int64(d.Uvarint())
		o.spool, o.put, o.key = d.Uvarint(), e, e.Key
		o.data = d.Rest()
		if e.Size < 0 || o.spool == 0 && !d.Bad() && int64(len(o.data)) != e.Size {
			return nil, errRecord
		}
	case kindDone, kindDead, kindAlive, kindUpload:
		o.entry = d.Uvarint()
		o.key = akigw.Key{Bucket: d.String(), Name: d.String()}
		o.text, o.when = d.String(), d.Time()
	case kindMark:
	default:
		return nil, errRecord
	}
	if d.Bad() {
		return nil, errRecord
	}
	return o, nil
}

// A frame is what a record is on disk: magic (4 bytes), length of the payload
// (4), CRC32C of all that follows (4), the record's number (8), how much of the
// segment was durable when the record was written (8), and the payload. Numbers
// are little-endian.
const frameHead = 28

var frameMagic = []byte("\xa5jr\n")

// maxPayload bounds a record: a header, and an inline body.
const maxPayload = 2 << 20

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// appendFrame frames a payload.
func appendFrame(b []byte, number uint64, durable int64, payload []byte) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint64(b, uint64(durable))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[start+8:], crc32.Checksum(b[start+12:], castagnoli))
	return b
}

// frame is a record as it was found.
type frame struct {
	number  uint64
	durable int64
	at      int64 // offset of the payload in its segment
	payload []byte
}

// place is what is remembered of a record: its number, how long it is, and where its
// inline body is.
type place struct {
	number uint64
	size   int64 // of the frame
	at     int64
	sum    uint32 // CRC32C of the body
}

func (f frame) place(o *op) place {
	return place{f.number, frameHead + int64(len(f.payload)), f.at + int64(len(f.payload)-len(o.data)), crc32.Checksum(o.data, castagnoli)}
}

// parseFrame reads the frame at the start of b, which is at offset at; size is
// its length, 0 if there is none.
func parseFrame(b []byte, at int64) (f frame, size int) {
	if len(b) < frameHead || !bytes.Equal(b[:4], frameMagic) {
		return f, 0
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxPayload || frameHead+int(n) > len(b) {
		return f, 0
	}
	size = frameHead + int(n)
	if crc32.Checksum(b[12:size], castagnoli) != binary.LittleEndian.Uint32(b[8:]) {
		return f, 0
	}
	return frame{binary.LittleEndian.Uint64(b[12:]), int64(binary.LittleEndian.Uint64(b[20:])), at + frameHead, b[frameHead:size]}, size
}

// Entry is one acknowledged change of a key: a body, or that there is none. It
// is shared and must not be changed.
type Entry struct {
	// ID is the number of the entry: that of its record. Later ones have higher
	// numbers.
	ID  uint64
	Key akigw.Key
	// Deleted says that the key holds nothing from here on (DeleteObject).
	Deleted bool
	Size    int64 // bytes
	// ETag is what was promised to the client, with quotes.
	ETag string
	// Modified is when it was acknowledged: the Last-Modified that was promised.
	Modified time.Time
	// Header is what goes to the upstream with the body, canonical names.
	Header http.Header
}
