package pack

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func sample(t testing.TB) (whole []byte, objects []Object, bodies [][]byte) {
	t.Helper()
	var w Writer
	for i := range 50 {
		body := testkit.Bytes(uint64(i), i*37%1000)
		o := Object{Name: fmt.Sprint("key ", i), Size: int64(len(body)), ETag: fmt.Sprintf("%q", fmt.Sprint(i)), Modified: time.Unix(int64(i)+1, 0), Header: http.Header{"X-Amz-Meta-M": {fmt.Sprint(i)}}}
		at, err := w.Add(o, bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		o.Offset = at
		objects, bodies = append(objects, o), append(bodies, body)
	}
	return w.Finish(), objects, bodies
}

// ranges counts the range reads of a pack.
type ranges struct {
	*bytes.Reader
	n int
}

func (r *ranges) ReadAt(p []byte, at int64) (int, error) {
	r.n++
	return r.Reader.ReadAt(p, at)
}

// All objects are found with two range reads.
func TestPackIsReadByRange(t *testing.T) {
	whole, want, bodies := sample(t)
	r := &ranges{Reader: bytes.NewReader(whole)}
	got, err := ReadIndex(r, int64(len(whole)))
	if err != nil || len(got) != len(want) || r.n != 2 {
		t.Fatalf("%d objects by %d ranges, %v", len(got), r.n, err)
	}
	for i, o := range got {
		if !o.Modified.Equal(want[i].Modified) {
			t.Errorf("%s: %s", o.Name, o.Modified)
		}
		o.Modified = want[i].Modified
		if !reflect.DeepEqual(o, want[i]) || !bytes.Equal(whole[o.Offset:o.Offset+o.Size], bodies[i]) {
			t.Errorf("%+v, want %+v", o, want[i])
		}
	}
}

// A body of another length than announced leaves the pack unchanged.
func TestWrongLength(t *testing.T) {
	var w Writer
	if _, err := w.Add(Object{Name: "short", Size: 5}, strings.NewReader("four")); err == nil {
		t.Error("a short body was taken")
	}
	if _, err := w.Add(Object{Name: "long", Size: 3}, strings.NewReader("four")); err == nil {
		t.Error("a long body was taken")
	}
	if at, err := w.Add(Object{Name: "right", Size: 4}, strings.NewReader("four")); err != nil || at != 0 || w.Size() != 4 {
		t.Errorf("%d %v", at, err)
	}
}

// Damage to the index or the footer is detected.
func TestDamagedIndex(t *testing.T) {
	whole, objects, _ := sample(t)
	last := objects[len(objects)-1]
	for i := last.Offset + last.Size; i < int64(len(whole)); i++ {
		broken := bytes.Clone(whole)
		broken[i] ^= 0x10
		if _, err := ReadIndex(bytes.NewReader(broken), int64(len(broken))); !errors.Is(err, ErrFormat) {
			t.Fatalf("a flip at %d: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, footerBytes, len(whole) - 1} {
		if _, err := ReadIndex(bytes.NewReader(whole[:n]), int64(n)); !errors.Is(err, ErrFormat) {
			t.Errorf("cut to %d: %v", n, err)
		}
	}
}

// Names sort by time, and only pack names are recognised.
func TestNames(t *testing.T) {
	a, b := NewName(time.Unix(1, 0)), NewName(time.Unix(2, 0))
	if a >= b || !IsName(a) || IsName("akigw/packs/x") || a == NewName(time.Unix(1, 0)) {
		t.Errorf("%s %s", a, b)
	}
}

func FuzzReadIndex(f *testing.F) {
	whole, _, _ := sample(f)
	f.Add(whole)
	f.Fuzz(func(t *testing.T, raw []byte) {
		all, err := ReadIndex(bytes.NewReader(raw), int64(len(raw)))
		for _, o := range all {
			if err != nil || o.Offset+o.Size > int64(len(raw)) {
				t.Errorf("%+v %v", o, err)
			}
		}
	})
}
