package segment

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/parquet-go/parquet-go"

	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/vectors"
)

// head returns the head of a collection with a fixed incarnation.
func head(dimension int) Head {
	return Head{Bucket: "my-bucket", Index: "my.index", Incarnation: "0123456789abcdef0123456789abcdef", Dimension: dimension, Metric: vectors.Cosine}
}

// row returns a row whose hash is right.
func row(key string, seq uint64, metadata string, data ...float32) Row {
	r := Row{Hash: vectors.HashKey(key), Key: key, Seq: seq, Data: data, Deleted: data == nil}
	if metadata != "" {
		r.Metadata = []byte(metadata)
	}
	return r
}

// sorted sorts rows as a part has them.
func sorted(rows ...Row) []Row {
	slices.SortFunc(rows, func(a, b Row) int { return order(a.Hash, a.Key, b.Hash, b.Key) })
	return rows
}

// write returns a part with rows.
func write(t testing.TB, h Head, rows []Row) ([]byte, Summary) {
	t.Helper()
	var b bytes.Buffer
	w := NewWriter(&b, h)
	for _, r := range rows {
		if err := w.Add(r); err != nil {
			t.Fatal(err)
		}
	}
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	return b.Bytes(), s
}

// read returns copies of the rows of a part.
func read(file []byte, h Head, s Summary) (rows []Row, err error) {
	err = Read(context.Background(), bytes.NewReader(file), h, s, func(r Row) error {
		r.Data, r.Metadata = slices.Clone(r.Data), bytes.Clone(r.Metadata)
		rows = append(rows, r)
		return nil
	})
	return rows, err
}

// same reports whether two rows are equal, bit by bit.
func same(a, b Row) bool {
	bits := func(x, y float32) bool { return math.Float32bits(x) == math.Float32bits(y) }
	return a.Hash == b.Hash && a.Key == b.Key && a.Seq == b.Seq && a.Deleted == b.Deleted && slices.EqualFunc(a.Data, b.Data, bits) &&
		bytes.Equal(a.Metadata, b.Metadata) && (a.Metadata == nil) == (b.Metadata == nil)
}

var (
	negativeZero = float32(math.Copysign(0, -1))
	small        = []Row{
		row("a", 1, `{"genre":"drama"}`, 1, negativeZero, math.SmallestNonzeroFloat32),
		row("deleted", 2, ""),
		row("with\x00NUL", MaxSeq, "", math.MaxFloat32, -math.MaxFloat32, 0.1),
		row("漢字 \"quoted\" \U0001F600", 0, `{"n":1e400,"s":"\u0000"}`, math.Float32frombits(1), math.Float32frombits(0x807fffff), 1e-38),
		row(strings.Repeat("k", vectors.MaxKeyBytes), 7, `{"long":"`+strings.Repeat("x", 30<<10)+`"}`, 1, 2, 3),
	}
)

