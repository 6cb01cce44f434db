package crashfs

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/akidb/akigw/internal/vfs"
)

// do is one step of a test: "write a x", "sync a", "rename a b", "remove a", "syncdir /", "mkdir d".
func do(t *testing.T, fs *FS, steps string) {
	t.Helper()
	files := map[string]vfs.File{}
	for step := range strings.SplitSeq(steps, ", ") {
		f := strings.Fields(step)
		var err error
		switch f[0] {
		case "create":
			files[f[1]], err = fs.Create(f[1])
		case "write":
			_, err = files[f[1]].Write([]byte(f[2]))
		case "sync":
			err = files[f[1]].Sync()
		case "rename":
			err = fs.Rename(f[1], f[2])
			files[f[2]] = files[f[1]]
		case "remove":
			err = fs.Remove(f[1])
		case "mkdir":
			err = fs.MkdirAll(f[1])
		case "syncdir":
			err = fs.SyncDir(f[1])
		default:
			t.Fatalf("step %q is unknown", step)
		}
		if err != nil {
			t.Fatalf("%s: %v", step, err)
		}
	}
}

// tree returns the content of a file system, sorted by name, such as "a=old d/ d/b=".
func tree(t *testing.T, fs vfs.FS, dir string) string {
	t.Helper()
	var all []string
	var visit func(dir string)
	visit = func(dir string) {
		names, err := fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			name = path.Join(dir, name)
			raw, err := vfs.ReadFile(fs, name)
			if errors.Is(err, syscall.EISDIR) {
				all = append(all, name[1:]+"/")
				visit(name)
				continue
			}
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, name[1:]+"="+string(raw))
		}
	}
	visit(dir)
	return strings.Join(all, " ")
}

// TestCrash: the possible outcomes of a crash: only durable data, everything, and all outcomes in
// between.
func TestCrash(t *testing.T) {
	const old = "create a, write a old, sync a, syncdir /, "
	for _, test := range []struct {
		name, steps, strict, lenient string
		between                      []string // other possible outcomes; any outcome outside this list is a mistake
	}{
		{"nothing synced", "create a, write a x", "", "a=x", []string{"a=", "a=\x00"}},
		{"bytes without the name", "create a, write a x, sync a", "", "a=x", nil},
		{"the name without bytes", "create a, write a x, syncdir /", "a=", "a=x", []string{"a=\x00"}},
		{"both", "create a, write a x, sync a, syncdir /", "a=x", "a=x", nil},
		{"bytes after the sync", "create a, write a x, sync a, syncdir /, write a y", "a=x", "a=xy", []string{"a=x\x00"}},
		{"replaced in place", old + "create a, write a new", "a=old", "a=new", []string{"a=", "a=\x00\x00\x00", "a=n\x00\x00", "a=n", "a=ne", "a=ne\x00"}},
		{"replaced in place and synced", old + "create a, write a new, sync a", "a=old", "a=new", nil},
		{"removed", old + "remove a", "a=old", "", nil},
		{"removed for good", old + "remove a, syncdir /", "", "", nil},
		{"removed and made again", old + "remove a, create a", "a=old", "a=", []string{""}},
		{"renamed", old + "rename a b", "a=old", "b=old", []string{"a=old b=old"}},
		{"renamed for good", old + "rename a b, syncdir /", "b=old", "b=old", nil},
		{"renamed twice", old + "rename a b, rename b c", "a=old", "c=old", []string{"a=old b=old", "b=old", "a=old c=old", "a=old b=old c=old", "b=old c=old"}},
		{"renamed over another", old + "create b, write b new, sync b, syncdir /, rename b a", "a=old b=new", "a=new", []string{"a=new b=new"}},
		{"renamed over another without a sync of its bytes", old + "create b, write b n, syncdir /, rename b a, syncdir /", "a=", "a=n", []string{"a=\x00"}},
		{"a directory", "mkdir d", "", "d/", nil},
		{"a file in a directory without a name", "mkdir d, create d/a, syncdir /d", "", "d/ d/a=", nil},
		{"a file without a name in a directory", "mkdir d, create d/a, syncdir /", "d/", "d/ d/a=", nil},
		{"a directory that is synced does not sync the one below it", "mkdir d/e, syncdir /d", "", "d/ d/e/", nil},
		{"renamed to another directory", old + "mkdir d, syncdir /, rename a d/a", "a=old d/", "d/ d/a=old", []string{"a=old d/ d/a=old"}},
		{"renamed to another directory, synced there", old + "mkdir d, syncdir /, rename a d/a, syncdir d", "a=old d/ d/a=old", "d/ d/a=old", nil},
		{"renamed to another directory, synced here", old + "mkdir d, syncdir /, rename a d/a, syncdir /", "d/", "d/ d/a=old", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			fs := New()
			do(t, fs, test.steps)
			if left := tree(t, fs.Crash(Loss{Seed: 1}), "/"); left != test.strict {
				t.Errorf("nothing unsynced kept: %q is left, want %q", left, test.strict)
			}
			if left := tree(t, fs.Crash(Loss{KeepPercent: 100, Seed: 1}), "/"); left != test.lenient || left != tree(t, fs, "/") {
				t.Errorf("everything kept: %q is left, want %q", left, test.lenient)
			}
			seen := map[string]bool{}
			for seed := range uint64(2000) {
				seen[tree(t, fs.Crash(Loss{KeepPercent: 50, Seed: seed}), "/")] = true
			}
			want := map[string]bool{test.strict: true, test.lenient: true}
			for _, s := range test.between {
				want[s] = true
			}
			if !maps.Equal(seen, want) {
				t.Errorf("half is kept: %q may be left, want %q", slices.Sorted(maps.Keys(seen)), slices.Sorted(maps.Keys(want)))
			}
		})
	}
}

