package tiers

import (
	"encoding/binary"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
)

// summary is an excerpt of an entry, stored next to it on disk so that Walk reads no bodies.
type summary struct {
	akigw.Object                 // without its Header
	ContentType           string // "" if unknown
	extent, epoch, origin uint64
	block                 int64
	held                  bool // the record contains the body
}

// summaryVersion is the first byte of an encoded summary; docs/architecture.md describes
// the format.
const summaryVersion = 1

// maxContentType is the largest number of bytes of a Content-Type that a summary stores.
const maxContentType = 255

const errSummary = akigw.Error("malformed summary of a catalog entry")

// appendSummary encodes the summary of e.
func appendSummary(b []byte, e *entry) []byte {
	return summaryOf(e).append(b)
}

// append encodes s.
func (s *summary) append(b []byte) []byte {
	b = append(b, summaryVersion)
	b = codec.AppendString(b, s.Key.Bucket)
	b = codec.AppendString(b, s.Key.Name)
	b = codec.AppendString(b, s.Key.Version)
	for _, n := range [...]uint64{s.Generation, s.extent, s.epoch, uint64(s.Size), uint64(s.block), s.origin} {
		b = binary.AppendUvarint(b, n)
	}
	b = codec.AppendTime(b, s.LastModified)
	b = codec.AppendString(b, s.ETag)
	b = codec.AppendString(b, s.ContentType[:min(len(s.ContentType), maxContentType)])
	return codec.AppendFlag(b, s.held)
}

// decodeSummary decodes what appendSummary wrote. The summary does not retain b.
func decodeSummary(b []byte) (*summary, error) {
	d := codec.NewDecoder(b)
	if d.Byte() != summaryVersion {
		return nil, errSummary
	}
	d.OneCopy()
	s := &summary{}
	s.Key = akigw.Key{Bucket: d.String(), Name: d.String(), Version: d.String()}
	s.Generation, s.extent, s.epoch, s.Size, s.block, s.origin = d.Uvarint(), d.Uvarint(), d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint()), d.Uvarint()
	s.LastModified, s.ETag, s.ContentType = d.Time(), d.String(), d.String()
	s.held = d.Flag()
	if d.Bad() || s.Size < 0 || s.block <= 0 {
		return nil, errSummary
	}
	return s, nil
}

func summaryOf(e *entry) *summary {
	return &summary{Object: e.Object, ContentType: e.Header.Get("Content-Type"), extent: e.extent, epoch: e.epoch, origin: e.origin, block: e.block, held: e.body != nil}
}
