package journal

import (
	"errors"
	"os"
	"testing"
)

// TestSpool: a body is durable under its name when it is finished, reads as it was written, and is
// removed when it was discarded and nobody reads it any more.
func TestSpool(t *testing.T) {
	fs := memory{newMem()}
	if err := fs.MkdirAll("/spool"); err != nil {
		t.Fatal(err)
	}
	s := newSpool(fs, "/spool", 10)
	poked := 0
	s.poke = func() { poked++ }
	small := s.receive(3)
	if _, err := small.Write([]byte("abc")); err != nil || small.file != nil || string(small.small) != "abc" {
		t.Errorf("a small body: %v %+v", err, small)
	}
	body := random(3*spoolBlock+5, 1)
	d := s.receive(-1)
	if n, err := d.Write(body); err != nil || n != len(body) || d.Size() != int64(n) {
		t.Fatal(n, err)
	}
	if err := d.finish(); err != nil {
		t.Fatal(err)
	}
	p := piece{spool: d.number, size: d.size, check: d.check, known: true}
	f, err := fs.Open(s.name(p.spool))
	if err != nil || !p.isIntact(f, func(int) error { return nil }) {
		t.Fatalf("%v: it is not as it should be", err)
	}
	s.acquire(p)
	s.discard([]uint64{p.spool})
	s.clear()
	if _, err := fs.Size(s.name(p.spool)); err != nil || poked != 1 {
		t.Errorf("removed though it is read: %v, poked %d times", err, poked)
	}
	s.release(p)
	s.clear()
	if _, err := fs.Size(s.name(p.spool)); !errors.Is(err, os.ErrNotExist) || poked != 2 {
		t.Errorf("it stays: %v, poked %d times", err, poked)
	}
}
