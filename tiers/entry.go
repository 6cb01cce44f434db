package tiers

import (
	"encoding/binary"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/warm"
)

// entry is the catalog's record of one object: what is known of it, and its
// bytes when they are few. It is immutable once it has been published.
type entry struct {
	akigw.Object
	// blocks names the run of blocks that holds the bytes. It differs from
	// the generation, because a new generation can be new knowledge of the
	// same bytes.
	blocks uint64
	// block is the size in bytes of a block of it.
	block int64
	// object is a number of the key, whatever version it holds.
	object uint64
	// origin is the endpoint that it came from.
	origin uint64
	// body holds the bytes of a small object; nil means that they are in
	// blocks or not here.
	body []byte
	// validated is when the gateway last asked the upstream and got the
	// object confirmed.
	validated time.Time
	// run is the run of the gateway that published the entry.
	run uint64
	// absent is set if the key holds nothing; such an entry lives in memory
	// alone.
	absent *absence
}

// known reports whether the representation headers are known. After a PUT they
// are not: the upstream alone says what Last-Modified is.
func (e *entry) known() bool { return e.Header != nil }

// same reports whether o is the version that e holds the bytes of. The ETag
// alone is not enough: the same bytes can be put again with other metadata.
func (e *entry) same(o *akigw.Object) bool {
	return e.ETag == o.ETag && e.Size == o.Size && e.VersionID() == o.VersionID() && e.LastModified.Equal(o.LastModified)
}

// asked reports whether e is the version that its key asks for.
func (e *entry) asked() bool { return e.Key.Version == "" || e.Key.Version == e.VersionID() }

// inline reports whether the bytes are kept with the entry.
func (e *entry) inline(smallBytes int64) bool { return e.Size <= min(smallBytes, e.block) }

// warmRun is how the blocks of e are named on disk.
func (e *entry) warmRun() warm.Run { return warm.Run{ID: e.blocks, Object: e.object} }

// handling is how objects with these settings are stored on disk.
func handling(s *rules.Settings) warm.Handling {
	return warm.Handling{Compress: s.Compress, Wanted: s.Pin}
}

// blockLen is the length of block n.
func (e *entry) blockLen(n int64) int64 { return min(e.block, e.Size-n*e.block) }

// blocksUpTo is the first block that begins at or behind an offset.
func (e *entry) blocksUpTo(offset int64) int64 { return (offset + e.block - 1) / e.block }

// weight is the memory that an entry takes, roughly.
func (e *entry) weight() int {
	n := 512 + len(e.Key.Bucket) + len(e.Key.Name) + len(e.body)
	if e.absent != nil {
		n += 1024 + len(e.absent.answer.Body)
	}
	for name, values := range e.Header {
		n += 64 + len(name)
		for _, v := range values {
			n += 16 + len(v)
		}
	}
	return n
}

// entryVersion is the first byte of an encoded entry; docs/architecture.md
// describes the format.
const entryVersion = 3

var errEntry = errors.New("malformed catalog entry")

// objectNumber is a number for a key without its version: the same in each run
// of the gateway. Two keys may share one.
func objectNumber(key akigw.Key) uint64 {
	return xxhash.Sum64String(key.Bucket)*31 + xxhash.Sum64String(key.Name)
}

// appendEntry encodes e.
func appendEntry(b []byte, e *entry) []byte {
	b = append(b, entryVersion)
	b = appendString(b, e.Key.Bucket)
	b = appendString(b, e.Key.Name)
	b = appendString(b, e.Key.Version)
	b = binary.AppendUvarint(b, e.Generation)
	b = binary.AppendUvarint(b, e.blocks)
	b = binary.AppendUvarint(b, e.run)
	b = binary.AppendUvarint(b, uint64(e.Size))
	b = binary.AppendUvarint(b, uint64(e.block))
	b = binary.AppendUvarint(b, e.origin)
	b = binary.AppendVarint(b, unixNano(e.validated))
	b = binary.AppendVarint(b, unixNano(e.LastModified))
	b = appendString(b, e.ETag)
	b = appendFlag(b, e.known())
	b = binary.AppendUvarint(b, uint64(len(e.Header)))
	names := make([]string, 0, len(e.Header))
	for name := range e.Header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = appendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(e.Header[name])))
		for _, value := range e.Header[name] {
			b = appendString(b, value)
		}
	}
	b = appendFlag(b, e.body != nil)
	return append(b, e.body...)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendFlag(b []byte, flag bool) []byte {
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}

// unixNano keeps the zero time, which has no UnixNano.
func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixNano()
}

func fromUnixNano(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// decodeEntry decodes what appendEntry wrote. The entry keeps b.
func decodeEntry(b []byte) (*entry, error) {
	d := decoder{b: b}
	if d.byte() != entryVersion {
		return nil, errEntry
	}
	e := &entry{Object: akigw.Object{Key: akigw.Key{Bucket: d.string(), Name: d.string(), Version: d.string()}, Generation: d.uvarint()}}
	e.object = objectNumber(e.Key)
	e.blocks, e.run, e.Size, e.block, e.origin = d.uvarint(), d.uvarint(), int64(d.uvarint()), int64(d.uvarint()), d.uvarint()
	e.validated, e.LastModified = fromUnixNano(d.varint()), fromUnixNano(d.varint())
	e.ETag = d.string()
	known := d.byte() == 1
	if n := d.uvarint(); known && n <= uint64(len(d.b)) {
		e.Header = make(http.Header, n)
		for range n {
			name := d.string()
			count := d.uvarint()
			for i := uint64(0); i < count && !d.bad; i++ {
				e.Header[name] = append(e.Header[name], d.string())
			}
		}
	} else if n > 0 {
		return nil, errEntry
	}
	if d.byte() == 1 {
		e.body = d.b
	}
	if d.bad || e.Size < 0 || e.block <= 0 || e.body != nil && int64(len(e.body)) != e.Size {
		return nil, errEntry
	}
	return e, nil
}

// decoder reads from b; after the first mistake it is bad and reads zeros.
type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) fail() {
	d.bad = true
	d.b = nil
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *decoder) uvarint() uint64 { return decode(d, binary.Uvarint) }
func (d *decoder) varint() int64   { return decode(d, binary.Varint) }

// decode reads a number; read says how many bytes it took, 0 or less for none.
func decode[T uint64 | int64](d *decoder, read func([]byte) (T, int)) T {
	v, n := read(d.b)
	if n <= 0 {
		d.fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *decoder) string() string {
	n := d.uvarint()
	if n > uint64(len(d.b)) {
		d.fail()
		return ""
	}
	s := string(d.b[:n])
	d.b = d.b[n:]
	return s
}
