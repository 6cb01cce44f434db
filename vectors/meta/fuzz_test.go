package meta

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
	"unicode/utf8"
)

// FuzzCompact checks what Compact accepts against encoding/json: it is valid, has the same value, and
// is a fixed point.
func FuzzCompact(f *testing.F) {
	for _, s := range semantics {
		f.Add([]byte(s.metadata))
		f.Add([]byte(s.filter))
	}
	f.Add([]byte("{\"a\":\"\\ud83d\\ude00\x7f\"}"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		doc, p := Compact(raw, []string{"h"})
		if p != nil || doc == nil {
			return
		}
		if !json.Valid(raw) || !utf8.Valid(raw) {
			t.Fatalf("Compact accepts %q", raw)
		}
		if !reflect.DeepEqual(decode(t, raw), decode(t, doc)) {
			t.Fatalf("Compact(%q) = %q", raw, doc)
		}
		if again, p := Compact(doc, []string{"h"}); p != nil || !bytes.Equal(again, doc) {
			t.Fatalf("Compact(%q) = %q, %v", doc, again, p)
		}
	})
}

func decode(t *testing.T, raw []byte) (v any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q: %v", raw, err)
	}
	return v
}

// FuzzFilter parses any filter and evaluates it on any bytes: neither panics, $and of a filter and
// itself is the filter, and Match and Columns agree on documents that Compact returns.
func FuzzFilter(f *testing.F) {
	for _, s := range semantics {
		f.Add([]byte(s.filter), []byte(s.metadata))
	}
	f.Fuzz(func(t *testing.T, filter, metadata []byte) {
		one, err := Parse(filter, []string{"h"})
		if err != nil {
			return
		}
		match := one.Match(metadata)
		twice := append(append(append(append([]byte(`{"$and":[`), filter...), ','), filter...), `]}`...)
		if both, err := Parse(twice, []string{"h"}); err == nil && both.Match(metadata) != match {
			t.Fatalf("%q and itself differ on %q", filter, metadata)
		}
		if doc, p := Compact(metadata, []string{"h"}); p == nil {
			compareColumns(t, NewColumns(3, func(int) []byte { return doc }, nil, 1<<20), one, string(filter), [][]byte{doc, doc, doc})
		}
	})
}
