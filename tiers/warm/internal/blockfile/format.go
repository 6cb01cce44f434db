package blockfile

import (
	"encoding/binary"
	"io"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// docs/warm-format.md describes the format. All numbers are big endian.

const (
	version = 1
	// headBytes is the size of the head of a segment, of the header of a record and of the end of a
	// segment, and what the offset of each record is a multiple of.
	headBytes = 64
	// entryBytes is the size of what the footer says of one record.
	entryBytes = 40
	// maxPayload bounds the payload of a record in bytes: a block of 4 MiB, and what compression and
	// encryption may add to it.
	maxPayload = 8 << 20
	// maxRecords bounds the records of a segment, and with them its footer.
	maxRecords = 1 << 16

	segmentMagic = "AKSG"
	recordMagic  = "AKBK"
	footerMagic  = "AKFT"
)

// The kinds of records.
const (
	blockRecord = 1 + iota // a block
	freeRecord             // the end of an extent: its blocks with lower write numbers are gone
)

// ID names a block: a number within an extent. Object is the number of the object that it belongs to,
// whatever extent contains it.
type ID struct {
	Extent uint64
	N      int64
	Object uint64
}

// record is what a segment says of a record, in its header and again in the footer.
type record struct {
	ID
	kind     byte
	encoding byte
	length   uint32 // of the payload in bytes
	place    uint32 // offset in the segment, in units of headBytes
	write    uint64 // rises with each record that is written; a copy keeps that of the original
	sum      uint32 // CRC32C of the payload; only the header has it
}

// offset is where the header of r begins in its segment.
func (r *record) offset() int64 { return int64(r.place) * headBytes }

// size is the space that r takes in its segment.
func (r *record) size() int64 { return Size(int(r.length)) }

// valid reports whether r can be a record in a segment whose records end at an offset.
func (r *record) valid(end int64) bool {
	return (r.kind == blockRecord || r.kind == freeRecord && r.length == 0) && r.length <= maxPayload &&
		r.N >= 0 && r.N <= maxN && r.place > 0 && r.offset()+headBytes+int64(r.length) <= end
}

// Size is the space that a block takes in a segment, for a payload of a length in bytes.
func Size(length int) int64 { return headBytes + (int64(length)+headBytes-1)/headBytes*headBytes }

// ring is what the checksums of a store begin with: other stores, whose segments may get into its
// directory, have other ones. Each checksum of a header covers the store, and the segment by its number.
type ring struct{ sum uint32 }

func newRing(store [16]byte) ring { return ring{codec.Checksum(store[:])} }

// close writes the checksum of a header of headBytes to its last four bytes.
func (r ring) close(header []byte) {
	binary.BigEndian.PutUint32(header[headBytes-4:], codec.UpdateChecksum(r.sum, header[:headBytes-4]))
}

// opens reports whether a header has a magic, this version, a segment's number, and the right checksum.
func (r ring) opens(header []byte, magic string, segment uint32) bool {
	return string(header[:4]) == magic && header[4] == version && binary.BigEndian.Uint64(header[8:]) == uint64(segment) &&
		codec.UpdateChecksum(r.sum, header[:headBytes-4]) == binary.BigEndian.Uint32(header[headBytes-4:])
}

// header returns a header with what all have in common, still open.
func header(magic string, segment uint32) []byte {
	b := make([]byte, headBytes)
	copy(b, magic)
	b[4] = version
	binary.BigEndian.PutUint64(b[8:], uint64(segment))
	return b
}

// putRecord encodes the header of a record in a segment into b, which has headBytes.
func (r ring) putRecord(b []byte, segment uint32, rec *record) {
	copy(b, recordMagic)
	b[4], b[5], b[6], b[7] = version, rec.kind, rec.encoding, 0
	binary.BigEndian.PutUint64(b[8:], uint64(segment))
	binary.BigEndian.PutUint64(b[16:], rec.Extent)
	binary.BigEndian.PutUint64(b[24:], uint64(rec.N))
	binary.BigEndian.PutUint64(b[32:], rec.Object)
	binary.BigEndian.PutUint64(b[40:], rec.write)
	binary.BigEndian.PutUint32(b[48:], rec.length)
	binary.BigEndian.PutUint32(b[52:], rec.sum)
	binary.BigEndian.PutUint32(b[56:], rec.place)
	r.close(b)
}

// record decodes a header that lies at a place in a segment whose records end at an offset. It returns
// false if there is no valid one.
func (r ring) record(b []byte, segment, place uint32, end int64) (rec record, ok bool) {
	if !r.opens(b, recordMagic, segment) {
		return record{}, false
	}
	rec = record{
		ID:   ID{binary.BigEndian.Uint64(b[16:]), int64(binary.BigEndian.Uint64(b[24:])), binary.BigEndian.Uint64(b[32:])},
		kind: b[5], encoding: b[6], write: binary.BigEndian.Uint64(b[40:]),
		length: binary.BigEndian.Uint32(b[48:]), sum: binary.BigEndian.Uint32(b[52:]), place: binary.BigEndian.Uint32(b[56:]),
	}
	return rec, rec.place == place && rec.valid(end)
}

// footer encodes the records of a segment that end at an offset: an entry for each, and the end of the
// file.
func (r ring) footer(segment uint32, records []record, end int64) []byte {
	b := make([]byte, 0, len(records)*entryBytes+headBytes)
	for _, rec := range records {
		b = binary.BigEndian.AppendUint64(b, rec.Extent)
		b = binary.BigEndian.AppendUint64(b, rec.write)
		b = binary.BigEndian.AppendUint64(b, rec.Object)
		b = binary.BigEndian.AppendUint32(b, uint32(rec.N))
		b = binary.BigEndian.AppendUint32(b, rec.place)
		b = binary.BigEndian.AppendUint32(b, rec.length)
		b = append(b, rec.kind, rec.encoding, 0, 0)
	}
	last := header(footerMagic, segment)
	binary.BigEndian.PutUint64(last[16:], uint64(end))
	binary.BigEndian.PutUint32(last[24:], uint32(len(records)))
	binary.BigEndian.PutUint32(last[28:], codec.Checksum(b))
	r.close(last)
	return append(b, last...)
}

// read returns the records of a segment file of a size in bytes, from its footer, or without one from
// the headers of its records, up to the first that is not valid. The error is that of a read, or
// ErrChecksum for a file whose head is not that of the segment.
func (r ring) read(file io.ReaderAt, segment uint32, size int64) (records []record, first uint64, err error) {
	head := make([]byte, headBytes)
	if _, err := file.ReadAt(head, 0); err != nil && err != io.EOF {
		return nil, 0, err
	}
	if !r.opens(head, segmentMagic, segment) {
		return nil, 0, akigw.ErrChecksum
	}
	first = binary.BigEndian.Uint64(head[16:])
	records, ok, err := r.readFooter(file, segment, size)
	if !ok && err == nil {
		records, err = r.scan(file, segment, size)
	}
	return records, first, err
}

// readFooter returns what the footer says, false if there is no valid one.
func (r ring) readFooter(file io.ReaderAt, segment uint32, size int64) (records []record, ok bool, err error) {
	if size < 2*headBytes {
		return nil, false, nil
	}
	last := make([]byte, headBytes)
	if _, err := file.ReadAt(last, size-headBytes); err != nil {
		return nil, false, err
	}
	end, n := int64(binary.BigEndian.Uint64(last[16:])), int64(binary.BigEndian.Uint32(last[24:]))
	if !r.opens(last, footerMagic, segment) || n > maxRecords || end < headBytes || end+n*entryBytes != size-headBytes {
		return nil, false, nil
	}
	b := make([]byte, n*entryBytes)
	if _, err := file.ReadAt(b, end); err != nil {
		return nil, false, err
	}
	if codec.Checksum(b) != binary.BigEndian.Uint32(last[28:]) {
		return nil, false, nil
	}
	records = make([]record, 0, n)
	for ; len(b) > 0; b = b[entryBytes:] {
		rec := record{
			ID:    ID{binary.BigEndian.Uint64(b), int64(binary.BigEndian.Uint32(b[24:])), binary.BigEndian.Uint64(b[16:])},
			write: binary.BigEndian.Uint64(b[8:]), place: binary.BigEndian.Uint32(b[28:]), length: binary.BigEndian.Uint32(b[32:]),
			kind: b[36], encoding: b[37],
		}
		if !rec.valid(end) {
			return nil, false, nil
		}
		records = append(records, rec)
	}
	return records, true, nil
}

// scan returns the records that follow the head of a segment, by their headers.
func (r ring) scan(file io.ReaderAt, segment uint32, size int64) (records []record, err error) {
	b := make([]byte, headBytes)
	for at := int64(headBytes); at+headBytes <= size && len(records) < maxRecords; {
		if _, err := file.ReadAt(b, at); err != nil {
			return records, err
		}
		rec, ok := r.record(b, segment, uint32(at/headBytes), size)
		if !ok {
			break
		}
		records = append(records, rec)
		at += rec.size()
	}
	return records, nil
}
