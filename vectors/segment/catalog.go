package segment

import (
	"errors"
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/akidb/akigw/vectors"
)

// Catalog is all vector buckets and indexes of a prefix.
type Catalog struct {
	// Commit says who wrote it.
	Commit
	// Generation is 1 for the first catalog of a prefix, and rises by one with each commit.
	Generation uint64
	// Applied is the sequence number of the catalog up to which it has every change.
	Applied uint64
	Buckets []vectors.Bucket
	Indexes []vectors.Index
	// Dropped are deleted indexes whose objects may not have been removed yet.
	Dropped []Dropped
	Created time.Time
}

// Dropped is an index that was deleted.
type Dropped struct {
	Bucket      string              `json:"bucket"`
	Index       string              `json:"index"`
	Incarnation vectors.Incarnation `json:"incarnation"`
}

const catalogKind = "catalog"

// bucketDocument is a vectors.Bucket in a document.
type bucketDocument struct {
	Name        string              `json:"name"`
	Incarnation vectors.Incarnation `json:"incarnation"`
	Created     time.Time           `json:"created"`
	SSE         string              `json:"sse,omitempty"`
	Tags        map[string]string   `json:"tags,omitempty"`
	Policy      string              `json:"policy,omitempty"`
}

// indexDocument is a vectors.Index in a document.
type indexDocument struct {
	Bucket        string              `json:"bucket"`
	Name          string              `json:"name"`
	Incarnation   vectors.Incarnation `json:"incarnation"`
	Created       time.Time           `json:"created"`
	Dimension     int                 `json:"dimension"`
	Metric        vectors.Metric      `json:"metric"`
	NonFilterable []string            `json:"non_filterable,omitempty"`
	SSE           string              `json:"sse,omitempty"`
	Tags          map[string]string   `json:"tags,omitempty"`
}

type catalogDocument struct {
	kindVersion
	Commit
	Generation uint64           `json:"generation"`
	Applied    uint64           `json:"applied"`
	Created    time.Time        `json:"created"`
	Buckets    []bucketDocument `json:"buckets"`
	Indexes    []indexDocument  `json:"indexes"`
	Dropped    []Dropped        `json:"dropped"`
}

// check returns why c cannot be a catalog.
func (c *Catalog) check() error {
	if err := c.Commit.check(); err != nil {
		return err
	}
	if c.Generation == 0 || c.Applied > MaxSeq {
		return fmt.Errorf("generation %d, applied up to %d", c.Generation, c.Applied)
	}
	buckets, live := map[string]bool{}, map[[2]string]bool{}
	incarnations := map[vectors.Incarnation]bool{}
	used := func(i vectors.Incarnation) error {
		if !i.Valid() || incarnations[i] {
			return fmt.Errorf("incarnation %q is used twice, or is none", i)
		}
		incarnations[i] = true
		return nil
	}
	for i := range c.Buckets {
		b := &c.Buckets[i]
		if !vectors.ValidName(b.Name) || buckets[b.Name] {
			return fmt.Errorf("bucket %q is named twice, or has no valid name", b.Name)
		}
		buckets[b.Name] = true
		if err := errors.Join(used(b.Incarnation), texts(b.Tags, b.SSE, b.Policy)); err != nil {
			return fmt.Errorf("bucket %q: %w", b.Name, err)
		}
	}
	for i := range c.Indexes {
		x := &c.Indexes[i]
		name := [2]string{x.Bucket, x.Name}
		if live[name] || !buckets[x.Bucket] {
			return fmt.Errorf("index %q of bucket %q is named twice, or there is no such bucket", x.Name, x.Bucket)
		}
		live[name] = true
		if err := errors.Join(HeadOf(x).check(), used(x.Incarnation), texts(x.Tags, append([]string{x.SSE}, x.NonFilterable...)...)); err != nil {
			return fmt.Errorf("index %q of bucket %q: %w", x.Name, x.Bucket, err)
		}
	}
	for _, d := range c.Dropped {
		if err := used(d.Incarnation); err != nil || !vectors.ValidName(d.Bucket) || !vectors.ValidName(d.Index) {
			return fmt.Errorf("deleted index %q of bucket %q: its names are not valid, or its incarnation is used twice", d.Index, d.Bucket)
		}
	}
	return nil
}

// texts checks that JSON can hold texts unchanged.
func texts(tags map[string]string, others ...string) error {
	for key, value := range tags {
		others = append(others, key, value)
	}
	for _, text := range others {
		if !utf8.ValidString(text) {
			return fmt.Errorf("%q is not UTF-8", text)
		}
	}
	return nil
}

// Encode returns the document. The error is ErrRow.
func (c *Catalog) Encode() ([]byte, error) {
	if err := c.check(); err != nil {
		return nil, named(catalogKind, fmt.Errorf("%w: %w", ErrRow, err))
	}
	d := catalogDocument{kindVersion: kindVersion{catalogKind, Version}, Commit: c.Commit, Generation: c.Generation, Applied: c.Applied, Created: instant(c.Created), Dropped: c.Dropped}
	for _, b := range c.Buckets {
		b.Created = instant(b.Created)
		d.Buckets = append(d.Buckets, bucketDocument(b))
	}
	for _, x := range c.Indexes {
		x.Created = instant(x.Created)
		d.Indexes = append(d.Indexes, indexDocument(x))
	}
	document, err := seal(d)
	return document, named(catalogKind, err)
}

// ParseCatalog parses what Encode returned. The error is ErrCorrupt or ErrFormat.
func ParseCatalog(document []byte) (*Catalog, error) {
	var d catalogDocument
	if err := unseal(document, catalogKind, &d); err != nil {
		return nil, named(catalogKind, err)
	}
	c := &Catalog{Commit: d.Commit, Generation: d.Generation, Applied: d.Applied, Created: instant(d.Created), Dropped: d.Dropped}
	for _, b := range d.Buckets {
		b.Created = instant(b.Created)
		c.Buckets = append(c.Buckets, vectors.Bucket(b))
	}
	for _, x := range d.Indexes {
		x.Created = instant(x.Created)
		c.Indexes = append(c.Indexes, vectors.Index(x))
	}
	if err := c.check(); err != nil {
		return nil, named(catalogKind, fmt.Errorf("%w: %w", ErrFormat, err))
	}
	return c, nil
}
