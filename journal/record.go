package journal

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// kind is the kind of a record. The numbers are stored on disk.
type kind byte

const (
	kindSegment     kind = 1 + iota // the head of a segment
	kindPut                         // a key has a new body
	kindDelete                      // a key has none
	kindDone                        // a key's changes up to an entry are in the upstream
	kindDead                        // an entry is a dead letter
	kindAlive                       // it is pending again
	kindUpload                      // the upstream's upload id of an entry
	kindMark                        // no content; its frame says what is durable
	kindBegin                       // a client has begun a multipart upload
	kindPart                        // the upload has a part
	kindComplete                    // a key has a new body, made of parts; the upload is over
	kindAbort                       // the upload is over
	kindPack                        // there may be a pack in the upstream
	kindPacked                      // the body of an entry is in a pack
	kindUnpacked                    // a pack was deleted from the upstream
	kindTranslate                   // an entry is in the upstream with another ETag
	kindRecord                      // a stream has a record
	kindRecordsDone                 // records of streams are in the upstream
)

// changes reports whether the record changes the content of a key, or the fate of an entry.
func (k kind) changes() bool {
	return k <= kindUpload && k != kindSegment || k == kindComplete || k == kindPacked || k == kindTranslate
}

// ofStreams reports whether older releases do not know the kind: that of a record of a stream, and of
// what ends it.
func (k kind) ofStreams() bool { return k == kindRecord || k == kindRecordsDone }

// op is one decoded record.
type op struct {
	kind   kind
	entry  uint64   // the entry it refers to; 0 in a new Put, Delete, Begin, Part or Complete: the record's own number
	put    *Entry   // of these new records
	data   []byte   // inline body
	spool  uint64   // number of the spool file, 0 for an inline body
	upload uint64   // number of the upload, of Part and Complete
	part   int      // number of a part in its upload
	spools []uint64 // spool files of the parts of a Complete
	checks []uint32 // CRC32C of the tables of its spool files; nil in records of older releases
	pack   uint64   // number of the pack, of Packed
	offset int64    // offset of the body in the pack
	busy   bool     // a pack is being uploaded; not on disk
	dated  *dated   // date pair of Done, nil for none; when is the promised date
	order  uint64   // order of dated, 0 for the record's own number
	floor  uint64   // pairs up to this order were dropped
	done   []uint64 // numbers of the records of RecordsDone, in rising order
	key    akigw.Key
	text   string // a reason, an upload ID or an ETag
	when   time.Time
	seg    segmentHead
}

// segmentHead is the first record of a segment. It describes the earlier segments, so that a
// missing one is noticed.
type segmentHead struct {
	id, epoch uint64
	before    uint64 // the segment before this one, 0 for none
	length    int64  // how many bytes of it count
	holes     []hole // known damage in earlier segments
	nonce     uint64 // nonce of the epoch that wrote it, 0 if an older release did
	streams   bool   // the segment may hold records of streams, so its version is 3
}

// hole is a damaged range of a segment.
type hole struct {
	segment  uint64
	from, to int64
}

// formatVersion is the version of a segment without records of streams. Version 1 can be read as
// well; it has neither uploads, nor packs, nor translations. A segment that may hold records of
// streams has streamsVersion: a release that does not know them cannot read its head either, takes
// that for damage, and so keeps everything and acknowledges nothing until an operator looks at it.
const (
	formatVersion  = 2
	streamsVersion = 3
)

func (h *segmentHead) version() byte {
	if h.streams {
		return streamsVersion
	}
	return formatVersion
}

const errRecord = akigw.Error("malformed journal record")

