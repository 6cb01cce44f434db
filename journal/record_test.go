package journal

import (
	"bytes"
	"net/http"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/akidb/akigw"
)

func sampleOps() []*op {
	now := time.Unix(1700000000, 5)
	return []*op{
		{kind: kindSegment, seg: segmentHead{id: 3, epoch: 2, before: 1, length: 1 << 40, holes: []hole{{1, 5, 9}}}},
		{kind: kindPut, entry: 7, key: key("k"), put: &Entry{Key: key("k"), Size: 3, ETag: `"e"`, Modified: now, Header: http.Header{"X-Amz-Meta-A": {"b", ""}}}, data: []byte("abc")},
		{kind: kindPut, key: key("k"), put: &Entry{Key: key("k"), Size: 1 << 40, ETag: `"e"`, Modified: now, Header: http.Header{}}, spool: 9, data: []byte{}},
		{kind: kindDelete, key: key("k"), put: &Entry{Key: key("k"), Deleted: true, Modified: now, Header: http.Header{}}, data: []byte{}},
		{kind: kindDone, entry: 7, key: key("k")},
		{kind: kindDead, entry: 7, key: key("k"), text: "why", when: now},
		{kind: kindAlive, entry: 7, key: key("k")},
		{kind: kindUpload, entry: 7, key: key("k"), text: "id"},
		{kind: kindMark},
		{kind: kindBegin, key: key("k"), put: &Entry{Key: key("k"), UploadID: "u", Modified: now, Header: http.Header{"Content-Type": {"a/b"}}}, data: []byte{}},
		{kind: kindPart, entry: 9, key: key("k"), put: &Entry{Key: key("k"), Size: 5, ETag: `"p"`, Modified: now, Header: http.Header{}}, upload: 8, part: 10000, spool: 11, data: []byte{}},
		{kind: kindComplete, key: key("k"), put: &Entry{Key: key("k"), Size: 7, ETag: `"e-2"`, Modified: now, Header: http.Header{}, UploadID: "u", Parts: []Part{
			{Number: 1, Size: 5, ETag: `"p"`, Header: http.Header{"X-Amz-Checksum-Crc32": {"AAAAAA=="}}}, {Number: 3, Size: 2, ETag: `"q"`, Header: http.Header{}}}},
			upload: 8, spools: []uint64{11, 12}, data: []byte{}},
		{kind: kindAbort, entry: 8, key: key("k")},
		{kind: kindSegment, seg: segmentHead{id: 4, epoch: 2, before: 3, length: 77, nonce: 1 << 63}},
		{kind: kindPut, key: key("k"), put: &Entry{Key: key("k"), Size: 1 << 40, ETag: `"e"`, Modified: now, Header: http.Header{}}, spool: 9, checks: []uint32{7}, data: []byte{}},
		{kind: kindComplete, key: key("k"), put: &Entry{Key: key("k"), Size: 7, ETag: `"e-2"`, Modified: now, Header: http.Header{}, UploadID: "u", Parts: []Part{
			{Number: 1, Size: 5, ETag: `"p"`, Header: http.Header{}}, {Number: 3, Size: 2, ETag: `"q"`, Header: http.Header{}}}},
			upload: 8, spools: []uint64{11, 12}, checks: []uint32{1, 1<<32 - 1}, data: []byte{}},
		{kind: kindPack, key: key("p"), put: &Entry{Key: key("p"), Modified: now, Header: http.Header{}}, data: []byte{}},
		{kind: kindPacked, entry: 7, key: key("k"), put: &Entry{Key: key("k"), Size: 3, ETag: `"e"`, Modified: now, Header: http.Header{}}, pack: 12, offset: 1 << 20, text: "p", data: []byte{}},
		{kind: kindUnpacked, entry: 12, key: key("p")},
		{kind: kindTranslate, entry: 7, key: key("k"), put: &Entry{Key: key("k"), ETag: `"e"`, Modified: now, Header: http.Header{}}, text: `"f"`, data: []byte{}},
		{kind: kindSegment, seg: segmentHead{id: 5, epoch: 3, before: 4, length: 77, nonce: 1, streams: true}},
		{kind: kindRecord, key: akigw.Key{Name: "s\x00"}, put: &Entry{Key: akigw.Key{Name: "s\x00"}, Size: 3, Modified: now, Header: http.Header{}}, data: []byte("abc")},
		{kind: kindRecord, entry: 7, key: akigw.Key{Name: "s"}, put: &Entry{Key: akigw.Key{Name: "s"}, Size: 1 << 40, Modified: now, Header: http.Header{}}, spool: 9, checks: []uint32{7}, data: []byte{}},
		{kind: kindRecordsDone, done: []uint64{1, 7, 1<<64 - 1}},
		{kind: kindRecordsDone},
	}
}