// TestCrash_Pieces: each piece of the data that was written after the last sync is kept or lost
// independently. Synced data is never affected.
func TestCrash_Pieces(t *testing.T) {
	fs := New()
	f, _ := fs.Create("a")
	durable := bytes.Repeat([]byte("d"), 700)
	_, _ = f.Write(durable)
	_ = f.Sync()
	_ = fs.SyncDir("/")
	_, _ = f.Write(bytes.Repeat([]byte("u"), 20_000))
	var holes, tears, zeroTails, whole, nothing int
	for seed := range uint64(1000) {
		raw, err := vfs.ReadFile(fs.Crash(Loss{KeepPercent: 50, Seed: seed}), "a")
		if err != nil || !bytes.HasPrefix(raw, durable) {
			t.Fatalf("seed %d: what was synced is lost: %v", seed, err)
		}
		rest := raw[len(durable):]
		switch {
		case len(rest) == 0:
			nothing++
		case len(rest) == 20_000 && !bytes.Contains(rest, []byte{0}):
			whole++
		}
		if bytes.Contains(rest, []byte{0, 'u'}) {
			holes++
		}
		if len(raw)%sector != 0 && len(rest) < 20_000 {
			tears++
		}
		if bytes.HasSuffix(rest, []byte{'u', 0}) || bytes.HasSuffix(rest, []byte{0, 0}) {
			zeroTails++
		}
	}
	if holes < 500 || tears < 50 || zeroTails < 50 || nothing == 0 || whole == 0 {
		t.Errorf("of 1000: %d with holes, %d torn, %d that end in zeros, %d whole, %d with nothing", holes, tears, zeroTails, whole, nothing)
	}
}

// TestCrash_Deterministic: the same seed gives the same outcome, independently of earlier crashes.
func TestCrash_Deterministic(t *testing.T) {
	build := func() *FS {
		fs := New()
		do(t, fs, "mkdir d, syncdir /")
		for _, name := range []string{"a", "b", "c", "d/e", "d/f"} {
			f, _ := fs.Create(name)
			_, _ = f.Write(bytes.Repeat([]byte(name), 5000))
		}
		do(t, fs, "rename a d/a, remove b")
		return fs
	}
	one, two := build(), build()
	differ := map[string]bool{}
	for seed := range uint64(50) {
		a := tree(t, one.Crash(Loss{KeepPercent: 40, Seed: seed}), "/")
		two.Crash(Loss{KeepPercent: 70, Seed: seed + 1})
		if b := tree(t, two.Crash(Loss{KeepPercent: 40, Seed: seed}), "/"); a != b {
			t.Fatalf("seed %d gives two outcomes", seed)
		}
		differ[a] = true
	}
	if len(differ) < 40 {
		t.Errorf("50 seeds give %d outcomes", len(differ))
	}
}

