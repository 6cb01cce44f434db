package journal

import (
	"bytes"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/journal/internal/spool"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func key(name string) akigw.Key { return akigw.Key{Bucket: "bucket", Name: name} }

func testConfig(fs vfs.FS, dir string) Config {
	return Config{Dir: dir, FS: fs, Log: slog.New(slog.DiscardHandler), InlineBytes: 4 << 10, SegmentBytes: 64 << 10, SyncTimeout: 10 * time.Second}
}

func open(t testing.TB, c Config) *Journal {
	t.Helper()
	j, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func etag(body []byte) string {
	sum := md5.Sum(body)
	return `"` + hex.EncodeToString(sum[:]) + `"`
}

func put(t testing.TB, j *Journal, k akigw.Key, body []byte) error {
	t.Helper()
	d := j.Receive(int64(len(body)))
	for rest := body; len(rest) > 0; {
		n := min(len(rest), 100_000)
		if _, err := d.Write(rest[:n]); err != nil {
			d.Discard()
			return err
		}
		rest = rest[n:]
	}
	return j.Commit(t.Context(), d, Entry{Key: k, ETag: etag(body), Modified: time.Unix(1700000000, 0), Header: http.Header{"Content-Type": {"text/plain"}}})
}

func mustPut(t testing.TB, j *Journal, name string, body []byte) {
	t.Helper()
	if err := put(t, j, key(name), body); err != nil {
		t.Fatal(err)
	}
}

func random(n int, seed uint64) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}).Read(b)
	return b
}

func read(t testing.TB, j *Journal, k akigw.Key) []byte {
	t.Helper()
	e := j.Last(k)
	if e == nil || e.Deleted {
		t.Fatalf("%s: %+v", k, e)
	}
	b, err := j.Body(e, 0, e.Size)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	data, err := io.ReadAll(b)
	if err != nil {
		t.Fatal(err)
	}
	if etag(data) != e.ETag {
		t.Fatalf("%s: %d bytes do not have the ETag %s", k, len(data), e.ETag)
	}
	return data
}

func reopen(t testing.TB, j *Journal) *Journal {
	t.Helper()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	c := j.config
	if j.mirror != nil {
		c.FS = j.mirror.FS
	}
	return open(t, c)
}

// Bodies of all sizes read back in full and by range, before and after a restart.
//
// Scenarios: B5.
func TestAcknowledgedIsThereAfterRestart(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	sizes := []int{0, 1, 4 << 10, 4<<10 + 1, spool.Block, spool.Block + 1, 1 << 20, 3<<20 + 17}
	for _, n := range sizes {
		mustPut(t, j, fmt.Sprint(n), random(n, uint64(n)))
	}
	for range 2 {
		for _, n := range sizes {
			want := random(n, uint64(n))
			if got := read(t, j, key(fmt.Sprint(n))); !bytes.Equal(got, want) {
				t.Errorf("%d bytes: read back with other content", n)
			}
			for range 20 {
				from := rand.IntN(n + 1)
				to := from + rand.IntN(n-from+1)
				b, err := j.Body(j.Last(key(fmt.Sprint(n))), int64(from), int64(to-from))
				if err != nil {
					t.Fatal(err)
				}
				part, err := io.ReadAll(b)
				if err != nil || !bytes.Equal(part, want[from:to]) || b.Size() != int64(to-from) {
					t.Errorf("%d bytes from %d: %v", to-from, from, err)
				}
				b.Close()
			}
		}
		if s := j.Stats(); s.Pending != len(sizes) || s.Problem != nil {
			t.Errorf("%+v", s)
		}
		j = reopen(t, j)
	}
	if e := j.Last(key("1")); e.Header.Get("Content-Type") != "text/plain" || e.Size != 1 || !e.Modified.Equal(time.Unix(1700000000, 0)) {
		t.Errorf("%+v", e)
	}
	j.Close()
}

