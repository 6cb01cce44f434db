package facts

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/vfs"
)

// The file is a magic, its version, the numbers of the book, its records, and a CRC32C of
// all that (little-endian). docs/journal.md describes it.
const (
	magic   = "akigwbf\n"
	version = 1
)

// errDamaged: the file does not contain bucket facts, or is damaged.
const errDamaged = akigw.Error("the file of bucket facts is damaged")

// damagedSuffix is added to the name of a file that was set aside.
const damagedSuffix = ".damaged"

// Open reads the book that is stored in a file; "" keeps it in memory only. An unusable file is
// logged and set aside, and everything is asked again.
func Open(path string, log *slog.Logger) *Book { return openOn(vfs.Disk{}, path, log) }

// openOn is Open for a file on a given file system.
func openOn(fsys vfs.FS, path string, log *slog.Logger) *Book {
	b := New()
	b.fs, b.path, b.log = fsys, path, log
	if path == "" {
		return b
	}
	raw, err := vfs.ReadFile(fsys, path)
	if errors.Is(err, fs.ErrNotExist) {
		return b
	}
	var kept content
	if err == nil {
		kept, err = decode(raw)
	}
	if err != nil {
		aside := fsys.Rename(path, path+damagedSuffix)
		log.Error("the file of bucket facts could not be read; the upstream is asked again", "file", path, "error", err, "set_aside", path+damagedSuffix, "rename_error", aside)
		return b
	}
	b.fill(kept)
	return b
}

// Read reads the records of a file without changing anything. A missing file has none.
func Read(path string) ([]Record, error) {
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	kept, err := decode(raw)
	return kept.records, err
}

// content is the content of a file.
type content struct {
	epoch, floor uint64
	records      []Record
}

func (b *Book) fill(c content) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.epoch, b.floor = c.epoch, c.floor
	for _, r := range c.records {
		b.changeLocked(r.ID, func(f *Fact) bool {
			*f = r.Fact
			return false
		})
	}
	b.saved = b.changes
}

const (
	// saveSoon is how long a change waits for others. saveLate is how long a change waits that only
	// makes a fact younger.
	saveSoon = time.Second
	saveLate = time.Minute
)

// Run saves changes until ctx ends. Save has to save the last ones.
func (b *Book) Run(ctx context.Context) {
	late := time.NewTicker(saveLate)
	defer late.Stop()
	for {
		select {
		case <-b.soon:
			select {
			case <-time.After(saveSoon):
			case <-ctx.Done():
				return
			}
		case <-late.C:
		case <-ctx.Done():
			return
		}
		_ = b.Save() // the error was logged, and the next tick tries again
	}
}

// Save writes what has changed. If that fails, the old file still exists; the error is logged once
// until a save succeeds.
func (b *Book) Save() error {
	if b.path == "" {
		return nil
	}
	b.saving.Lock()
	defer b.saving.Unlock()
	b.mu.Lock()
	changes, due := b.changes, b.changes != b.saved
	c := content{b.epoch, b.floor, nil}
	if due {
		c.records = b.allLocked()
	}
	b.mu.Unlock()
	if !due {
		return nil
	}
	err := vfs.Replace(b.fs, b.path, encode(c))
	b.mu.Lock()
	first := err != nil && !b.failing
	b.failing = err != nil
	if err == nil {
		b.saved = changes
	}
	b.mu.Unlock()
	if err != nil {
		err = fmt.Errorf("bucket facts: %w", err)
	}
	if first {
		b.log.Error("bucket facts could not be saved; after a restart the upstream is asked again", "file", b.path, "error", err)
	}
	return err
}

func encode(c content) []byte {
	raw := []byte(magic)
	raw = binary.AppendUvarint(raw, version)
	raw = binary.AppendUvarint(raw, c.epoch)
	raw = binary.AppendUvarint(raw, c.floor)
	raw = binary.AppendUvarint(raw, uint64(len(c.records)))
	for i := range c.records {
		raw = appendRecord(raw, &c.records[i])
	}
	return binary.LittleEndian.AppendUint32(raw, codec.Checksum(raw))
}

func appendRecord(raw []byte, r *Record) []byte {
	raw = binary.AppendUvarint(raw, r.Endpoint)
	raw = codec.AppendString(raw, r.Account)
	raw = codec.AppendString(raw, r.Bucket)
	raw = append(raw, byte(r.Reason), byte(r.Resumed))
	raw = codec.AppendTime(raw, r.Asked)
	raw = binary.AppendUvarint(raw, r.Epoch)
	raw = codec.AppendFlag(raw, r.OtherETags)
	raw = binary.AppendUvarint(raw, uint64(len(r.Kinds)))
	kinds := make([]string, 0, len(r.Kinds))
	for kind := range r.Kinds {
		kinds = append(kinds, kind)
	}
	slices.Sort(kinds)
	for _, kind := range kinds {
		raw = codec.AppendString(raw, kind)
		raw = codec.AppendFlag(raw, r.Kinds[kind])
	}
	return raw
}

// decode parses a file. With an error, the content is empty.
func decode(raw []byte) (content, error) {
	body := len(raw) - crc32.Size
	if body < len(magic) || string(raw[:len(magic)]) != magic || codec.Checksum(raw[:body]) != binary.LittleEndian.Uint32(raw[body:]) {
		return content{}, errDamaged
	}
	d := codec.NewDecoder(raw[len(magic):body])
	if v := d.Uvarint(); v != version {
		return content{}, fmt.Errorf("%w: its version is %d, and this release reads %d", errDamaged, v, version)
	}
	c := content{epoch: d.Uvarint(), floor: d.Uvarint()}
	for n := d.Uvarint(); n > 0 && !d.Bad(); n-- {
		c.records = append(c.records, readRecord(d))
	}
	if d.Bad() || len(d.Rest()) > 0 {
		return content{}, errDamaged
	}
	return c, nil
}

func readRecord(d *codec.Decoder) (r Record) {
	r.Endpoint, r.Account, r.Bucket = d.Uvarint(), d.String(), d.String()
	r.Reason, r.Resumed = Reason(d.Byte()), Reason(d.Byte())
	r.Asked, r.Epoch, r.OtherETags = d.Time(), d.Uvarint(), d.Flag()
	if r.Reason >= reasons || r.Resumed >= reasons {
		d.Fail()
	}
	for n := d.Uvarint(); n > 0 && !d.Bad(); n-- {
		if r.Kinds == nil {
			r.Kinds = map[string]bool{}
		}
		kind := d.String()
		r.Kinds[kind] = d.Flag()
	}
	return r
}
