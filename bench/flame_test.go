package bench

import (
	"bytes"
	"runtime/pprof"
	"strings"
	"testing"

	"github.com/google/pprof/profile"
)

// stacks returns a profile of the given stacks, outermost call first, each with a value.
func stacks(t *testing.T, kind, unit string, of map[string]int64) []byte {
	t.Helper()
	p := &profile.Profile{SampleType: []*profile.ValueType{{Type: kind, Unit: unit}}}
	functions := map[string]*profile.Location{}
	for stack, value := range of {
		s := &profile.Sample{Value: []int64{value}}
		for _, name := range strings.Split(stack, ";") {
			l := functions[name]
			if l == nil {
				f := &profile.Function{ID: uint64(len(functions) + 1), Name: name}
				l = &profile.Location{ID: f.ID, Line: []profile.Line{{Function: f}}}
				functions[name] = l
				p.Function, p.Location = append(p.Function, f), append(p.Location, l)
			}
			s.Location = append([]*profile.Location{l}, s.Location...)
		}
		p.Sample = append(p.Sample, s)
	}
	var raw bytes.Buffer
	if err := p.Write(&raw); err != nil {
		t.Fatal(err)
	}
	return raw.Bytes()
}

// TestFlame: every call is under its caller, with the values of its callees; recursion counts once.
func TestFlame(t *testing.T) {
	f, err := NewFlame("title", stacks(t, "cpu", "nanoseconds", map[string]int64{"main;a;b": 5, "main;a": 2, "main;c;c;c": 3}), false)
	if err != nil {
		t.Fatal(err)
	}
	main := f.Root.Children[0]
	if f.Unit != "nanoseconds" || f.Root.Value != 10 || main.Value != 10 || len(main.Children) != 2 || main.Children[0].Name != "a" || main.Children[0].Value != 7 || main.Children[0].Children[0].Value != 5 {
		t.Errorf("%+v", f)
	}
	if f.Top[0] != (Share{"b", 5, 5}) || f.Top[1] != (Share{"c", 3, 3}) {
		t.Errorf("%+v", f.Top)
	}
	var page bytes.Buffer
	if err := f.WriteHTML(&page); err != nil || !strings.Contains(page.String(), `"n":"b"`) {
		t.Errorf("%v, %s", err, &page)
	}
	if _, err := NewFlame("", []byte("none"), false); err == nil {
		t.Error("no profile was taken for one")
	}
}

// TestGrown: Grown returns the places that have grown, and no others.
func TestGrown(t *testing.T) {
	before := stacks(t, "inuse_space", "bytes", map[string]int64{"main;steady": 100, "main;leak": 10, "main;less": 50})
	after := stacks(t, "inuse_space", "bytes", map[string]int64{"main;steady": 100, "main;leak": 70, "main;less": 5})
	grown, unit, err := Grown(before, after)
	if err != nil || unit != "bytes" || len(grown) != 1 || grown[0].Name != "leak" || grown[0].Self != 60 {
		t.Errorf("%+v, %s, %v", grown, unit, err)
	}
}

// TestFlameOfThisProcess: NewFlame reads the output of Go's own profiler.
func TestFlameOfThisProcess(t *testing.T) {
	for _, name := range []string{"heap", "allocs", "goroutine"} {
		var raw bytes.Buffer
		if err := pprof.Lookup(name).WriteTo(&raw, 0); err != nil {
			t.Fatal(err)
		}
		if f, err := NewFlame(name, raw.Bytes(), name == "allocs"); err != nil || len(f.Top) == 0 && name != "heap" {
			t.Errorf("%s: %+v, %v", name, f, err)
		}
	}
}
