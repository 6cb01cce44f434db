package uploadpool

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/failpoint"
	"github.com/akidb/akigw/internal/pack"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/tiers/cold"
)

// maxPack is how many bytes of bodies go into one pack at the most.
const maxPack = 4 << 20

// waiting is a key that waits to go into a pack with others of its bucket.
type waiting struct {
	key  akigw.Key
	size int64
	due  time.Time // when it goes, with however few
}

// packing are the keys of a bucket that wait, the oldest first.
type packing struct {
	keys  []waiting
	bytes int64
}

// collect has an entry wait for others of its bucket, if it is to be packed. It needs
// mu.
func (p *Pool) collect(key akigw.Key, now time.Time) bool {
	e := p.Journal.Last(key)
	if p.Packs == nil || e == nil || p.hurries(key) || !p.packable(e) || p.Journal.Stats().Packed >= p.Batch.MaxPacked {
		return false
	}
	w := p.packing[key.Bucket]
	if w == nil {
		w = &packing{}
		p.packing[key.Bucket] = w
	}
	w.keys = append(w.keys, waiting{key, e.Size, now.Add(time.Duration(p.Batch.FlushIntervalSecs) * time.Second)})
	w.bytes += e.Size
	return true
}

// packable reports whether an entry is to go into a pack.
func (p *Pool) packable(e *journal.Entry) bool {
	_, _, packed := p.Journal.Location(e)
	return p.Batch.Enabled && !e.Deleted && len(e.Parts) == 0 && !packed && p.Packs(e.Key, e.Size)
}

// ready takes keys that are to go into one pack now: as many as one takes, or what is
// there when its time has come. It says when to look again if there are none. It
// needs mu.
func (p *Pool) ready(now time.Time) (keys []akigw.Key, next time.Time) {
	for bucket, w := range p.packing {
		if !p.room(p.lane(bucket)) {
			continue // until something is given back
		}
		if wait := p.admit(bucket); wait > 0 {
			if due := now.Add(wait); next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		}
		if due := w.keys[0].due; len(w.keys) < p.Batch.BatchSize && w.bytes < maxPack && !p.eager && due.After(now) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
			continue
		}
		size := int64(0)
		for len(w.keys) > 0 && len(keys) < p.Batch.BatchSize && size < maxPack {
			keys = append(keys, w.keys[0].key)
			size += w.keys[0].size
			w.keys = w.keys[1:]
		}
		if w.bytes -= size; len(w.keys) == 0 {
			delete(p.packing, bucket)
		}
		return keys, time.Time{}
	}
	return nil, next
}

// Eager has the pool pack what there is without waiting for more: it is going to end.
func (p *Pool) Eager() {
	p.mu.Lock()
	p.eager = true
	p.mu.Unlock()
	p.stir()
}

// flushPack takes entries of one bucket to the upstream as one object.
func (p *Pool) flushPack(ctx context.Context, entries []*journal.Entry) {
	var w pack.Writer
	var kept []*journal.Entry
	var offsets []int64
	for _, e := range entries {
		p.attempt(e)
		at, err := p.addTo(&w, e)
		if err != nil {
			p.settle(ctx, e, bodyFailed(err))
			continue
		}
		kept, offsets = append(kept, e), append(offsets, at)
	}
	if len(kept) == 0 {
		return
	}
	key := akigw.Key{Bucket: kept[0].Key.Bucket, Name: pack.NewName(time.Now())}
	number, err := p.Journal.BeginPack(ctx, key)
	r := result{err: err}
	if err == nil {
		defer p.Journal.EndPack(number)
		r = p.putPack(ctx, key, w.Finish())
	}
	if r.err == nil {
		failpoint.Here("pack.afterPut")
		r.err = p.Journal.Packed(ctx, number, kept, offsets)
	}
	if r.err == nil {
		failpoint.Here("pack.afterPacked")
		p.counters.packs.Inc()
		p.counters.packed.Add(len(kept))
	}
	for _, e := range kept {
		if r.err != nil {
			p.settle(ctx, e, r)
			continue
		}
		p.counters.flushed.Inc()
		p.counters.flushedBytes.Add(int(e.Size))
		p.rate.add(e.Size)
		p.Journal.Return(e, false)
		p.succeeded(e)
	}
}

