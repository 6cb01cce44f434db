package store

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/vectors"
)

// errRecord: a record of the journal cannot be decoded.
const errRecord = akigw.Error("malformed record of a vector call")

// The journal orders records; the stream of a record says what it belongs to, and its place there:
//
//	catalog SEQ               a change of buckets or indexes
//	call INCARNATION SEQ      vectors that were put into a collection, or deleted from it
//	upload INCARNATION NAME   an object that may be uploaded for a collection
//
// Sequences are decimal. Those of a collection begin at 1 and continue from its manifest.
const (
	catalogStream = "catalog"
	callStream    = "call"
	uploadStream  = "upload"
)

// stream is a parsed stream.
type stream struct {
	kind        string
	incarnation vectors.Incarnation
	seq         uint64
	name        string
}

func (s stream) String() string {
	switch s.kind {
	case catalogStream:
		return catalogStream + " " + strconv.FormatUint(s.seq, 10)
	case callStream:
		return callStream + " " + string(s.incarnation) + " " + strconv.FormatUint(s.seq, 10)
	}
	return uploadStream + " " + string(s.incarnation) + " " + s.name
}

func parseStream(text string) (s stream, err error) {
	words := strings.SplitN(text, " ", 3)
	s.kind = words[0]
	switch {
	case s.kind == catalogStream && len(words) == 2:
		s.seq, err = strconv.ParseUint(words[1], 10, 64)
	case s.kind == callStream && len(words) == 3:
		s.incarnation = vectors.Incarnation(words[1])
		s.seq, err = strconv.ParseUint(words[2], 10, 64)
	case s.kind == uploadStream && len(words) == 3:
		s.incarnation, s.name = vectors.Incarnation(words[1]), words[2]
	default:
		err = errRecord
	}
	if err == nil && s.kind != catalogStream && !s.incarnation.Valid() {
		err = errRecord
	}
	if err != nil {
		return stream{}, fmt.Errorf("stream %q: %w", text, errRecord)
	}
	return s, nil
}

// callVersion is the version of the encoding of a call.
const callVersion = 1

// encodeCall returns the body of the record of a call: a version, the dimension, and its rows.
func encodeCall(dimension int, rows []*row) []byte {
	size := 16
	for _, r := range rows {
		size += 16 + len(r.key) + 4*len(r.data) + len(r.metadata)
	}
	b := make([]byte, 0, size)
	b = append(b, callVersion)
	b = binary.AppendUvarint(b, uint64(dimension))
	b = binary.AppendUvarint(b, uint64(len(rows)))
	for _, r := range rows {
		b = codec.AppendString(b, r.key)
		b = codec.AppendFlag(b, r.deleted)
		if r.deleted {
			continue
		}
		for _, x := range r.data {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
		}
		b = codec.AppendFlag(b, r.metadata != nil)
		b = codec.AppendString(b, string(r.metadata))
	}
	return b
}

// decodeCall decodes the body of the record of a call.
func decodeCall(b []byte) (dimension int, rows []*row, err error) {
	d := codec.NewDecoder(b)
	if d.Byte() != callVersion {
		return 0, nil, errRecord
	}
	dimension = int(d.Uvarint())
	n := d.Uvarint()
	if dimension < 0 || dimension > vectors.MaxDimension || n > uint64(len(b)) {
		return 0, nil, errRecord
	}
	for range n {
		key := d.String()
		if d.Flag() {
			rows = append(rows, newRow(key, nil, nil, true))
			continue
		}
		data, ok := takeFloats(d, dimension)
		if !ok {
			return 0, nil, errRecord
		}
		has, metadata := d.Flag(), []byte(d.String())
		if !has {
			metadata = nil
		}
		rows = append(rows, newRow(key, data, metadata, false))
	}
	if d.Bad() || len(d.Rest()) > 0 {
		return 0, nil, errRecord
	}
	return dimension, rows, nil
}

// takeFloats reads n float32 values.
func takeFloats(d *codec.Decoder, n int) ([]float32, bool) {
	if len(d.Rest()) < 4*n {
		return nil, false
	}
	raw := d.Take(4 * n)
	data := make([]float32, n)
	for i := range data {
		data[i] = math.Float32frombits(binary.LittleEndian.Uint32(raw[4*i:]))
	}
	return data, true
}

// change is a change of the catalog, and the body of its record as JSON. One field is set.
type change struct {
	CreateBucket *vectors.Bucket `json:",omitempty"`
	DeleteBucket string          `json:",omitempty"`
	// SetBucket replaces a bucket: its policy and tags.
	SetBucket   *vectors.Bucket `json:",omitempty"`
	CreateIndex *vectors.Index  `json:",omitempty"`
	// SetIndex replaces an index: its tags.
	SetIndex    *vectors.Index `json:",omitempty"`
	DeleteIndex *indexName     `json:",omitempty"`
}

// indexName names an index. As JSON it is the body of the record of an upload.
type indexName struct{ Bucket, Name string }

// encodeJSON returns the body of the record of a change or an upload.
func encodeJSON(body any) []byte {
	raw, err := json.Marshal(body)
	if err != nil {
		panic(err) // the types have nothing that JSON cannot represent
	}
	return raw
}

// decodeJSON decodes what encodeJSON returned for a value of the same type.
func decodeJSON[T any](raw []byte) (body T, err error) {
	if err := json.Unmarshal(raw, &body); err != nil {
		return body, fmt.Errorf("%w: %w", errRecord, err)
	}
	return body, nil
}
