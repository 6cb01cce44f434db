package warm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/akidb/akigw"
)

// codec is the format of values on disk: 4 bytes for a checksum, which the database fills in, one
// byte of flags, and the value. A compressed value is a zstd frame. An encrypted value is a salt,
// and the value under AES-256-GCM with the flags and the key of the database as additional data.
// Each value has a data key of its own, derived from the secret and the salt (HKDF-SHA256), so that
// no key is used too often.
type codec struct {
	secret []byte // nil: nothing is encrypted
	names  []byte // the key that names are hashed with
	zip    *zstd.Encoder
	unzip  *zstd.Decoder
}

// The flags of a value.
const (
	zipped = 1 << iota
	sealed
)

const (
	saltBytes = 16
	// sealBytes is how much longer a value is when it is encrypted.
	sealBytes = saltBytes + 16
	// zipLeast is the smallest value in bytes that is compressed.
	zipLeast = 512
	// maxValue bounds a decompressed value in bytes: a block, or a record with a
	// small object.
	maxValue = 8 << 20
)

func newCodec(secret []byte) (*codec, error) {
	c := &codec{secret: secret}
	var err error
	if secret != nil {
		if c.names, err = hkdf.Key(sha256.New, secret, nil, "akigw warm names", sha256.Size); err != nil {
			return nil, err
		}
	}
	if c.zip, err = zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithLowerEncoderMem(true)); err != nil {
		return nil, err
	}
	c.unzip, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecoderMaxMemory(maxValue))
	return c, err
}

// format is the part of the format's name that depends on the secret.
func (c *codec) format() string {
	if c.secret == nil {
		return ", plain"
	}
	mac := hmac.New(sha256.New, c.names)
	mac.Write([]byte("format"))
	return ", sealed 2 " + hex.EncodeToString(mac.Sum(nil)[:8])
}

// name hides the name of an object in the key of its record, if values are encrypted.
func (c *codec) name(key []byte) []byte {
	if c.secret == nil {
		return key
	}
	mac := hmac.New(sha256.New, c.names)
	mac.Write(key)
	return mac.Sum([]byte{entryPrefix})
}

// object hides the number of an object in the header of a block, if values are encrypted: it is a hash
// of the object's name.
func (c *codec) object(n uint64) uint64 {
	if c.secret == nil {
		return n
	}
	mac := hmac.New(sha256.New, c.names)
	mac.Write(binary.BigEndian.AppendUint64([]byte("object"), n))
	return binary.BigEndian.Uint64(mac.Sum(nil))
}

// encode returns the stored form of a value, with space for the checksum. Counters and the like are
// not encrypted.
func (c *codec) encode(key, value []byte, compress bool) ([]byte, error) {
	value, done := c.squeeze(value, compress)
	if c.clear(key) {
		stored := make([]byte, 5, 5+len(value))
		stored[4] = done
		return append(stored, value...), nil
	}
	stored := make([]byte, 5, 5+len(value)+sealBytes)
	stored[4] = done | sealed
	return c.seal(stored, key, value, done|sealed)
}

// payload returns what a segment stores of a value, and its flags. In the clear and uncompressed it is
// the value itself.
func (c *codec) payload(key, value []byte, compress bool) (done byte, payload []byte, err error) {
	value, done = c.squeeze(value, compress)
	if c.clear(key) {
		return done, value, nil
	}
	done |= sealed
	payload, err = c.seal(make([]byte, 0, len(value)+sealBytes), key, value, done)
	return done, payload, err
}

// squeeze compresses a value if that is asked for and pays. The flags say whether it did.
func (c *codec) squeeze(value []byte, compress bool) (_ []byte, done byte) {
	if compress && len(value) >= zipLeast {
		if small := c.zip.EncodeAll(value, nil); len(small) <= len(value)/8*7 {
			return small, zipped
		}
	}
	return value, 0
}

// clear reports whether what is stored under a key is not encrypted.
func (c *codec) clear(key []byte) bool { return c.secret == nil || key[0] == metaPrefix }

// seal appends a salt and the encrypted value to b.
func (c *codec) seal(b, key, value []byte, done byte) ([]byte, error) {
	var salt [saltBytes]byte
	_, _ = rand.Read(salt[:]) // it never fails
	aead, err := c.aead(salt[:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(append(b, salt[:]...), make([]byte, aead.NonceSize()), value, bound(key, done)), nil
}

// bound is the additional data of an encrypted value.
func bound(key []byte, done byte) []byte { return append(key[:len(key):len(key)], done) }

// decode returns the value of a stored form without the checksum. The value does not share bytes
// with it.
func (c *codec) decode(key, stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, akigw.ErrChecksum
	}
	value, err := c.open(nil, key, stored[0], stored[1:])
	if err == nil && stored[0] == 0 {
		value = append([]byte(nil), value...)
	}
	return value, err
}

// open returns the value of a payload with its flags. It is in buffer if that has the capacity, and the
// payload itself without flags.
func (c *codec) open(buffer, key []byte, done byte, payload []byte) (value []byte, err error) {
	if done&^(zipped|sealed) != 0 || done&sealed == 0 && !c.clear(key) { // this tier did not write it
		return nil, akigw.ErrChecksum
	}
	value = payload
	if done&sealed != 0 {
		if len(value) < saltBytes || c.secret == nil {
			return nil, akigw.ErrChecksum
		}
		aead, err := c.aead(value[:saltBytes])
		if err != nil {
			return nil, err
		}
		into := buffer[:0]
		if done&zipped != 0 { // buffer is for what comes out of it
			into = nil
		}
		if value, err = aead.Open(into, make([]byte, aead.NonceSize()), value[saltBytes:], bound(key, done)); err != nil {
			return nil, fmt.Errorf("%w: %w", akigw.ErrChecksum, err)
		}
	}
	if done&zipped != 0 {
		return c.unzip.DecodeAll(value, buffer[:0])
	}
	return value, nil
}

// plain reports whether a stored form without the checksum is one byte of flags and the value
// unchanged.
func (c *codec) plain(stored []byte) bool {
	return c.secret == nil && len(stored) > 0 && stored[0] == 0
}

func (c *codec) aead(salt []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, c.secret, salt, "akigw warm value", 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.NewGCM(block)
}

func (c *codec) close() {
	c.unzip.Close()
}
