package s3mem

import (
	"crypto/md5"
	"encoding/hex"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

// Memory is an upstream in memory. It implements PUT, GET, HEAD and DELETE of objects with ranges and
// conditions as S3 does, and counts requests.
type Memory struct {
	mu      sync.Mutex
	objects map[akigw.Key]Stored
	counts  map[string]int
	sent    int64
	streams map[chan cold.Change]string // open event streams and their buckets
	uploads map[string]*memoryUpload    // open multipart uploads by id
	told    atomic.Int64                // changes that were sent into streams
	taken   atomic.Int64                // changes that were received from streams

	// Deaf keeps streams of events from opening.
	Deaf atomic.Bool

	// KMS gives objects that are written from then on ETags as in a bucket that is encrypted with KMS
	// keys, which are not the MD5.
	KMS atomic.Bool

	// Clock, if set, provides the times of objects. The default is the current time in whole seconds.
	Clock func() time.Time

	// Before, if set, is called before a request is handled. A response or an error that it returns
	// replaces the real one.
	Before func(r *cold.Request) (*http.Response, error)
	// After, if set, may change a response. Its Date is the current time, whatever Clock returns.
	After func(r *cold.Request, resp *http.Response)
}

// Stored is an object of Memory.
type Stored struct {
	Body     []byte
	ETag     string
	Modified time.Time
	Header   http.Header
	Parts    []int64 // sizes in bytes of the parts that it was uploaded in; nil: in one piece
}

// part returns the range of a part, which S3 numbers in the order of their numbers in the upload.
func (o *Stored) part(number string) (r akigw.Range, ok bool) {
	parts := o.Parts
	if parts == nil {
		parts = []int64{int64(len(o.Body))}
	}
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(parts) {
		return r, false
	}
	for _, size := range parts[:n-1] {
		r.Start += size
	}
	r.Length = parts[n-1]
	return r, true
}

// New returns an empty upstream.
func New() *Memory {
	return &Memory{objects: map[akigw.Key]Stored{}, counts: map[string]int{}, streams: map[chan cold.Change]string{}, uploads: map[string]*memoryUpload{}}
}

// memoryUpload is an open multipart upload.
type memoryUpload struct {
	key    akigw.Key
	header http.Header
	parts  map[int][]byte
	sums   map[int]string // of the parts, as elements of ListParts
}

func etagOf(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

// etagOf returns the ETag that a body gets now.
func (m *Memory) etagOf(body []byte) string {
	if m.KMS.Load() {
		return etagOf(append([]byte("encrypted "), body...))
	}
	return etagOf(body)
}

// Put stores an object directly, bypassing the gateway, and returns its ETag.
func (m *Memory) Put(key akigw.Key, body []byte) string {
	etag := etagOf(body)
	m.PutStored(key, Stored{Body: body, ETag: etag, Modified: m.now()})
	return etag
}

// PutStored stores an object whose fields are all chosen by the caller.
func (m *Memory) PutStored(key akigw.Key, o Stored) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.putLocked(key, o)
}

// putLocked stores an object and says so in the streams.
func (m *Memory) putLocked(key akigw.Key, o Stored) {
	m.objects[key] = o
	m.tellLocked(cold.Change{Key: key, ETag: o.ETag, Size: int64(len(o.Body))})
}

// Get returns an object.
func (m *Memory) Get(key akigw.Key) (Stored, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.objects[key]
	return o, ok
}

// Delete removes an object directly, bypassing the gateway.
func (m *Memory) Delete(key akigw.Key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.objects, key)
	m.tellLocked(cold.Change{Key: key, Removed: true})
}

// uploadLocked returns the upload that a request names, nil if there is none.
func (m *Memory) uploadLocked(r *cold.Request) *memoryUpload {
	if u := m.uploads[r.Query.Get("uploadId")]; u != nil && u.key == r.Key {
		return u
	}
	return nil
}

// Uploads returns the number of open multipart uploads.
func (m *Memory) Uploads() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.uploads)
}

// KeysOf returns the keys of a bucket's objects, in order.
func (m *Memory) KeysOf(bucket string) (all []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.objects {
		if key.Bucket == bucket {
			all = append(all, key.Name)
		}
	}
	slices.Sort(all)
	return all
}

// Len returns the number of objects.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.objects)
}

// Count returns the number of requests of a kind: "GET", "HEAD", "GET 304", "PUT 200", "GET range",
// "HEAD conditional", "ListObjectsV2".
func (m *Memory) Count(kind string) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.counts[kind]
}

// Sent returns the total Content-Length of all responses.
func (m *Memory) Sent() int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.sent
}

// Reset clears all counts.
func (m *Memory) Reset() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.counts = map[string]int{}
	m.sent = 0
}

func (m *Memory) now() time.Time {
	if m.Clock != nil {
		return m.Clock()
	}
	return time.Now().Truncate(time.Second)
}
