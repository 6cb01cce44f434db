// Package embedded is the trial upstream: gofakes3 over a directory, in this process, on a loopback
// listener of its own. With it, the gateway can be tried with one command. Objects survive restarts
// and crashes of the process, and bodies stream to and from files. It is for tests only: no
// versioning, no ACLs, no tagging, no lifecycle, one disk.
//
// It refuses what it cannot do. A table of operations in front of gofakes3 lists every header and query
// parameter that each operation honours. A request with another one that has a meaning in S3 gets 501
// NotImplemented and changes nothing. gofakes3 handles the operations that it implements as S3 does;
// the handlers of the others say what gofakes3 lacks.
package embedded

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// backend keeps bodies as files named by random numbers and everything else in
// Badger.
type backend struct {
	index *badger.DB
	blobs string // directory

	// change serialises changes of the index, so that conditions and the release of replaced files
	// see a consistent state.
	change sync.Mutex

	readers readers
}

// sum is a checksum, as in a header.
type sum struct {
	Algorithm string // S3's name: "CRC32C"
	Value     string // base64; with the suffix "-2" if it is composed of the checksums of two parts
}

// blob is one file of an object's body.
type blob struct {
	ID   string
	Size int64
	Sum  *sum `json:",omitempty"` // checksum of a part, nil for none
}

// record is one object.
type record struct {
	Blobs    []blob // in order; one for a PUT, one per part for a multipart upload
	Size     int64
	ETag     string // without quotes
	Modified time.Time
	// Meta are the headers that describe the object, by canonical name, and its
	// checksum as x-amz-checksum-* and x-amz-checksum-type.
	Meta  map[string]string
	Parts bool // uploaded in parts
}

// upload is one multipart upload in progress.
type upload struct {
	Started time.Time
	Meta    map[string]string
	// Algorithm and Type are those of the checksum that the object will get, "" for none.
	Algorithm string `json:",omitempty"`
	Type      string `json:",omitempty"`
}

type bucket struct {
	Created  time.Time
	Location string `json:",omitempty"` // LocationConstraint
}

func openBackend(dir string, log *slog.Logger) (*backend, error) {
	b := &backend{blobs: filepath.Join(dir, "blobs")}
	if err := os.MkdirAll(b.blobs, 0o700); err != nil {
		return nil, err
	}
	if err := roomFor(dir); err != nil {
		return nil, err
	}
	index, err := badger.Open(badger.DefaultOptions(filepath.Join(dir, "index")).
		WithLogger(nil).WithMetricsEnabled(false).WithSyncWrites(true).
		WithMemTableSize(4 << 20).WithValueThreshold(64 << 10).WithNumMemtables(2).WithValueLogFileSize(64 << 20).WithBlockCacheSize(8 << 20))
	if err != nil {
		return nil, fmt.Errorf("embedded upstream: %s: %w", dir, err)
	}
	b.index = index
	if err := b.sweep(); err != nil {
		return nil, errors.Join(err, index.Close())
	}
	log.Info("embedded upstream opened", "dir", dir)
	return b, nil
}

// sweep removes files that a crash left without an object.
func (b *backend) sweep() error {
	owned := map[string]bool{}
	err := b.each(objectPrefix, func(_ []byte, r *record) bool {
		for _, f := range r.Blobs {
			owned[f.ID] = true
		}
		return true
	})
	if err == nil {
		err = eachValue(b.index, []byte(partPrefix), nil, func(_ []byte, p *part) bool {
			owned[p.Blob.ID] = true
			return true
		})
	}
	if err != nil {
		return err
	}
	return filepath.WalkDir(b.blobs, func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() || owned[d.Name()] {
			return err
		}
		return os.Remove(path)
	})
}

// Index keys. Neither names of buckets nor keys of objects contain a NUL.
const (
	bucketPrefix = "b\x00"
	objectPrefix = "o\x00"
	uploadPrefix = "u\x00"
	partPrefix   = "p\x00"
)

func bucketKey(name string) []byte      { return []byte(bucketPrefix + name) }
func objectKey(bkt, name string) []byte { return []byte(objectPrefix + bkt + "\x00" + name) }
func uploadKey(bkt, name, id string) []byte {
	return []byte(uploadPrefix + bkt + "\x00" + name + "\x00" + id)
}
func partKey(id string, n int) []byte {
	return fmt.Appendf(nil, "%s%s\x00%05d", partPrefix, id, n)
}

func load[T any](db *badger.DB, key []byte) (*T, error) {
	var v T
	err := db.View(func(txn *badger.Txn) error {
		item, err := txn.Get(key)
		if err != nil {
			return err
		}
		return item.Value(func(raw []byte) error { return json.Unmarshal(raw, &v) })
	})
	if errors.Is(err, badger.ErrKeyNotFound) {
		return nil, nil
	}
	return &v, err
}

func set(txn *badger.Txn, key []byte, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return txn.Set(key, raw)
}

