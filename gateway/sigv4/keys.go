package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"net/http"
	"net/url"
	"sync"
)

// StaticKeys is a fixed set of key pairs: access key id to secret access key.
type StaticKeys map[string]string

// Lookup implements Keys.
func (k StaticKeys) Lookup(accessKey string) (Credential, bool) {
	secret, ok := k[accessKey]
	return Credential{Secret: secret}, ok
}

// signingKeys remembers derived signing keys: deriving one takes four HMACs,
// and it only changes with the day. The zero value is ready.
type signingKeys struct {
	mu   sync.RWMutex
	keys map[signingID]*signingKey // guarded by mu
}

type signingID struct{ accessKey, day string }

// maxSigningKeys bounds the memory of the cache: a client can invent days and
// key ids.
const maxSigningKeys = 1024

func (s *signingKeys) get(accessKey, secret, day, region string) *signingKey {
	id := signingID{accessKey, day}
	s.mu.RLock()
	key := s.keys[id]
	s.mu.RUnlock()
	if key != nil && key.secret == secret { // else the secret was rotated
		return key
	}
	key = &signingKey{secret: secret, raw: sign(sign(sign(sign([]byte("AWS4"+secret), day), region), service), terminator)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.keys == nil {
		s.keys = make(map[signingID]*signingKey)
	}
	for old := range s.keys {
		if len(s.keys) < maxSigningKeys {
			break
		}
		delete(s.keys, old) // any one: a flood of inventions does not flush the real ones at once
	}
	s.keys[id] = key
	return key
}

// signingKey makes signatures. It keeps hashes that have the key in them
// already.
type signingKey struct {
	secret string
	raw    []byte
	macs   sync.Pool // of hash.Hash
}

func (k *signingKey) sum(text []byte) [32]byte {
	mac, ok := k.macs.Get().(hash.Hash)
	if !ok {
		mac = hmac.New(sha256.New, k.raw)
	}
	mac.Write(text)
	var out [32]byte
	mac.Sum(out[:0])
	mac.Reset()
	k.macs.Put(mac)
	return out
}

// signedRequest reports whether the signature of a request is the right one.
func (k *signingKey) signedRequest(r *http.Request, path string, query url.Values, c *credential, region, declared string) bool {
	buf := buffers.Get().(*[]byte)
	defer buffers.Put(buf)
	b := appendCanonical((*buf)[:0], r, path, query, c.signedHeaders, declared)
	digest := sha256.Sum256(b)
	b = appendStringToSign(b[:0], algorithm, c.time, c.day, region)
	b = hex.AppendEncode(b, digest[:])
	want := k.sum(b)
	b = hex.AppendEncode(b[:0], want[:])
	equal := hmac.Equal(b, append(b[len(b):], c.signature...))
	*buf = b
	return equal
}

// appendStringToSign starts a string to sign; what it ends with depends on
// what is signed.
func appendStringToSign(b []byte, kind, at, day, region string) []byte {
	b = append(b, kind...)
	b = append(b, '\n')
	b = append(b, at...)
	b = append(b, '\n')
	b = append(b, day...)
	b = append(b, '/')
	b = append(b, region...)
	return append(b, "/"+service+"/"+terminator+"\n"...)
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
