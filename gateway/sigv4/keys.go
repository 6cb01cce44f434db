package sigv4

import "sync"

// StaticKeys is a fixed set of key pairs: access key id to secret access key.
type StaticKeys map[string]string

// Secret implements Keys.
func (k StaticKeys) Secret(accessKey string) (string, bool) {
	s, ok := k[accessKey]
	return s, ok
}

// signingKeys remembers derived signing keys: deriving one takes four HMACs,
// and it only changes with the day. The zero value is ready.
type signingKeys struct {
	mu   sync.RWMutex
	keys map[signingID][]byte // guarded by mu
}

// signingID holds the secret too, so that a rotated secret is a new entry.
type signingID struct{ accessKey, secret, day, region string }

// maxSigningKeys bounds the memory of the cache: a client can invent days.
const maxSigningKeys = 1024

func (s *signingKeys) get(accessKey, secret, day, region string) []byte {
	id := signingID{accessKey, secret, day, region}
	s.mu.RLock()
	key, ok := s.keys[id]
	s.mu.RUnlock()
	if ok {
		return key
	}
	key = sign(sign(sign(sign([]byte("AWS4"+secret), day), region), service), terminator)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil || len(s.keys) >= maxSigningKeys {
		s.keys = make(map[signingID][]byte)
	}
	s.keys[id] = key
	return key
}
