package snapshot

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// made is a catalog of generated entries.
type made struct {
	n      int
	hidden bool
	during func(i int)
}

func (m *made) Ordered() bool { return !m.hidden }

func (m *made) Entries(_ context.Context, yield func(*akigw.CatalogEntry) bool) error {
	for i := range m.n {
		if m.during != nil {
			m.during(i)
		}
		c := madeEntry(i)
		if !yield(&c) {
			return nil
		}
	}
	return nil
}

var origin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func madeEntry(i int) akigw.CatalogEntry {
	c := akigw.CatalogEntry{
		Object:      akigw.Object{Key: akigw.Key{Bucket: fmt.Sprintf("bucket-%03d", i/10_000), Name: fmt.Sprintf("some/prefix/ü/%08d", i)}, Generation: uint64(1<<40 + i), Size: int64(i * 7), ETag: fmt.Sprintf(`"%032x"`, i), LastModified: origin.Add(time.Duration(i) * time.Second)},
		ContentType: []string{"", "text/plain", "image/jpeg"}[i%3], Tier: []akigw.Outcome{akigw.Hot, akigw.Warm, akigw.Cold}[i%3], HotBytes: int64(i % 5), WarmBytes: int64(i), Pinned: i%17 == 0,
		LastAccess: origin.Add(time.Duration(i) * time.Hour), Recent: uint32(i % 100), Accesses: uint64(i),
	}
	if i%4 == 0 {
		c.LastModified, c.LastAccess = time.Time{}, time.Time{}
	}
	return c
}

// memory is a Remote in memory.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
	fail  error
}

func (m *memory) Put(_ context.Context, name string, body io.ReaderAt, size int64) error {
	if m.fail != nil {
		return m.fail
	}
	b, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = b
	return err
}

func (m *memory) List(_ context.Context, yield func(string, int64)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for name, b := range m.files {
		yield(name, int64(len(b)))
	}
	return m.fail
}

func (m *memory) Get(_ context.Context, name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return io.NopCloser(bytes.NewReader(m.files[name])), m.fail
}

func (m *memory) Delete(_ context.Context, name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return m.fail
}

func open1(t testing.TB, n int) *Store {
	t.Helper()
	s := Open(Options{Config: Config{MaxBytes: 1 << 30}, Dir: t.TempDir(), Gateway: "gw-test", Catalog: &made{n: n}, Log: slog.New(slog.DiscardHandler)})
	if err := s.Problem(); err != nil {
		t.Fatal(err)
	}
	return s
}

