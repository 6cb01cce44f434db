package journal

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// kind says what a record is about. The numbers are on disk.
type kind byte

const (
	kindSegment   kind = 1 + iota // the first record of a segment
	kindPut                       // a key has a new body
	kindDelete                    // a key has none
	kindDone                      // all of a key up to an entry is in the upstream
	kindDead                      // an entry is a dead letter
	kindAlive                     // it is not any more
	kindUpload                    // the upstream's upload id of an entry
	kindMark                      // nothing, but what a frame says of what is durable
	kindBegin                     // a client has begun a multipart upload
	kindPart                      // it has a part
	kindComplete                  // a key has a new body, made of parts; the upload is over
	kindAbort                     // the upload is over
	kindPack                      // there may be a pack at the upstream
	kindPacked                    // the body of an entry is in a pack
	kindUnpacked                  // a pack is gone from the upstream
	kindTranslate                 // an entry is in the upstream, with another ETag
)

// changes reports whether the record changes what a key holds, or what becomes of
// it.
func (k kind) changes() bool {
	return k <= kindUpload && k != kindSegment || k == kindComplete || k == kindPacked || k == kindTranslate
}

// op is one record in parsed form.
type op struct {
	kind   kind
	entry  uint64   // that it is about; 0 in a new Put, Delete, Begin, Part or Complete: its own number
	put    *Entry   // of those
	data   []byte   // an inline body
	spool  uint64   // number of the spool file, 0 for an inline body
	upload uint64   // number of the upload, of Part and Complete
	part   int      // number of a part in its upload
	spools []uint64 // those of the parts of a Complete
	checks []uint32 // CRC32C of the tables of its spool files; nil if an older gateway wrote the record
	pack   uint64   // number of the pack, of Packed
	offset int64    // of the body in the pack
	busy   bool     // a pack is being uploaded; not on disk
	dated  *dated   // dates of Done, nil for none; when is the promised one
	order  uint64   // of dated, 0 for the record's own number
	floor  uint64   // dates up to this order have left
	key    akigw.Key
	text   string // a reason, an upload id, an ETag
	when   time.Time
	seg    segmentHead
}

// segmentHead is what the first record of a segment says of those before it, so
// that nothing of them can be missing without being missed.
type segmentHead struct {
	id, epoch uint64
	before    uint64 // the segment before this one, 0 for none
	length    int64  // how much of that one counts
	holes     []hole // what is known to be damaged in segments before this one
	nonce     uint64 // of the epoch that wrote it, 0 if an older gateway did
}

// hole is a damaged stretch of a segment.
type hole struct {
	segment  uint64
	from, to int64
}

// formatVersion is that of what is written. Version 1, which is read as well, has
// neither uploads, nor packs, nor translations.
const formatVersion = 2

const errRecord = akigw.Error("malformed journal record")

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
		if o.seg.nonce != 0 { // older gateways do not look behind the holes
			b = binary.LittleEndian.AppendUint64(b, o.seg.nonce)
		}
	case kindPut, kindDelete, kindBegin, kindPart, kindComplete, kindPack, kindPacked, kindTranslate:
		e := o.put
		b = binary.AppendUvarint(b, o.entry)
		b = codec.AppendString(b, e.Key.Bucket)
		b = codec.AppendString(b, e.Key.Name)
		b = codec.AppendTime(b, e.Modified)
		b = codec.AppendString(b, e.ETag)
		b = codec.AppendHeader(b, e.Header)
		b = binary.AppendUvarint(b, uint64(e.Size))
		b = binary.AppendUvarint(b, o.spool)
		switch o.kind {
		case kindBegin:
			b = codec.AppendString(b, e.UploadID)
		case kindPart:
			b = binary.AppendUvarint(b, o.upload)
			b = binary.AppendUvarint(b, uint64(o.part))
		case kindPacked:
			b = binary.AppendUvarint(b, o.pack)
			b = binary.AppendUvarint(b, uint64(o.offset))
			b = codec.AppendString(b, o.text)
		case kindTranslate:
			b = codec.AppendString(b, o.text)
		case kindComplete:
			b = codec.AppendString(b, e.UploadID)
			b = binary.AppendUvarint(b, o.upload)
			b = binary.AppendUvarint(b, uint64(len(e.Parts)))
			for i, p := range e.Parts {
				b = binary.AppendUvarint(b, o.spools[i])
				b = binary.AppendUvarint(b, uint64(p.Number))
				b = binary.AppendUvarint(b, uint64(p.Size))
				b = codec.AppendString(b, p.ETag)
				b = codec.AppendHeader(b, p.Header)
			}
		}
		for _, sum := range o.checks { // older gateways read past them: where the body would be, there is none
			b = binary.LittleEndian.AppendUint32(b, sum)
		}
		b = append(b, o.data...)
	case kindDone, kindDead, kindAlive, kindUpload, kindAbort, kindUnpacked:
		b = binary.AppendUvarint(b, o.entry)
		b = codec.AppendString(b, o.key.Bucket)
		b = codec.AppendString(b, o.key.Name)
		if o.dated != nil {
			b = codec.AppendString(b, o.dated.encode(o.order, o.floor))
		} else {
			b = codec.AppendString(b, o.text)
		}
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
		if v := d.Byte(); v < 1 || v > formatVersion {
			return nil, errRecord
		}
		o.seg = segmentHead{id: d.Uvarint(), epoch: d.Uvarint(), before: d.Uvarint(), length: int64(d.Uvarint())}
		for range d.Uvarint() {
			if d.Bad() {
				break
			}
			o.seg.holes = append(o.seg.holes, hole{d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint())})
		}
		if rest := d.Rest(); len(rest) >= 8 {
			o.seg.nonce = binary.LittleEndian.Uint64(rest)
		}
	case kindPut, kindDelete, kindBegin, kindPart, kindComplete, kindPack, kindPacked, kindTranslate:
		o.entry = d.Uvarint()
		e := &Entry{Key: akigw.Key{Bucket: d.String(), Name: d.String()}, Deleted: o.kind == kindDelete, Modified: d.Time(), ETag: d.String(), Header: d.Header()}
		e.Size = int64(d.Uvarint())
		o.spool, o.put, o.key = d.Uvarint(), e, e.Key
		switch o.kind {
		case kindBegin:
			e.UploadID = d.String()
		case kindPart:
			o.upload, o.part = d.Uvarint(), int(d.Uvarint())
		case kindPacked:
			o.pack, o.offset, o.text = d.Uvarint(), int64(d.Uvarint()), d.String()
			if o.offset < 0 {
				return nil, errRecord
			}
		case kindTranslate:
			o.text = d.String()
		case kindComplete:
			e.UploadID, o.upload = d.String(), d.Uvarint()
			size := int64(0)
			for n := d.Uvarint(); n > 0 && !d.Bad(); n-- {
				o.spools = append(o.spools, d.Uvarint())
				p := Part{Number: int(d.Uvarint()), Size: int64(d.Uvarint()), ETag: d.String(), Header: d.Header()}
				e.Parts = append(e.Parts, p)
				size += p.Size
			}
			if size != e.Size {
				return nil, errRecord
			}
		}
		o.data = d.Rest()
		inline := o.spool == 0 && o.kind != kindComplete && o.kind != kindPacked
		o.takeChecks()
		if e.Size < 0 || inline && !d.Bad() && int64(len(o.data)) != e.Size {
			return nil, errRecord
		}
	case kindDone, kindDead, kindAlive, kindUpload, kindAbort, kindUnpacked:
		o.entry = d.Uvarint()
		o.key = akigw.Key{Bucket: d.String(), Name: d.String()}
		o.text, o.when = d.String(), d.Time()
		if o.kind == kindDone && o.text != "" {
			o.dated, o.order, o.floor = decodeDated(o.text)
			o.text = ""
		}
	case kindMark:
	default:
		return nil, errRecord
	}
	if d.Bad() {
		return nil, errRecord
	}
	return o, nil
}

