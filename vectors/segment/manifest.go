package segment

import (
	"fmt"
	"slices"
	"time"

	"github.com/akidb/akigw/vectors"
)

// Manifest names the parts of a collection. Whoever has it and its parts has all that was
// acknowledged up to the sequence number Applied.
type Manifest struct {
	Head
	// Commit says who wrote it.
	Commit
	// Generation is 1 for the first manifest of a collection, and rises by one with each commit.
	Generation uint64
	// Applied is the sequence number up to which the parts have everything.
	Applied uint64
	// Parts are in order: a row replaces the rows of earlier parts with its key. Only the first one may
	// be a Base.
	Parts []Part
	// Merges are the latest merges, oldest first. The objects of their inputs are kept.
	Merges  []Merge
	Created time.Time
}

// Merge is a merge whose inputs are kept for a time, because they can replace its result.
type Merge struct {
	// Result is the name of the part that was written.
	Result string `json:"result"`
	// Generation is that of the first manifest that had the result.
	Generation uint64 `json:"generation"`
	// Inputs are the parts that were merged, in order.
	Inputs []Part `json:"inputs"`
}

const manifestKind = "manifest"

// headDocument is a Head in a document.
type headDocument struct {
	Bucket      string              `json:"bucket"`
	Index       string              `json:"index"`
	Incarnation vectors.Incarnation `json:"incarnation"`
	Dimension   int                 `json:"dimension"`
	Metric      vectors.Metric      `json:"metric"`
}

type manifestDocument struct {
	kindVersion
	headDocument
	Commit
	Generation uint64    `json:"generation"`
	Applied    uint64    `json:"applied"`
	Created    time.Time `json:"created"`
	Parts      []Part    `json:"parts"`
	Merges     []Merge   `json:"merges"`
}

// check returns why m cannot be a manifest.
func (m *Manifest) check() error {
	if err := m.Head.check(); err != nil {
		return err
	}
	if err := m.Commit.check(); err != nil {
		return err
	}
	if m.Generation == 0 || m.Applied > MaxSeq {
		return fmt.Errorf("generation %d, applied up to %d", m.Generation, m.Applied)
	}
	names := map[string]bool{}
	for i, p := range m.Parts {
		if err := p.check(); err != nil {
			return err
		}
		if p.Level == Base && i > 0 || names[p.Name] || p.MaxSeq > m.Applied {
			return fmt.Errorf("part %q is named twice, or is a base that is not the first part, or goes beyond sequence number %d", p.Name, m.Applied)
		}
		names[p.Name] = true
	}
	for _, merge := range m.Merges {
		if err := merge.check(m.Generation); err != nil {
			return err
		}
	}
	return nil
}

func (g *Merge) check(now uint64) error {
	if _, _, _, ok := ParsePartName(g.Result); !ok || g.Generation == 0 || g.Generation > now || len(g.Inputs) == 0 {
		return fmt.Errorf("the merge of %d parts into %q at generation %d cannot have been", len(g.Inputs), g.Result, g.Generation)
	}
	for _, p := range g.Inputs {
		if err := p.check(); err != nil {
			return fmt.Errorf("merge into %q: %w", g.Result, err)
		}
	}
	return nil
}

// Encode returns the document. The error is ErrRow.
func (m *Manifest) Encode() ([]byte, error) {
	if err := m.check(); err != nil {
		return nil, named(manifestKind, fmt.Errorf("%w: %w", ErrRow, err))
	}
	document, err := seal(manifestDocument{kindVersion: kindVersion{manifestKind, Version}, headDocument: headDocument(m.Head), Commit: m.Commit,
		Generation: m.Generation, Applied: m.Applied, Created: instant(m.Created), Parts: m.Parts, Merges: m.Merges})
	return document, named(manifestKind, err)
}

// ParseManifest parses what Encode returned. The error is ErrCorrupt or ErrFormat.
func ParseManifest(document []byte) (*Manifest, error) {
	var d manifestDocument
	if err := unseal(document, manifestKind, &d); err != nil {
		return nil, named(manifestKind, err)
	}
	m := &Manifest{Head: Head(d.headDocument), Commit: d.Commit, Generation: d.Generation, Applied: d.Applied, Created: instant(d.Created), Parts: d.Parts, Merges: d.Merges}
	if err := m.check(); err != nil {
		return nil, named(manifestKind, fmt.Errorf("%w: %w", ErrFormat, err))
	}
	return m, nil
}

// Names returns the names of all objects that m needs: its parts and the inputs of its merges, each
// once and sorted.
func (m *Manifest) Names() (names []string) {
	for _, p := range m.Parts {
		names = append(names, p.Name)
	}
	for _, g := range m.Merges {
		for _, p := range g.Inputs {
			names = append(names, p.Name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Bytes is the size of all objects that m needs.
func (m *Manifest) Bytes() (n int64) {
	seen := map[string]bool{}
	add := func(parts []Part) {
		for _, p := range parts {
			if !seen[p.Name] {
				seen[p.Name] = true
				n += p.Bytes
			}
		}
	}
	add(m.Parts)
	for _, g := range m.Merges {
		add(g.Inputs)
	}
	return n
}

// Inputs returns the parts that have the same rows as the part of a name, in order, if that part is
// the result of a merge whose inputs are kept. In the place of the result they give the same state.
func (m *Manifest) Inputs(name string) (parts []Part, ok bool) {
	for _, g := range m.Merges {
		if g.Result == name {
			return g.Inputs, true
		}
	}
	return nil, false
}

// Forget removes the merges that are older than the last keep generations, including m's own. It
// replaces m.Merges and changes no array that another manifest may share.
func (m *Manifest) Forget(keep int) {
	var kept []Merge
	for _, g := range m.Merges {
		if m.Generation-g.Generation < uint64(max(0, keep)) {
			kept = append(kept, g)
		}
	}
	m.Merges = kept
}