// TestCrash_Apart: a file system and its crashed copy do not see each other's changes, and everything in
// the copy is durable.
func TestCrash_Apart(t *testing.T) {
	for _, keep := range []int{0, 60, 100} {
		fs := New()
		do(t, fs, "create a, write a one, sync a, syncdir /")
		f, _ := fs.Open("a")
		w, _ := fs.Create("b")
		_, _ = w.Write([]byte("b"))
		left := fs.Crash(Loss{KeepPercent: keep})
		before := tree(t, left, "/")
		_, _ = w.Write([]byte("more"))
		do(t, fs, "remove a, create c, syncdir /")
		if after := tree(t, left, "/"); after != before {
			t.Errorf("%d%%: %q became %q", keep, before, after)
		}
		do(t, left, "create new, write new x")
		if again := tree(t, left.Crash(Loss{}), "/"); again != before {
			t.Errorf("%d%%: what a crash left is not durable: %q became %q", keep, before, again)
		}
		if now := tree(t, fs, "/"); now != "b=bmore c=" {
			t.Errorf("%d%%: the original is %q", keep, now)
		}
		one := make([]byte, 3)
		if _, err := f.ReadAt(one, 0); err != nil || string(one) != "one" {
			t.Errorf("an open file that was removed reads %q, %v", one, err)
		}
	}
}

// TestCrash_Concurrent: crashes during sequential writes leave prefixes of the written data.
func TestCrash_Concurrent(t *testing.T) {
	fs := New()
	var writers sync.WaitGroup
	for _, name := range []string{"a", "b"} {
		f, err := fs.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		_ = fs.SyncDir("/")
		writers.Go(func() {
			for i := range 500 {
				_, _ = f.Write([]byte{byte(i)})
				_ = f.Sync()
			}
		})
	}
	for range 100 {
		left := fs.Crash(Loss{})
		for _, name := range []string{"a", "b"} {
			raw, err := vfs.ReadFile(left, name)
			if err != nil {
				t.Fatal(err)
			}
			for i, b := range raw {
				if b != byte(i) {
					t.Fatalf("byte %d of %s is %d", i, name, b)
				}
			}
		}
	}
	writers.Wait()
}