// The newest change of a key counts. Done ends it and every change before it.
//
// Scenarios: D5.
func TestLaterChangesReplaceEarlierOnes(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	mustPut(t, j, "k", []byte("a"))
	first := j.Take(key("k"))
	mustPut(t, j, "k", []byte("b"))
	if err := j.Delete(t.Context(), []akigw.Key{key("k")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	mustPut(t, j, "k", []byte("c"))
	if got := read(t, j, key("k")); string(got) != "c" || j.Len() != 2 { // a is leased
		t.Errorf("%q, %d entries", got, j.Len())
	}
	if j.Take(key("k")) != nil {
		t.Error("two leases of one key")
	}
	if err := j.Done(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	second := j.Take(key("k"))
	if second == nil || second.ETag != etag([]byte("c")) {
		t.Fatalf("%+v", second)
	}
	j.Return(second, false)
	j = reopen(t, j)
	if got := read(t, j, key("k")); string(got) != "c" || j.Len() != 1 {
		t.Errorf("after a restart: %q, %d entries", got, j.Len())
	}
	if err := j.Done(t.Context(), j.Last(key("k"))); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	if j.Len() != 0 || j.Last(key("k")) != nil || j.Stats().Bytes != 0 {
		t.Error("the entry came back")
	}
	j.Close()
}

// Scenarios: B10.
func TestDeletionSurvives(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	mustPut(t, j, "k", []byte("a"))
	if err := j.Delete(t.Context(), []akigw.Key{key("k"), key("l")}, time.Now()); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	for _, k := range []string{"k", "l"} {
		if e := j.Last(key(k)); e == nil || !e.Deleted {
			t.Errorf("%s: %+v", k, e)
		}
	}
	j.Close()
}

func TestDeadLettersSurvive(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	mustPut(t, j, "k", []byte("a"))
	mustPut(t, j, "l", []byte("b"))
	if err := j.Bury(t.Context(), j.Last(key("k")), "no such bucket", time.Now()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if d := j.DeadLetters(); len(d) != 1 || d[0].Reason != "no such bucket" || d[0].Key != key("k") {
			t.Fatalf("%+v", d)
		}
		if j.Take(key("k")) != nil || string(read(t, j, key("k"))) != "a" {
			t.Error("a dead letter must be readable and must not be taken")
		}
		if err := j.Wait(t.Context(), key("k")); !errors.Is(err, errDeadLetter) {
			t.Errorf("%v", err)
		}
		j = reopen(t, j)
	}
	if err := j.Revive(t.Context(), j.Last(key("k"))); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	if e := j.Take(key("k")); e == nil || len(j.DeadLetters()) != 0 || j.Stats().Pending != 2 {
		t.Errorf("%+v", j.Stats())
	}
	j.Close()
}

// An upload ID survives a crash, and outlives its entry.
//
// Scenarios: B6.
func TestUploadIDIsKept(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	mustPut(t, j, "k", []byte("a"))
	e := j.Last(key("k"))
	if err := j.Uploading(t.Context(), e.ID, e.Key, "up1"); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	if id := j.UploadID(j.Last(key("k")).ID); id != "up1" {
		t.Errorf("%q", id)
	}
	mustPut(t, j, "k", []byte("b"))
	for range 2 {
		if o := j.Orphans(); len(o) != 1 || o[0].UploadID != "up1" || o[0].Key != key("k") {
			t.Fatalf("%+v", o)
		}
		j = reopen(t, j)
	}
	if err := j.Aborted(t.Context(), j.Orphans()[0]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Uploading(t.Context(), j.Last(key("k")).ID, key("k"), "up2"), j.Done(t.Context(), j.Last(key("k")))); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	if o := j.Orphans(); len(o) != 0 {
		t.Errorf("%+v", o)
	}
	j.Close()
}

// Old segments are removed however long one entry stays, because compaction rewrites it.
//
// Scenarios: B18.
func TestSegmentsAreCompacted(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	mustPut(t, j, "stays", random(3000, 7))
	mustPut(t, j, "dead", []byte("dead"))
	mustPut(t, j, "large", random(100_000, 8))
	if err := j.Bury(t.Context(), j.Last(key("dead")), "why", time.Now()); err != nil {
		t.Fatal(err)
	}
	for i := range 1000 {
		mustPut(t, j, "k", random(3000, uint64(i)))
		if i%3 == 0 {
			if err := j.Done(t.Context(), j.Last(key("k"))); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 2 {
		s := j.Stats()
		if s.Segments > maxSealed+3 || s.SegmentBytes > (maxSealed+2)*64<<10 {
			t.Errorf("%+v", s)
		}
		if !bytes.Equal(read(t, j, key("stays")), random(3000, 7)) || !bytes.Equal(read(t, j, key("large")), random(100_000, 8)) || len(j.DeadLetters()) != 1 {
			t.Error("a rewritten entry has other content")
		}
		j = reopen(t, j)
	}
	names, _ := os.ReadDir(filepath.Join(j.config.Dir, spoolDir))
	if len(names) != 1 {
		t.Errorf("%d spool files", len(names))
	}
	j.Close()
}

// Compaction terminates even when most entries are live.
//
// Scenarios: B18.
func TestManySmallLiveEntries(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	var keys []akigw.Key
	for i := range 5000 {
		keys = append(keys, key(fmt.Sprintf("a/rather/long/name/of/a/key/%06d", i)))
	}
	for range 3 {
		if err := j.Delete(t.Context(), keys, time.Now()); err != nil {
			t.Fatal(err)
		}
	}
	mustPut(t, j, "last", nil)
	if s := j.Stats(); s.Pending != len(keys)+1 || s.SegmentBytes > 2*j.table.state.records+(maxSealed+2)*64<<10 {
		t.Errorf("%+v, %d bytes live", s, j.table.state.records)
	}
	j.Close()
}

// Concurrent writers share syncs.
func TestGroupCommit(t *testing.T) {
	fs := &crashfs.Counting{FS: vfs.Disk{}}
	j := open(t, testConfig(fs, t.TempDir()))
	before := fs.Syncs.Load()
	const writers, each = 64, 20
	var wait sync.WaitGroup
	for w := range writers {
		wait.Go(func() {
			for i := range each {
				if err := put(t, j, key(fmt.Sprintf("%d/%d", w, i)), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	if n := fs.Syncs.Load() - before; n == 0 || n > writers*each/4 {
		t.Errorf("%d syncs for %d writes", n, writers*each)
	}
	if j.Len() != writers*each {
		t.Errorf("%d entries", j.Len())
	}
	j.Close()
}

// Scenarios: B24.
func TestSecondGatewayRefusesToStart(t *testing.T) {
	c := testConfig(vfs.Disk{}, t.TempDir())
	j := open(t, c)
	if _, err := Open(c); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("%v", err)
	}
	j.Close()
	open(t, c).Close()
}

// The next start removes files that a crash left unfinished.
//
// Scenarios: B1.
func TestOrphansOfTheSpoolAreRemoved(t *testing.T) {
	c := testConfig(vfs.Disk{}, t.TempDir())
	j := open(t, c)
	mustPut(t, j, "k", random(10_000, 1))
	d := j.Receive(-1)
	if _, err := d.Write(random(10_000, 2)); err != nil {
		t.Fatal(err)
	}
	j.Close()         // as a crash would: d is never finished
	defer d.Discard() // closes the file
	if err := os.WriteFile(filepath.Join(c.Dir, spoolDir, "77.body"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	j = open(t, c)
	names, _ := os.ReadDir(filepath.Join(c.Dir, spoolDir))
	if len(names) != 1 || !bytes.Equal(read(t, j, key("k")), random(10_000, 1)) {
		t.Errorf("%v", names)
	}
	mustPut(t, j, "l", random(10_000, 3))
	if !bytes.Equal(read(t, j, key("k")), random(10_000, 1)) {
		t.Error("a new body replaced an old one")
	}
	j.Close()
}

func TestAscend(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	for _, name := range []string{"b", "a/2", "a/1", "c", "a"} {
		mustPut(t, j, name, nil)
	}
	if err := put(t, j, akigw.Key{Bucket: "bucket2", Name: "a"}, nil); err != nil {
		t.Fatal(err)
	}
	var got []string
	j.Ascend("bucket", "a/", func(e *Entry) bool {
		got = append(got, e.Key.Name)
		return len(got) < 3
	})
	if fmt.Sprint(got) != "[a/1 a/2 b]" {
		t.Error(got)
	}
	j.Close()
}
