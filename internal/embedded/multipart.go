package embedded

import (
	"crypto/md5"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sort"
	"strings"
	"time"

	"github.com/dgraph-io/badger/v4"
	"github.com/johannesboyne/gofakes3"
)

// minPart is the smallest part that may not be the last one (S3: 5 MiB).
const minPart = 5 << 20

func (b *backend) CreateMultipartUpload(bkt, name string, meta map[string]string) (gofakes3.UploadID, error) {
	id := gofakes3.UploadID(rand.Text())
	return id, b.index.Update(func(txn *badger.Txn) error {
		return set(txn, uploadKey(bkt, name, id), upload{Started: time.Now(), Meta: meta})
	})
}

// upload returns an upload in progress or NoSuchUpload.
func (b *backend) upload(bkt, name string, id gofakes3.UploadID) (*upload, error) {
	u, err := load[upload](b.index, uploadKey(bkt, name, id))
	if err == nil && u == nil {
		err = gofakes3.ErrNoSuchUpload
	}
	return u, err
}

func (b *backend) UploadPart(bkt, name string, id gofakes3.UploadID, n int, size int64, input io.Reader) (string, error) {
	if _, err := b.upload(bkt, name, id); err != nil {
		return "", err
	}
	f, sum, err := b.write(input, size)
	if err != nil {
		return "", err
	}
	b.change.Lock()
	defer b.change.Unlock()
	_, err = b.upload(bkt, name, id) // it may have ended meanwhile
	var old *part
	if err == nil {
		old, err = load[part](b.index, partKey(id, n))
	}
	if err == nil {
		err = b.index.Update(func(txn *badger.Txn) error {
			return set(txn, partKey(id, n), part{Blob: f, MD5: sum, Modified: time.Now()})
		})
	}
	if err != nil {
		return "", unwrap(errors.Join(err, b.release(&record{Blobs: []blob{f}})))
	}
	if old != nil {
		err = b.release(&record{Blobs: []blob{old.Blob}})
	}
	return `"` + sum + `"`, err
}

func (b *backend) parts(id gofakes3.UploadID) (map[int]*part, error) {
	parts := map[int]*part{}
	err := eachValue(b.index, []byte(partPrefix+string(id)+"\x00"), nil, func(key []byte, p *part) bool {
		var n int
		_, _ = fmt.Sscanf(string(key), "%d", &n) // we wrote it
		parts[n] = p
		return true
	})
	return parts, err
}

