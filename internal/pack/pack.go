// Package pack implements the format of packs: objects that each hold many small ones. A pack is the
// concatenation of their bodies, an index, and a footer with the position of the index. A reader needs
// two range requests for the index and one for each body.
package pack

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// Prefix is the key prefix of packs, in the bucket whose objects they hold.
const Prefix = ".akigw/packs/"

// ContentType is the content type of packs.
const ContentType = "application/vnd.akigw.pack"

// NewName returns a key for a new pack. Later keys are greater.
func NewName(now time.Time) string {
	var random [8]byte
	_, _ = rand.Read(random[:]) // never fails
	return fmt.Sprintf("%s%016x-%s", Prefix, now.UnixMilli(), hex.EncodeToString(random[:]))
}

// IsName reports whether a key is a pack's.
func IsName(key string) bool { return strings.HasPrefix(key, Prefix) }

// Object is an object in a pack.
type Object struct {
	Name     string // its key in the pack's bucket; in a pack of several buckets, prefixed with the bucket
	Offset   int64  // of its body in the pack
	Size     int64  // bytes
	ETag     string // with quotes
	Modified time.Time
	Header   http.Header
}

// Writer builds a pack in memory. The zero value is an empty pack. It is not safe for concurrent
// use.
type Writer struct {
	body    []byte
	objects []Object
}

// Size is the length of the bodies so far, in bytes.
func (w *Writer) Size() int { return len(w.body) }

// Add adds an object with the o.Size bytes of body, and returns its offset. Nothing is
// added if the body has another length.
func (w *Writer) Add(o Object, body io.Reader) (offset int64, err error) {
	start := len(w.body)
	w.body = append(w.body, make([]byte, o.Size)...)
	_, err = io.ReadFull(body, w.body[start:])
	if err == nil {
		if n, _ := io.ReadFull(body, make([]byte, 1)); n > 0 {
			err = fmt.Errorf("body of %q is longer than %d bytes", o.Name, o.Size)
		}
	}
	if err != nil {
		w.body = w.body[:start]
		return 0, err
	}
	o.Offset = int64(start)
	w.objects = append(w.objects, o)
	return o.Offset, nil
}

const (
	formatVersion = 1
	// footerBytes is the length of the footer: magic (4), CRC32C of the index (4), offset
	// and length of the index (8 each, little-endian).
	footerBytes = 24
)

const footerMagic = "\xa5pk\n"

// Finish returns the pack. The Writer must not be used afterwards.
func (w *Writer) Finish() []byte { return appendIndex(w.body, w.objects, int64(len(w.body))) }

// Layout is for a pack whose bodies are written by the caller, one after the other: it sets the
// offsets of the objects, and returns the index and the footer, which follow the last body.
func Layout(objects []Object) (tail []byte) {
	at := int64(0)
	for i := range objects {
		objects[i].Offset = at
		at += objects[i].Size
	}
	return appendIndex(nil, objects, at)
}

// appendIndex appends the index, whose place in the pack is at, and the footer.
func appendIndex(b []byte, objects []Object, at int64) []byte {
	start := len(b)
	b = append(b, formatVersion)
	b = binary.AppendUvarint(b, uint64(len(objects)))
	for _, o := range objects {
		b = codec.AppendString(b, o.Name)
		b = binary.AppendUvarint(b, uint64(o.Offset))
		b = binary.AppendUvarint(b, uint64(o.Size))
		b = codec.AppendString(b, o.ETag)
		b = codec.AppendTime(b, o.Modified)
		b = codec.AppendHeader(b, o.Header)
	}
	n := len(b) - start
	sum := codec.Checksum(b[start:])
	b = append(b, footerMagic...)
	b = binary.LittleEndian.AppendUint32(b, sum)
	b = binary.LittleEndian.AppendUint64(b, uint64(at))
	return binary.LittleEndian.AppendUint64(b, uint64(n))
}

// ErrFormat means that the object is not a pack or is damaged.
const ErrFormat = akigw.Error("not a pack, or damaged")

// maxIndex bounds an index, in bytes.
const maxIndex = 64 << 20

// ReadIndex returns the objects of a pack of size bytes, in order. It reads two ranges of the pack.
func ReadIndex(r io.ReaderAt, size int64) ([]Object, error) {
	footer := make([]byte, footerBytes)
	if size < footerBytes {
		return nil, ErrFormat
	}
	if _, err := r.ReadAt(footer, size-footerBytes); err != nil && err != io.EOF {
		return nil, err
	}
	at, n := binary.LittleEndian.Uint64(footer[8:]), binary.LittleEndian.Uint64(footer[16:])
	if string(footer[:4]) != footerMagic || n > maxIndex || at > uint64(size) || at+n != uint64(size-footerBytes) {
		return nil, ErrFormat
	}
	index := make([]byte, n)
	if _, err := r.ReadAt(index, int64(at)); err != nil && err != io.EOF {
		return nil, err
	}
	if codec.Checksum(index) != binary.LittleEndian.Uint32(footer[4:]) {
		return nil, ErrFormat
	}
	d := codec.NewDecoder(index)
	if d.Byte() != formatVersion {
		return nil, ErrFormat
	}
	var all []Object
	for count := d.Uvarint(); count > 0 && !d.Bad(); count-- {
		o := Object{Name: d.String(), Offset: int64(d.Uvarint()), Size: int64(d.Uvarint()), ETag: d.String(), Modified: d.Time(), Header: d.Header()}
		if o.Offset < 0 || o.Size < 0 || o.Offset > int64(at) || o.Size > int64(at)-o.Offset {
			return nil, ErrFormat
		}
		all = append(all, o)
	}
	if d.Bad() || len(d.Rest()) > 0 {
		return nil, ErrFormat
	}
	return all, nil
}
