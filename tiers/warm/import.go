package warm

import (
	"errors"

	"github.com/dgraph-io/badger/v4"
	"github.com/dgraph-io/badger/v4/pb"
	"github.com/dgraph-io/ristretto/v2/z"

	"github.com/akidb/akigw"
)

// Imported is an object that Import adds to the catalog.
type Imported struct {
	Key                       akigw.Key
	Record, Summary, Accesses []byte // Accesses may be nil
}

// Import stores the records that next returns until it returns false, in the order of their keys.
// It replaces existing records. It must be called before Run and before any write.
func (t *Tier) Import(next func() (Imported, bool)) (err error) {
	var w interface {
		put(stream uint32, key, stored []byte) error
		flush() error
		cancel()
	} = &batchWriter{t.data.db.NewWriteBatch()}
	if t.data.values.secret == nil && t.data.empty() { // then whole tables can be written
		if w, err = newTableWriter(t.data); err != nil {
			return err
		}
	}
	for {
		i, ok := next()
		if !ok {
			return w.flush()
		}
		if err := t.putImported(w.put, i); err != nil {
			w.cancel()
			return err
		}
	}
}

// empty reports whether the database holds nothing but counters.
func (d *database) empty() bool {
	empty := true
	d.keys(nil, func(key []byte) bool {
		empty = key[0] == metaPrefix
		return empty
	})
	return empty
}

const errRoom = akigw.Error("the warm tier has no space")

// putImported stores a record and its companions, each in a stream of its own.
func (t *Tier) putImported(put func(stream uint32, key, stored []byte) error, i Imported) error {
	id := t.data.values.entryKey(i.Key)
	if !t.space.claim(int64(3*len(id) + len(i.Record) + len(i.Summary) + len(i.Accesses) + 192)) {
		return errRoom
	}
	for n, p := range []pair{{companion(accessPrefix, id), i.Accesses}, {id, i.Record}, {companion(summaryPrefix, id), i.Summary}} {
		if p.value == nil {
			continue
		}
		r, err := t.data.seal(p.key, p.value, false)
		if err == nil {
			err = put(uint32(n+1), r.key, r.stored)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// batchWriter adds to existing records.
type batchWriter struct{ batch *badger.WriteBatch }

func (b *batchWriter) put(_ uint32, key, stored []byte) error { return b.batch.Set(key, stored) }
func (b *batchWriter) flush() error                           { return b.batch.Flush() }
func (b *batchWriter) cancel()                                { b.batch.Cancel() }

// tableWriter writes whole tables into an empty database, with keys in order. That is about ten
// times faster.
type tableWriter struct {
	data   *database
	stream *badger.StreamWriter
	buffer *z.Buffer
	meta   map[string][]byte // the counters that were there
	last   map[uint32]string // the last key of each stream
}

// tableBuffer is how many bytes are handed to Badger at a time.
const tableBuffer = 4 << 20

const errOrder = akigw.Error("records to import are not in order")

func newTableWriter(d *database) (*tableWriter, error) {
	w := &tableWriter{data: d, stream: d.db.NewStreamWriter(), buffer: z.NewBuffer(tableBuffer, "import"), meta: map[string][]byte{}, last: map[uint32]string{}}
	d.keys([]byte{metaPrefix}, func(key []byte) bool {
		w.meta[string(key)] = nil
		return true
	})
	for key := range w.meta {
		w.meta[key], _ = d.get([]byte(key))
	}
	return w, w.stream.Prepare()
}

func (w *tableWriter) put(stream uint32, key, stored []byte) error {
	if string(key) <= w.last[stream] {
		return errOrder
	}
	w.last[stream] = string(key)
	badger.KVToBuffer(&pb.KV{Key: key, Value: stored, Version: 1, StreamId: stream}, w.buffer)
	if w.buffer.LenNoPadding() < tableBuffer {
		return nil
	}
	return w.write()
}

func (w *tableWriter) write() error {
	err := w.stream.Write(w.buffer)
	w.buffer.Reset()
	return err
}

func (w *tableWriter) flush() error {
	err := w.write()
	if err != nil {
		w.cancel()
		return err
	}
	err = w.stream.Flush()
	return errors.Join(err, w.buffer.Release(), w.restore())
}

func (w *tableWriter) cancel() {
	w.stream.Cancel()
	_ = errors.Join(w.buffer.Release(), w.restore()) // at worst the tier is empty now
}

// restore puts back the counters that preparing has dropped.
func (w *tableWriter) restore() (err error) {
	for key, value := range w.meta {
		err = errors.Join(err, w.data.write([]byte(key), value))
	}
	return err
}
