package segment

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/akidb/akigw/vectors"
)

var (
	moment = time.Date(2026, 12, 1, 2, 3, 4, 567, time.UTC)
	commit = Commit{Writer: "gateway-1", Epoch: 3, Nonce: "nonce"}
)

// part returns a part with a SHA-256 made of one digit.
func part(level Level, maxSeq uint64, digit string) Part {
	return NewPart(level, Summary{Rows: 10, Tombstones: 1, Bytes: 1000, SHA256: strings.Repeat(digit, 64), MinSeq: maxSeq - 1, MaxSeq: maxSeq})
}

func manifest() *Manifest {
	base, delta := part(Base, 20, "a"), part(Delta, 30, "b")
	return &Manifest{Head: head(3), Commit: commit, Generation: 7, Applied: 31, Parts: []Part{base, delta}, Created: moment,
		Merges: []Merge{{Result: base.Name, Generation: 6, Inputs: []Part{part(Base, 10, "c"), part(Delta, 20, "d")}}}}
}

func catalog() *Catalog {
	return &Catalog{Commit: commit, Generation: 2, Applied: 12, Created: moment,
		Buckets: []vectors.Bucket{{Name: "my-bucket", Incarnation: "0123456789abcdef0123456789abcdef", Created: moment, SSE: "AES256", Tags: map[string]string{"<a>": "&\x00\u2028"}, Policy: `{"Statement":[]}`},
			{Name: "empty", Incarnation: "1123456789abcdef0123456789abcdef"}},
		Indexes: []vectors.Index{{Bucket: "my-bucket", Name: "my.index", Incarnation: "2123456789abcdef0123456789abcdef", Created: moment, Dimension: 3, Metric: vectors.Euclidean, NonFilterable: []string{"text"}, Tags: map[string]string{"k": "v"}}},
		Dropped: []Dropped{{Bucket: "gone", Index: "gone", Incarnation: "3123456789abcdef0123456789abcdef"}}}
}

func owner() Owner { return Owner{Commit: commit, Tenure: 2, Since: moment} }

// documents are one document of each kind, with what parses it.
func documents(t testing.TB) map[string]struct {
	document []byte
	value    any
	parse    func([]byte) (any, error)
} {
	t.Helper()
	must := func(document []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return document
	}
	return map[string]struct {
		document []byte
		value    any
		parse    func([]byte) (any, error)
	}{
		manifestKind:     {must(manifest().Encode()), manifest(), func(b []byte) (any, error) { return ParseManifest(b) }},
		"empty manifest": {must((&Manifest{Head: head(1), Commit: commit, Generation: 1}).Encode()), &Manifest{Head: head(1), Commit: commit, Generation: 1}, func(b []byte) (any, error) { return ParseManifest(b) }},
		catalogKind:      {must(catalog().Encode()), catalog(), func(b []byte) (any, error) { return ParseCatalog(b) }},
		"empty catalog":  {must((&Catalog{Commit: commit, Generation: 1}).Encode()), &Catalog{Commit: commit, Generation: 1}, func(b []byte) (any, error) { return ParseCatalog(b) }},
		ownerKind:        {must(owner().Encode()), owner(), func(b []byte) (any, error) { return ParseOwner(b) }},
	}
}

// TestDocuments: what is encoded comes back.
func TestDocuments(t *testing.T) {
	for name, d := range documents(t) {
		if got, err := d.parse(d.document); err != nil || !reflect.DeepEqual(got, d.value) {
			t.Errorf("%s: %v\n%+v\n%+v", name, err, got, d.value)
		}
	}
	zone := manifest()
	zone.Created = moment.In(time.FixedZone("somewhere", 3600))
	document, err := zone.Encode()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseManifest(document); err != nil || !reflect.DeepEqual(got, manifest()) {
		t.Errorf("a time of another zone: %v, %v", got, err)
	}
}

