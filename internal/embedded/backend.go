// Package embedded is the trial upstream: gofakes3 over a directory, in this
// process, on a loopback listener of its own. It exists so that the gateway can
// be tried with one command. Objects survive restarts and crashes of the
// process, bodies stream to and from files, but gofakes3 calls itself a test
// tool, and so is this: no versioning, no ACLs, no tagging, no lifecycle, one
// disk. What it cannot do it refuses.
//
// gofakes3 routes and speaks the XML; this package stores, and answers object
// reads and copies itself, because those need ETags of multipart uploads,
// conditions and metadata that gofakes3 does not have.
package embedded

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/johannesboyne/gofakes3"
)

// backend keeps bodies as files named by random numbers and everything else in
// Badger. It implements gofakes3.Backend and gofakes3.MultipartBackend.
type backend struct {
	index *badger.DB
	blobs string // directory

	// change serialises changes of the index, so that conditions and the
	// release of replaced files see a settled state.
	change sync.Mutex
}

// blob is one file of an object's body.
type blob struct {
	ID   string
	Size int64
}

// record is one object.
type record struct {
	Blobs    []blob // in order; one for a PUT, one a part for a multipart upload
	Size     int64
	ETag     string // without quotes
	Modified time.Time
	Meta     map[string]string
	Parts    bool // uploaded in parts
}

// upload is one multipart upload in progress.
type upload struct {
	Started time.Time
	Meta    map[string]string
}

// part is one uploaded part.
type part struct {
	Blob     blob
	MD5      string // hex
	Modified time.Time
}

type bucket struct{ Created time.Time }

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

// sweep removes files that a crash left without an owner.
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

// Index keys. Bucket names hold no NUL and object keys none either.
const (
	bucketPrefix = "b\x00"
	objectPrefix = "o\x00"
	uploadPrefix = "u\x00"
	partPrefix   = "p\x00"
)

