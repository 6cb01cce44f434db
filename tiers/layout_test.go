package tiers

import (
	"bytes"
	"fmt"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestLayouts: which parts have a layout, and where it says that they are.
func TestLayouts(t *testing.T) {
	for _, c := range []struct {
		numbers []int
		sizes   []int64
		want    layout
	}{
		{nil, nil, layout{}},
		{[]int{1}, []int64{5}, layout{1, 5}},
		{[]int{1}, []int64{0}, layout{}},
		{[]int{2}, []int64{5}, layout{}},
		{[]int{1, 2, 3}, []int64{5, 5, 5}, layout{3, 5}},
		{[]int{1, 2, 3}, []int64{5, 5, 1}, layout{3, 5}},
		{[]int{1, 2, 3}, []int64{5, 4, 1}, layout{}},
		{[]int{1, 2, 3}, []int64{5, 5, 6}, layout{}},
		{[]int{1, 2, 3}, []int64{5, 5, 0}, layout{}},
		{[]int{1, 3, 7}, []int64{5, 5, 5}, layout{}},
	} {
		got, total := layoutOf(c.numbers, c.sizes), int64(0)
		if got != c.want {
			t.Errorf("parts %d of %d bytes: %+v, want %+v", c.numbers, c.sizes, got, c.want)
		}
		for _, size := range c.sizes {
			total += size
		}
		if !got.valid(total) || got.count > 0 && (got.valid(total-got.size) || got.valid(total+got.size)) {
			t.Errorf("%+v of %d bytes", got, total)
		}
		if got.count == 0 {
			continue
		}
		at := int64(0)
		for i, size := range c.sizes {
			if r, ok := got.part(i+1, total); !ok || r != (akigw.Range{Start: at, Length: size}) {
				t.Errorf("part %d of %d: %+v %t", i+1, c.sizes, r, ok)
			}
			at += size
		}
		for _, number := range []int{-1, 0, len(c.sizes) + 1} {
			if r, ok := got.part(number, total); ok {
				t.Errorf("part %d of %d: %+v", number, c.sizes, r)
			}
		}
	}
}

// partReader reads objects by part number and compares them with the upstream's.
type partReader struct {
	t       *testing.T
	s       *Store
	up      *s3mem.Memory
	reading atomic.Bool  // GETs of objects are errors
	asked   atomic.Int64 // HEADs about parts
}

func newPartReader(t *testing.T, s *Store, up *s3mem.Memory) *partReader {
	r := &partReader{t: t, s: s, up: up}
	up.Before = func(q *cold.Request) (*http.Response, error) {
		if q.Method == http.MethodGet && q.Key.Name != "" && r.reading.Load() {
			t.Errorf("a GET %v", q.Header)
		}
		if q.Query.Has("partNumber") {
			r.asked.Add(1)
		}
		return nil, nil
	}
	return r
}

// upload uploads an object in three parts.
func (r *partReader) upload(k akigw.Key, header http.Header, numbers ...int) {
	r.t.Helper()
	c := newClient(r.t, r.s, r.up, k, header)
	for i, size := range []int{2 * block, 2 * block, block + 17} {
		c.part(numbers[i], content(numbers[i], size))
	}
	if !c.complete(c.list()) {
		r.t.Fatal("not completed")
	}
}

// heads returns how many HEADs about parts a read of all parts costs.
func (r *partReader) heads(k akigw.Key, checksum bool) int {
	r.t.Helper()
	before := r.asked.Load()
	r.reading.Store(true)
	defer r.reading.Store(false)
	o, _ := r.up.Get(k)
	at := int64(0)
	for i, size := range o.Parts {
		reader, err := r.s.Get(r.t.Context(), k, akigw.PartSpec(i+1, checksum), akigw.Conditions{})
		if err != nil {
			r.t.Fatal(err)
		}
		want := akigw.Range{Start: at, Length: size}
		if reader.Range != want || reader.Part.Status != http.StatusPartialContent || reader.Part.Header.Get(partsCount) != fmt.Sprint(len(o.Parts)) {
			r.t.Errorf("part %d of %s: %+v, %+v", i+1, k, reader.Range, reader.Part)
		}
		if got, err := drain(r.t.Context(), reader); err != nil || !bytes.Equal(got, o.Body[at:at+size]) {
			r.t.Errorf("part %d of %s: %d other bytes, %v", i+1, k, len(got), err)
		}
		reader.Close()
		at += size
	}
	return int(r.asked.Load() - before)
}

// TestPartsOfUploads: once HEADs have agreed with it, the gateway knows where the parts of its uploads are.
func TestPartsOfUploads(t *testing.T) {
	for _, mode := range []rules.Freshness{rules.Exclusive, rules.Strict, rules.Immutable} {
		t.Run(string(mode), func(t *testing.T) {
			up := s3mem.New()
			r := newPartReader(t, newStore(t, testConfig(mode), up), up)
			asked := 0
			for n := range 10 {
				r.upload(key(fmt.Sprint(n)), nil, 1, 2, 3)
				asked += r.heads(key(fmt.Sprint(n)), n%2 == 0)
			}
			if asked != proofs {
				t.Errorf("%d HEADs", asked)
			}
			r.upload(key("gaps"), nil, 1, 3, 7)
			o, _ := up.Get(key("gaps"))
			wantRead(t, r.s, key("gaps"), "", o.Body, "")
			if n := r.heads(key("gaps"), false); n != 3 {
				t.Errorf("%d HEADs about parts with gaps in their numbers", n)
			}
			r.s.source.validator.predictions.parts[partsShapeID{1, "bucket", ""}].used = sampleEvery - 1
			if n := r.heads(key("9"), false); n != 1 {
				t.Errorf("%d HEADs to verify a prediction", n)
			}
		})
	}
}

// TestPartsAfterARestart: what is known of the parts is on disk, and trusted when HEADs have agreed again.
func TestPartsAfterARestart(t *testing.T) {
	up, config, dir := s3mem.New(), testConfig(rules.Exclusive), filepath.Join(t.TempDir(), "warm")
	r := newPartReader(t, openStore(t, config, dir, up), up)
	for n := range 4 {
		r.upload(key(fmt.Sprint(n)), nil, 1, 2, 3)
		r.heads(key(fmt.Sprint(n)), false)
	}
	if err := r.s.Close(); err != nil {
		t.Fatal(err)
	}
	r.s = openStore(t, config, dir, up)
	defer r.s.Close()
	asked := 0
	for n := range 4 {
		asked += r.heads(key(fmt.Sprint(n)), false)
	}
	if asked != proofs {
		t.Errorf("%d HEADs", asked)
	}
}

// TestPartsWithChecksums: the checksum of a part is the upstream's to tell.
func TestPartsWithChecksums(t *testing.T) {
	up := s3mem.New()
	r := newPartReader(t, newStore(t, testConfig(rules.Exclusive), up), up)
	up.After = func(q *cold.Request, resp *http.Response) {
		if q.Method == http.MethodHead {
			resp.Header["X-Amz-Checksum-Crc32"] = []string{"AAAAAA==" + q.Query.Get("partNumber")}
		}
	}
	for n := range 4 {
		r.upload(key(fmt.Sprint(n)), nil, 1, 2, 3)
		r.heads(key(fmt.Sprint(n)), false)
	}
	r.upload(key("k"), nil, 1, 2, 3)
	if n := r.heads(key("k"), false); n != 0 {
		t.Errorf("%d HEADs without a checksum", n)
	}
	if n := r.heads(key("k"), true); n != 3 {
		t.Errorf("%d HEADs for checksums", n)
	}
}

// TestPartsOfAnotherUpstream: an upstream that describes parts in its own way is asked about each.
func TestPartsOfAnotherUpstream(t *testing.T) {
	for name, change := range map[string]func(h http.Header){
		"another header": func(h http.Header) { h.Set("X-Amz-Of-A-Part", "1") },
		"a checksum":     func(h http.Header) { h.Set("X-Amz-Checksum-Crc32", "AAAAAA==") },
	} {
		t.Run(name, func(t *testing.T) {
			up := s3mem.New()
			r := newPartReader(t, newStore(t, testConfig(rules.Exclusive), up), up)
			up.After = func(q *cold.Request, resp *http.Response) {
				if q.Query.Has("partNumber") && q.Key.Name == "1" {
					change(resp.Header)
				}
			}
			for n := range 5 {
				r.upload(key(fmt.Sprint(n)), nil, 1, 2, 3)
				r.heads(key(fmt.Sprint(n)), false)
			}
			r.upload(key("k"), nil, 1, 2, 3)
			if n := r.heads(key("k"), false); n != 3 {
				t.Errorf("%d HEADs", n)
			}
			if n := r.s.catalog.counters.wrongHeaders.Get(); n != 1 {
				t.Errorf("%d disagreements", n)
			}
		})
	}
}
