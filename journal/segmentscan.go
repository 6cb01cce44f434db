package journal

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"

	"github.com/akidb/akigw/internal/vfs"
)

// scan is the result of reading a segment.
type scan struct {
	segment *segment
	head    *segmentHead // nil if it is damaged
	records []scanned
	holes   []hole
	end     int64 // offset after the last record
	size    int64
}

// scanned is a record of a segment, without its body.
type scanned struct {
	op      *op
	place   place
	from    int64 // offset of its frame
	durable int64 // how much its frame says was durable when it was written
}

// read finds the records, and the holes between them. It does not retain raw.
func (s *scan) read(raw []byte) {
	number := uint64(0)
	for at := int64(0); at < s.size; {
		o, f, n := recordAt(raw, at, number)
		if n == 0 {
			next := bytes.Index(raw[at+1:], []byte(frameMagic))
			if next < 0 {
				return
			}
			at += 1 + int64(next)
			continue
		}
		if at > s.end {
			s.holes = append(s.holes, hole{s.segment.id, s.end, at})
		}
		if o.kind == kindSegment && at == 0 {
			s.head = &o.seg
		}
		p := f.place(o, s.segment.id)
		o.data = nil
		s.records = append(s.records, scanned{o, p, at, f.durable})
		number = f.number
		at += int64(n)
		s.end = at
	}
}

// recordAt parses the record at an offset of a segment, if its number is higher than behind; n is
// its length, 0 if there is none.
func recordAt(raw []byte, at int64, behind uint64) (o *op, f frame, n int) {
	f, n = parseFrame(raw[at:], at)
	if n == 0 || f.number <= behind || f.durable > at {
		return nil, f, 0
	}
	o, err := decode(f.payload)
	if err != nil {
		return nil, f, 0
	}
	return o, f, n
}

// cut drops what follows the part of a segment that counts: its successor was begun at that length,
// or the rest had not been acknowledged.
func (s *scan) cut(length int64) {
	s.records = slices.DeleteFunc(s.records, func(r scanned) bool { return r.from >= length })
	s.holes = slices.DeleteFunc(s.holes, func(h hole) bool { return h.from >= length })
	s.end = min(s.end, length)
	s.size = min(s.size, length)
	s.segment.size = s.size // do not repair the rest either
}

// The end file records the length of the last segment when the journal was closed, so that damage
// to its last records is noticed.
const endFile = "end"

// writeEnd records the length of the last segment, all of which is durable.
func writeEnd(fs vfs.FS, dir string, end hole) error {
	o := op{kind: kindSegment, seg: segmentHead{id: end.segment, length: end.to}}
	err := writeDraft(fs, filepath.Join(dir, endFile), appendFrame(nil, 1, 0, o.encode(nil)))
	return errors.Join(err, fs.SyncDir(dir))
}

// readEnd returns what writeEnd wrote last, the zero hole if there is no such file, or it is
// damaged itself.
func readEnd(fs vfs.FS, dir string) (end hole) {
	raw, err := vfs.ReadFile(fs, filepath.Join(dir, endFile))
	if err != nil {
		return end
	}
	return decodeEnd(raw)
}

// decodeEnd parses the content of the end file.
func decodeEnd(raw []byte) (end hole) {
	if f, size := parseFrame(raw, 0); size > 0 {
		if o, err := decode(f.payload); err == nil && o.kind == kindSegment {
			end = hole{segment: o.seg.id, to: o.seg.length}
		}
	}
	return end
}
