package tiers

import (
	"encoding/binary"
	"net/http"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/tiers/warm"
)

// entry is the catalog's record of one object: its metadata, and its bytes if they are few. It is
// immutable once published.
type entry struct {
	akigw.Object
	// extent identifies the blocks that hold the bytes. It differs from the generation, because a
	// new generation can be newer metadata of the same bytes.
	extent uint64
	// block is the size of its blocks in bytes.
	block int64
	// object is a number for the key, whatever version it holds.
	object uint64
	// origin is the endpoint that the object came from.
	origin uint64
	// predicted are the headers that the upstream will show, except Last-Modified, see predictions.
	// It is only set while the headers are unknown, and nil if nothing can be predicted.
	predicted http.Header
	// parts says where its parts are; zero: only the upstream knows.
	parts layout
	// body holds the bytes of a small object; nil means that the bytes are in blocks or not cached.
	body []byte
	// validated is when the gateway sent the last upstream request that confirmed the object.
	validated time.Time
	// strong means that a 304 from the upstream proves that the headers are unchanged, see
	// strongValidator. Otherwise only an unconditional HEAD does.
	strong bool
	// epoch is the epoch of the gateway that published the entry.
	epoch uint64
	// absent is set if the key holds nothing; such an entry is kept in memory only.
	absent *absence
}

// known reports whether the representation headers are known. After a PUT they are not: only the
// upstream knows the Last-Modified.
func (e *entry) known() bool { return e.Header != nil }

// same reports whether o is the version whose bytes e holds. Comparing ETags is not enough: the
// same bytes can be put again with other metadata.
func (e *entry) same(o *akigw.Object) bool {
	return e.ETag == o.ETag && e.Size == o.Size && e.VersionID() == o.VersionID() && e.LastModified.Equal(o.LastModified)
}

// asked reports whether e is the version that its key asks for.
func (e *entry) asked() bool { return e.Key.Version == "" || e.Key.Version == e.VersionID() }

// inline reports whether the bytes are stored with the entry.
func (e *entry) inline(smallBytes int64) bool { return e.Size <= min(smallBytes, e.block) }

// warmRun identifies the blocks of e on disk.
func (e *entry) warmRun() warm.Run { return warm.Run{ID: e.extent, Object: e.object} }

// handling says how objects with these settings are stored on disk.
func handling(s *rules.Settings) warm.Handling {
	return warm.Handling{Compress: s.Compress, Wanted: s.Pin}
}

// blockLen returns the length of block n in bytes.
func (e *entry) blockLen(n int64) int64 { return min(e.block, e.Size-n*e.block) }

// blocksUpTo returns the first block that begins at or after an offset.
func (e *entry) blocksUpTo(offset int64) int64 { return (offset + e.block - 1) / e.block }

// weight is the approximate memory use of an entry in bytes.
func (e *entry) weight() int {
	n := 512 + len(e.Key.Bucket) + len(e.Key.Name) + len(e.body)
	if e.absent != nil {
		n += 1024 + len(e.absent.answer.Body)
	}
	for name, values := range e.described() {
		n += 64 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}

// described returns the headers of the entry: known or predicted, nil for none.
func (e *entry) described() http.Header {
	if e.known() {
		return e.Header
	}
	return e.predicted
}

// entryVersion is the first byte of an encoded entry; docs/architecture.md
// describes the format.
const entryVersion = 3

const errEntry = akigw.Error("malformed catalog entry")

// objectNumber returns a number for a key without its version, the same in each epoch. Two keys may
// share one.
func objectNumber(key akigw.Key) uint64 {
	return xxhash.Sum64String(key.Bucket)*31 + xxhash.Sum64String(key.Name)
}

// Flags of an encoded entry, in the byte after its headers. Older releases do not know markPredicted and
// markParts, and drop an entry that has one of them.
const (
	markBody      = 1 << iota // the body follows, at the end
	markStrong                // see entry.strong
	markPredicted             // the headers are entry.predicted
	markParts                 // entry.parts follows
)

func (e *entry) marks() (marks byte) {
	if e.body != nil {
		marks |= markBody
	}
	if e.strong {
		marks |= markStrong
	}
	if e.predicted != nil {
		marks |= markPredicted
	}
	if e.parts.count > 0 {
		marks |= markParts
	}
	return marks
}

// appendEntry encodes e.
func appendEntry(b []byte, e *entry) []byte {
	b = append(b, entryVersion)
	b = codec.AppendString(b, e.Key.Bucket)
	b = codec.AppendString(b, e.Key.Name)
	b = codec.AppendString(b, e.Key.Version)
	b = binary.AppendUvarint(b, e.Generation)
	b = binary.AppendUvarint(b, e.extent)
	b = binary.AppendUvarint(b, e.epoch)
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendUvarint(b, uint64(e.block))
	b = binary.AppendUvarint(b, e.origin)
	b = codec.AppendTime(b, e.validated)
	b = codec.AppendTime(b, e.LastModified)
	b = codec.AppendString(b, e.ETag)
	b = codec.AppendFlag(b, e.known())
	b = codec.AppendHeader(b, e.described())
	b = append(b, e.marks())
	if e.parts.count > 0 {
		b = binary.AppendUvarint(b, uint64(e.parts.count))
		b = binary.AppendUvarint(b, uint64(e.parts.size))
	}
	return append(b, e.body...)
}

// decodeEntry decodes what appendEntry wrote. The entry retains b.
func decodeEntry(b []byte) (*entry, error) {
	d := codec.NewDecoder(b)
	if d.Byte() != entryVersion {
		return nil, errEntry
	}
	e := &entry{Object: akigw.Object{Key: akigw.Key{Bucket: d.String(), Name: d.String(), Version: d.String()}, Generation: d.Uvarint()}}
	e.object = objectNumber(e.Key)
	e.extent, e.epoch, e.Size, e.block, e.origin = d.Uvarint(), d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint()), d.Uvarint()
	e.validated, e.LastModified = d.Time(), d.Time()
	e.ETag = d.String()
	known, header, marks := d.Flag(), d.Header(), d.Byte()
	predicted := marks&markPredicted != 0
	switch {
	case known:
		e.Header = header
	case predicted:
		e.predicted = header
	}
	e.strong = marks&markStrong != 0
	if marks&markParts != 0 {
		e.parts = layout{count: int64(d.Uvarint()), size: int64(d.Uvarint())}
	}
	if marks&markBody != 0 {
		e.body = d.Rest()
	}
	if known && predicted || !known && !predicted && len(header) > 0 {
		return nil, errEntry
	}
	if d.Bad() || marks > markBody|markStrong|markPredicted|markParts || !e.parts.valid(e.Size) || e.Size < 0 || e.block <= 0 || e.body != nil && int64(len(e.body)) != e.Size {
		return nil, errEntry
	}
	return e, nil
}

// absence is an upstream response that says that a key holds nothing.
type absence struct {
	answer *cold.ResponseError
	head   bool // the response was to a HEAD, so it has no body
}
