package tiers

import (
	"encoding/binary"
	"errors"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/tiers/warm"
)

// summary is what of an entry lies beside it on disk, so that the catalog can be gone
// through without reading bodies.
type summary struct {
	akigw.Object        // its Header has the Content-Type alone, and is nil where that is not known
	blocks, run, origin uint64
	block               int64
	held                bool // the record has the body in it
}

// summaryVersion is the first byte of an encoded summary; docs/architecture.md describes
// the format.
const summaryVersion = 1

// maxContentType is how much of a Content-Type a summary keeps.
const maxContentType = 255

var errSummary = errors.New("malformed summary of a catalog entry")

// appendSummary encodes the summary of e.
func appendSummary(b []byte, e *entry) []byte {
	contentType := e.Header.Get("Content-Type")
	b = append(b, summaryVersion)
	b = codec.AppendString(b, e.Key.Bucket)
	b = codec.AppendString(b, e.Key.Name)
	b = codec.AppendString(b, e.Key.Version)
	for _, n := range [...]uint64{e.Generation, e.blocks, e.run, uint64(e.Size), uint64(e.block), e.origin} {
		b = binary.AppendUvarint(b, n)
	}
	b = codec.AppendTime(b, e.LastModified)
	b = codec.AppendString(b, e.ETag)
	b = codec.AppendString(b, contentType[:min(len(contentType), maxContentType)])
	return codec.AppendFlag(b, e.body != nil)
}

// decodeSummary decodes what appendSummary wrote. The summary does not keep b.
func decodeSummary(b []byte) (*summary, error) {
	d := codec.NewDecoder(b)
	if d.Byte() != summaryVersion {
		return nil, errSummary
	}
	s := &summary{}
	s.Key = akigw.Key{Bucket: d.String(), Name: d.String(), Version: d.String()}
	s.Generation, s.blocks, s.run, s.Size, s.block, s.origin = d.Uvarint(), d.Uvarint(), d.Uvarint(), int64(d.Uvarint()), int64(d.Uvarint()), d.Uvarint()
	s.LastModified, s.ETag = d.Time(), d.String()
	if contentType := d.String(); contentType != "" {
		s.Header = map[string][]string{"Content-Type": {contentType}}
	}
	s.held = d.Flag()
	if d.Bad() || s.Size < 0 || s.block <= 0 {
		return nil, errSummary
	}
	return s, nil
}

// contentType is the Content-Type, "" if it is not known.
func (s *summary) contentType() string { return s.Header.Get("Content-Type") }

// known is one object of the catalog, and how it is used.
type known struct {
	*summary
	place warm.Place // in the order of the catalog
	usage usage
}

// catalog calls yield with the objects that are known of keys that what names, of all keys
// for a pattern without a bucket, from behind a place on, until yield returns false. They
// come in the order of bucket and key, unless the tier hides names, or there is no warm
// tier: then they are those in memory.
func (s *Store) catalog(what Pattern, after warm.Place, yield func(known) bool) error {
	if s.warm == nil {
		return s.hotCatalog(what, yield)
	}
	return s.warm.Summaries(what.Bucket, what.Prefix, after, func(w warm.Known) bool {
		if w.Summary == nil {
			s.accesses.orphaned(w)
			return true
		}
		sum, err := decodeSummary(w.Summary)
		if err != nil || what.Bucket != "" && !what.names(sum.Key) {
			return true
		}
		return yield(known{summary: sum, place: w.Place, usage: s.accesses.usage(sum.Key, decodeUsage(w.Accesses))})
	})
}

// hotCatalog is the catalog of what is in memory.
func (s *Store) hotCatalog(what Pattern, yield func(known) bool) error {
	for k, v := range s.hot.All() {
		if e := v.entry; e != nil && e.absent == nil && (what.Bucket == "" || what.names(k.key)) {
			if !yield(known{summary: summaryOf(e), usage: s.accesses.usage(e.Key, usage{})}) {
				return nil
			}
		}
	}
	return nil
}

func summaryOf(e *entry) *summary {
	return &summary{Object: e.Object, blocks: e.blocks, run: e.run, origin: e.origin, block: e.block, held: e.body != nil}
}