// CompleteMultipartUpload sees and ends an upload in one step: parts that come
// and Completes that go on meanwhile wait, and find it ended.
func (b *backend) CompleteMultipartUpload(bkt, name string, id gofakes3.UploadID, input *gofakes3.CompleteMultipartUploadRequest) (gofakes3.VersionID, string, error) {
	b.change.Lock()
	defer b.change.Unlock()
	u, err := b.upload(bkt, name, id)
	if err != nil {
		return "", "", err
	}
	have, err := b.parts(id)
	if err != nil {
		return "", "", err
	}
	r := &record{Modified: time.Now().Truncate(time.Second), Meta: u.Meta, Parts: true}
	sums := md5.New()
	for i, want := range input.Parts {
		p := have[want.PartNumber]
		switch {
		case i > 0 && want.PartNumber <= input.Parts[i-1].PartNumber:
			return "", "", gofakes3.ErrInvalidPartOrder
		case p == nil || strings.Trim(want.ETag, `"`) != p.MD5:
			return "", "", gofakes3.ErrInvalidPart
		case i < len(input.Parts)-1 && p.Blob.Size < minPart:
			return "", "", gofakes3.ErrorMessage("EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
		}
		raw, err := hex.DecodeString(p.MD5)
		if err != nil {
			return "", "", err
		}
		sums.Write(raw)
		r.Blobs = append(r.Blobs, p.Blob)
		r.Size += p.Blob.Size
		delete(have, want.PartNumber)
	}
	if len(r.Blobs) == 0 {
		return "", "", gofakes3.ErrMalformedXML
	}
	r.ETag = fmt.Sprintf("%s-%d", hex.EncodeToString(sums.Sum(nil)), len(r.Blobs))
	old, err := b.store(bkt, name, r, nil, func(txn *badger.Txn) error { return endUpload(txn, bkt, name, id) })
	if err != nil {
		return "", "", err
	}
	return "", `"` + r.ETag + `"`, errors.Join(b.release(old), b.releaseParts(have))
}

func (b *backend) AbortMultipartUpload(bkt, name string, id gofakes3.UploadID) error {
	b.change.Lock()
	defer b.change.Unlock()
	if _, err := b.upload(bkt, name, id); err != nil {
		return err
	}
	parts, err := b.parts(id)
	if err != nil {
		return err
	}
	if err := b.index.Update(func(txn *badger.Txn) error { return endUpload(txn, bkt, name, id) }); err != nil {
		return err
	}
	return b.releaseParts(parts)
}

func (b *backend) releaseParts(parts map[int]*part) (err error) {
	for _, p := range parts {
		err = errors.Join(err, b.release(&record{Blobs: []blob{p.Blob}}))
	}
	return err
}

// endUpload removes an upload and its parts from the index.
func endUpload(txn *badger.Txn, bkt, name string, id gofakes3.UploadID) error {
	opt := badger.DefaultIteratorOptions
	opt.PrefetchValues = false
	opt.Prefix = []byte(partPrefix + string(id) + "\x00")
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

func (b *backend) ListMultipartUploads(bkt string, marker *gofakes3.UploadListMarker, prefix gofakes3.Prefix, limit int64) (*gofakes3.ListMultipartUploadsResult, error) {
	out := &gofakes3.ListMultipartUploadsResult{Bucket: bkt, MaxUploads: limit, Prefix: prefix.Prefix, Delimiter: prefix.Delimiter}
	if marker != nil {
		out.KeyMarker, out.UploadIDMarker = marker.Object, marker.UploadID
	}
	seen := map[string]bool{}
	err := eachValue(b.index, []byte(uploadPrefix+bkt+"\x00"), nil, func(key []byte, u *upload) bool {
		name, id, _ := strings.Cut(string(key), "\x00")
		if !strings.HasPrefix(name, prefix.Prefix) || marker != nil && (name < marker.Object || name == marker.Object && (marker.UploadID == "" || id <= string(marker.UploadID))) {
			return true
		}
		if cp := commonPrefix(name, prefix.Prefix, prefix.Delimiter); cp != "" {
			if !seen[cp] {
				seen[cp] = true
				out.CommonPrefixes = append(out.CommonPrefixes, gofakes3.CommonPrefix{Prefix: cp})
			}
			return true
		}
		if int64(len(out.Uploads)) == limit {
			last := out.Uploads[len(out.Uploads)-1]
			out.IsTruncated, out.NextKeyMarker, out.NextUploadIDMarker = true, last.Key, last.UploadID
			return false
		}
		out.Uploads = append(out.Uploads, gofakes3.ListMultipartUploadItem{Key: name, UploadID: gofakes3.UploadID(id), Initiated: gofakes3.NewContentTime(u.Started)})
		return true
	})
	return out, err
}

func (b *backend) ListParts(bkt, name string, id gofakes3.UploadID, marker int, limit int64) (*gofakes3.ListMultipartUploadPartsResult, error) {
	if _, err := b.upload(bkt, name, id); err != nil {
		return nil, err
	}
	parts, err := b.parts(id)
	if err != nil {
		return nil, err
	}
	out := &gofakes3.ListMultipartUploadPartsResult{Bucket: bkt, Key: name, UploadID: id, PartNumberMarker: marker, MaxParts: limit}
	numbers := make([]int, 0, len(parts))
	for n := range parts {
		if n > marker {
			numbers = append(numbers, n)
		}
	}
	sort.Ints(numbers)
	if int64(len(numbers)) > limit {
		numbers, out.IsTruncated = numbers[:limit], true
	}
	for _, n := range numbers {
		p := parts[n]
		out.NextPartNumberMarker = n
		out.Parts = append(out.Parts, gofakes3.ListMultipartUploadPartItem{PartNumber: n, ETag: `"` + p.MD5 + `"`, Size: p.Blob.Size, LastModified: gofakes3.NewContentTime(p.Modified)})
	}
	return out, nil
}
