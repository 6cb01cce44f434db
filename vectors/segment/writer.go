package segment

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"unicode/utf8"

	"github.com/parquet-go/parquet-go"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/vectors"
)

// fileRow is a row as the library writes it. The bytes of the floats are grouped by their place
// (BYTE_STREAM_SPLIT): exponents compress, mantissas hardly do.
type fileRow struct {
	Key      string    `parquet:"key,zstd"`
	Sequence int64     `parquet:"sequence,zstd"`
	Deleted  bool      `parquet:"deleted,zstd"`
	Vector   []float32 `parquet:"vector,list" parquet-element:",split,zstd"`
	Metadata *string   `parquet:"metadata,optional,zstd"`
}

// Keys of the metadata in the footer.
const (
	metaFormat      = "akigw.vectors"
	metaBucket      = "akigw.bucket"
	metaIndex       = "akigw.index"
	metaIncarnation = "akigw.incarnation"
	metaDimension   = "akigw.dimension"
	metaMetric      = "akigw.metric"
	// metaFile is another one for each file, so that no two files have the same SHA-256 and name: an
	// object that is being removed as garbage can never be one that was just uploaded.
	metaFile = "akigw.file"
)

// footer returns the metadata that a file of a collection has.
func (h Head) footer() [][2]string {
	return [][2]string{{metaFormat, strconv.Itoa(Version)}, {metaBucket, h.Bucket}, {metaIndex, h.Index},
		{metaIncarnation, string(h.Incarnation)}, {metaDimension, strconv.Itoa(h.Dimension)}, {metaMetric, string(h.Metric)}}
}

const (
	// groupBytes is the size of a row group before compression. That much is in memory while a file is
	// written, and a reader can skip that much.
	groupBytes = 16 << 20
	// groupRows bounds the rows of a row group: tombstones are small.
	groupRows = 64 << 10
	// batchBytes and batchRows bound what is passed to the library at a time.
	batchBytes = 256 << 10
	batchRows  = 256
)

// Writer writes a part as a Parquet file. Its memory is bounded by the size of a row group, a few
// times 16 MiB. It must not be used after an error, or from several goroutines.
type Writer struct {
	head    Head
	out     *parquet.GenericWriter[fileRow]
	sum     *checksum.Summing
	summary Summary
	last    struct { // the row before
		hash vectors.Hash
		key  string
	}
	batch            []fileRow
	floats           []float32 // of batch
	inBatch, inGroup int       // bytes
	rowsInGroup      int
	failed           error
}

// NewWriter returns a writer of a part of a collection. It writes to w in sequence, and never seeks.
// Two files with the same rows differ in their SHA-256.
func NewWriter(w io.Writer, head Head) *Writer {
	sum := checksum.NewSumming(w)
	out := parquet.NewGenericWriter[fileRow](sum,
		parquet.CreatedBy("akigw", "vectors", strconv.Itoa(Version)),
		parquet.SkipPageBounds("key"), parquet.SkipPageBounds("metadata"), parquet.SkipPageBounds("vector", "list", "element"),
	)
	return &Writer{head: head, out: out, sum: sum, failed: head.check(), batch: make([]fileRow, 0, batchRows)}
}

// Add adds a row, which is copied. Rows must come in the order of (Hash, Key), each key once. The error
// is ErrRow for a row that the format cannot hold, or that of the io.Writer.
func (w *Writer) Add(r Row) error {
	if w.failed == nil {
		if w.failed = w.add(&r); w.failed != nil {
			w.failed = fmt.Errorf("part of %s/%s: %w", w.head.Bucket, w.head.Index, w.failed)
		}
	}
	return w.failed
}

