package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
)

// StaticKeys is a fixed set of key pairs: access key id to secret access key.
type StaticKeys map[string]string

// Lookup implements Keys.
func (k StaticKeys) Lookup(accessKey string) (Credential, bool) {
	secret, ok := k[accessKey]
	return Credential{Secret: secret}, ok
}

// signingKeys caches derived signing keys: deriving one takes four HMACs, and it changes once a
// day. The zero value is ready to use.
//
// Only keys that verified a request are cached. So a client without a secret can neither fill the
// cache with invented access keys and days, nor tell from response times which keys are in it.
type signingKeys struct {
	mu      sync.RWMutex
	keys    map[signingID]*signingKey // guarded by mu
	derived atomic.Int64              // how many keys were derived; tests count the work by it
}

type signingID struct{ accessKey, day, service string }

// maxSigningKeys bounds the memory of the cache.
const maxSigningKeys = 1024

// cached returns a cached key, nil if there is none.
func (s *signingKeys) cached(accessKey, secret, day, service string) *signingKey {
	s.mu.RLock()
	defer s.mu.RUnlock()
	key := s.keys[signingID{accessKey, day, service}]
	if key == nil || key.secret != secret { // the secret was rotated
		return nil
	}
	return key
}

// derive makes a signing key.
func (s *signingKeys) derive(secret, day, region, service string) *signingKey {
	s.derived.Add(1)
	return newSigningKey(secret, day, region, service)
}

// remember caches a key that verified a request.
func (s *signingKeys) remember(accessKey, day, service string, key *signingKey) {
	id := signingID{accessKey, day, service}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[signingID]*signingKey)
	}
	if s.keys[id] == nil && len(s.keys) >= maxSigningKeys {
		for old := range s.keys {
			delete(s.keys, old) // any of them: it is derived again when it is needed
			break
		}
	}
	s.keys[id] = key
}

// signingKey makes signatures. It pools hashes that are initialised with the key.
type signingKey struct {
	secret string
	raw    []byte
	macs   sync.Pool // of hash.Hash
}

// newSigningKey derives a signing key ("Calculate the signature" in the IAM user guide).
func newSigningKey(secret, day, region, service string) *signingKey {
	key := &signingKey{secret: secret, raw: sign(sign(sign(sign([]byte("AWS4"+secret), day), region), service), terminator)}
	key.macs.Put(hmac.New(sha256.New, key.raw)) // at once, so that the first signature takes no more work than any other
	return key
}

func (k *signingKey) sum(text []byte) [32]byte { return [32]byte(k.appendSum(nil, text)) }

// appendSum appends the signature of a text. It may be a part of b.
func (k *signingKey) appendSum(b, text []byte) []byte {
	mac, ok := k.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, k.raw)
	}
	mac.Write(text)
	b = mac.Sum(b)
	mac.Reset()
	k.macs.Put(mac)
	return b
}

// signedRequest reports whether the signature of a request is the right one.
func (k *signingKey) signedRequest(r *http.Request, path string, query url.Values, c *credential, region, declared string) bool {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b := appendCanonical((*buf)[:0], r, path, query, c.signedHeaders, declared)
	digest := sha256.Sum256(b)
	b = appendStringToSign(b[:0], algorithm, c.time, c.day, region, c.service)
	b = hex.AppendEncode(b, digest[:])
	want := k.sum(b)
	b = hex.AppendEncode(b[:0], want[:])
	equal := hmac.Equal(b, append(b[len(b):], c.signature...))
	*buf = b
	return equal
}

// appendStringToSign appends the beginning of a string to sign. The end depends on what is signed.
func appendStringToSign(b []byte, kind, at, day, region, service string) []byte {
	b = append(b, kind...)
	b = append(b, '\n')
	b = append(b, at...)
	b = append(b, '\n')
	return append(appendScope(b, day, region, service), '\n')
}

// appendScope appends a credential scope.
func appendScope(b []byte, day, region, service string) []byte {
	b = append(b, day...)
	b = append(b, '/')
	b = append(b, region...)
	return append(b, "/"+service+"/"+terminator...)
}

func sign(key []byte, s string) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(s))
	return mac.Sum(nil)
}

func hexSHA256(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
