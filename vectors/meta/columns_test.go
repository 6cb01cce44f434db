package meta

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestColumnsSemantics(t *testing.T) {
	var docs [][]byte
	for _, s := range semantics {
		docs = append(docs, []byte(s.metadata))
	}
	for _, budget := range []int64{1 << 20, 0} { // with columns, and without any
		c := NewColumns(len(docs), func(row int) []byte { return docs[row] }, []string{"h"}, budget)
		if c.Bytes() > budget {
			t.Errorf("%d bytes with a budget of %d", c.Bytes(), budget)
		}
		for _, s := range semantics {
			f, err := Parse([]byte(s.filter), []string{"h"})
			if err != nil {
				t.Fatal(err)
			}
			compareColumns(t, c, f, s.filter, docs)
		}
	}
}

// compareColumns compares the bitmap of a filter with Match on each row.
func compareColumns(t *testing.T, c *Columns, f *Filter, filter string, docs [][]byte) {
	t.Helper()
	got := make([]uint64, (len(docs)+63)/64)
	for i := range got {
		got[i] = 0xAAAAAAAAAAAAAAAA // Bitmap overwrites what there was
	}
	c.Bitmap(f, got)
	for row := range len(got) * 64 {
		want := row < len(docs) && f.Match(docs[row])
		if has := got[row/64]>>(row%64)&1 != 0; has != want {
			t.Fatalf("filter %s: row %d is %v, want %v", filter, row, has, want)
		}
	}
}

// random makes documents and filters of few fields and values, so that they meet.
type random struct{ *rand.Rand }

func (r random) pick(of ...string) string { return of[r.IntN(len(of))] }

func (r random) field() string { return r.pick("a", "b", "c", "d", "e", "unknown") }

func (r random) number() string {
	return r.pick("0", "1", "1.0", "2", "3", "-1", "0.5", "1e1", "9007199254740993", "9007199254740992.0", "9007199254740992", fmt.Sprint(r.IntN(1000)))
}

func (r random) scalar() string {
	return r.pick(r.number(), r.number(), `"x"`, `"y"`, `"z"`, `"1"`, "true", "false", fmt.Sprintf(`"s%d"`, r.IntN(100)))
}

func (r random) scalars(least int) string {
	values := make([]string, least+r.IntN(4))
	for i := range values {
		values[i] = r.scalar()
	}
	return "[" + strings.Join(values, ",") + "]"
}

func (r random) document() string {
	var all []string
	for _, key := range []string{"a", "b", "c", "d", "e"} {
		switch r.IntN(4) {
		case 0:
		case 1:
			all = append(all, fmt.Sprintf(`"%s":%s`, key, r.scalars(0)))
		default:
			all = append(all, fmt.Sprintf(`"%s":%s`, key, r.scalar()))
		}
	}
	return "{" + strings.Join(all, ",") + "}"
}

func (r random) filter(depth int) string {
	if depth > 0 && r.IntN(3) > 0 {
		parts := make([]string, 1+r.IntN(3))
		for i := range parts {
			parts[i] = r.filter(depth - 1)
		}
		return fmt.Sprintf(`{"%s":[%s]}`, r.pick("$and", "$or"), strings.Join(parts, ","))
	}
	condition := func() string {
		switch op := r.pick("$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists"); op {
		case "$eq", "$ne":
			return fmt.Sprintf(`"%s":%s`, op, r.scalar())
		case "$in", "$nin":
			return fmt.Sprintf(`"%s":%s`, op, r.scalars(1))
		case "$exists":
			return `"$exists":` + r.pick("true", "false")
		default:
			return fmt.Sprintf(`"%s":%s`, op, r.number())
		}
	}
	return fmt.Sprintf(`{"%s":{%s}}`, r.field(), condition())
}

// TestColumnsRandom compares columns with Match on random documents and filters: with bitmaps and lists,
// with some fields left out, and with none.
func TestColumnsRandom(t *testing.T) {
	r := random{testkit.Random(t)}
	for _, rows := range []int{0, 1, 63, 64, 65, 1000} {
		docs := make([][]byte, rows)
		for i := range docs {
			if docs[i] = []byte(r.document()); r.IntN(10) == 0 {
				docs[i] = nil
			}
		}
		for _, budget := range []int64{1 << 20, 40 << 10, 0} {
			c := NewColumns(rows, func(row int) []byte { return docs[row] }, nil, budget)
			for range 150 {
				filter := r.filter(3)
				f, err := Parse([]byte(filter), nil)
				if err != nil {
					t.Fatalf("Parse(%s): %v", filter, err)
				}
				compareColumns(t, c, f, filter, docs)
			}
		}
	}
}