// takeChecks takes the checksums of the tables of the spool files from where an inline body
// would be.
func (o *op) takeChecks() {
	n := len(o.spools)
	if o.spool != 0 {
		n = 1
	}
	if n == 0 || len(o.data) < 4*n {
		return
	}
	for range n {
		o.checks = append(o.checks, binary.LittleEndian.Uint32(o.data))
		o.data = o.data[4:]
	}
}

// A frame is what a record is on disk: magic (4 bytes), length of the payload
// (4), CRC32C of all that follows (4), the record's number (8), how much of the
// segment was durable when the record was written (8), and the payload. Numbers
// are little-endian.
const frameHead = 28

const frameMagic = "\xa5jr\n"

// maxPayload bounds a record: a header, and an inline body.
const maxPayload = 2 << 20

// appendFrame frames a payload.
func appendFrame(b []byte, number uint64, durable int64, payload []byte) []byte {
	start := len(b)
	b = append(b, frameMagic...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(payload)))
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, number)
	b = binary.LittleEndian.AppendUint64(b, uint64(durable))
	b = append(b, payload...)
	binary.LittleEndian.PutUint32(b[start+8:], codec.Checksum(b[start+12:]))
	return b
}

// frame is a record as it was found.
type frame struct {
	number  uint64
	durable int64
	at      int64 // offset of the payload in its segment
	payload []byte
}

// place is where a record is: its number, its segment, how long it is, and where its inline
// body is.
type place struct {
	number  uint64
	segment uint64
	size    int64  // of the frame
	at      int64  // of the body in the segment
	sum     uint32 // CRC32C of the body
}

// place is where the record of a frame is, in a segment.
func (f frame) place(o *op, segment uint64) place {
	return place{f.number, segment, frameHead + int64(len(f.payload)), f.at + int64(len(f.payload)-len(o.data)), codec.Checksum(o.data)}
}

// parseFrame reads the frame at the start of b, which is at offset at; size is
// its length, 0 if there is none.
func parseFrame(b []byte, at int64) (f frame, size int) {
	if len(b) < frameHead || string(b[:4]) != frameMagic {
		return f, 0
	}
	n := binary.LittleEndian.Uint32(b[4:])
	if n > maxPayload || frameHead+int(n) > len(b) {
		return f, 0
	}
	size = frameHead + int(n)
	if codec.Checksum(b[12:size]) != binary.LittleEndian.Uint32(b[8:]) {
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
	// Parts are what the body was uploaded in, in order; nil if it came in one
	// piece. UploadID is what the client called that upload.
	Parts    []Part
	UploadID string
}

// Part is a part of a multipart upload.
type Part struct {
	// Number is the client's, 1 to 10,000, and rises.
	Number int
	Size   int64 // bytes
	// ETag is the MD5 of the part, with quotes.
	ETag string
	// Header are its checksums (x-amz-checksum-*), canonical names.
	Header http.Header
	// Modified is when it was acknowledged. Of a completed upload it is zero.
	Modified time.Time

	// Entry is that of the part itself, for Journal.Body, if Uploads.Parts returned it; else nil.
	Entry *Entry
}
