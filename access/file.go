package access

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/pbkdf2"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/akidb/akigw/internal/vfs"
	"github.com/akidb/akigw/internal/watch"
)

// The file: magic, salt, nonce, and the state as JSON under AES-256-GCM with the magic and the salt
// as additional data. The key is PBKDF2-HMAC-SHA256 of the root secret. docs/access.md describes
// the format.
const (
	magic      = "AKIGWAC\x01" // the last byte is the version
	saltBytes  = 16
	nonceBytes = 12
	keyBytes   = 32
	// maxFile bounds the file: some 20,000 keys.
	maxFile = 16 << 20
)

// file is the encrypted file on disk. It is not safe for concurrent use.
type file struct {
	dir        string
	iterations int

	// The last derived key and the inputs that it was derived from.
	salt   []byte
	secret string
	aead   cipher.AEAD

	seen os.FileInfo // of the file as last read, nil if there was none
}

func (f *file) path() string { return filepath.Join(f.dir, "keyring") }

// changed reports whether the file has changed since it was read.
func (f *file) changed() bool { return watch.Changed(f.path(), f.seen) }

// read returns the state; it is empty if there is no file.
func (f *file) read(secret string) (*State, error) {
	in, err := os.Open(f.path())
	if errors.Is(err, fs.ErrNotExist) {
		f.seen = nil
		return &State{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("users and keys: %w", err)
	}
	defer in.Close()
	if f.seen, err = in.Stat(); err != nil {
		return nil, fmt.Errorf("users and keys: %w", err)
	}
	raw, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("users and keys %s: %w", f.path(), err)
	}
	state, err := f.open(raw, secret)
	if err != nil {
		return nil, fmt.Errorf("users and keys %s: %w", f.path(), err)
	}
	return state, nil
}

// open decrypts and parses raw.
func (f *file) open(raw []byte, secret string) (*State, error) {
	header := len(magic) + saltBytes
	switch {
	case len(raw) > maxFile:
		return nil, errors.New("the file is too large")
	case len(raw) < header+nonceBytes || !bytes.HasPrefix(raw, []byte(magic[:len(magic)-1])):
		return nil, errors.New("this is not a keyring of akigw")
	case raw[len(magic)-1] != magic[len(magic)-1]:
		return nil, fmt.Errorf("the file has version %d, but this akigw supports version %d; use the akigw that wrote it", raw[len(magic)-1], magic[len(magic)-1])
	}
	if err := f.derive(raw[len(magic):header], secret); err != nil {
		return nil, err
	}
	plain, err := f.aead.Open(nil, raw[header:header+nonceBytes], raw[header+nonceBytes:], raw[:header])
	if err != nil {
		return nil, errors.New("it cannot be decrypted: either it was encrypted with another root secret key (see akigw keys reseal), or it is damaged")
	}
	var state State
	d := json.NewDecoder(bytes.NewReader(plain))
	d.DisallowUnknownFields()
	if err := d.Decode(&state); err != nil {
		return nil, fmt.Errorf("malformed content: %w", err)
	}
	return &state, nil
}

// derive returns the key for a salt. It caches the last derived key.
func (f *file) derive(salt []byte, secret string) error {
	if f.aead != nil && f.secret == secret && bytes.Equal(f.salt, salt) {
		return nil
	}
	key, err := pbkdf2.Key(sha256.New, secret, salt, f.iterations, keyBytes)
	if err != nil {
		return err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return err
	}
	f.aead, err = cipher.NewGCM(block)
	f.salt, f.secret = bytes.Clone(salt), secret
	return err
}

// seal is the inverse of open. Each call uses a new nonce.
func (f *file) seal(state *State, secret string) ([]byte, error) {
	salt := f.salt
	if salt == nil {
		salt = make([]byte, saltBytes)
		rand.Read(salt)
	}
	if err := f.derive(salt, secret); err != nil {
		return nil, err
	}
	plain, err := json.Marshal(state)
	if err != nil {
		return nil, err
	}
	header := append([]byte(magic), salt...)
	nonce := make([]byte, nonceBytes)
	rand.Read(nonce)
	return f.aead.Seal(append(bytes.Clone(header), nonce...), nonce, plain, header), nil
}

// write replaces the file atomically.
func (f *file) write(state *State, secret string) error {
	sealed, err := f.seal(state, secret)
	if err != nil {
		return fmt.Errorf("users and keys: %w", err)
	}
	if len(sealed) > maxFile {
		return errors.New("users and keys: too many; delete some")
	}
	if err := vfs.Replace(vfs.Disk{}, f.path(), sealed); err != nil {
		return fmt.Errorf("users and keys: %w", err)
	}
	return nil
}

// lock excludes edits by other processes until unlock is called.
func (f *file) lock() (unlock func() error, err error) {
	if err := os.MkdirAll(f.dir, 0o700); err != nil {
		return nil, fmt.Errorf("users and keys: %w", err)
	}
	l, err := os.OpenFile(filepath.Join(f.dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("users and keys: %w", err)
	}
	if err := syscall.Flock(int(l.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("users and keys: %w", err), l.Close())
	}
	return l.Close, nil
}