func mustCreate(t testing.TB, s *Store) Info {
	t.Helper()
	i, err := s.Create(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// TestRoundTrip: any number of entries are read back unchanged and in order.
func TestRoundTrip(t *testing.T) {
	for _, n := range []int{0, 1, 1023, 1024, rowGroup + 5} {
		s := open1(t, n)
		i := mustCreate(t, s)
		k := 0
		if err := s.Read(t.Context(), i, func(c akigw.CatalogEntry) bool {
			want := madeEntry(k)
			if c.LastModified.Equal(want.LastModified) && c.LastAccess.Equal(want.LastAccess) { // times have more than one form
				c.LastModified, c.LastAccess = want.LastModified, want.LastAccess
			}
			if !reflect.DeepEqual(c, want) {
				t.Fatalf("entry %d came back as\n%+v, not\n%+v", k, c, want)
			}
			k++
			return true
		}); err != nil || k != n {
			t.Errorf("%d of %d came back, %v", k, n, err)
		}
		d, err := s.Verify(i)
		if err != nil || d.Rows != int64(n) || d.Gateway != "gw-test" || d.Schema != Schema || !d.Written.Equal(i.Created) || d.RowGroups != (n+rowGroup-1)/rowGroup {
			t.Errorf("%+v, %v", d, err)
		}
	}
}

// TestEveryByte: if any byte of a snapshot is damaged or missing, that is detected, and the
// previous snapshot is used.
//
// Scenarios: C11.
func TestEveryByte(t *testing.T) {
	s := open1(t, 20)
	first := mustCreate(t, s)
	second := mustCreate(t, s)
	if second.ID <= first.ID {
		t.Fatalf("%s comes after %s", second.ID, first.ID)
	}
	path := filepath.Join(s.Dir, second.File)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	looked := 0
	check := func(what string, damaged []byte) {
		t.Helper()
		if err := os.WriteFile(path, damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		if looked++; looked%32 == 1 {
			if i, err := s.Find(Latest); err != nil || i.ID != first.ID {
				t.Errorf("%s: %s, %v", what, i.ID, err)
			}
		}
		if err := s.Read(t.Context(), second, func(akigw.CatalogEntry) bool { t.Errorf("%s: a row was read", what); return false }); !errors.Is(err, ErrDamaged) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for at := range whole {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 1 << (at % 8)
		check(fmt.Sprintf("byte %d", at), damaged)
	}
	for _, n := range []int{0, 1, 4, len(whole) / 2, len(whole) - 1} {
		check(fmt.Sprintf("cut to %d", n), whole[:n])
	}
	check("longer", append(bytes.Clone(whole), 0))
	if err := os.WriteFile(path, whole, 0o600); err != nil {
		t.Fatal(err)
	}
	if i, err := s.Find(Latest); err != nil || i.ID != second.ID {
		t.Errorf("%s, %v", i.ID, err)
	}
}

// TestT10_C11_SnapshotFlips: flipped bits anywhere in a large snapshot are detected.
//
// Scenarios: C11.
func TestT10_C11_SnapshotFlips(t *testing.T) {
	p := testkit.Prove(t, "T10-snapshots")
	flips := p.Amount(20, 200, 10_000)
	rows := 5000
	if p.Long() {
		rows = 300_000
	}
	s := open1(t, rows)
	first, second := mustCreate(t, s), mustCreate(t, s)
	path := filepath.Join(s.Dir, second.File)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	random := p.Random(0)
	flip := func(at int64, bit byte) {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, at); err != nil {
			t.Fatal(err)
		}
		b[0] ^= bit
		if _, err := f.WriteAt(b, at); err != nil {
			t.Fatal(err)
		}
	}
	for n := range flips {
		at, bit := random.Int64N(second.Bytes), byte(1)<<random.IntN(8)
		flip(at, bit)
		if _, err := s.Verify(second); !errors.Is(err, ErrDamaged) {
			t.Errorf("flip of %d in byte %d: %v", bit, at, err)
		}
		if n%500 == 0 {
			if i, err := s.Find(Latest); err != nil || i.ID != first.ID {
				t.Errorf("%s, %v", i.ID, err)
			}
		}
		flip(at, bit)
	}
	p.Figure("flips, all noticed", flips)
	p.Figure("bytes", second.Bytes)
	if _, err := s.Verify(second); err != nil {
		t.Error(err)
	}
}

// FuzzRead: a file with a matching digest may contain anything. It is read or refused in bounded
// memory and without a panic.
func FuzzRead(f *testing.F) {
	s := open1(f, 50)
	i := mustCreate(f, s)
	whole, err := os.ReadFile(filepath.Join(s.Dir, i.File))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	f.Add([]byte("PAR1PAR1"))
	for _, at := range []int{4, len(whole) / 2, len(whole) - 20, len(whole) - 6} {
		damaged := bytes.Clone(whole)
		damaged[at] ^= 0x40
		f.Add(damaged)
	}
	debug.SetMemoryLimit(512 << 20)
	f.Fuzz(func(t *testing.T, raw []byte) {
		sum := sha256.Sum256(raw)
		own := Open(Options{Dir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		i := Info{ID: i.ID, Digest: shortDigest(sum[:])}
		i.File = i.ID + "-" + i.Digest + ".parquet"
		if err := os.WriteFile(filepath.Join(own.Dir, i.File), raw, 0o600); err != nil {
			t.Fatal(err)
		}
		n := 0
		err := own.Read(t.Context(), i, func(akigw.CatalogEntry) bool { n++; return n < 10_000 })
		if err != nil && !errors.Is(err, ErrDamaged) {
			t.Error(err)
		}
	})
}

// TestStorageQuota: the oldest snapshots are removed, but never the last valid one, even if it alone
// exceeds the quota.
func TestStorageQuota(t *testing.T) {
	s := open1(t, 5000)
	mustCreate(t, s)
	s.Config.MaxBytes = 1
	two := mustCreate(t, s)
	all, err := s.List()
	if err != nil || len(all) != 1 || all[0].ID != two.ID {
		t.Fatalf("%+v, %v", all, err)
	}
	if err := s.Delete(two, false); !errors.Is(err, ErrLast) {
		t.Errorf("the last valid snapshot: %v", err)
	}
	s.Config.MaxBytes = size.Bytes(2*two.Bytes + two.Bytes/2)
	for range 3 {
		mustCreate(t, s)
	}
	all, err = s.List()
	if err != nil || len(all) != 2 {
		t.Errorf("%d snapshots, %v", len(all), err)
	}
	for _, i := range all[1:] {
		if err := s.Delete(i, false); err != nil {
			t.Error(err)
		}
	}
	two = all[0]
	three := mustCreate(t, s)
	if err := os.WriteFile(filepath.Join(s.Dir, three.File), []byte("damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.Delete(two, false); !errors.Is(err, ErrLast) {
		t.Errorf("the last valid snapshot beside a damaged one: %v", err)
	}
	if err := s.Delete(three, false); err != nil {
		t.Error(err)
	}
	if err := s.Delete(two, true); err != nil {
		t.Error(err)
	}
	if _, err := s.Find(Latest); !errors.Is(err, ErrNone) {
		t.Errorf("%v", err)
	}
}

// TestCutOff: the remains of a snapshot that a crash interrupted are removed, and the previous
// snapshot is intact.
//
// Scenarios: B19.
func TestCutOff(t *testing.T) {
	s := open1(t, 100)
	first := mustCreate(t, s)
	s.Catalog = &made{n: 100, during: func(i int) {
		if i == 50 {
			panic("crash")
		}
	}}
	func() {
		defer func() { recover() }()
		s.making = sync.Mutex{}
		s.Create(context.Background())
	}()
	left, err := filepath.Glob(filepath.Join(s.Dir, temporary+"*"))
	if err != nil || len(left) != 1 {
		t.Fatalf("%v, %v: the crash left nothing", left, err)
	}
	again := Open(Options{Config: s.Config, Dir: s.Dir, Catalog: &made{}, Log: s.Log})
	if err := again.Problem(); err != nil {
		t.Fatal(err)
	}
	if left, _ = filepath.Glob(filepath.Join(s.Dir, temporary+"*")); len(left) != 0 {
		t.Errorf("%v left over", left)
	}
	if i, err := again.Find(Latest); err != nil || i.ID != first.ID {
		t.Errorf("%+v, %v", i, err)
	}
}

// TestConcurrentSnapshotAndRestore: snapshots that are created while others are read do not affect
// them, and each is complete.
func TestConcurrentSnapshotAndRestore(t *testing.T) {
	s := open1(t, 3000)
	mustCreate(t, s)
	var work sync.WaitGroup
	for range 3 {
		work.Go(func() {
			for range 5 {
				if _, err := s.Create(context.Background()); err != nil {
					t.Error(err)
				}
			}
		})
		work.Go(func() {
			for range 10 {
				i, err := s.Find(Latest)
				n := 0
				if err == nil {
					err = s.Read(context.Background(), i, func(akigw.CatalogEntry) bool { n++; return true })
				}
				if err != nil || n != 3000 {
					t.Errorf("%d rows, %v", n, err)
				}
			}
		})
	}
	work.Wait()
	if all, err := s.List(); err != nil || len(all) != 16 {
		t.Errorf("%d snapshots, %v", len(all), err)
	}
}

// TestRemote: snapshots are uploaded within the quota there, and complete ones can be downloaded.
func TestRemote(t *testing.T) {
	s, up := open1(t, 1000), &memory{files: map[string][]byte{"other": nil}}
	s.Remote = up
	first, second := mustCreate(t, s), mustCreate(t, s)
	if len(up.files) != 3 {
		t.Fatalf("%d files upstream", len(up.files))
	}
	elsewhere := open1(t, 0)
	elsewhere.Remote = up
	if i, err := elsewhere.Fetch(t.Context(), Latest); err != nil || i.ID != second.ID {
		t.Errorf("%+v, %v", i, err)
	}
	up.files[second.File] = up.files[second.File][:100]
	elsewhere = open1(t, 0)
	elsewhere.Remote = up
	i, err := elsewhere.Fetch(t.Context(), Latest)
	if err != nil || i.ID != first.ID {
		t.Errorf("%+v, %v", i, err)
	}
	if d, err := elsewhere.Verify(i); err != nil || d.Rows != 1000 {
		t.Errorf("%+v, %v", d, err)
	}
	if _, err := elsewhere.Fetch(t.Context(), second.ID); !errors.Is(err, ErrNone) {
		t.Errorf("fetching a damaged snapshot: %v", err)
	}
	up.fail = errors.New("upstream is down")
	if i, err := s.Create(t.Context()); err == nil || i.ID == "" {
		t.Errorf("%+v, %v", i, err)
	}
	up.fail = nil
	s.Config.MaxBytes = 1
	last := mustCreate(t, s)
	if len(up.files) != 2 || up.files[last.File] == nil {
		t.Errorf("%d files upstream after making room", len(up.files))
	}
}

// TestDiff: Diff yields the differences between two snapshots.
func TestDiff(t *testing.T) {
	s := open1(t, 0)
	entry := func(name, etag string, tier akigw.Outcome) akigw.CatalogEntry {
		return akigw.CatalogEntry{Object: akigw.Object{Key: akigw.Key{Bucket: "b", Name: name}, ETag: etag}, Tier: tier}
	}
	take := func(all ...akigw.CatalogEntry) Info {
		s.Catalog = fixed(all)
		return mustCreate(t, s)
	}
	a := take(entry("a", "1", akigw.Hot), entry("b", "1", akigw.Hot), entry("c", "1", akigw.Hot), entry("e", "1", akigw.Hot))
	b := take(entry("b", "2", akigw.Hot), entry("c", "1", akigw.Cold), entry("d", "1", akigw.Hot), entry("e", "1", akigw.Hot))
	var got []Change
	if err := s.Diff(t.Context(), a, b, func(c Change) bool { got = append(got, c); return true }); err != nil {
		t.Fatal(err)
	}
	want := []Change{{"removed", "b", "a", "", "1", ""}, {"changed", "b", "b", "", "1", "2"}, {"moved", "b", "c", "", "hot", "cold"}, {"added", "b", "d", "", "", "1"}}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

type fixed []akigw.CatalogEntry

func (fixed) Ordered() bool { return true }

func (f fixed) Entries(_ context.Context, yield func(*akigw.CatalogEntry) bool) error {
	for i := range f {
		if !yield(&f[i]) {
			break
		}
	}
	return nil
}

// TestHiddenNames: a catalog that hides names does not reveal them in a snapshot.
func TestHiddenNames(t *testing.T) {
	s := open1(t, 10)
	s.Catalog = &made{n: 10, hidden: true}
	if _, err := s.Create(t.Context()); !errors.Is(err, ErrUnordered) {
		t.Errorf("%v", err)
	}
}

// BenchmarkCreate: a snapshot of 100,000 objects.
func BenchmarkCreate(b *testing.B) {
	s := open1(b, 100_000)
	s.Config.MaxBytes = 1
	b.ReportAllocs()
	for b.Loop() {
		mustCreate(b, s)
	}
}