// addTo adds the body of an entry to a pack.
func (p *Pool) addTo(w *pack.Writer, e *journal.Entry) (int64, error) {
	body, err := p.Journal.Body(e, 0, e.Size)
	if err != nil {
		return 0, err
	}
	defer body.Close()
	return w.Add(pack.Object{Name: e.Key.Name, Size: e.Size, ETag: e.ETag, Modified: e.Modified, Header: e.Header}, body)
}

// putPack uploads a pack and sees that it is there. A pack whose outcome is unknown is
// not asked for again: another one is made, and this one deleted as an empty one.
func (p *Pool) putPack(ctx context.Context, key akigw.Key, data []byte) result {
	sum := md5.Sum(data)
	etag := `"` + hex.EncodeToString(sum[:]) + `"`
	header := http.Header{"Content-Type": {pack.ContentType}}
	addMD5(header, etag)
	change := p.Begin(key)
	defer change.End()
	change.Body(data)
	failpoint.Here("pack.beforePut")
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "PutObject", Method: http.MethodPut, Key: key, Header: header, Body: bytes.NewReader(data), Length: int64(len(data))})
	r := p.judge(err, resp, false)
	if r.err == nil {
		r.answer = resp.Header
		r = p.verify(ctx, &journal.Entry{Key: key, Size: int64(len(data)), ETag: etag}, r)
	}
	if r.err == nil {
		change.Written(resp.Header)
	}
	if r.stored.ETag != "" && p.Unlike != nil {
		p.Unlike(key.Bucket)
	}
	r.unknown = false
	return r
}

// body opens the body of an entry, where it is.
func (p *Pool) body(ctx context.Context, e *journal.Entry) (io.ReadSeekCloser, error) {
	for {
		key, at, ok := p.Journal.Location(e)
		if !ok {
			b, err := p.Journal.Body(e, 0, e.Size)
			if err == journal.ErrPacked {
				continue // meanwhile
			}
			return b, err
		}
		data, err := p.fromPack(ctx, key, at, e)
		return struct {
			io.ReadSeeker
			io.Closer
		}{bytes.NewReader(data), io.NopCloser(nil)}, err
	}
}

// fromPack reads a body from a pack and compares it with its ETag.
func (p *Pool) fromPack(ctx context.Context, key akigw.Key, at int64, e *journal.Entry) ([]byte, error) {
	if e.Size == 0 {
		return nil, nil
	}
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "GetObject", Method: http.MethodGet, Key: key, Header: http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", at, at+e.Size-1)}}})
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusPartialContent {
		return nil, fmt.Errorf("%w: pack %s: %d", akigw.ErrUpstreamUnavailable, key, resp.StatusCode)
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, e.Size+1))
	if err != nil {
		return nil, fmt.Errorf("%w: pack %s: %w", akigw.ErrUpstreamUnavailable, key, err)
	}
	if sum := md5.Sum(data); `"`+hex.EncodeToString(sum[:])+`"` != e.ETag { // damaged on the way, perhaps: it is asked for again
		return nil, fmt.Errorf("%w: pack %s: %s in it does not have its ETag", akigw.ErrUpstreamUnavailable, key, e.Key)
	}
	return data, nil
}

// DropPacks deletes the packs of a bucket that nothing is in.
func (p *Pool) DropPacks(ctx context.Context, bucket string) {
	for _, k := range p.Journal.EmptyPacks() {
		if k.Key.Bucket == bucket && ctx.Err() == nil {
			p.dropPack(ctx, k)
		}
	}
}

// dropPack deletes a pack.
func (p *Pool) dropPack(ctx context.Context, k journal.Pack) {
	change := p.Begin(k.Key)
	defer change.End()
	resp, err := p.Upstream.Do(ctx, &cold.Request{Op: "DeleteObject", Method: http.MethodDelete, Key: k.Key, Header: http.Header{}})
	gone := err == nil && resp.StatusCode == http.StatusNotFound
	if r := p.judge(err, resp, false); r.err == nil || gone {
		_ = p.Journal.Unpacked(ctx, k) // else it is deleted again, and not found
	}
}
