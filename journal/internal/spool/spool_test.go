package spool

import (
	"errors"
	"math/rand/v2"
	"os"
	"testing"

	"github.com/akidb/akigw/internal/vfs"
)

// TestSpool: a finished body is durable under its name and reads as it was written. A discarded
// body is removed when its last reader closes it.
func TestSpool(t *testing.T) {
	poked := 0
	s := New(Options{FS: vfs.Disk{}, Dir: t.TempDir(), Inline: 10, Failed: func(err error) error { return err }, Poke: func() { poked++ }})
	small := s.Receive(3)
	if _, err := small.Write([]byte("abc")); err != nil {
		t.Fatal(err)
	}
	if f, err := small.Finish(); err != nil || string(f.Inline) != "abc" || f.Number != 0 {
		t.Errorf("a small body: %v %+v", err, f)
	}
	body := make([]byte, 3*Block+5)
	_, _ = rand.NewChaCha8([32]byte{}).Read(body)
	d := s.Receive(-1)
	if n, err := d.Write(body); err != nil || n != len(body) || d.Size() != int64(n) {
		t.Fatal(n, err)
	}
	f, err := d.Finish()
	if err != nil || f.Inline != nil || f.Number != s.Last() {
		t.Fatalf("%+v %v", f, err)
	}
	p := Piece{Number: f.Number, Size: d.Size(), Check: f.Check, Known: true}
	file, err := s.FS.Open(s.Name(p.Number))
	if err != nil || !p.IsIntact(file, func(int) error { return nil }) {
		t.Fatalf("%v: the body is wrong", err)
	}
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	s.Acquire(p)
	s.Discard([]uint64{p.Number})
	s.Clear()
	if _, err := s.FS.Size(s.Name(p.Number)); err != nil || poked != 1 {
		t.Errorf("removed while it is read: %v, poked %d times", err, poked)
	}
	b, err := NewBody(s, []Piece{p}, Block-1, 7, "k", func(p Piece, named string) (*File, error) {
		return s.OpenFile(p, named, func() { t.Error("damaged") })
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 8)
	n, err := b.Read(got)
	more, secondErr := b.Read(got[n:])
	if err := errors.Join(err, secondErr, b.Close()); err != nil || string(got[:n+more]) != string(body[Block-1:Block+6]) {
		t.Errorf("%d and %d bytes: %v", n, more, err)
	}
	s.Clear()
	if _, err := s.FS.Size(s.Name(p.Number)); !errors.Is(err, os.ErrNotExist) || poked != 2 {
		t.Errorf("the file was not removed: %v, poked %d times", err, poked)
	}
}