func (w *Writer) add(r *Row) error {
	if err := r.check(w.head.Dimension); err != nil {
		return fmt.Errorf("%w: row %q: %w", ErrRow, r.Key, err)
	}
	if w.summary.Rows > 0 && order(w.last.hash, w.last.key, r.Hash, r.Key) >= 0 {
		return fmt.Errorf("%w: row %q does not come after row %q by hash and key", ErrRow, r.Key, w.last.key)
	}
	w.last.hash, w.last.key = r.Hash, r.Key
	w.summary.count(r)
	row := fileRow{Key: r.Key, Sequence: int64(r.Seq), Deleted: r.Deleted}
	if r.Metadata != nil {
		text := string(r.Metadata)
		row.Metadata = &text
	}
	size := 4*len(r.Data) + len(r.Key) + len(r.Metadata) + 16
	if len(w.batch) == batchRows || w.inBatch+size > batchBytes {
		if err := w.flush(); err != nil {
			return err
		}
	}
	if cap(w.floats)-len(w.floats) < len(r.Data) { // rows in the batch keep the old array
		w.floats = make([]float32, 0, max(len(r.Data), batchBytes/4))
	}
	from := len(w.floats)
	w.floats = append(w.floats, r.Data...)
	row.Vector = w.floats[from:len(w.floats):len(w.floats)]
	w.batch, w.inBatch = append(w.batch, row), w.inBatch+size
	return nil
}

// check returns why the format cannot hold a row.
func (r *Row) check(dimension int) error {
	switch {
	case r.Key == "" || len(r.Key) > vectors.MaxKeyBytes || !utf8.ValidString(r.Key):
		return fmt.Errorf("a key has 1 to %d bytes of UTF-8", vectors.MaxKeyBytes)
	case r.Hash != vectors.HashKey(r.Key):
		return errors.New("the hash is not that of the key")
	case r.Seq > MaxSeq:
		return fmt.Errorf("the sequence number %d is too large", r.Seq)
	case r.Deleted && (len(r.Data) > 0 || r.Metadata != nil):
		return errors.New("a tombstone has no vector and no metadata")
	case !r.Deleted && len(r.Data) != dimension:
		return fmt.Errorf("the vector has %d values, the collection's have %d", len(r.Data), dimension)
	case r.Metadata != nil && (len(r.Metadata) == 0 || len(r.Metadata) > vectors.MaxMetadataBytes || !utf8.Valid(r.Metadata)):
		return fmt.Errorf("metadata has 1 to %d bytes of UTF-8", vectors.MaxMetadataBytes)
	}
	return nil
}

// order compares the places of two rows.
func order(hash vectors.Hash, key string, otherHash vectors.Hash, otherKey string) int {
	return cmp.Or(bytes.Compare(hash[:], otherHash[:]), cmp.Compare(key, otherKey))
}

// count adds a row.
func (s *Summary) count(r *Row) {
	if s.Rows == 0 {
		s.MinSeq = r.Seq
	}
	s.MinSeq, s.MaxSeq = min(s.MinSeq, r.Seq), max(s.MaxSeq, r.Seq)
	s.Rows++
	if r.Deleted {
		s.Tombstones++
	}
}

// flush passes the batch to the library, and ends the row group if it is large enough.
func (w *Writer) flush() error {
	if _, err := w.out.Write(w.batch); err != nil {
		return err
	}
	w.rowsInGroup += len(w.batch)
	w.inGroup += w.inBatch
	clear(w.batch)
	w.batch, w.floats, w.inBatch = w.batch[:0], w.floats[:0], 0
	if w.inGroup < groupBytes && w.rowsInGroup < groupRows {
		return nil
	}
	w.inGroup, w.rowsInGroup = 0, 0
	return w.out.Flush()
}

// Close completes the file and returns its summary. It does not close the io.Writer.
func (w *Writer) Close() (Summary, error) {
	if w.failed == nil {
		w.failed = w.end()
	}
	if w.failed != nil {
		return Summary{}, w.failed
	}
	w.failed = errors.New("the writer of a part is closed")
	w.summary.Bytes, w.summary.SHA256 = w.sum.Bytes(), hex.EncodeToString(w.sum.SHA256())
	return w.summary, nil
}

func (w *Writer) end() error {
	if len(w.batch) > 0 {
		if err := w.flush(); err != nil {
			return err
		}
	}
	for _, pair := range w.head.footer() {
		w.out.SetKeyValueMetadata(pair[0], pair[1])
	}
	w.out.SetKeyValueMetadata(metaFile, rand.Text())
	return w.out.Close()
}
