// Package codec encodes the records that are kept on disk: numbers as varints, strings and byte
// slices with their length before them, and a checksum. Records are defined by the packages that use
// it.
package codec

import (
	"encoding/binary"
	"net/http"
	"slices"
	"time"
)

// AppendString appends s with its length.
func AppendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// AppendFlag appends a byte.
func AppendFlag(b []byte, flag bool) []byte {
	if flag {
		return append(b, 1)
	}
	return append(b, 0)
}

// AppendTime appends a time, to the nanosecond and without its zone. The zero time stays zero.
func AppendTime(b []byte, t time.Time) []byte {
	if t.IsZero() { // it has no UnixNano
		return binary.AppendVarint(b, 0)
	}
	return binary.AppendVarint(b, t.UnixNano())
}

// AppendHeader appends a header, sorted by name.
func AppendHeader(b []byte, h http.Header) []byte {
	b = binary.AppendUvarint(b, uint64(len(h)))
	names := make([]string, 0, len(h))
	for name := range h {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = AppendString(b, name)
		b = binary.AppendUvarint(b, uint64(len(h[name])))
		for _, value := range h[name] {
			b = AppendString(b, value)
		}
	}
	return b
}

// Decoder decodes a record. After the first error it is bad and returns zeros. The zero value is at
// the end of its record.
type Decoder struct {
	b    []byte
	text string // what b was, see OneCopy
	bad  bool
}

// NewDecoder returns a decoder of b. It does not copy b: see Rest.
func NewDecoder(b []byte) *Decoder { return &Decoder{b: b} }

// OneCopy copies the unread rest once. All strings that are read from now on are parts of that copy:
// one allocation instead of many, for records that consist mostly of strings.
func (d *Decoder) OneCopy() { d.text = string(d.b) }

// Bad reports whether there was an error.
func (d *Decoder) Bad() bool { return d.bad }

// Rest returns the unread bytes, as a part of the slice that was passed to NewDecoder.
func (d *Decoder) Rest() []byte { return d.b }

// Fail marks d as bad.
func (d *Decoder) Fail() {
	d.bad = true
	d.b = nil
}

// Byte reads a byte.
func (d *Decoder) Byte() byte {
	if len(d.b) == 0 {
		d.Fail()
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

// Take reads n bytes, as a part of the slice that was passed to NewDecoder; nil, and d is bad, if there
// are fewer.
func (d *Decoder) Take(n int) []byte {
	if n < 0 || n > len(d.b) {
		d.Fail()
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

// Flag reads what AppendFlag wrote.
func (d *Decoder) Flag() bool { return d.Byte() == 1 }

// Uvarint reads what binary.AppendUvarint wrote.
func (d *Decoder) Uvarint() uint64 { return decode(d, binary.Uvarint) }

// Varint reads what binary.AppendVarint wrote.
func (d *Decoder) Varint() int64 { return decode(d, binary.Varint) }

// decode reads a number. read returns the number and its length in bytes, 0 or less on an error.
func decode[T uint64 | int64](d *Decoder, read func([]byte) (T, int)) T {
	v, n := read(d.b)
	if n <= 0 {
		d.Fail()
		return 0
	}
	d.b = d.b[n:]
	return v
}

// String reads what AppendString wrote.
func (d *Decoder) String() string {
	n := d.Uvarint()
	if n > uint64(len(d.b)) {
		d.Fail()
		return ""
	}
	var s string
	if d.text == "" {
		s = string(d.b[:n])
	} else {
		s = d.text[len(d.text)-len(d.b):][:n]
	}
	d.b = d.b[n:]
	return s
}

// Time reads what AppendTime wrote.
func (d *Decoder) Time() time.Time {
	n := d.Varint()
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

// Header reads what AppendHeader wrote, never nil.
func (d *Decoder) Header() http.Header {
	n := d.Uvarint()
	if n > uint64(len(d.b)) {
		d.Fail()
		return http.Header{}
	}
	h := make(http.Header, n)
	for range n {
		name := d.String()
		count := d.Uvarint()
		for i := uint64(0); i < count && !d.bad; i++ {
			h[name] = append(h[name], d.String())
		}
	}
	return h
}
