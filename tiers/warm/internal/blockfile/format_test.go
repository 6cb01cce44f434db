package blockfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/testkit"
)

// made writes a store of two segments, the last of which has a footer or not, and returns its files.
func made(t testing.TB, dir string, cleanly bool) map[ID][]byte {
	t.Helper()
	s, blocks := open(t, dir, 1500), map[ID][]byte{}
	for n := range 14 {
		id := ID{Extent: uint64(1 + n%3), N: int64(n), Object: 5}
		blocks[id] = block(id, 20*n)
		put(t, s, id, blocks[id])
	}
	if _, err := s.Free(2); err != nil {
		t.Fatal(err)
	}
	for id := range blocks {
		if id.Extent == 2 {
			delete(blocks, id)
		}
	}
	end(t, s, cleanly)
	return blocks
}

// survey opens a store, and counts how many of the blocks it has. No block may have other bytes.
func survey(t *testing.T, what, dir string, blocks map[ID][]byte) (held int) {
	t.Helper()
	s := open(t, dir, 1500)
	defer end(t, s, false)
	for id, want := range blocks {
		_, got, err := s.Get(id, anywhere)
		switch {
		case err == nil && !bytes.Equal(got, want):
			t.Errorf("%s: %v has other bytes", what, id)
		case err == nil:
			held++
		case s.Has(id):
			t.Errorf("%s: %v is kept although it is damaged: %v", what, id, err)
		}
	}
	s.Sweep(1<<40, func(ID, int64) bool { return true })
	compact(t, s, 0)
	for id, want := range blocks {
		if _, got, err := s.Get(id, anywhere); err == nil && !bytes.Equal(got, want) {
			t.Errorf("%s: %v has other bytes after it was moved", what, id)
		}
	}
	return held
}

// TestEveryByteOfASegment: whichever is damaged, zeroed or cut off, before or after the segment was
// closed: a block has its own bytes or is not there.
//
// Scenarios: C8, B22.
func TestEveryByteOfASegment(t *testing.T) {
	for _, cleanly := range []bool{true, false} {
		source := t.TempDir()
		blocks := made(t, source, cleanly)
		files := testkit.ReadTree(t, source)
		if n := survey(t, "intact", source, blocks); n != len(blocks) || len(files) < 2 {
			t.Fatalf("%d of %d blocks in %d files", n, len(blocks), len(files))
		}
		noticed, dir := 0, testkit.MemoryDir(t)
		for name, raw := range files {
			for at := range raw {
				for how, damage := range map[string]func([]byte) []byte{
					"flip": func(b []byte) []byte { b[at] ^= 1 << (at % 8); return b },
					"zero": func(b []byte) []byte { clear(b[at:min(at+512, len(b))]); return b },
					"cut":  func(b []byte) []byte { return b[:at] },
				} {
					if (how != "flip" || testkit.Race) && at%7 > 0 {
						continue
					}
					if err := os.RemoveAll(dir); err != nil {
						t.Fatal(err)
					}
					if err := os.Mkdir(dir, 0o700); err != nil {
						t.Fatal(err)
					}
					for other, raw := range files {
						if other == name {
							raw = damage(bytes.Clone(raw))
						}
						if err := os.WriteFile(filepath.Join(dir, other), raw, 0o600); err != nil {
							t.Fatal(err)
						}
					}
					if survey(t, fmt.Sprintf("%s at %d of %s", how, at, name), dir, blocks) < len(blocks) {
						noticed++
					}
				}
			}
		}
		if noticed == 0 {
			t.Error("no damage was noticed")
		}
	}
}

// TestOthersBytes: valid records of other blocks, segments and stores, in the place of a block, are not
// taken for it.
func TestOthersBytes(t *testing.T) {
	source := t.TempDir()
	s := open(t, source, 1<<10)
	a, b, c := ID{Extent: 1, N: 1}, ID{Extent: 1, N: 2}, ID{Extent: 9, N: 1}
	for _, id := range []ID{a, b, c} { // a and b in the first segment, c in the second
		put(t, s, id, block(id, 500))
	}
	end(t, s, true)
	first, second := path("", 1), path("", 2)
	files := testkit.ReadTree(t, source)
	size := Size(500)
	for name, change := range map[string]func(files map[string][]byte){
		"two blocks exchanged": func(files map[string][]byte) {
			raw := bytes.Clone(files[first])
			copy(files[first][headBytes:], raw[headBytes+size:headBytes+2*size])
			copy(files[first][headBytes+size:], raw[headBytes:headBytes+size])
		},
		"a block of another segment": func(files map[string][]byte) {
			copy(files[first][headBytes:], files[second][headBytes:headBytes+size])
		},
		"two segments exchanged": func(files map[string][]byte) {
			files[first], files[second] = files[second], files[first]
		},
		"a payload of another block": func(files map[string][]byte) {
			copy(files[first][2*headBytes:], files[second][2*headBytes:headBytes+size])
		},
	} {
		changed := map[string][]byte{}
		for name, raw := range files {
			changed[name] = bytes.Clone(raw)
		}
		change(changed)
		dir := t.TempDir()
		for name, raw := range changed {
			if err := os.WriteFile(filepath.Join(dir, name), raw, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := open(t, dir, 1<<10)
		if _, got, err := s.Get(a, anywhere); err == nil {
			t.Errorf("%s: %d bytes", name, len(got))
		}
		end(t, s, false)
	}
	other, err := Open(Options{Dir: source, Store: [16]byte{9}, SegmentBytes: 1 << 10})
	if err != nil {
		t.Fatal(err)
	}
	wantNone(t, other, a)
	end(t, other, true)
	if left := testkit.ReadTree(t, source); len(left) > 0 {
		t.Errorf("%d segments of another store were kept", len(left))
	}
}

// TestFilesThatAreNotSegments stay as they are.
func TestFilesThatAreNotSegments(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"README", "1.blocks", "0000000001.blocks.old"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	end(t, open(t, dir, 1<<10), true)
	if left := testkit.ReadTree(t, dir); len(left) != 3 {
		t.Errorf("%d files are left", len(left))
	}
}

// FuzzSegment: whatever a file has in it, reading its records ends well, and they lie within it.
func FuzzSegment(f *testing.F) {
	for _, cleanly := range []bool{true, false} {
		dir := f.TempDir()
		made(f, dir, cleanly)
		for _, raw := range testkit.ReadTree(f, dir) {
			f.Add(raw)
		}
	}
	f.Add([]byte{})
	r := newRing(storeID)
	f.Fuzz(func(t *testing.T, raw []byte) {
		for number := range uint32(3) {
			records, _, err := r.read(bytes.NewReader(raw), number, int64(len(raw)))
			if err != nil && !errors.Is(err, akigw.ErrChecksum) {
				t.Errorf("%v", err)
			}
			for _, rec := range records {
				if end := rec.offset() + headBytes + int64(rec.length); end > int64(len(raw)) || rec.offset() < headBytes {
					t.Errorf("a record at %d ends at %d of %d", rec.offset(), end, len(raw))
				}
			}
		}
	})
}