// TestEveryFlippedByteOfADocument: a flip of any bit, a missing tail, and bytes that follow are
// detected.
func TestEveryFlippedByteOfADocument(t *testing.T) {
	for name, d := range documents(t) {
		check := func(what string, damaged []byte) {
			if _, err := d.parse(damaged); !errors.Is(err, ErrCorrupt) {
				t.Fatalf("%s, %s: %v\n%s", name, what, err, damaged)
			}
		}
		for at := range d.document {
			for bit := range 8 {
				damaged := bytes.Clone(d.document)
				damaged[at] ^= 1 << bit
				check(fmt.Sprintf("bit %d of byte %d", bit, at), damaged)
			}
			check(fmt.Sprintf("cut at %d", at), d.document[:at])
		}
		check("a byte more", append(bytes.Clone(d.document), ' '))
	}
}

// reseal returns a document with a changed body and the right SHA-256.
func reseal(body string) []byte {
	sum := sha256.Sum256([]byte(body))
	return []byte(sealBegin + hex.EncodeToString(sum[:]) + sealEnd + body)
}

// TestOtherVersions: a document that is intact is refused for what it says, and is not called damaged.
func TestOtherVersions(t *testing.T) {
	for name, d := range documents(t) {
		body := string(d.document[sealBytes:])
		if _, err := d.parse(reseal(body)); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for what, changed := range map[string]string{
			"newer version": strings.Replace(body, `"version":1`, `"version":2`, 1),
			"older version": strings.Replace(body, `"version":1`, `"version":0`, 1),
			"other kind":    strings.Replace(body, `"kind":"`, `"kind":"x`, 1),
			"unknown field": strings.Replace(body, `"version":1`, `"version":1,"colour":"red"`, 1),
			"no JSON":       "}",
			"more JSON":     body + "{}",
			"no writer":     strings.Replace(body, `"writer":"gateway-1"`, `"writer":""`, 1),
			"epoch 0":       strings.Replace(body, `"epoch":3`, `"epoch":0`, 1),
		} {
			if _, err := d.parse(reseal(changed)); !errors.Is(err, ErrFormat) || errors.Is(err, ErrCorrupt) {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
}

// TestOwnerRefuses: an owner that took the prefix in no epoch, or in a later one.
func TestOwnerRefuses(t *testing.T) {
	for _, tenure := range []uint64{0, 4} {
		o := owner()
		o.Tenure = tenure
		if _, err := o.Encode(); !errors.Is(err, ErrRow) {
			t.Errorf("tenure %d: %v", tenure, err)
		}
	}
}

// TestManifestRefuses: a manifest that contradicts itself is neither written nor read.
func TestManifestRefuses(t *testing.T) {
	for name, change := range map[string]func(m *Manifest){
		"head":           func(m *Manifest) { m.Dimension = 0 },
		"generation":     func(m *Manifest) { m.Generation = 0 },
		"applied":        func(m *Manifest) { m.Applied = 29 },
		"too far":        func(m *Manifest) { m.Applied = MaxSeq + 1 },
		"two bases":      func(m *Manifest) { m.Parts = []Part{m.Parts[0], part(Base, 21, "e")} },
		"part twice":     func(m *Manifest) { m.Parts = append(m.Parts, m.Parts[1]) },
		"part's name":    func(m *Manifest) { m.Parts[0].Name = "x" },
		"part's SHA-256": func(m *Manifest) { m.Parts[0].SHA256 = strings.Repeat("A", 64) },
		"part's level":   func(m *Manifest) { m.Parts[0] = part("top", 20, "a") },
		"part's counts":  func(m *Manifest) { m.Parts[0].Tombstones = 11 },
		"part's bytes":   func(m *Manifest) { m.Parts[0].Bytes = 0 },
		"part's numbers": func(m *Manifest) { m.Parts[0].MinSeq = 21 },
		"merge of none":  func(m *Manifest) { m.Merges[0].Inputs = nil },
		"later merge":    func(m *Manifest) { m.Merges[0].Generation = 8 },
		"merge's input":  func(m *Manifest) { m.Merges[0].Inputs[0].Name = "" },
		"nonce":          func(m *Manifest) { m.Nonce = "\xff" },
	} {
		m := manifest()
		change(m)
		if _, err := m.Encode(); !errors.Is(err, ErrRow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestCatalogRefuses: a catalog that contradicts itself is neither written nor read.
func TestCatalogRefuses(t *testing.T) {
	for name, change := range map[string]func(c *Catalog){
		"bucket twice":       func(c *Catalog) { c.Buckets[1].Name = "my-bucket" },
		"bucket's name":      func(c *Catalog) { c.Buckets[1].Name = "A" },
		"index twice":        func(c *Catalog) { c.Indexes = append(c.Indexes, c.Indexes[0]) },
		"no bucket":          func(c *Catalog) { c.Indexes[0].Bucket = "nowhere" },
		"incarnation twice":  func(c *Catalog) { c.Indexes[0].Incarnation = c.Buckets[0].Incarnation },
		"dropped is live":    func(c *Catalog) { c.Dropped[0].Incarnation = c.Indexes[0].Incarnation },
		"dropped has a path": func(c *Catalog) { c.Dropped[0].Index = "a/b" },
		"tag":                func(c *Catalog) { c.Buckets[0].Tags = map[string]string{"\xff": ""} },
		"policy":             func(c *Catalog) { c.Buckets[0].Policy = "\xff" },
		"key":                func(c *Catalog) { c.Indexes[0].NonFilterable = []string{"\xff"} },
		"generation":         func(c *Catalog) { c.Generation = 0 },
	} {
		c := catalog()
		change(c)
		if _, err := c.Encode(); !errors.Is(err, ErrRow) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestManifestNeeds: the objects of a manifest, and what replaces a merged part.
func TestManifestNeeds(t *testing.T) {
	m := manifest()
	if names := m.Names(); len(names) != 4 || m.Bytes() != 4000 {
		t.Errorf("%q, %d bytes", names, m.Bytes())
	}
	if parts, ok := m.Inputs(m.Parts[0].Name); !ok || len(parts) != 2 {
		t.Errorf("inputs of the base: %v, %v", parts, ok)
	}
	if _, ok := m.Inputs(m.Parts[1].Name); ok {
		t.Error("a delta has inputs")
	}
	m.Forget(2)
	if len(m.Merges) != 1 {
		t.Error("the merge of the manifest before was forgotten")
	}
	m.Forget(1)
	if len(m.Merges) != 0 || len(m.Names()) != 2 {
		t.Errorf("%v", m.Merges)
	}
}

// fuzzDocument feeds a parser with documents whose SHA-256 is right. encode encodes what was parsed.
func fuzzDocument(f *testing.F, kind string, again func(value any) ([]byte, error)) {
	d := documents(f)[kind]
	f.Add(string(d.document[sealBytes:]))
	f.Fuzz(func(t *testing.T, body string) {
		value, err := d.parse(reseal(body))
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		document, err := again(value)
		if err != nil {
			t.Fatalf("what was read could not be written: %v", err)
		}
		if got, err := d.parse(document); err != nil {
			t.Fatalf("%v: %s", err, document)
		} else if document2, err := again(got); err != nil || !bytes.Equal(document, document2) {
			t.Fatalf("%v:\n%s\n%s", err, document, document2)
		}
	})
}

// FuzzManifest parses arbitrary manifests.
func FuzzManifest(f *testing.F) {
	fuzzDocument(f, manifestKind, func(value any) ([]byte, error) { return value.(*Manifest).Encode() })
}

// FuzzCatalog parses arbitrary catalogs.
func FuzzCatalog(f *testing.F) {
	fuzzDocument(f, catalogKind, func(value any) ([]byte, error) { return value.(*Catalog).Encode() })
}

// FuzzOwner parses arbitrary owner documents.
func FuzzOwner(f *testing.F) {
	fuzzDocument(f, ownerKind, func(value any) ([]byte, error) { return value.(Owner).Encode() })
}
