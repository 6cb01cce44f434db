package warm

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/dgraph-io/badger/v4"

	"github.com/akidb/akigw"
)

func keyOf(bucket, name string) akigw.Key { return akigw.Key{Bucket: bucket, Name: name} }

// TestSummaries lists the catalog, whole and in part, with plain and hidden names, from any start.
func TestSummaries(t *testing.T) {
	for _, secret := range [][]byte{nil, bytes.Repeat([]byte("s"), 32)} {
		tier := openSealed(t, filepath.Join(t.TempDir(), "warm"), secret)
		var want []string
		for _, bucket := range []string{"a", "a-b", "b"} {
			for n := range 900 {
				k := keyOf(bucket, fmt.Sprintf("%c/%04d", 'x'+n%2, n))
				tier.PutEntry(k, []byte("record"), []byte(bucket+"/"+k.Name), Handling{})
				want = append(want, bucket+"/"+k.Name)
			}
		}
		if err := tier.PutAccesses([]akigw.Key{keyOf("a", "x/0000"), keyOf("gone", "k")}, [][]byte{[]byte("used"), []byte("orphan")}); err != nil {
			t.Fatal(err)
		}
		collect := func(bucket, prefix string, after Place, most int) (all []string, last Place, used int) {
			t.Helper()
			if err := tier.Summaries(bucket, prefix, after, func(k Known) bool {
				if k.Summary != nil {
					all = append(all, string(k.Summary))
				}
				if k.Accesses != nil {
					used++
				}
				last = k.Place
				return len(all) < most
			}); err != nil {
				t.Fatal(err)
			}
			return all, last, used
		}
		all, _, used := collect("", "", "", 1e6)
		if len(all) != len(want) || used != 2 {
			t.Errorf("%d summaries, %d of them with accesses", len(all), used)
		}
		var paged []string
		for after := Place(""); ; {
			some, last, _ := collect("", "", after, 700)
			paged, after = append(paged, some...), last
			if len(some) < 700 {
				break
			}
		}
		if fmt.Sprint(paged) != fmt.Sprint(all) {
			t.Errorf("%d summaries in pages, %d at once", len(paged), len(all))
		}
		if secret == nil {
			some, _, _ := collect("a", "x/", "", 1e6)
			if len(some) != 450 || some[0] != "a/x/0000" || some[449] != "a/x/0898" {
				t.Errorf("%d with a prefix", len(some))
			}
		}
		if err := tier.DropEntry(keyOf("b", "x/0000")); err != nil {
			t.Fatal(err)
		}
		if all, _, _ = collect("", "", "", 1e6); len(all) != len(want)-1 {
			t.Errorf("%d after one was dropped", len(all))
		}
		closeTier(t, tier)
	}
}

