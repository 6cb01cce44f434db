package uploadpool

import (
	"io"
	"net/http"
	"sync"

	"github.com/akidb/akigw"
)

// tee passes the body of a request to the cache, once and in order, until end.
type tee struct {
	io.ReadSeeker
	change Change

	mu   sync.Mutex // held during a Read, so that end waits for it
	over bool       // guarded by mu
	at   int64      // next offset of the body; guarded by mu
	seen int64      // how much the cache has seen; guarded by mu
	sent bool       // something has been read; guarded by mu
	anew bool       // the body was sent more than once; guarded by mu
	err  error      // of the body; guarded by mu
}

// errOver is the error of reading a body whose request has ended.
const errOver = akigw.Error("the request is over")

func (t *tee) Read(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, errOver
	}
	t.sent = true
	n, err := t.ReadSeeker.Read(b)
	if err != nil && err != io.EOF {
		t.err = err
	}
	if t.at == t.seen {
		t.change.Body(b[:n])
		t.seen += int64(n)
	}
	t.at += int64(n)
	return n, err
}

func (t *tee) Seek(offset int64, whence int) (int64, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return 0, errOver
	}
	t.anew = t.anew || t.sent
	at, err := t.ReadSeeker.Seek(offset, whence)
	t.at = at
	return at, err
}

// end ends all reading. If a response arrives before the end of a body, or none at all, net/http
// may still be reading it. It returns how much of the body the cache has seen, whether the body was
// sent more than once, and the error of reading it, nil for none.
func (t *tee) end() (seen int64, again bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.over = true
	return t.seen, t.anew, t.err
}

// nothing is a Change that no cache observes.
type nothing struct{}

func (nothing) Keeps(int64) bool            { return false }
func (nothing) Parts([]int, []int64)        {}
func (nothing) Body([]byte)                 {}
func (nothing) Written(_, _, _ http.Header) {}
func (nothing) Found(string)                {}
func (nothing) End()                        {}
