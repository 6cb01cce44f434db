package tiers

import "sync"

// suspects remembers bodies that did not match the checksum that came with
// them. If the same object comes again and its digest is the same wrong one,
// the transfer was right both times and it is the checksum that is not one of
// the body: some services keep a part's or another object's. Then the bytes are
// what the upstream holds, and a client sees what it would see without us. The
// zero value is ready.
type suspects struct {
	mu   sync.Mutex
	seen map[suspect]string // digest by version; guarded by mu
}

type suspect struct{ bucket, name, etag string }

// maxSuspects bounds the memory; beyond it the oldest knowledge is not worth
// more than the newest, so everything is forgotten.
const maxSuspects = 1024

// confirms reports whether this digest was seen for this version before.
func (s *suspects) confirms(e *entry, digest []byte) bool {
	id := suspect{e.Key.Bucket, e.Key.Name, e.ETag}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen[id] == string(digest) {
		return true
	}
	if s.seen == nil || len(s.seen) >= maxSuspects {
		s.seen = make(map[suspect]string)
	}
	s.seen[id] = string(digest)
	return false
}
