package uploadpool

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// packer uploads entries of one bucket as one object, a pack.
type packer struct {
	*uploader
	mismatch func(bucket string) // Config.OnETagMismatch
}

// pack builds a pack of entries and uploads it. The entries in kept are in the pack or, if r has an
// error, are not; those in failed have bodies that could not be read.
func (w *packer) pack(ctx context.Context, entries []*journal.Entry) (kept []*journal.Entry, r result, failed map[*journal.Entry]error) {
	var content pack.Writer
	var offsets []int64
	failed = map[*journal.Entry]error{}
	for _, e := range entries {
		w.queue.attempt(e)
		at, err := w.addTo(&content, e)
		if err != nil {
			failed[e] = err
			continue
		}
		kept, offsets = append(kept, e), append(offsets, at)
	}
	if len(kept) == 0 {
		return nil, result{}, failed
	}
	key := akigw.Key{Bucket: kept[0].Key.Bucket, Name: pack.NewName(time.Now())}
	number, end, err := w.journal.Packs.Begin(ctx, key)
	if err != nil {
		return kept, result{err: err}, failed
	}
	defer end()
	if r = w.put(ctx, key, content.Finish()); r.err != nil {
		return kept, r, failed
	}
	failpoint.Here("pack.afterPut")
	r.err = w.journal.Packs.Add(ctx, number, kept, offsets)
	if r.err == nil {
		failpoint.Here("pack.afterPacked")
	}
	return kept, r, failed
}

// addTo adds the body of an entry to a pack.
func (w *packer) addTo(content *pack.Writer, e *journal.Entry) (int64, error) {
	body, err := w.journal.Body(e, 0, e.Size)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return content.Add(pack.Object{Name: e.Key.Name, Size: e.Size, ETag: e.ETag, Modified: e.Modified, Header: e.Header}, body)
}

// put uploads a pack and verifies it. A pack whose outcome is unknown is not uploaded again:
// another one is made, and this one is deleted as an empty one.
func (w *packer) put(ctx context.Context, key akigw.Key, data []byte) result {
	sum := md5.Sum(data)
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	header := http.Header{"Content-Type": {pack.ContentType}}
	addMD5(header, etag)
	change := w.begin(key)
	defer change.End()
	change.Body(data)
	failpoint.Here("pack.beforePut")
	resp, err := w.upstream.Do(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: key, Header: header, Body: bytes.NewReader(data), Length: int64(len(data))})
	r := w.judge(err, resp, false)
	if r.err == nil {
		r.answer = resp.Header
		r = w.verify(ctx, &journal.Entry{Key: key, Size: int64(len(data)), ETag: etag}, r)
	}
	if r.err == nil {
		change.Written(header, resp.Header, r.seen)
	}
	if r.stored.ETag != "" && w.mismatch != nil {
		w.mismatch(key.Bucket)
	}
	r.unknown = false
	return r
}