// TestRoundTrip: keys, numbers, metadata and tombstones come back bit by bit.
func TestRoundTrip(t *testing.T) {
	random := testkit.Random(t)
	var tombstones, large, wide []Row
	for i := range 70_000 { // more than a row group
		tombstones = append(tombstones, row(fmt.Sprint("key", i), uint64(i), ""))
	}
	for i := range 600 {
		r := row(fmt.Sprint("key", i), random.Uint64N(MaxSeq), "", make([]float32, 1000)...)
		for k := range r.Data { // bit patterns at random, NaNs among them
			r.Data[k] = math.Float32frombits(random.Uint32())
		}
		if i%3 == 0 {
			r.Metadata = fmt.Appendf(nil, `{"text":%q}`, testkit.Text(random, 2000))
		}
		if i%7 == 0 {
			r.Data, r.Metadata, r.Deleted = nil, nil, true
		}
		large = append(large, r)
	}
	for i := range 1030 { // row groups of 16 MiB
		wide = append(wide, row(fmt.Sprint("key", i), uint64(i), "", make([]float32, vectors.MaxDimension)...))
		wide[i].Data[i] = float32(i)
	}
	for _, c := range []struct {
		name      string
		dimension int
		rows      []Row
	}{
		{"no rows", 3, nil},
		{"one row", 1, []Row{row("a", 1, "", 1)}},
		{"one tombstone", 3, []Row{row("a", 1, "")}},
		{"extremes", 3, slices.Clone(small)},
		{"several batches", 1000, large},
		{"tombstones in several row groups", 3, tombstones},
		{"vectors in several row groups", vectors.MaxDimension, wide},
	} {
		t.Run(c.name, func(t *testing.T) {
			rows := sorted(c.rows...)
			file, s := write(t, head(c.dimension), rows)
			got, err := read(file, head(c.dimension), s)
			if err != nil || !slices.EqualFunc(got, rows, same) {
				t.Fatalf("%d rows instead of %d, %v", len(got), len(rows), err)
			}
			sum := sha256.Sum256(file)
			if s.Rows != int64(len(rows)) || s.Bytes != int64(len(file)) || s.SHA256 != hex.EncodeToString(sum[:]) {
				t.Errorf("%+v", s)
			}
		})
	}
}

// TestSummary: the counts and sequence numbers are those of the rows.
func TestSummary(t *testing.T) {
	_, s := write(t, head(3), sorted(slices.Clone(small)...))
	if s.Rows != 5 || s.Tombstones != 1 || s.MinSeq != 0 || s.MaxSeq != MaxSeq {
		t.Errorf("%+v", s)
	}
}

// TestAddRefuses: a row that the format cannot hold fails the part.
func TestAddRefuses(t *testing.T) {
	pair := sorted(row("a", 1, "", 1), row("b", 2, "", 1))
	wrongHash := row("a", 1, "", 1)
	wrongHash.Hash[3]++
	emptyMetadata := row("a", 1, "", 1)
	emptyMetadata.Metadata = []byte{}
	for name, rows := range map[string][]Row{
		"order":              {pair[1], pair[0]},
		"same key twice":     {pair[0], pair[0]},
		"no key":             {row("", 1, "", 1)},
		"long key":           {row(strings.Repeat("k", vectors.MaxKeyBytes+1), 1, "", 1)},
		"key not UTF-8":      {row("\xff", 1, "", 1)},
		"wrong hash":         {wrongHash},
		"sequence":           {row("a", MaxSeq+1, "", 1)},
		"dimension":          {row("a", 1, "", 1, 2)},
		"no vector":          {row("a", 1, "", []float32{}...)},
		"tombstone metadata": {row("a", 1, "{}")},
		"empty metadata":     {emptyMetadata},
		"metadata not UTF-8": {row("a", 1, "{\"\xff\":1}", 1)},
		"long metadata":      {row("a", 1, `{"a":"`+strings.Repeat("x", vectors.MaxMetadataBytes)+`"}`, 1)},
	} {
		t.Run(name, func(t *testing.T) {
			w := NewWriter(io.Discard, head(1))
			var err error
			for _, r := range rows {
				err = w.Add(r)
			}
			if !errors.Is(err, ErrRow) {
				t.Errorf("Add: %v", err)
			}
			if _, err := w.Close(); !errors.Is(err, ErrRow) {
				t.Errorf("Close: %v", err)
			}
		})
	}
	if _, err := NewWriter(io.Discard, Head{}).Close(); err == nil {
		t.Error("a part of no collection was written")
	}
}

// full is a writer without room.
type full struct{ room int }

var errFull = errors.New("no space left")