// encode appends the payload of a record.
func (o *op) encode(b []byte) []byte {
	b = append(b, byte(o.kind))
	switch o.kind {
	case kindSegment:
		b = append(b, o.seg.version())
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
		if o.seg.nonce != 0 { // older releases ignore what follows the holes
			b = binary.LittleEndian.AppendUint64(b, o.seg.nonce)
		}
	case kindPut, kindDelete, kindBegin, kindPart, kindComplete, kindPack, kindPacked, kindTranslate, kindRecord:
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
		for _, sum := range o.checks { // older releases skip them: they are where an inline body would be
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
	case kindRecordsDone:
		b = binary.AppendUvarint(b, uint64(len(o.done)))
		last := uint64(0)
		for _, n := range o.done {
			b = binary.AppendUvarint(b, n-last)
			last = n
		}
	}
	return b
}

// decode parses a payload. An inline body is a slice of b.
func decode(b []byte) (*op, error) {
	d := codec.NewDecoder(b)
	o := &op{kind: kind(d.Byte())}
	switch o.kind {
	case kindSegment:
		v := d.Byte()
		if v < 1 || v > streamsVersion {
			return nil, errRecord
		}
		o.seg = segmentHead{id: d.Uvarint(), epoch: d.Uvarint(), before: d.Uvarint(), length: int64(d.Uvarint()), streams: v == streamsVersion}
		for range d.Uvarint() {
			if d.Bad() {
				break
			}
			o.seg.holes = append(o.seg.holes, hole{d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint())})
		}
		if rest := d.Rest(); len(rest) >= 8 {
			o.seg.nonce = binary.LittleEndian.Uint64(rest)
		}
	case kindPut, kindDelete, kindBegin, kindPart, kindComplete, kindPack, kindPacked, kindTranslate, kindRecord:
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
	case kindRecordsDone:
		last := uint64(0)
		for n := d.Uvarint(); n > 0 && !d.Bad(); n-- {
			number := last + d.Uvarint()
			if number <= last {
				return nil, errRecord
			}
			o.done = append(o.done, number)
			last = number
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

// takeChecks moves the table checksums of the spool files out of data, where an inline body would
// be.
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

// A frame is the form of a record on disk: magic (4 bytes), length of the payload (4), CRC32C of
// all that follows (4), the record's number (8), how many bytes of the segment were durable when
// the record was written (8), and the payload. Numbers are little-endian.
const frameHead = 28

const frameMagic = "\xa5jr\n"

// maxPayload is the largest payload: a header and an inline body.
const maxPayload = 2 << 20

// appendFrame appends the frame of a payload.
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

// frame is a record as read from a segment.
type frame struct {
	number  uint64
	durable int64
	at      int64 // offset of the payload in the segment
	payload []byte
}

// place is the location of a record: its number, its segment, its size, and the location of its
// inline body.
type place struct {
	number  uint64
	segment uint64
	size    int64  // size of the frame
	at      int64  // offset of the body in the segment
	sum     uint32 // CRC32C of the body
}

// place returns the location of the record of a frame in a segment.
func (f frame) place(o *op, segment uint64) place {
	return place{f.number, segment, frameHead + int64(len(f.payload)), f.at + int64(len(f.payload)-len(o.data)), codec.Checksum(o.data)}
}

// parseFrame parses the frame at the start of b, which is at offset at of its segment. size is its
// length, 0 if there is no valid frame.
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

// Entry is one acknowledged change of a key: a new body or a deletion. It is shared and must not be
// changed.
type Entry struct {
	// ID is the number of the entry, which is that of its record. Later entries have higher
	// numbers.
	ID  uint64
	Key akigw.Key
	// Deleted means that the change is a deletion (DeleteObject).
	Deleted bool
	Size    int64 // bytes
	// ETag is the ETag promised to the client, with quotes.
	ETag string
	// Modified is the time of the acknowledgement, which is the promised Last-Modified.
	Modified time.Time
	// Header is sent to the upstream with the body; canonical names.
	Header http.Header
	// Parts are the parts that the body was uploaded in, in order; nil if it came in one piece.
	// UploadID is the client's ID of that upload.
	Parts    []Part
	UploadID string
}

// Part is a part of a multipart upload.
type Part struct {
	// Number is the client's part number, 1 to 10,000, in rising order.
	Number int
	Size   int64 // bytes
	// ETag is the MD5 of the part, with quotes.
	ETag string
	// Header holds the part's checksums (x-amz-checksum-*), canonical names.
	Header http.Header
	// Modified is the time of the acknowledgement, zero in a completed upload.
	Modified time.Time

	// Entry is the part's own entry, with which Journal.Body opens its body. It is nil unless
	// Uploads.Parts returned the part.
	Entry *Entry
}
