package snapshot

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
)

// Row is one object in the file. docs/snapshots.md describes the columns.
type Row struct {
	Bucket         string    `parquet:"bucket,dict"`
	Key            string    `parquet:"key"`
	VersionID      string    `parquet:"version_id,dict"`
	Size           int64     `parquet:"size"`
	ETag           string    `parquet:"etag"`
	LastModified   time.Time `parquet:"last_modified,timestamp(millisecond)"`
	Generation     int64     `parquet:"generation"`
	Tier           string    `parquet:"tier,dict"`
	HotBytes       int64     `parquet:"hot_bytes"`
	WarmBytes      int64     `parquet:"warm_bytes"`
	Pinned         bool      `parquet:"pinned"`
	LastAccess     time.Time `parquet:"last_access,timestamp(millisecond)"`
	RecentAccesses int64     `parquet:"recent_accesses"`
	Accesses       int64     `parquet:"accesses"`
	ContentType    string    `parquet:"content_type,dict"`
}

// Schema is the version of the columns and of the metadata.
const Schema = 1

// Keys of the metadata in the footer.
const (
	metaSchema  = "akigw.schema"
	metaGateway = "akigw.gateway"
	metaCreated = "akigw.created"
	// metaDigest is the SHA-256 of the first metaBytes bytes of the file: all row groups.
	metaDigest = "akigw.data_sha256"
	metaBytes  = "akigw.data_bytes"
)

const (
	// rowGroup is the number of rows in a row group. That many are in memory at a time, and a reader can
	// skip a row group by its smallest and largest key.
	rowGroup = 64 << 10
	// batch is the number of rows that are passed to the library at a time.
	batch = 1024
	// maxRows bounds the rows of a file that is read.
	maxRows = 1 << 31
)

// epoch stands for an unknown time: Parquet has no zero time.
func epoch() time.Time {
	return time.UnixMilli(0).UTC()
}

func known(t time.Time) time.Time {
	if t.IsZero() {
		return epoch()
	}
	return t.UTC()
}

func unknown(t time.Time) time.Time {
	if t.Equal(epoch()) {
		return time.Time{}
	}
	return t.UTC()
}

func rowOf(c *akigw.CatalogEntry) Row {
	return Row{
		Bucket: c.Key.Bucket, Key: c.Key.Name, VersionID: c.Key.Version, Size: c.Size, ETag: c.ETag, LastModified: known(c.LastModified),
		Generation: int64(c.Generation), Tier: string(c.Tier), HotBytes: c.HotBytes, WarmBytes: c.WarmBytes, Pinned: c.Pinned,
		LastAccess: known(c.LastAccess), RecentAccesses: int64(c.Recent), Accesses: int64(c.Accesses), ContentType: c.ContentType,
	}
}

func (r *Row) entry() akigw.CatalogEntry {
	return akigw.CatalogEntry{
		Object:      akigw.Object{Key: akigw.Key{Bucket: r.Bucket, Name: r.Key, Version: r.VersionID}, Generation: uint64(r.Generation), Size: r.Size, ETag: r.ETag, LastModified: unknown(r.LastModified)},
		ContentType: r.ContentType, Tier: akigw.Outcome(r.Tier), HotBytes: r.HotBytes, WarmBytes: r.WarmBytes, Pinned: r.Pinned,
		LastAccess: unknown(r.LastAccess), Recent: uint32(r.RecentAccesses), Accesses: uint64(r.Accesses),
	}
}

