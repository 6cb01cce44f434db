package journal

import (
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/akidb/akigw"
)

// A keyMap behaves like a plain map, and its frozen copies never change.
func TestKeyMap(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var m keyMap[int]
		model := map[akigw.Key]int{}
		type frozen struct {
			keyMap keyMap[int]
			model  map[akigw.Key]int
		}
		var copies []frozen
		for i := range rapid.IntRange(0, 300).Draw(t, "steps") {
			k := akigw.Key{Bucket: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "bucket"), Name: rapid.StringMatching("[a-z]{0,2}").Draw(t, "name")}
			switch rapid.IntRange(0, 3).Draw(t, "what") {
			case 0, 1:
				m.set(k, i+1)
				model[k] = i + 1
			case 2:
				m.delete(k)
				delete(model, k)
			case 3:
				copies = append(copies, frozen{m.freeze(), maps.Clone(model)})
			}
		}
		for _, c := range append(copies, frozen{m, model}) {
			sameKeyMap(t, &c.keyMap, c.model)
		}
	})
}

func sameKeyMap(t *rapid.T, m *keyMap[int], model map[akigw.Key]int) {
	if m.len() != len(model) {
		t.Fatalf("%d keys, not %d", m.len(), len(model))
	}
	for _, bucket := range []string{"a", "b", "c"} {
		var want, got []string
		for k, v := range model {
			if m.get(k) != v {
				t.Fatalf("%s is %d, not %d", k, m.get(k), v)
			}
			if k.Bucket == bucket && k.Name >= "b" {
				want = append(want, k.Name)
			}
		}
		slices.Sort(want)
		m.ascend(bucket, "b", func(name string, _ int) bool {
			got = append(got, name)
			return true
		})
		if !slices.Equal(got, want) {
			t.Fatalf("%s has %q, not %q", bucket, got, want)
		}
	}
}
