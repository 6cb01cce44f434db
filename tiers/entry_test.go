package tiers

import (
	"bytes"
	"net/http"
	"reflect"
	"testing"
	"time"

	"github.com/akidb/akigw"
)

func sampleEntries() []*entry {
	entries := []*entry{
		{Object: akigw.Object{Key: key("k"), Generation: 1 << 45, Size: 5, ETag: `"e"`, LastModified: time.Unix(1700000000, 0),
			Header: http.Header{"Content-Type": {"a"}, "X-Amz-Meta-B": {"c", ""}}}, extent: 7, block: 65536, origin: 1 << 63, body: []byte("hello"), validated: time.Unix(1700000001, 5), epoch: 3, strong: true},
		{Object: akigw.Object{Key: key("k"), Generation: 2, Size: 1 << 40, ETag: `"f"`}, extent: 9, block: 1 << 20, epoch: 1, strong: true},
		{Object: akigw.Object{Key: key("k"), Header: http.Header{}}, block: 1, body: []byte{}},
		{Object: akigw.Object{Key: key("k"), Size: 2, ETag: `"g"`}, extent: 9, block: 1 << 20, body: []byte("hi"), predicted: http.Header{"Content-Type": {"a"}}},
		{Object: akigw.Object{Key: key("k"), ETag: `"h"`, LastModified: time.Unix(1700000000, 0)}, block: 1, predicted: http.Header{}},
		{Object: akigw.Object{Key: key("k"), Size: 5<<20 + 1, ETag: `"i-2"`, Header: http.Header{}}, extent: 9, block: 1 << 20, parts: layout{count: 2, size: 5 << 20}},
		{Object: akigw.Object{Key: key("k"), Size: 2, ETag: `"j-1"`}, block: 1 << 20, body: []byte("hi"), predicted: http.Header{}, parts: layout{count: 1, size: 2}},
	}
	for _, e := range entries {
		e.object = objectNumber(e.Key)
	}
	return entries
}

func TestEntryCodec(t *testing.T) {
	for _, e := range sampleEntries() {
		raw := appendEntry(nil, e)
		got, err := decodeEntry(raw)
		if err != nil || !got.LastModified.Equal(e.LastModified) || !got.validated.Equal(e.validated) {
			t.Fatalf("%+v: %+v %v", e, got, err)
		}
		got.LastModified, got.validated = e.LastModified, e.validated
		if !reflect.DeepEqual(got, e) {
			t.Errorf("%+v\n%+v", got, e)
		}
		for n := range raw {
			if cut, err := decodeEntry(raw[:n]); err == nil && !bytes.Equal(appendEntry(nil, cut), raw[:n]) {
				t.Errorf("cut to %d of %d bytes it decodes to something else", n, len(raw))
			}
		}
	}
}

func FuzzDecodeEntry(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(appendEntry(nil, e))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := decodeEntry(raw)
		if err != nil {
			return
		}
		again, err := decodeEntry(appendEntry(nil, e))
		if err != nil || again.Size != e.Size || again.Key != e.Key || !bytes.Equal(again.body, e.body) || len(again.Header) != len(e.Header) || again.known() != e.known() || len(again.predicted) != len(e.predicted) || again.parts != e.parts {
			t.Errorf("%+v: %+v %v", e, again, err)
		}
	})
}

// FuzzDecodeSummary: whatever is on the disk, decoding it neither panics nor hangs, and a decoded
// summary can be encoded.
func FuzzDecodeSummary(f *testing.F) {
	for _, e := range sampleEntries() {
		f.Add(appendSummary(nil, e))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		s, err := decodeSummary(raw)
		if err != nil {
			return
		}
		if back, err := decodeSummary(s.append(nil)); err != nil || back.Key != s.Key || back.Size != s.Size || back.held != s.held || back.ETag != s.ETag {
			t.Errorf("%+v came back as %+v, %v", s, back, err)
		}
	})
}
