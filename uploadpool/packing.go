package uploadpool

import (
	"time"

	"github.com/akidb/akigw"
)

// maxPack is the largest total size of the bodies in one pack, in bytes.
const maxPack = 4 << 20

// packing holds the keys whose entries wait until there are enough of their bucket for a pack. It
// is guarded by queue.mu.
type packing struct {
	config  BatchConfig
	buckets map[string]*unpacked
	eager   bool // packs are made of what is there, without waiting for more
}

// unpacked are the keys of one bucket, oldest first.
type unpacked struct {
	keys  []unpackedKey
	bytes int64
}

// unpackedKey is a key that waits for a pack.
type unpackedKey struct {
	key  akigw.Key
	size int64
	due  time.Time // when it is packed, even with few others
}

// add makes an entry of size bytes wait for others of its bucket.
func (s *packing) add(key akigw.Key, size int64, now time.Time) {
	w := s.buckets[key.Bucket]
	if w == nil {
		w = &unpacked{}
		s.buckets[key.Bucket] = w
	}
	w.keys = append(w.keys, unpackedKey{key, size, now.Add(time.Duration(s.config.FlushIntervalSecs) * time.Second)})
	w.bytes += size
}

// take removes the keys of one pack that is due: as many as fit, or all that are there when the
// time has come. If none is due, it returns when to check again, zero for never. hasRoom reports
// whether uploads of a bucket can start now, and wait how long they must wait for another reason.
func (s *packing) take(now time.Time, hasRoom func(bucket string) bool, wait func(bucket string) time.Duration) (keys []akigw.Key, next time.Time) {
	for bucket, w := range s.buckets {
		if !hasRoom(bucket) {
			continue // until an upload ends
		}
		if wait := wait(bucket); wait > 0 {
			next = earlier(next, now.Add(wait))
			continue
		}
		if due := w.keys[0].due; len(w.keys) < s.config.BatchSize && w.bytes < maxPack && !s.eager && due.After(now) {
			next = earlier(next, due)
			continue
		}
		return s.takeOf(bucket, w), time.Time{}
	}
	return nil, next
}

// takeOf removes the keys of one pack of a bucket.
func (s *packing) takeOf(bucket string, w *unpacked) (keys []akigw.Key) {
	size := int64(0)
	for len(w.keys) > 0 && len(keys) < s.config.BatchSize && size < maxPack {
		keys = append(keys, w.keys[0].key)
		size += w.keys[0].size
		w.keys = w.keys[1:]
	}
	if w.bytes -= size; len(w.keys) == 0 {
		delete(s.buckets, bucket)
	}
	return keys
}
