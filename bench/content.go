package bench

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"

	"github.com/akidb/akigw"
)

// The first headBytes of a body name the object and its version. The rest follows from these, so
// that a reader can verify all of it.
const headBytes = 24

const magic = 0x616b696277726b31

// noise is the data that bodies are cut from. Its length is not a power of two, so that the blocks of
// one body differ.
var noise = func() []byte {
	b := make([]byte, 1<<20+4099)
	random := rand.NewChaCha8([32]byte{1})
	random.Read(b) // never fails
	return b
}()

// body is the body of a version of an object, an io.ReadSeeker.
type body struct {
	head [headBytes]byte
	from int // offset in noise of the first byte after the head
	size int64
	at   int64
}

func newBody(item, version uint64, size int64) *body {
	b := &body{size: size, from: int(mix(item^mix(version)) % uint64(len(noise)))}
	binary.BigEndian.PutUint64(b.head[:], magic)
	binary.BigEndian.PutUint64(b.head[8:], item)
	binary.BigEndian.PutUint64(b.head[16:], version)
	return b
}

// peek returns some of the next bytes, which the caller must not change.
func (b *body) peek() []byte {
	if b.at < headBytes {
		return b.head[b.at:min(headBytes, b.size)]
	}
	rest := noise[(int64(b.from)+b.at-headBytes)%int64(len(noise)):]
	return rest[:min(int64(len(rest)), b.size-b.at)]
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (n int, err error) {
	for n < len(p) && b.at < b.size {
		k := copy(p[n:], b.peek())
		n, b.at = n+k, b.at+int64(k)
	}
	if n == 0 && b.at == b.size && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Seek implements io.Seeker, for a request that has to be sent again.
func (b *body) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += b.at
	case io.SeekEnd:
		offset += b.size
	}
	if offset < 0 || offset > b.size {
		return b.at, errors.New("bench: seek outside the body")
	}
	b.at = offset
	return offset, nil
}

// Close implements io.Closer.
func (b *body) Close() error { return nil }

// errWrong marks a response with content that was not stored.
const errWrong = akigw.Error("wrong content")

// verify reads the body of an object to its end and returns its version.
func verify(r io.Reader, item uint64, size int64, buffer []byte) (version uint64, err error) {
	var head [headBytes]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return 0, err
	}
	if binary.BigEndian.Uint64(head[:]) != magic || binary.BigEndian.Uint64(head[8:]) != item {
		return 0, fmt.Errorf("%w: belongs to another object", errWrong)
	}
	version = binary.BigEndian.Uint64(head[16:])
	return version, compare(r, newBody(item, version, size), headBytes, size, buffer)
}

// compare reads a body and compares it with the bytes of b between two offsets.
func compare(r io.Reader, b *body, from, to int64, buffer []byte) error {
	b.at = from
	for {
		n, err := r.Read(buffer)
		for got := buffer[:n]; len(got) > 0; {
			want := b.peek()
			if left := to - b.at; int64(len(want)) > left {
				want = want[:left]
			}
			if len(want) == 0 {
				return fmt.Errorf("%w: longer than %d bytes", errWrong, to)
			}
			k := min(len(want), len(got))
			if !bytes.Equal(got[:k], want[:k]) {
				return fmt.Errorf("%w: from byte %d", errWrong, b.at)
			}
			got, b.at = got[k:], b.at+int64(k)
		}
		switch {
		case err == io.EOF && b.at < to:
			return io.ErrUnexpectedEOF
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}
