// Package segment is the formats of the vector collections that are stored in the upstream: a part of a
// collection as a Parquet file (Writer, Read), and the documents about parts: the Manifest of a
// collection, the Catalog of all collections, and the Owner of the prefix. docs/vector-format.md
// describes them byte by byte.
//
// Whatever one flipped bit, a missing tail or a mixed-up name does to a file or document is detected
// when it is read: ErrCorrupt. What is intact but was written by another version of akigw is
// ErrFormat, so that nobody takes it for damage and falls back to something older. The package does no
// I/O of its own.
package segment

import (
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"strconv"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/vectors"
)

// The errors of this package. All messages say which file or document they are about.
const (
	// ErrCorrupt means that the bytes are not those that were written.
	ErrCorrupt = akigw.Error("it is damaged")
	// ErrFormat means that the bytes are those that were written, and this version of akigw cannot
	// use them.
	ErrFormat = akigw.Error("it is intact, but this version of akigw cannot read it; use the version that wrote it, or a newer one")
	// ErrRow means that a row, part, manifest or catalog that was to be written breaks the rules of
	// the format. It is a mistake of the caller.
	ErrRow = akigw.Error("it cannot be written")
)

// Version is the version of all formats of this package.
const Version = 1

// Head identifies the collection that a file or manifest belongs to.
type Head struct {
	Bucket, Index string
	Incarnation   vectors.Incarnation
	// Dimension is how many float32 values each vector has.
	Dimension int
	Metric    vectors.Metric
}

// HeadOf returns the head of the files of an index.
func HeadOf(i *vectors.Index) Head {
	return Head{Bucket: i.Bucket, Index: i.Name, Incarnation: i.Incarnation, Dimension: i.Dimension, Metric: i.Metric}
}

// check returns why h cannot be the head of a collection.
func (h Head) check() error {
	switch {
	case !vectors.ValidName(h.Bucket), !vectors.ValidName(h.Index):
		return fmt.Errorf("%q/%q is not the name of an index", h.Bucket, h.Index)
	case !h.Incarnation.Valid():
		return fmt.Errorf("%q is not an incarnation", h.Incarnation)
	case h.Dimension < 1 || h.Dimension > vectors.MaxDimension:
		return fmt.Errorf("the dimension is %d", h.Dimension)
	case h.Metric != vectors.Cosine && h.Metric != vectors.Euclidean:
		return fmt.Errorf("%q is not a metric", h.Metric)
	}
	return nil
}

// Row is a row of a part: a vector, or the tombstone of a key.
type Row struct {
	// Hash is vectors.HashKey(Key). Rows are sorted by Hash, then Key.
	Hash vectors.Hash
	Key  string // 1 to vectors.MaxKeyBytes bytes of UTF-8
	// Seq is the sequence number of the call that wrote the row, up to MaxSeq.
	Seq uint64
	// Deleted marks a tombstone, which has neither Data nor Metadata.
	Deleted  bool
	Data     []float32
	Metadata []byte // compact JSON, nil for none
}

// MaxSeq is the largest sequence number: Parquet's integers are signed.
const MaxSeq = math.MaxInt64

// Summary describes a part that is complete.
type Summary struct {
	// Rows counts all rows, Tombstones those of them that are tombstones.
	Rows       int64 `json:"rows"`
	Tombstones int64 `json:"tombstones"`
	// Bytes is the size of the file, and SHA256 the SHA-256 of all of it, in lower-case hexadecimal.
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
	// MinSeq and MaxSeq are the smallest and the largest sequence number, 0 without rows.
	MinSeq uint64 `json:"min_sequence"`
	MaxSeq uint64 `json:"max_sequence"`
}

func (s *Summary) check() error {
	switch {
	case s.Rows < 0 || s.Tombstones < 0 || s.Tombstones > s.Rows || s.Bytes < 1:
		return fmt.Errorf("%d rows, %d tombstones, %d bytes", s.Rows, s.Tombstones, s.Bytes)
	case !validSHA(s.SHA256):
		return fmt.Errorf("%q is not a SHA-256", s.SHA256)
	case s.MinSeq > s.MaxSeq || s.MaxSeq > MaxSeq:
		return fmt.Errorf("sequence numbers from %d to %d", s.MinSeq, s.MaxSeq)
	}
	return nil
}

func validSHA(text string) bool {
	raw, err := hex.DecodeString(text)
	return err == nil && len(raw) == 32 && hex.EncodeToString(raw) == text
}

// Level says whether a part replaces all before it.
type Level string

// The levels.
const (
	Base  Level = "base"  // the result of a merge of everything
	Delta Level = "delta" // what was written since the part before it
)

// Part is a part as a manifest names it.
type Part struct {
	Name  string `json:"name"` // see PartName
	Level Level  `json:"level"`
	Summary
}

// NewPart returns the part of a file. It is named by its highest sequence number and its SHA-256.
func NewPart(level Level, s Summary) Part {
	return Part{Name: PartName(level, s.MaxSeq, s.SHA256), Level: level, Summary: s}
}

// PartName is the name of a part's object below the collection's prefix:
// LEVEL-SEQUENCE-SHA256.parquet, with 20 digits of the highest sequence number.
func PartName(level Level, maxSeq uint64, sha256 string) string {
	return fmt.Sprintf("%s-%020d-%s.parquet", level, maxSeq, sha256)
}

var partName = regexp.MustCompile(`^(base|delta)-(\d{20})-([0-9a-f]{64})\.parquet$`)

// ParsePartName parses a name that PartName formed. It returns false for any other name.
func ParsePartName(name string) (level Level, maxSeq uint64, sha256 string, ok bool) {
	m := partName.FindStringSubmatch(name)
	if m == nil {
		return "", 0, "", false
	}
	maxSeq, err := strconv.ParseUint(m[2], 10, 64)
	return Level(m[1]), maxSeq, m[3], err == nil
}

func (p *Part) check() error {
	if err := p.Summary.check(); err != nil {
		return fmt.Errorf("part %q: %w", p.Name, err)
	}
	if p.Name != PartName(p.Level, p.MaxSeq, p.SHA256) || p.Level != Base && p.Level != Delta {
		return fmt.Errorf("part %q does not have the name of a %q with its sequence number and SHA-256", p.Name, p.Level)
	}
	return nil
}