// TestColumnsOfALargePart has ranges that are made of buckets.
func TestColumnsOfALargePart(t *testing.T) {
	r := testkit.Random(t)
	docs := make([][]byte, 200_003)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, `{"n":%d,"a":[%d,%d]}`, r.IntN(1000), i, r.IntN(100))
	}
	c := NewColumns(len(docs), func(row int) []byte { return docs[row] }, nil, 1<<30)
	for _, filter := range []string{`{"n":{"$lt":500}}`, `{"n":{"$gte":10,"$lte":990}}`, `{"n":{"$gte":0}}`, `{"n":{"$ne":7}}`, `{"a":{"$gt":150000}}`, `{"a":{"$lt":100}}`} {
		f, err := Parse([]byte(filter), nil)
		if err != nil {
			t.Fatal(err)
		}
		compareColumns(t, c, f, filter, docs)
	}
}

// TestColumnsAreBounded: neither many fields nor many values take more memory than they may.
func TestColumnsAreBounded(t *testing.T) {
	const budget = maxColumns * 550 // enough for the short ones
	docs := make([][]byte, 2000)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, `{"own%d":1,"long":"%s%d","flag":true}`, i, strings.Repeat("x", 100), i)
	}
	c := NewColumns(len(docs), func(row int) []byte { return docs[row] }, []string{"hidden"}, budget)
	if c.Bytes() > budget || !c.partial || c.fields[`"long"`] != nil || c.fields[`"flag"`] == nil {
		t.Errorf("%d bytes; %d fields, not all: %v; long %v, flag %v", c.Bytes(), len(c.fields), c.partial, c.fields[`"long"`] != nil, c.fields[`"flag"`] != nil)
	}
	for _, filter := range []string{`{"own1999":1}`, `{"own1":{"$exists":false}}`, fmt.Sprintf(`{"long":"%s77"}`, strings.Repeat("x", 100)), `{"flag":true,"long":{"$ne":"x"}}`, `{"$or":[{"flag":false},{"own3":1}]}`} {
		f, err := Parse([]byte(filter), nil)
		if err != nil {
			t.Fatal(err)
		}
		compareColumns(t, c, f, filter, docs)
	}
}

// TestColumnsHashCollision: two strings of one hash leave the field out, and a string that no row has is
// told from one with its hash.
func TestColumnsHashCollision(t *testing.T) {
	if _, ok := newDictionary([]entry{{hash: 7, check: 1, row: 0}, {hash: 7, check: 2, row: 1}}, 2); ok {
		t.Error("a dictionary has two strings of one hash")
	}
	docs := [][]byte{[]byte(`{"b":"y","a":"x"}`), []byte(`{"b":"x"}`)}
	c := NewColumns(len(docs), func(row int) []byte { return docs[row] }, nil, 1<<20)
	f, err := Parse([]byte(`{"a":"y"}`), nil)
	if err != nil {
		t.Fatal(err)
	}
	q := evaluation{c: c, f: f}
	if q.holds(0, &f.root, []byte(`"y"`)) || !q.holds(0, &f.root, []byte(`"x"`)) || q.holds(1, &f.root, []byte(`"x"`)) {
		t.Error("holds looks at other fields")
	}
}

func BenchmarkColumns(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 2))
	docs := make([][]byte, 1_000_000)
	for i := range docs {
		docs[i] = fmt.Appendf(nil, `{"genre":"g%d","year":%d,"score":%.4f,"doc":"document-%d","tags":["t%d","t%d"],"half":%v}`,
			r.IntN(100), 1925+r.IntN(100), r.Float64(), i/10, r.IntN(10), r.IntN(10), r.IntN(2) == 0)
	}
	var c *Columns
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			c = NewColumns(len(docs), func(row int) []byte { return docs[row] }, nil, 128<<20)
		}
		b.ReportMetric(float64(c.Bytes())/float64(len(docs)), "B/row")
	})
	into := make([]uint64, (len(docs)+63)/64)
	for _, filter := range []string{`{"genre":"g7"}`, `{"tags":"t1"}`, `{"half":true}`, `{"score":{"$lt":0.01}}`, `{"score":{"$lt":0.1}}`, `{"score":{"$gte":0.5}}`, `{"score":{"$gt":0.97,"$lt":0.98}}`,
		`{"year":{"$gte":1975}}`, `{"genre":{"$ne":"g7"}}`, `{"genre":{"$in":["g1","g2","g3","g4","g5","g6","g7","g8","g9","g10"]}}`, `{"doc":"document-777"}`,
		`{"half":true,"year":{"$gte":1975},"genre":{"$nin":["g1","g2"]}}`} {
		f, err := Parse([]byte(filter), nil)
		if err != nil {
			b.Fatal(err)
		}
		b.Run(filter, func(b *testing.B) {
			for b.Loop() {
				c.Bitmap(f, into)
			}
		})
	}
}