// writeRows writes a Parquet file of all entries.
func writeRows(w *checksum.Summing, metadata map[string]string, entries func(yield func(*akigw.CatalogEntry) bool) error) error {
	out := parquet.NewGenericWriter[Row](w,
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.CreatedBy("akigw", "snapshot", strconv.Itoa(Schema)),
		parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("bucket"), parquet.Ascending("key"), parquet.Ascending("version_id"))),
		parquet.DataPageStatistics(true),
	)
	rows, inGroup := make([]Row, 0, batch), 0
	flush := func() error {
		if _, err := out.Write(rows); err != nil {
			return err
		}
		if inGroup += len(rows); inGroup >= rowGroup {
			inGroup = 0
			if err := out.Flush(); err != nil {
				return err
			}
		}
		rows = rows[:0]
		return nil
	}
	var failure error
	err := entries(func(c *akigw.CatalogEntry) bool {
		if rows = append(rows, rowOf(c)); len(rows) == batch {
			failure = flush()
		}
		return failure == nil
	})
	if err = errors.Join(err, failure); err == nil {
		err = flush()
	}
	if err == nil {
		err = out.Flush()
	}
	if err != nil {
		return err
	}
	for key, value := range metadata {
		out.SetKeyValueMetadata(key, value)
	}
	out.SetKeyValueMetadata(metaDigest, hex.EncodeToString(w.SHA256()))
	out.SetKeyValueMetadata(metaBytes, strconv.FormatInt(w.Bytes(), 10))
	return out.Close()
}

// Details are the metadata of a snapshot.
type Details struct {
	Info
	Schema    int       `json:"schema"`
	Gateway   string    `json:"gateway"`
	Written   time.Time `json:"written"`
	Rows      int64     `json:"rows"`
	RowGroups int       `json:"row_groups"`
}

// open verifies the digest of a file and opens it.
func open(f *os.File, i Info) (*parquet.File, error) {
	sum := sha256.New()
	n, err := io.Copy(sum, f)
	if err != nil {
		return nil, err
	}
	if shortDigest(sum.Sum(nil)) != i.Digest {
		return nil, fmt.Errorf("%w: its SHA-256 does not match its name", ErrDamaged)
	}
	return parse(f, n)
}

// parse opens a Parquet file. A panic of the library means that the file is damaged.
func parse(r io.ReaderAt, n int64) (file *parquet.File, err error) {
	defer recoverPanic(&err)
	file, err = parquet.OpenFile(r, n, parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if rows := file.NumRows(); rows < 0 || rows > maxRows {
		return nil, fmt.Errorf("%w: it claims to have %d rows", ErrDamaged, rows)
	}
	return file, nil
}

// recoverPanic converts a panic of the library into an error.
func recoverPanic(err *error) {
	if p := recover(); p != nil {
		*err = fmt.Errorf("%w: %v", ErrDamaged, p)
	}
}

// details returns the metadata of a file.
func details(i Info, file *parquet.File) (d Details, err error) {
	defer recoverPanic(&err)
	d = Details{Info: i, Rows: file.NumRows(), RowGroups: len(file.RowGroups())}
	text := func(key string) string {
		value, _ := file.Lookup(key)
		return value
	}
	d.Schema, err = strconv.Atoi(text(metaSchema))
	if err != nil || d.Schema != Schema {
		return d, fmt.Errorf("%w: its schema has version %q, but this akigw reads version %d", ErrDamaged, text(metaSchema), Schema)
	}
	d.Gateway = text(metaGateway)
	d.Written, err = time.Parse(time.RFC3339Nano, text(metaCreated))
	if err != nil {
		return d, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	return d, nil
}

func readRows(ctx context.Context, file *parquet.File, yield func(akigw.CatalogEntry) bool) (err error) {
	defer recoverPanic(&err)
	reader := parquet.NewGenericReader[Row](file)
	defer reader.Close()
	rows := make([]Row, batch)
	for {
		n, err := reader.Read(rows)
		for k := range rows[:n] {
			if !yield(rows[k].entry()) {
				return ctx.Err()
			}
		}
		clear(rows)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("%w: %w", ErrDamaged, err)
		case n == 0:
			return fmt.Errorf("%w: it ends early", ErrDamaged)
		case ctx.Err() != nil:
			return ctx.Err()
		}
	}
}