// TestCrash_ReleasesLocks: a lock is held until it is closed or a crash happens.
func TestCrash_ReleasesLocks(t *testing.T) {
	fs := New()
	l, err := fs.Lock("lock")
	if err != nil {
		t.Fatal(err)
	}
	_ = fs.SyncDir("/")
	left := fs.Crash(Loss{})
	if _, err := left.Lock("lock"); err != nil {
		t.Errorf("after a crash: %v", err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := l.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed twice: %v", err)
	}
}

// TestContract: the file system in memory behaves like a disk.
func TestContract(t *testing.T) {
	for name, fs := range map[string]vfs.FS{"disk": vfs.Disk{}, "memory": New()} {
		t.Run(name, func(t *testing.T) {
			dir := "/t"
			if name == "disk" {
				dir = t.TempDir()
			}
			at := func(name string) string { return path.Join(dir, name) }
			wants := func(what string, err, want error) {
				t.Helper()
				if !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", what, err, want)
				}
			}
			wants("making directories", fs.MkdirAll(at("d/e")), nil)
			wants("making them again", fs.MkdirAll(at("d/e")), nil)
			f, err := fs.Create(at("a"))
			wants("creating", err, nil)
			_, err = f.Write([]byte("one"))
			wants("writing", err, nil)
			_, err = f.Write([]byte("two"))
			wants("writing", err, nil)
			wants("syncing", f.Sync(), nil)
			size, err := f.Size()
			if wants("the size", err, nil); size != 6 {
				t.Errorf("%d bytes", size)
			}
			buf := make([]byte, 4)
			n, err := f.ReadAt(buf, 4)
			if wants("reading over the end", err, io.EOF); string(buf[:n]) != "wo" {
				t.Errorf("read %q", buf[:n])
			}
			_, err = f.ReadAt(buf, 9)
			wants("reading behind the end", err, io.EOF)
			wants("closing", f.Close(), nil)
			wants("closing twice", f.Close(), os.ErrClosed)
			_, err = f.Write([]byte("x"))
			wants("writing what is closed", err, os.ErrClosed)
			r, err := fs.Open(at("a"))
			wants("opening", err, nil)
			_, err = r.Write([]byte("x"))
			wants("writing what is open for reading", err, syscall.EBADF)
			defer r.Close()

			_, err = fs.Open(at("none"))
			wants("opening nothing", err, os.ErrNotExist)
			_, err = fs.Size(at("none"))
			wants("the size of nothing", err, os.ErrNotExist)
			_, err = fs.ID(at("none"))
			wants("the ID of nothing", err, os.ErrNotExist)
			_, err = fs.List(at("none"))
			wants("a list of nothing", err, os.ErrNotExist)
			wants("renaming nothing", fs.Rename(at("none"), at("b")), os.ErrNotExist)
			wants("removing nothing", fs.Remove(at("none")), os.ErrNotExist)
			wants("syncing no directory", fs.SyncDir(at("none")), os.ErrNotExist)
			_, err = fs.Create(at("none/a"))
			wants("creating in no directory", err, os.ErrNotExist)
			_, err = fs.Create(at("a/b"))
			wants("creating in a file", err, syscall.ENOTDIR)
			_, err = fs.Create(at("d"))
			wants("creating over a directory", err, syscall.EISDIR)
			wants("removing a directory that is not empty", fs.Remove(at("d")), syscall.ENOTEMPTY)
			wants("removing an empty directory", fs.Remove(at("d/e")), nil)
			wants("a directory below a file", fs.MkdirAll(at("a/b")), syscall.ENOTDIR)

			before, err := fs.ID(at("a"))
			wants("the ID", err, nil)
			wants("renaming", fs.Rename(at("a"), at("b")), nil)
			after, err := fs.ID(at("b"))
			if wants("the ID", err, nil); before != after {
				t.Errorf("a renamed file has the ID %q, and had %q", after, before)
			}
			_, err = fs.Open(at("a"))
			wants("opening the old name", err, os.ErrNotExist)
			c, err := fs.Create(at("c"))
			wants("creating", err, nil)
			wants("closing", c.Close(), nil)
			other, err := fs.ID(at("c"))
			if wants("the ID", err, nil); other == after {
				t.Errorf("two files have the ID %q", other)
			}
			wants("renaming over another", fs.Rename(at("b"), at("c")), nil)
			if raw, err := vfs.ReadFile(fs, at("c")); err != nil || string(raw) != "onetwo" {
				t.Errorf("%q, %v", raw, err)
			}
			names, err := fs.List(dir)
			slices.Sort(names)
			if wants("the list", err, nil); !slices.Equal(names, []string{"c", "d"}) {
				t.Errorf("%q", names)
			}
			again, err := fs.Create(at("c"))
			wants("creating again", err, nil)
			if size, err := again.Size(); err != nil || size != 0 {
				t.Errorf("created anew with %d bytes, %v", size, err)
			}
			wants("closing", again.Close(), nil)
			reserved, err := fs.Reserve(at("reserve"), 4096)
			wants("reserving", err, nil)
			if size, err := reserved.Size(); err != nil || size != 0 {
				t.Errorf("reserved with %d bytes, %v", size, err)
			}
			wants("closing", reserved.Close(), nil)
			lock, err := fs.Lock(at("lock"))
			wants("locking", err, nil)
			_, err = fs.Lock(at("lock"))
			if wants("locking twice", err, syscall.EWOULDBLOCK); err == nil || !strings.Contains(err.Error(), dir+" is in use by another process") {
				t.Errorf("locked twice: %v", err)
			}
			wants("unlocking", lock.Close(), nil)
			lock, err = fs.Lock(at("lock"))
			wants("locking again", err, nil)
			wants("unlocking", lock.Close(), nil)
		})
	}
}