// eachValue visits the values below prefix in key order, from start on.
func eachValue[T any](db *badger.DB, prefix, start []byte, yield func(key []byte, v *T) bool) error {
	return db.View(func(txn *badger.Txn) error {
		opt := badger.DefaultIteratorOptions
		opt.Prefix = prefix
		it := txn.NewIterator(opt)
		defer it.Close()
		for it.Seek(append(prefix[:len(prefix):len(prefix)], start...)); it.Valid(); it.Next() {
			v := new(T)
			if err := it.Item().Value(func(raw []byte) error { return json.Unmarshal(raw, v) }); err != nil {
				return err
			}
			if !yield(it.Item().KeyCopy(nil)[len(prefix):], v) {
				return nil
			}
		}
		return nil
	})
}

func (b *backend) each(prefix string, yield func(key []byte, r *record) bool) error {
	return eachValue(b.index, []byte(prefix), nil, yield)
}

// Buckets.

func (b *backend) bucket(name string) (*bucket, error) {
	return load[bucket](b.index, bucketKey(name))
}

// needBucket returns NoSuchBucket unless the bucket exists.
func (b *backend) needBucket(name string) error {
	v, err := b.bucket(name)
	if err == nil && v == nil {
		err = s3err.NoSuchBucket.About("BucketName", name)
	}
	return err
}

// createBucket succeeds for a bucket that exists, as in S3's us-east-1: there is only one owner.
func (b *backend) createBucket(name, location string) error {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.bucket(name)
	switch {
	case err != nil:
		return err
	case old != nil && old.Location != location:
		return s3err.BucketAlreadyOwned.About("BucketName", name)
	case old != nil:
		return nil
	}
	return b.index.Update(func(txn *badger.Txn) error { return set(txn, bucketKey(name), bucket{time.Now(), location}) })
}

// deleteBucket removes an empty bucket, and uploads in progress with it.
func (b *backend) deleteBucket(name string) error {
	b.change.Lock()
	defer b.change.Unlock()
	if err := b.needBucket(name); err != nil {
		return err
	}
	empty := true
	err := b.each(objectPrefix+name+"\x00", func([]byte, *record) bool {
		empty = false
		return false
	})
	if err != nil {
		return err
	}
	if !empty {
		return s3err.BucketNotEmpty.About("BucketName", name)
	}
	var uploads []string // keys and IDs, separated by a NUL
	err = eachValue(b.index, []byte(uploadPrefix+name+"\x00"), nil, func(key []byte, _ *upload) bool {
		uploads = append(uploads, string(key))
		return true
	})
	for _, u := range uploads {
		key, id, _ := strings.Cut(u, "\x00")
		err = errors.Join(err, b.endUploadLocked(name, key, id))
	}
	if err != nil {
		return err
	}
	return b.index.Update(func(txn *badger.Txn) error { return txn.Delete(bucketKey(name)) })
}

// Objects.

func (b *backend) object(bkt, name string) (*record, error) {
	return load[record](b.index, objectKey(bkt, name))
}

// find returns an object, NoSuchBucket or NoSuchKey.
func (b *backend) find(bkt, name string) (*record, error) {
	o, err := b.object(bkt, name)
	if err != nil || o != nil {
		return o, err
	}
	if err := b.needBucket(bkt); err != nil {
		return nil, err
	}
	return nil, s3err.NoSuchKey.About("Key", name)
}

// conditions are the conditions of a write.
type conditions struct{ ifMatch, ifNoneMatch string }

// check checks the conditions on the current object, nil for none.
func (c conditions) check(name string, old *record) error {
	switch {
	case c.ifNoneMatch != "" && c.ifNoneMatch != "*":
		return s3err.NotImplemented.With("If-None-Match of a write takes * only.").About("Header", "If-None-Match")
	case c.ifNoneMatch != "" && old != nil:
		return s3err.PreconditionFailed.About("Condition", "If-None-Match")
	case c.ifMatch != "" && old == nil:
		return s3err.NoSuchKey.About("Key", name)
	case c.ifMatch != "" && (akigw.Conditions{IfMatch: c.ifMatch}).Check(&akigw.Object{ETag: old.ETag}) != nil:
		return s3err.PreconditionFailed.About("Condition", "If-Match")
	}
	return nil
}

// check checks conditions on the current object, before a body is read.
func (b *backend) check(bkt, name string, c conditions) error {
	if err := b.needBucket(bkt); err != nil {
		return err
	}
	old, err := b.object(bkt, name)
	if err != nil {
		return err
	}
	return c.check(name, old)
}

// storeNew stores an object, or removes its files if that fails.
func (b *backend) storeNew(bkt, name string, r *record, c conditions) error {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.storeLocked(bkt, name, r, c, nil)
	if err != nil {
		return errors.Join(err, b.release(r))
	}
	return b.release(old)
}

