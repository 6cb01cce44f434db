package tiers

import "sync"

// suspects remembers bodies that did not match the checksum that came with them. If the same object
// arrives again with the same digest, both transfers were correct, and the checksum is not one of
// this body: some services store that of a part or of another object. The bytes are then what the
// upstream holds, and the client gets what it would get without the gateway. The zero value is
// ready to use.
type suspects struct {
	mu   sync.Mutex
	seen map[suspect]sighting // by version; guarded by mu
}

type suspect struct{ bucket, name, etag string }

// sighting is the digest of one transfer.
type sighting struct {
	digest   string
	transfer uint64
}

// maxSuspects bounds the memory; beyond it, an arbitrary one is forgotten for each new one.
const maxSuspects = 1024

// confirms reports whether this digest was seen for this version before, in another transfer:
// reading the same transfer again proves nothing.
func (s *suspects) confirms(e *entry, digest []byte, transfer uint64) bool {
	id := suspect{e.Key.Bucket, e.Key.Name, e.ETag}
	s.mu.Lock()
	defer s.mu.Unlock()
	if before := s.seen[id]; before.digest == string(digest) {
		return before.transfer != transfer
	}
	if s.seen == nil {
		s.seen = make(map[suspect]sighting)
	}
	if len(s.seen) >= maxSuspects {
		for other := range s.seen {
			delete(s.seen, other)
			break
		}
	}
	s.seen[id] = sighting{string(digest), transfer}
	return false
}
