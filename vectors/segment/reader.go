package segment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/parquet-go/parquet-go"

	"github.com/akidb/akigw/vectors"
)

// Verify compares a whole file with the size and SHA-256 that its manifest has. The error is
// ErrCorrupt if they differ, that of r if it cannot be read, or that of ctx.
func Verify(ctx context.Context, r io.ReaderAt, want Summary) error {
	sum := sha256.New()
	buffer := make([]byte, max(1, min(256<<10, want.Bytes)))
	for at := int64(0); at < want.Bytes; {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := r.ReadAt(buffer[:min(int64(len(buffer)), want.Bytes-at)], at)
		sum.Write(buffer[:n])
		at += int64(n)
		switch {
		case at == want.Bytes:
		case errors.Is(err, io.EOF) || err == nil && n == 0:
			return fmt.Errorf("%w: it has %d bytes instead of %d", ErrCorrupt, at, want.Bytes)
		case err != nil:
			return err
		}
	}
	if n, err := r.ReadAt(buffer[:1], want.Bytes); n > 0 {
		return fmt.Errorf("%w: it has more than %d bytes", ErrCorrupt, want.Bytes)
	} else if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != want.SHA256 {
		return fmt.Errorf("%w: its SHA-256 is %s instead of %s", ErrCorrupt, got, want.SHA256)
	}
	return nil
}

// Read verifies a file, and then calls yield with each of its rows in order until yield returns an
// error, which Read returns. The Data and Metadata of a row are valid until yield returns. head and
// want are those of the manifest. The error is ErrCorrupt if the bytes are not those that were written,
// before the first call of yield, and ErrFormat if they are but are no part of this collection in this
// format, at whatever row that is seen.
func Read(ctx context.Context, r io.ReaderAt, head Head, want Summary, yield func(Row) error) error {
	if err := Verify(ctx, r, want); err != nil {
		return err
	}
	file, err := open(r, head, want)
	if err != nil {
		return err
	}
	got := Summary{Bytes: want.Bytes, SHA256: want.SHA256}
	var last Row
	for _, group := range file.RowGroups() {
		rows, err := newRows(file, group)
		if err != nil {
			return err
		}
		err = rows.each(ctx, group.NumRows(), func(row Row) error {
			if err := row.check(head.Dimension); err != nil {
				return fmt.Errorf("%w: row %q: %w", ErrFormat, row.Key, err)
			}
			if got.Rows > 0 && order(last.Hash, last.Key, row.Hash, row.Key) >= 0 {
				return fmt.Errorf("%w: row %q follows row %q, against the order of their hashes", ErrFormat, row.Key, last.Key)
			}
			last.Hash, last.Key = row.Hash, row.Key
			got.count(&row)
			return yield(row)
		})
		if ended := rows.close(); err == nil {
			err = ended
		}
		if err != nil {
			return err
		}
	}
	if got != want {
		return fmt.Errorf("%w: it has %+v, but its manifest says %+v", ErrFormat, got, want)
	}
	return nil
}

// unreadable converts an error or a panic of the library: the SHA-256 was right.
func unreadable(cause any) error { return fmt.Errorf("%w: %v", ErrFormat, cause) }

// open opens a Parquet file, and compares what its footer says with the manifest.
func open(r io.ReaderAt, head Head, want Summary) (file *parquet.File, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = unreadable(p)
		}
	}()
	if err := head.check(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	file, err = parquet.OpenFile(r, want.Bytes, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, unreadable(err)
	}
	for _, pair := range head.footer() {
		if got, _ := file.Lookup(pair[0]); got != pair[1] {
			return nil, fmt.Errorf("%w: its %s is %q instead of %q", ErrFormat, pair[0], got, pair[1])
		}
	}
	if n := file.NumRows(); n != want.Rows {
		return nil, fmt.Errorf("%w: its footer says %d rows, its manifest %d", ErrFormat, n, want.Rows)
	}
	return file, nil
}

// rows reads the columns of a row group side by side.
type rows struct {
	keys, sequences, deleted, metadata *column
	vectors                            *lists
}

func newRows(file *parquet.File, group parquet.RowGroup) (r *rows, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = unreadable(p)
		}
	}()
	chunks := group.ColumnChunks()
	find := func(kind parquet.Kind, path ...string) (pages parquet.Pages) {
		leaf, ok := file.Schema().Lookup(path...)
		switch {
		case err != nil:
		case !ok || leaf.Node.Type().Kind() != kind:
			err = fmt.Errorf("%w: it has no column %q of %v", ErrFormat, path, kind)
		default:
			pages = chunks[leaf.ColumnIndex].Pages()
		}
		return pages
	}
	r = &rows{
		keys:      &column{pages: find(parquet.ByteArray, "key")},
		sequences: &column{pages: find(parquet.Int64, "sequence")},
		deleted:   &column{pages: find(parquet.Boolean, "deleted")},
		metadata:  &column{pages: find(parquet.ByteArray, "metadata")},
		vectors:   &lists{pages: find(parquet.Float, "vector", "list", "element")},
	}
	return r, err
}

