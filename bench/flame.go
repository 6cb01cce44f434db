package bench

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"html/template"
	"io"
	"slices"
	"strings"

	"github.com/google/pprof/profile"
)

// Flame is a profile as a tree of calls.
type Flame struct {
	Title string  `json:"title"`
	Unit  string  `json:"unit"` // nanoseconds, bytes, count
	Root  *Frame  `json:"root"`
	Top   []Share `json:"top"` // the functions with the largest shares
}

// Frame is a function, called by the one above it.
type Frame struct {
	Name     string   `json:"n"`
	Value    int64    `json:"v"` // including its callees
	Children []*Frame `json:"c,omitempty"`
}

// Share is the share of a function in a profile.
type Share struct {
	Name  string `json:"name"`
	Self  int64  `json:"self"`  // excluding callees
	Total int64  `json:"total"` // including callees
}

// valueOf returns the index of the sample type that is shown: the first of the supported ones that the
// profile has.
func valueOf(p *profile.Profile, allocated bool) int {
	for _, kind := range [...]string{"cpu", "inuse_space", "delay", "goroutine", "alloc_space", "samples"} {
		if allocated && kind == "inuse_space" {
			continue
		}
		if i := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == kind }); i >= 0 {
			return i
		}
	}
	return len(p.SampleType) - 1
}

// NewFlame builds a tree from a profile in pprof format: of the allocated bytes for an "allocs"
// profile, of the bytes in use for a "heap" profile.
func NewFlame(title string, raw []byte, allocated bool) (*Flame, error) {
	p, err := profile.Parse(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("profile: %w", err)
	}
	return newFlame(title, p, allocated), nil
}

func newFlame(title string, p *profile.Profile, allocated bool) *Flame {
	index := valueOf(p, allocated)
	f := &Flame{Title: title, Unit: p.SampleType[index].Unit, Root: &Frame{Name: "all"}}
	shares := map[string]*Share{}
	share := func(name string) *Share {
		if shares[name] == nil {
			shares[name] = &Share{Name: name}
		}
		return shares[name]
	}
	for _, s := range p.Sample {
		value := s.Value[index]
		if value == 0 {
			continue
		}
		at, seen := f.Root, map[string]bool{}
		at.Value += value
		for i := len(s.Location) - 1; i >= 0; i-- { // from the outermost call inwards
			lines := s.Location[i].Line
			for k := len(lines) - 1; k >= 0; k-- { // inlined calls, also from the outermost inwards
				name := "?"
				if lines[k].Function != nil {
					name = lines[k].Function.Name
				}
				at = at.child(name)
				at.Value += value
				if !seen[name] { // recursion counts once
					seen[name] = true
					share(name).Total += value
				}
			}
		}
		share(at.Name).Self += value
	}
	for _, s := range shares {
		f.Top = append(f.Top, *s)
	}
	slices.SortFunc(f.Top, func(a, b Share) int {
		return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Total, a.Total), cmp.Compare(a.Name, b.Name))
	})
	f.Top = f.Top[:min(len(f.Top), 40)]
	f.Root.sort()
	return f
}

func (f *Frame) child(name string) *Frame {
	for _, c := range f.Children {
		if c.Name == name {
			return c
		}
	}
	c := &Frame{Name: name}
	f.Children = append(f.Children, c)
	return c
}

func (f *Frame) sort() {
	slices.SortFunc(f.Children, func(a, b *Frame) int { return cmp.Compare(a.Name, b.Name) })
	for _, c := range f.Children {
		c.sort()
	}
}

//go:embed flame.html
var flamePage string

// WriteHTML writes the tree as a flame graph: one self-contained page.
func (f *Flame) WriteHTML(w io.Writer) error {
	return template.Must(template.New("flame").Parse(flamePage)).Execute(w, f)
}

// Grown returns the growth of each place between two heap or goroutine profiles, largest first.
func Grown(before, after []byte) ([]Share, string, error) {
	a, err := profile.Parse(bytes.NewReader(before))
	if err != nil {
		return nil, "", fmt.Errorf("profile: %w", err)
	}
	b, err := profile.Parse(bytes.NewReader(after))
	if err != nil {
		return nil, "", fmt.Errorf("profile: %w", err)
	}
	a.Scale(-1)
	both, err := profile.Merge([]*profile.Profile{a, b})
	if err != nil {
		return nil, "", fmt.Errorf("profile: %w", err)
	}
	index := valueOf(both, false)
	sums := map[string]int64{}
	for _, s := range both.Sample {
		sums[place(s, both.SampleType[index].Type)] += s.Value[index]
	}
	var grown []Share
	for name, n := range sums {
		if n > 0 {
			grown = append(grown, Share{name, n, n})
		}
	}
	slices.SortFunc(grown, func(a, b Share) int { return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(a.Name, b.Name)) })
	return grown, both.SampleType[index].Unit, nil
}

// place names a stack for people: for a goroutine, the function that it started with; for memory, the
// function that allocated it and the function of this module that called it.
func place(s *profile.Sample, kind string) string {
	var names []string // innermost first
	for _, l := range s.Location {
		for _, line := range l.Line {
			if line.Function != nil {
				names = append(names, line.Function.Name)
			}
		}
	}
	switch {
	case len(names) == 0:
		return "?"
	case kind == "goroutine":
		return names[len(names)-1]
	}
	if i := slices.IndexFunc(names, func(name string) bool { return strings.Contains(name, "akigw") }); i > 0 {
		return names[0] + ", for " + names[i]
	}
	return names[0]
}
