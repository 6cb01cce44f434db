package warm

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
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

// encode returns the stored form of a value, with space for the checksum. Counters and the like are
// not encrypted.
func (c *codec) encode(key, value []byte, compress bool) ([]byte, error) {
	done := byte(0)
	if compress && len(value) >= zipLeast {
		if small := c.zip.EncodeAll(value, nil); len(small) <= len(value)/8*7 {
			value, done = small, zipped
		}
	}
	if c.secret == nil || key[0] == metaPrefix {
		stored := make([]byte, 5, 5+len(value))
		stored[4] = done
		return append(stored, value...), nil
	}
	stored := make([]byte, 5+saltBytes, 5+saltBytes+len(value)+16)
	stored[4] = done | sealed
	_, _ = rand.Read(stored[5:]) // it never fails
	aead, err := c.aead(stored[5:])
	if err != nil {
		return nil, err
	}
	return aead.Seal(stored, make([]byte, aead.NonceSize()), value, bound(key, stored[4])), nil
}

// bound is the additional data of an encrypted value.
func bound(key []byte, done byte) []byte { return append(key[:len(key):len(key)], done) }

// decode returns the value of a stored form without the checksum. The value does not share bytes
// with it.
func (c *codec) decode(key, stored []byte) ([]byte, error) {
	if len(stored) == 0 {
		return nil, akigw.ErrChecksum
	}
	done, value := stored[0], stored[1:]
	if done&^(zipped|sealed) != 0 {
		return nil, akigw.ErrChecksum
	}
	if done&sealed != 0 {
		if len(value) < saltBytes || c.secret == nil {
			return nil, akigw.ErrChecksum
		}
		aead, err := c.aead(value[:saltBytes])
		if err != nil {
			return nil, err
		}
		if value, err = aead.Open(nil, make([]byte, aead.NonceSize()), value[saltBytes:], bound(key, done)); err != nil {
			return nil, fmt.Errorf("%w: %w", akigw.ErrChecksum, err)
		}
	} else if c.secret != nil && key[0] != metaPrefix {
		return nil, akigw.ErrChecksum // this tier did not write it
	}
	switch {
	case done&zipped != 0:
		return c.unzip.DecodeAll(value, nil)
	case done&sealed != 0:
		return value, nil
	}
	return append([]byte(nil), value...), nil
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