// each calls yield with the next n rows.
func (r *rows) each(ctx context.Context, n int64, yield func(Row) error) error {
	for i := range n {
		if i%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		row, err := r.next()
		if err == nil {
			err = yield(row)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// next returns the next row, whose slices are valid until the next call.
func (r *rows) next() (row Row, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = unreadable(p)
		}
	}()
	key, err := r.keys.next()
	if err != nil {
		return Row{}, err
	}
	sequence, err := r.sequences.next()
	if err != nil {
		return Row{}, err
	}
	deleted, err := r.deleted.next()
	if err != nil {
		return Row{}, err
	}
	metadata, err := r.metadata.next()
	if err != nil {
		return Row{}, err
	}
	row = Row{Key: string(key.ByteArray()), Seq: uint64(sequence.Int64()), Deleted: deleted.Boolean()}
	row.Hash = vectors.HashKey(row.Key)
	if !metadata.IsNull() {
		row.Metadata = metadata.ByteArray()
	}
	row.Data, err = r.vectors.next()
	return row, err
}

func (r *rows) close() error {
	return errors.Join(r.keys.close(), r.sequences.close(), r.deleted.close(), r.metadata.close(), r.vectors.close())
}

// column reads a column that has one value, or null, for each row.
type column struct {
	pages  parquet.Pages
	page   parquet.Page // nil for none yet
	values parquet.ValueReader
	buffer [128]parquet.Value
	ready  []parquet.Value // of buffer
}

// next returns the next value, whose bytes are valid until the next call.
func (c *column) next() (parquet.Value, error) {
	for len(c.ready) == 0 {
		if c.page != nil {
			n, err := c.values.ReadValues(c.buffer[:])
			if c.ready = c.buffer[:n]; n > 0 {
				continue
			}
			if !errors.Is(err, io.EOF) {
				return parquet.Value{}, unreadable(fmt.Sprintf("a page ends early: %v", err))
			}
			parquet.Release(c.page)
			c.page = nil
		}
		page, err := c.pages.ReadPage()
		if err != nil {
			return parquet.Value{}, unreadable(fmt.Sprintf("a column ends early: %v", err))
		}
		c.page, c.values = page, page.Values()
	}
	v := c.ready[0]
	c.ready = c.ready[1:]
	return v, nil
}

func (c *column) close() error {
	if c.page != nil {
		parquet.Release(c.page)
	}
	return closePages(c.pages)
}

func closePages(pages parquet.Pages) error {
	if pages == nil { // the file has no such column
		return nil
	}
	return pages.Close()
}

// lists reads a column of lists of required floats, without a copy.
type lists struct {
	pages       parquet.Pages
	page        parquet.Page // nil for none yet
	repetitions []byte       // of the values in page that follow: 0 begins a list
	definitions []byte       // 0 is an empty list
	floats      []float32
}

// next returns the next list, which is valid until the next call. No list extends over two pages.
func (l *lists) next() ([]float32, error) {
	for len(l.repetitions) == 0 {
		if l.page != nil {
			parquet.Release(l.page)
			l.page = nil
		}
		page, err := l.pages.ReadPage()
		if err != nil {
			return nil, unreadable(fmt.Sprintf("the column of vectors ends early: %v", err))
		}
		l.page, l.repetitions, l.definitions = page, page.RepetitionLevels(), page.DefinitionLevels()
		values := page.Data()
		l.floats = values.Float()
		if len(l.definitions) != len(l.repetitions) {
			return nil, unreadable("a page of vectors has different numbers of levels")
		}
	}
	if l.repetitions[0] != 0 {
		return nil, unreadable("a vector extends over two pages")
	}
	n := 1
	for n < len(l.repetitions) && l.repetitions[n] != 0 {
		n++
	}
	floats := n
	if l.definitions[0] == 0 {
		floats = 0
	}
	if floats > len(l.floats) || floats == 0 && n > 1 || floats > math.MaxInt32 {
		return nil, unreadable("a page of vectors has too few values")
	}
	v := l.floats[:floats:floats]
	l.repetitions, l.definitions, l.floats = l.repetitions[n:], l.definitions[n:], l.floats[floats:]
	return v, nil
}

func (l *lists) close() error {
	if l.page != nil {
		parquet.Release(l.page)
	}
	return closePages(l.pages)
}
