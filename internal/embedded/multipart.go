package embedded

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/s3err"
)

// minPart is the smallest part that may not be the last one (S3: 5 MiB).
const minPart = 5 << 20

// maxParts is the largest part number.
const maxParts = 10_000

// createUpload stores u as an upload in progress and returns its ID.
func (b *backend) createUpload(bkt, name string, u upload) (id string, err error) {
	b.change.Lock()
	defer b.change.Unlock()
	if err := b.needBucket(bkt); err != nil {
		return "", err
	}
	id = rand.Text()
	return id, b.index.Update(func(txn *badger.Txn) error { return set(txn, uploadKey(bkt, name, id), u) })
}

// upload returns an upload in progress or NoSuchUpload.
func (b *backend) upload(bkt, name, id string) (*upload, error) {
	u, err := load[upload](b.index, uploadKey(bkt, name, id))
	if err == nil && u == nil {
		err = s3err.NoSuchUpload.About("UploadId", id)
	}
	if err == nil && u.Algorithm == "" {
		u.adopt()
	}
	return u, err
}

// adopt sets the checksum algorithm of an upload that an earlier release created: that release stored
// only the request's headers, and no checksums of parts.
func (u *upload) adopt() {
	a, ok := checksum.ByHeader("X-Amz-Checksum-" + u.Meta["X-Amz-Checksum-Algorithm"])
	if !ok || len(a.Types()) == 0 {
		return
	}
	u.Algorithm, u.Type = a.Name, u.Meta[checksumType]
	if !slices.Contains(a.Types(), u.Type) {
		u.Type = a.Types()[0]
	}
}

// sumParts computes missing checksums of parts that an earlier release stored. It reads their files.
func (b *backend) sumParts(u *upload, parts []numbered) error {
	if u.Algorithm == "" {
		return nil
	}
	a, err := algorithm(u.Algorithm)
	if err != nil {
		return err
	}
	for i := range parts {
		f := &parts[i].Blob
		if f.Sum != nil {
			continue
		}
		if f.Sum, err = b.sum(a, &record{Blobs: []blob{*f}, Size: f.Size}); err != nil {
			return err
		}
	}
	return nil
}

// sum computes a checksum of an object's bytes.
func (b *backend) sum(a checksum.Algorithm, o *record) (*sum, error) {
	d := &digest{Hash: a.New(), algorithm: a}
	body := b.reader(o, 0, o.Size)
	defer body.Close()
	if _, err := io.Copy(d, body); err != nil {
		return nil, err
	}
	return &sum{a.Name, d.value()}, nil
}

// part is one uploaded part.
type part struct {
	Blob     blob
	MD5      string // hex
	Modified time.Time
}

// storePart stores p as part n of an upload and replaces an earlier one. If that fails, it removes p's
// file.
func (b *backend) storePart(bkt, name, id string, n int, p part) error {
	b.change.Lock()
	defer b.change.Unlock()
	_, err := b.upload(bkt, name, id) // it may have ended while the body was received
	var old *part
	if err == nil {
		old, err = load[part](b.index, partKey(id, n))
	}
	if err == nil {
		err = b.index.Update(func(txn *badger.Txn) error { return set(txn, partKey(id, n), p) })
	}
	if err != nil {
		return errors.Join(err, b.release(&record{Blobs: []blob{p.Blob}}))
	}
	if old == nil {
		return nil
	}
	return b.release(&record{Blobs: []blob{old.Blob}})
}

// numbered is a part and its number.
type numbered struct {
	part
	number int
}

// parts returns the parts of an upload with a number above after, in order.
func (b *backend) parts(id string, after int) (parts []numbered, err error) {
	err = eachValue(b.index, []byte(partPrefix+id+"\x00"), fmt.Appendf(nil, "%05d", after+1), func(key []byte, p *part) bool {
		n, _ := strconv.Atoi(string(key)) // written by partKey
		parts = append(parts, numbered{*p, n})
		return true
	})
	return parts, err
}

// completion is the request of a CompleteMultipartUpload.
type completion struct {
	parts      []completedPart
	conditions conditions
	size       int64  // x-amz-mp-object-size, -1 if absent
	how        string // x-amz-checksum-type, "" if absent
	sum        *sum   // checksum of the object, nil if absent
}

// completeUpload turns an upload into an object, atomically: concurrent requests for the upload wait
// and then find it ended. If it fails, the upload stays as it was.
func (b *backend) completeUpload(bkt, name, id string, want completion) (*record, error) {
	b.change.Lock()
	defer b.change.Unlock()
	u, err := b.upload(bkt, name, id)
	if err != nil {
		return nil, err
	}
	have, err := b.parts(id, 0)
	if err == nil {
		err = b.sumParts(u, have)
	}
	if err != nil {
		return nil, err
	}
	r, unused, err := assemble(u, have, want)
	if err != nil {
		return nil, err
	}
	old, err := b.storeLocked(bkt, name, r, want.conditions, func(txn *badger.Txn) error { return forgetUpload(txn, bkt, name, id) })
	if err != nil {
		return nil, err
	}
	return r, errors.Join(b.release(old), b.release(&record{Blobs: unused}))
}