func bucketKey(name string) []byte      { return []byte(bucketPrefix + name) }
func objectKey(bkt, name string) []byte { return []byte(objectPrefix + bkt + "\x00" + name) }
func uploadKey(bkt, name string, id gofakes3.UploadID) []byte {
	return []byte(uploadPrefix + bkt + "\x00" + name + "\x00" + string(id))
}
func partKey(id gofakes3.UploadID, n int) []byte {
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

func (b *backend) ListBuckets() (list []gofakes3.BucketInfo, err error) {
	err = eachValue(b.index, []byte(bucketPrefix), nil, func(name []byte, v *bucket) bool {
		list = append(list, gofakes3.BucketInfo{Name: string(name), CreationDate: gofakes3.NewContentTime(v.Created)})
		return true
	})
	return list, err
}

func (b *backend) BucketExists(name string) (bool, error) {
	v, err := load[bucket](b.index, bucketKey(name))
	return v != nil, err
}

// CreateBucket succeeds for a bucket that is there, as in S3's us-east-1: there
// is one owner.
func (b *backend) CreateBucket(name string) error {
	b.change.Lock()
	defer b.change.Unlock()
	if exists, err := b.BucketExists(name); err != nil || exists {
		return err
	}
	return b.index.Update(func(txn *badger.Txn) error { return set(txn, bucketKey(name), bucket{time.Now()}) })
}

func (b *backend) DeleteBucket(name string) error {
	b.change.Lock()
	defer b.change.Unlock()
	empty := true
	err := b.each(objectPrefix+name+"\x00", func([]byte, *record) bool {
		empty = false
		return false
	})
	if err != nil {
		return err
	}
	if !empty {
		return gofakes3.ResourceError(gofakes3.ErrBucketNotEmpty, name)
	}
	return b.index.Update(func(txn *badger.Txn) error { return txn.Delete(bucketKey(name)) })
}

// ForceDeleteBucket is not offered: a trial tool has no business deleting data
// wholesale.
func (b *backend) ForceDeleteBucket(string) error { return gofakes3.ErrNotImplemented }

// Objects.

func (b *backend) object(bkt, name string) (*record, error) {
	return load[record](b.index, objectKey(bkt, name))
}

// GetObject and HeadObject are not reached: Server answers reads itself.
func (b *backend) GetObject(bkt, name string, _ *gofakes3.ObjectRangeRequest) (*gofakes3.Object, error) {
	return nil, gofakes3.ErrNotImplemented
}

func (b *backend) HeadObject(bkt, name string) (*gofakes3.Object, error) {
	return nil, gofakes3.ErrNotImplemented
}

// CopyObject is not reached: Server answers copies itself.
func (b *backend) CopyObject(string, string, string, string, map[string]string) (gofakes3.CopyObjectResult, error) {
	return gofakes3.CopyObjectResult{}, gofakes3.ErrNotImplemented
}

func (b *backend) PutObject(bkt, name string, meta map[string]string, input io.Reader, size int64, conditions *gofakes3.PutConditions) (gofakes3.PutObjectResult, error) {
	if conditions != nil { // before the body as well as after it
		if err := b.check(bkt, name, conditions); err != nil {
			return gofakes3.PutObjectResult{}, err
		}
	}
	f, sum, err := b.write(input, size)
	if err != nil {
		return gofakes3.PutObjectResult{}, err
	}
	r := &record{Blobs: []blob{f}, Size: size, ETag: sum, Modified: time.Now().Truncate(time.Second), Meta: meta}
	return gofakes3.PutObjectResult{}, b.storeNew(bkt, name, r, conditions)
}

// storeNew stores an object whose files nobody else knows: if it cannot be
// stored they go.
func (b *backend) storeNew(bkt, name string, r *record, conditions *gofakes3.PutConditions) error {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.store(bkt, name, r, conditions, nil)
	if err != nil {
		return unwrap(errors.Join(err, b.release(r)))
	}
	return b.release(old)
}

// store makes r the object of a key and returns the one before, whose files the
// caller releases. more, if not nil, joins the same transaction. It needs
// change.
func (b *backend) store(bkt, name string, r *record, conditions *gofakes3.PutConditions, more func(*badger.Txn) error) (old *record, err error) {
	old, err = b.object(bkt, name)
	if err == nil && conditions != nil {
		err = checkConditions(old, conditions)
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

func (b *backend) check(bkt, name string, conditions *gofakes3.PutConditions) error {
	old, err := b.object(bkt, name)
	if err != nil {
		return err
	}
	return checkConditions(old, conditions)
}

func checkConditions(old *record, c *gofakes3.PutConditions) error {
	switch {
	case c.IfNoneMatch != nil && *c.IfNoneMatch != "*":
		return gofakes3.ErrNotImplemented
	case c.IfNoneMatch != nil && old != nil:
		return gofakes3.ErrorMessage(gofakes3.ErrPreconditionFailed, "At least one of the pre-conditions you specified did not hold")
	case c.IfMatch != nil && old == nil:
		return gofakes3.ErrNoSuchKey
	case c.IfMatch != nil && strings.Trim(*c.IfMatch, `"`) != old.ETag:
		return gofakes3.ErrorMessage(gofakes3.ErrPreconditionFailed, "At least one of the pre-conditions you specified did not hold")
	}
	return nil
}

func (b *backend) DeleteObject(bkt, name string) (gofakes3.ObjectDeleteResult, error) {
	b.change.Lock()
	defer b.change.Unlock()
	old, err := b.object(bkt, name)
	if err == nil && old != nil {
		err = b.index.Update(func(txn *badger.Txn) error { return txn.Delete(objectKey(bkt, name)) })
	}
	if err != nil {
		return gofakes3.ObjectDeleteResult{}, err
	}
	return gofakes3.ObjectDeleteResult{}, b.release(old)
}

func (b *backend) DeleteMulti(bkt string, names ...string) (result gofakes3.MultiDeleteResult, err error) {
	for _, name := range names {
		if _, err := b.DeleteObject(bkt, name); err != nil {
			e := gofakes3.ErrorResultFromError(err)
			e.Key = name
			result.Error = append(result.Error, e)
			continue
		}
		result.Deleted = append(result.Deleted, gofakes3.ObjectID{Key: name})
	}
	return result, nil
}

// Files.

func (b *backend) path(id string) string { return filepath.Join(b.blobs, id[:2], id) }

// write streams a body into a new file, synced, and returns its MD5 in hex.
func (b *backend) write(input io.Reader, size int64) (blob, string, error) {
	id := rand.Text()
	if err := os.MkdirAll(filepath.Dir(b.path(id)), 0o700); err != nil {
		return blob{}, "", err
	}
	f, err := os.OpenFile(b.path(id), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return blob{}, "", err
	}
	sum := md5.New()
	n, err := io.CopyBuffer(struct{ io.Writer }{io.MultiWriter(f, sum)}, input, make([]byte, 128<<10))
	if err == nil && n != size {
		err = gofakes3.ErrIncompleteBody
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return blob{}, "", unwrap(errors.Join(err, os.Remove(b.path(id))))
	}
	return blob{ID: id, Size: n}, hex.EncodeToString(sum.Sum(nil)), nil
}

// unwrap gives gofakes3 the bare error that it looks for by type.
func unwrap(err error) error {
	var coded gofakes3.Error
	if errors.As(err, &coded) {
		return coded
	}
	return err
}

// release removes the files of a replaced object. Readers keep what they have
// open.
func (b *backend) release(r *record) (err error) {
	if r == nil {
		return nil
	}
	for _, f := range r.Blobs {
		err = errors.Join(err, os.Remove(b.path(f.ID)))
	}
	return err
}

// clone gives r's files second names, for an object that shares its bytes.
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
		blobs = append(blobs, blob{ID: id, Size: f.Size})
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