// storeLocked makes r the object of a key and returns the previous one, whose files the caller
// releases. more, if not nil, joins the same transaction. The caller holds change.
func (b *backend) storeLocked(bkt, name string, r *record, c conditions, more func(*badger.Txn) error) (old *record, err error) {
	err = b.needBucket(bkt) // it may have been deleted while the body was received
	if err == nil {
		old, err = b.object(bkt, name)
	}
	if err == nil {
		err = c.check(name, old)
	}
	if err == nil {
		err = b.index.Update(func(txn *badger.Txn) error {
			if more != nil {
				if err := more(txn); err != nil {
					return err
				}
			}
			return set(txn, objectKey(bkt, name), r)
		})
	}
	return old, err
}

// deleteObject deletes an object. With ifMatch the object has to exist and have that ETag, "*" for
// any (DeleteObject, If-Match).
func (b *backend) deleteObject(bkt, name, ifMatch string) error {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.object(bkt, name)
	switch {
	case err != nil:
		return err
	case old == nil && ifMatch != "":
		return s3err.PreconditionFailed.About("Condition", "If-Match")
	case old == nil:
		return nil
	}
	if err := (conditions{ifMatch: ifMatch}).check(name, old); err != nil {
		return err
	}
	if err := b.index.Update(func(txn *badger.Txn) error { return txn.Delete(objectKey(bkt, name)) }); err != nil {
		return err
	}
	return b.release(old)
}

// Files.

func (b *backend) path(id string) string { return filepath.Join(b.blobs, id[:2], id) }

// summer is a body that computes its MD5, as gofakes3's body of a PutObject does.
type summer interface{ Sum([]byte) []byte }

// write streams a body of size bytes into a new file, synced, and returns its
// MD5 in hex.
func (b *backend) write(input io.Reader, size int64) (blob, string, error) {
	id := rand.Text()
	if err := os.MkdirAll(filepath.Dir(b.path(id)), 0o700); err != nil {
		return blob{}, "", err
	}
	f, err := os.OpenFile(b.path(id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return blob{}, "", err
	}
	var out io.Writer = f
	sum, ok := input.(summer)
	if !ok {
		made := md5.New()
		out, sum = io.MultiWriter(f, made), made
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{out}, input, make([]byte, 128<<10))
	if err == nil && n != size {
		err = s3err.IncompleteBody
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return blob{}, "", errors.Join(err, os.Remove(b.path(id)))
	}
	return blob{ID: id, Size: n}, hex.EncodeToString(sum.Sum(nil)), nil
}

// release removes the files of an object that is no longer in the index, or once the last reader of
// the object is done. A missing file is not an error: the object is gone from the index anyway.
func (b *backend) release(r *record) (err error) {
	if r == nil || b.readers.keep(r) {
		return nil
	}
	for _, f := range r.Blobs {
		if removed := os.Remove(b.path(f.ID)); !errors.Is(removed, fs.ErrNotExist) {
			err = errors.Join(err, removed)
		}
	}
	return err
}

// clone creates hard links to r's files, for an object that shares the bytes.
func (b *backend) clone(r *record) (blobs []blob, err error) {
	for _, f := range r.Blobs {
		id := rand.Text()
		err := os.MkdirAll(filepath.Dir(b.path(id)), 0o700)
		if err == nil {
			err = os.Link(b.path(f.ID), b.path(id))
		}
		if err != nil {
			return nil, errors.Join(err, b.release(&record{Blobs: blobs}))
		}
		blobs = append(blobs, blob{ID: id, Size: f.Size, Sum: f.Sum})
	}
	return blobs, nil
}

// reader reads length bytes of an object from start on.
func (b *backend) reader(r *record, start, length int64) io.ReadCloser {
	return &blobReader{b: b, blobs: r.Blobs, skip: start, left: length}
}

// blobReader opens one file after the other.
type blobReader struct {
	b     *backend
	blobs []blob
	skip  int64
	left  int64
	file  *os.File
}

func (r *blobReader) Read(p []byte) (int, error) {
	for {
		if r.left == 0 {
			return 0, io.EOF
		}
		if r.file == nil {
			if err := r.next(); err != nil {
				return 0, err
			}
		}
		n, err := r.file.Read(p[:min(int64(len(p)), r.left)])
		r.left -= int64(n)
		if err == io.EOF {
			err = r.Close()
		}
		if n > 0 || err != nil {
			return n, err
		}
	}
}

func (r *blobReader) next() error {
	for len(r.blobs) > 0 && r.skip >= r.blobs[0].Size {
		r.skip -= r.blobs[0].Size
		r.blobs = r.blobs[1:]
	}
	if len(r.blobs) == 0 {
		return io.ErrUnexpectedEOF
	}
	f, err := os.Open(r.b.path(r.blobs[0].ID))
	if err != nil {
		return err
	}
	r.file, r.blobs = f, r.blobs[1:]
	_, err = f.Seek(r.skip, io.SeekStart)
	r.skip = 0
	return err
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	if r.file == nil {
		return nil
	}
	f := r.file
	r.file = nil
	return f.Close()
}