// assemble builds the object of an upload. It also returns the files that are not part of it.
func assemble(u *upload, have []numbered, want completion) (r *record, unused []blob, err error) {
	parts := map[int]part{}
	for _, p := range have {
		parts[p.number] = p.part
	}
	r = &record{Modified: time.Now().Truncate(time.Second), Meta: map[string]string{}, Parts: true}
	maps.Copy(r.Meta, u.Meta)
	sums := md5.New()
	for i, w := range want.parts {
		p, ok := parts[w.PartNumber]
		switch {
		case i > 0 && w.PartNumber <= want.parts[i-1].PartNumber:
			return nil, nil, s3err.InvalidPartOrder
		case !ok || strings.Trim(w.ETag, `"`) != p.MD5:
			return nil, nil, s3err.InvalidPart.About("PartNumber", strconv.Itoa(w.PartNumber))
		case i < len(want.parts)-1 && p.Blob.Size < minPart:
			return nil, nil, s3err.EntityTooSmall.About("PartNumber", strconv.Itoa(w.PartNumber))
		}
		if err := w.checkSum(u, p.Blob.Sum); err != nil {
			return nil, nil, err
		}
		raw, err := hex.DecodeString(p.MD5)
		if err != nil {
			return nil, nil, err
		}
		sums.Write(raw)
		r.Blobs = append(r.Blobs, p.Blob)
		r.Size += p.Blob.Size
		delete(parts, w.PartNumber)
	}
	for _, p := range parts {
		unused = append(unused, p.Blob)
	}
	r.ETag = fmt.Sprintf("%x-%d", sums.Sum(nil), len(r.Blobs))
	if want.size >= 0 && want.size != r.Size {
		return nil, nil, s3err.InvalidRequest.With(fmt.Sprintf("The provided 'x-amz-mp-object-size' header value %d does not match what was computed: %d", want.size, r.Size))
	}
	return r, unused, r.addPartSums(u, want)
}

// addPartSums adds the checksum that the upload was created with to an object, and compares it with
// the one in the request.
func (r *record) addPartSums(u *upload, want completion) error {
	if want.how != "" && want.how != u.Type {
		return s3err.InvalidRequest.With("The upload was created using the " + u.Type + " checksum mode. The complete request must use the same checksum mode.")
	}
	if u.Algorithm == "" {
		if want.sum != nil {
			return s3err.InvalidRequest.With("The upload was created without a checksum algorithm. The complete request must not name a checksum.")
		}
		return nil
	}
	a, err := algorithm(u.Algorithm)
	if err != nil {
		return err
	}
	parts := make([]checksum.Part, len(r.Blobs))
	for i, f := range r.Blobs {
		if f.Sum == nil {
			return s3err.InvalidPart
		}
		parts[i] = checksum.Part{Value: f.Sum.Value, Size: f.Size}
	}
	value, err := a.OfParts(u.Type, parts)
	if err != nil {
		return err
	}
	if want.sum != nil {
		bare, _, _ := strings.Cut(value, "-")
		switch {
		case want.sum.Algorithm != a.Name:
			return s3err.InvalidRequest.With("The upload was created using the " + a.Name + " checksum algorithm. The complete request must use the same.")
		case want.sum.Value != value && want.sum.Value != bare:
			return s3err.BadDigest.With("The " + a.Name + " you specified did not match the calculated checksum.")
		}
	}
	r.setSum(sum{a.Name, value}, u.Type)
	return nil
}

// checkSum compares the checksum of a part in a Complete with the stored one.
func (w completedPart) checkSum(u *upload, have *sum) error {
	said := w.sum()
	switch {
	case said == nil && u.Type == checksum.Composite:
		return s3err.InvalidRequest.With(fmt.Sprintf("The upload was created using a %s checksum. The complete request must include the checksum for each part. It was missing for part %d in the request.",
			strings.ToLower(u.Algorithm), w.PartNumber))
	case said != nil && (have == nil || *said != *have):
		return s3err.InvalidPart.About("PartNumber", strconv.Itoa(w.PartNumber))
	}
	return nil
}

// abortUpload ends an upload and removes its parts.
func (b *backend) abortUpload(bkt, name, id string) error {
	b.change.Lock()
	defer b.change.Unlock()
	if _, err := b.upload(bkt, name, id); err != nil {
		return err
	}
	return b.endUploadLocked(bkt, name, id)
}

// endUploadLocked removes an upload and the files of its parts. The caller holds change.
func (b *backend) endUploadLocked(bkt, name, id string) error {
	parts, err := b.parts(id, 0)
	if err != nil {
		return err
	}
	if err := b.index.Update(func(txn *badger.Txn) error { return forgetUpload(txn, bkt, name, id) }); err != nil {
		return err
	}
	r := &record{}
	for _, p := range parts {
		r.Blobs = append(r.Blobs, p.Blob)
	}
	return b.release(r)
}

// forgetUpload removes an upload and its parts from the index.
func forgetUpload(txn *badger.Txn, bkt, name, id string) error {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = []byte(partPrefix + id + "\x00")
	it := txn.NewIterator(opt)
	var keys [][]byte
	for it.Rewind(); it.Valid(); it.Next() {
		keys = append(keys, it.Item().KeyCopy(nil))
	}
	it.Close()
	for _, key := range keys {
		if err := txn.Delete(key); err != nil {
			return err
		}
	}
	return txn.Delete(uploadKey(bkt, name, id))
}