// TestImport imports a catalog into an empty tier and into one with entries, sorted or hidden.
// Counters are kept.
func TestImport(t *testing.T) {
	for _, secret := range [][]byte{nil, bytes.Repeat([]byte("s"), 32)} {
		dir := filepath.Join(t.TempDir(), "warm")
		tier := openSealed(t, dir, secret)
		if err := tier.SetCounter("run", 7); err != nil {
			t.Fatal(err)
		}
		imported := func(from, to int) error {
			n := from
			return tier.Import(func() (Imported, bool) {
				n++
				k := keyOf("bucket", fmt.Sprintf("%06d", n))
				return Imported{Key: k, Record: []byte("record " + k.Name), Summary: []byte("summary"), Accesses: []byte("used")}, n <= to
			})
		}
		for _, step := range [][2]int{{0, 5000}, {4000, 6000}} {
			if err := imported(step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 { // and after a restart
			n := 0
			if err := tier.Summaries("", "", "", func(k Known) bool {
				if string(k.Summary) == "summary" && string(k.Accesses) == "used" {
					n++
				}
				return true
			}); err != nil || n != 6000 || tier.Counter("run") != 7 {
				t.Errorf("%d objects, counter %d, %v", n, tier.Counter("run"), err)
			}
			if got, ok := tier.Entry(keyOf("bucket", "005500")); !ok || string(got) != "record 005500" {
				t.Errorf("%q, %t", got, ok)
			}
			closeTier(t, tier)
			tier = openSealed(t, dir, secret)
		}
		tier.PutBlock(Run{ID: 1}, 1, []byte("block"))
		if got, ok := tier.Block(Run{ID: 1}, 1, nil); !ok || string(got) != "block" {
			t.Errorf("a write after the import: %q, %t", got, ok)
		}
		closeTier(t, tier)
	}
}

// TestImportOutOfOrder: an unsorted import is refused, and the tier still works.
func TestImportOutOfOrder(t *testing.T) {
	tier := openSealed(t, filepath.Join(t.TempDir(), "warm"), nil)
	defer closeTier(t, tier)
	names := []string{"b", "a"}
	err := tier.Import(func() (Imported, bool) {
		if len(names) == 0 {
			return Imported{}, false
		}
		i := Imported{Key: keyOf("bucket", names[0]), Record: []byte("r"), Summary: []byte("s")}
		names = names[1:]
		return i, true
	})
	if !errors.Is(err, errOrder) {
		t.Errorf("%v", err)
	}
	tier.PutEntry(keyOf("bucket", "k"), []byte("record"), []byte("summary"), Handling{})
	if _, ok := tier.Entry(keyOf("bucket", "k")); !ok {
		t.Error("nothing can be written any more")
	}
}

// TestBitFlipInTheCatalog: a damaged record, summary or access count is dropped or skipped, and
// never used.
//
// Scenarios: C10.
func TestBitFlipInTheCatalog(t *testing.T) {
	tier := openSealed(t, filepath.Join(t.TempDir(), "warm"), nil)
	defer closeTier(t, tier)
	k := keyOf("bucket", "k")
	tier.PutEntry(k, []byte("record"), []byte("summary"), Handling{})
	if err := tier.PutAccesses([]akigw.Key{k}, [][]byte{[]byte("used")}); err != nil {
		t.Fatal(err)
	}
	id := tier.data.values.entryKey(k)
	for _, where := range [][]byte{id, companion(summaryPrefix, id), companion(accessPrefix, id)} {
		if err := tier.data.db.Update(func(txn *badger.Txn) error {
			item, err := txn.Get(where)
			if err != nil {
				return err
			}
			stored, err := item.ValueCopy(nil)
			if err != nil {
				return err
			}
			stored[len(stored)-1] ^= 1
			return txn.Set(bytes.Clone(where), stored)
		}); err != nil {
			t.Fatal(err)
		}
	}
	if got, ok := tier.Entry(k); ok {
		t.Errorf("the record is %q", got)
	}
	if got, ok := tier.Accesses(k); ok {
		t.Errorf("the accesses are %q", got)
	}
	if err := tier.Summaries("", "", "", func(k Known) bool { t.Errorf("%+v", k); return true }); err != nil {
		t.Error(err)
	}
}

// TestAccountingFollowsTheDisk: the count of bytes follows the disk, whoever wrote to it.
//
// Scenarios: C14.
func TestAccountingFollowsTheDisk(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "warm")
	tier := open(t, dir, 64<<20, "1")
	defer closeTier(t, tier)
	tier.space.measure()
	before := tier.Used()
	if err := os.WriteFile(filepath.Join(dir, "somebody's"), make([]byte, 5<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	tier.space.measure()
	if grown := tier.Used() - before; grown < 5<<20 || grown > 6<<20 {
		t.Errorf("%d bytes more", grown)
	}
}

// TestBallast: the ballast is released when the disk runs full, and allocated again when there is
// room.
func TestBallast(t *testing.T) {
	dir := t.TempDir()
	s := &space{dir: dir, quota: 1 << 30, headroom: 1 << 20, fault: func() error { return nil }, blocks: func() int64 { return 0 }}
	s.ballast.path, s.ballast.size = filepath.Join(dir, "BALLAST"), 1<<20
	size := func() int64 {
		info, err := os.Stat(s.ballast.path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	s.measure()
	if size() != 1<<20 || s.ballast.taken() != 1<<20 {
		t.Fatalf("%d bytes", size())
	}
	s.headroom = 1 << 60 // as if another process had filled the disk
	refused := !s.reserve(1)
	s.measure()
	if !refused || size() != 0 || s.ballast.taken() != 0 || s.problem() == "" {
		t.Errorf("%d bytes, %q", size(), s.problem())
	}
	s.headroom = 1 << 20
	for deadline := time.Now().Add(5 * time.Second); size() == 0; s.measure() {
		if time.Now().After(deadline) {
			t.Fatal("the ballast is not allocated again")
		}
	}
}