// Write implements io.Writer.
func (f *full) Write(p []byte) (int, error) {
	if f.room -= len(p); f.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

// TestWriterFails: an error of the io.Writer comes back from Add or Close, wherever the file ends.
func TestWriterFails(t *testing.T) {
	rows := sorted(slices.Clone(small)...)
	file, _ := write(t, head(3), rows)
	for room := 0; room < len(file); room += 41 {
		w := NewWriter(&full{room}, head(3))
		for _, r := range rows {
			if w.Add(r) != nil {
				break
			}
		}
		if _, err := w.Close(); !errors.Is(err, errFull) {
			t.Fatalf("room for %d bytes: %v", room, err)
		}
	}
}

// TestEveryFlippedByteOfAPart: a flip of any bit, a missing tail, and bytes that follow are detected
// before the first row is passed on.
func TestEveryFlippedByteOfAPart(t *testing.T) {
	file, s := write(t, head(3), sorted(small[:4]...))
	check := func(what string, damaged []byte) {
		if rows, err := read(damaged, head(3), s); !errors.Is(err, ErrCorrupt) || rows != nil {
			t.Fatalf("%s: %d rows, %v", what, len(rows), err)
		}
	}
	for at := range file {
		for bit := range 8 {
			damaged := bytes.Clone(file)
			damaged[at] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d", bit, at), damaged)
		}
		check(fmt.Sprintf("cut at %d", at), file[:at])
	}
	check("a byte more", append(bytes.Clone(file), 0))
}

// TestReadRefuses: a file that is intact and not the part that the manifest means.
func TestReadRefuses(t *testing.T) {
	rows := sorted(slices.Clone(small)...)
	file, s := write(t, head(3), rows)
	for name, change := range map[string]func(h *Head, s *Summary){
		"bucket":      func(h *Head, _ *Summary) { h.Bucket = "other" },
		"index":       func(h *Head, _ *Summary) { h.Index = "other" },
		"incarnation": func(h *Head, _ *Summary) { h.Incarnation = vectors.NewIncarnation() },
		"dimension":   func(h *Head, _ *Summary) { h.Dimension = 4 },
		"metric":      func(h *Head, _ *Summary) { h.Metric = vectors.Euclidean },
		"no head":     func(h *Head, _ *Summary) { *h = Head{} },
		"rows":        func(_ *Head, s *Summary) { s.Rows++ },
		"tombstones":  func(_ *Head, s *Summary) { s.Tombstones++ },
		"smallest":    func(_ *Head, s *Summary) { s.MinSeq++ },
		"largest":     func(_ *Head, s *Summary) { s.MaxSeq-- },
	} {
		t.Run(name, func(t *testing.T) {
			h, s := head(3), s
			change(&h, &s)
			if _, err := read(file, h, s); !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
		})
	}
	errStop := errors.New("stop")
	seen := 0
	err := Read(t.Context(), bytes.NewReader(file), head(3), s, func(Row) error { seen++; return errStop })
	if err != errStop || seen != 1 {
		t.Errorf("after an error of yield: %v, %d rows", err, seen)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Read(ctx, bytes.NewReader(file), head(3), s, func(Row) error { return nil }); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestReadRefusesRows: rows that no Writer writes, in a file that is intact.
func TestReadRefusesRows(t *testing.T) {
	pair := sorted(row("a", 1, "", 1), row("b", 2, "", 1))
	for name, rows := range map[string][]fileRow{
		"order":     {{Key: pair[1].Key, Vector: []float32{1}}, {Key: pair[0].Key, Vector: []float32{1}}},
		"twice":     {{Key: "a", Vector: []float32{1}}, {Key: "a", Vector: []float32{1}}},
		"dimension": {{Key: "a", Vector: []float32{1, 2}}},
		"tombstone": {{Key: "a", Vector: []float32{1}, Deleted: true}},
		"sequence":  {{Key: "a", Vector: []float32{1}, Sequence: -1}},
	} {
		t.Run(name, func(t *testing.T) {
			var b bytes.Buffer
			w := parquet.NewGenericWriter[fileRow](&b)
			for _, pair := range head(1).footer() {
				w.SetKeyValueMetadata(pair[0], pair[1])
			}
			_, err := w.Write(rows)
			if err := errors.Join(err, w.Close()); err != nil {
				t.Fatal(err)
			}
			sum := sha256.Sum256(b.Bytes())
			s := Summary{Rows: int64(len(rows)), Bytes: int64(b.Len()), SHA256: hex.EncodeToString(sum[:])}
			if _, err := read(b.Bytes(), head(1), s); !errors.Is(err, ErrFormat) {
				t.Error(err)
			}
		})
	}
}

// errReader is a disk that fails.
type errReader struct{ io.ReaderAt }

var errIO = errors.New("input/output error")

// ReadAt implements io.ReaderAt.
func (errReader) ReadAt([]byte, int64) (int, error) { return 0, errIO }

// TestReadError: a disk that cannot be read is not damage.
func TestReadError(t *testing.T) {
	_, s := write(t, head(3), nil)
	if err := Verify(t.Context(), errReader{}, s); !errors.Is(err, errIO) || errors.Is(err, ErrCorrupt) {
		t.Error(err)
	}
}

// TestPartName: names are formed and parsed.
func TestPartName(t *testing.T) {
	sum := strings.Repeat("0f", 32)
	for _, level := range []Level{Base, Delta} {
		name := PartName(level, 42, sum)
		if l, seq, sha, ok := ParsePartName(name); l != level || seq != 42 || sha != sum || !ok {
			t.Errorf("%s: %s %d %s %v", name, l, seq, sha, ok)
		}
	}
	for _, name := range []string{"", "manifest.json", "base-42-" + sum + ".parquet", "more-00000000000000000042-" + sum + ".parquet",
		"base-99999999999999999999-" + sum + ".parquet", "base-00000000000000000042-" + sum, "a/" + PartName(Base, 42, sum)} {
		if _, _, _, ok := ParsePartName(name); ok {
			t.Errorf("%q is a name", name)
		}
	}
}

// FuzzSegment reads arbitrary bytes whose SHA-256 is right, as a part.
func FuzzSegment(f *testing.F) {
	rows := sorted(slices.Clone(small)...)
	for n := range rows {
		file, s := write(f, head(3), rows[:n])
		f.Add(file, s.Rows, s.Tombstones, s.MinSeq, s.MaxSeq)
	}
	f.Fuzz(func(t *testing.T, file []byte, n, tombstones int64, minSeq, maxSeq uint64) {
		sum := sha256.Sum256(file)
		s := Summary{Rows: n, Tombstones: tombstones, Bytes: int64(len(file)), SHA256: hex.EncodeToString(sum[:]), MinSeq: minSeq, MaxSeq: maxSeq}
		rows, err := read(file, head(3), s)
		if err != nil {
			if !errors.Is(err, ErrFormat) {
				t.Fatal(err)
			}
			return
		}
		again, s := write(t, head(3), rows)
		if got, err := read(again, head(3), s); err != nil || !slices.EqualFunc(got, rows, same) {
			t.Fatalf("what was read could not be written: %v", err)
		}
	})
}

// BenchmarkPart writes and reads vectors of 128 values.
func BenchmarkPart(b *testing.B) {
	const n, dimension = 50_000, 128
	random := rand.New(rand.NewPCG(1, 1))
	rows := make([]Row, n)
	for i := range rows {
		rows[i] = row(fmt.Sprint("key", i), uint64(i), `{"genre":"drama","year":1999}`, make([]float32, dimension)...)
		for k := range rows[i].Data {
			rows[i].Data[k] = float32(random.NormFloat64())
		}
	}
	rows = sorted(rows...)
	file, s := write(b, head(dimension), rows)
	b.Run("write", func(b *testing.B) {
		b.SetBytes(n * dimension * 4)
		for b.Loop() {
			write(b, head(dimension), rows)
		}
		b.ReportMetric(float64(s.Bytes)/(n*dimension*4), "size/raw")
	})
	b.Run("read", func(b *testing.B) {
		b.SetBytes(n * dimension * 4)
		for b.Loop() {
			if err := Read(b.Context(), bytes.NewReader(file), head(dimension), s, func(Row) error { return nil }); err != nil {
				b.Fatal(err)
			}
		}
	})
}