func TestRecordCodec(t *testing.T) {
	for _, o := range sampleOps() {
		raw := o.encode(nil)
		got, err := decode(raw)
		if err != nil || !reflect.DeepEqual(got, o) {
			t.Errorf("%+v: %+v %v", o, got, err)
		}
		framed := appendFrame([]byte("x"), 5, 77, raw)[1:]
		f, n := parseFrame(append(framed, 1, 2, 3), 100)
		if n != len(framed) || f.number != 5 || f.durable != 77 || f.at != 100+frameHead || !bytes.Equal(f.payload, raw) {
			t.Errorf("%+v %d", f, n)
		}
		for i := range framed {
			broken := bytes.Clone(framed)
			broken[i] ^= 1
			if _, n := parseFrame(broken, 0); n > 0 {
				t.Errorf("a frame with a flipped bit at %d is accepted", i)
			}
			if _, n := parseFrame(framed[:i], 0); n > 0 {
				t.Errorf("a frame cut to %d bytes is accepted", i)
			}
		}
	}
}

func FuzzDecodeRecord(f *testing.F) {
	for _, o := range sampleOps() {
		f.Add(o.encode(nil))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		o, err := decode(raw)
		if err != nil {
			return
		}
		again, err := decode(o.encode(nil))
		if err != nil || again.kind != o.kind || again.entry != o.entry || again.key != o.key || !bytes.Equal(again.data, o.data) || !slices.Equal(again.done, o.done) || again.seg.streams != o.seg.streams {
			t.Errorf("%+v: %+v %v", o, again, err)
		}
	})
}

// FuzzRecover: a damaged segment file may make Open return an error, but never panic.
func FuzzRecover(f *testing.F) {
	var raw []byte
	for i, o := range sampleOps() {
		raw = appendFrame(raw, uint64(i+1), 0, o.encode(nil))
	}
	f.Add(raw)
	f.Add(raw[:40])
	f.Fuzz(func(t *testing.T, raw []byte) {
		s := &scan{segment: &segment{id: 1, size: int64(len(raw))}, size: int64(len(raw))}
		s.read(raw)
		end := int64(0)
		for _, r := range s.records {
			if r.from < end {
				t.Fatalf("records overlap at %d", r.from)
			}
			end = r.from + frameHead
		}
		if s.end > s.size {
			t.Fatal("a record past the end")
		}
	})
}

// FuzzSide: a side file is either read exactly as it was written or rejected.
func FuzzSide(f *testing.F) {
	f.Add(uint64(3), uint64(7), uint64(1)<<63, []byte(nil))
	f.Fuzz(func(t *testing.T, floor, number, nonce uint64, raw []byte) {
		decodeSide(raw)
		if framed := decodeSide(appendFrame(nil, 1, 0, raw)); framed != nil && len(framed.epochs) > len(raw) {
			t.Errorf("%d epochs from %d bytes", len(framed.epochs), len(raw))
		}
		s := &sideState{floor: floor, epochs: []epoch{{1, 0}, {number, nonce}}, written: epoch{number, nonce}, repaired: 5, last: time.Unix(7, 0)}
		whole := s.encode()
		if got := decodeSide(whole); !reflect.DeepEqual(got, s) {
			t.Errorf("%+v, not %+v", got, s)
		}
		for i := range whole {
			if decodeSide(whole[:i]) != nil {
				t.Errorf("the first %d bytes of %d were accepted", i, len(whole))
			}
		}
	})
}
