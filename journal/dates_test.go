package journal

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/codec"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// dating is a journal that keeps a limited number of dates, on a file system in memory.
type dating struct {
	*Journal
	t  *testing.T
	fs vfs.FS
}

func openDating(t *testing.T, fs vfs.FS, limit int) *dating {
	t.Helper()
	j, err := Open(Config{Dir: "/j", FS: fs, Log: slog.New(slog.DiscardHandler), InlineBytes: 512, SegmentBytes: 4 << 10, SyncTimeout: time.Minute, MaxDates: limit})
	if err != nil {
		t.Fatal(err)
	}
	return &dating{j, t, fs}
}

func (d *dating) again(limit int) *dating {
	d.t.Helper()
	if err := d.Close(); err != nil {
		d.t.Fatal(err)
	}
	return openDating(d.t, d.fs, limit)
}

// at returns the n-th promised date; the upstream's is a minute later.
func at(n int) time.Time { return time.Unix(1_700_000_000+int64(n), 0) }

// flush acknowledges and flushes the n-th object under a name.
func (d *dating) flush(name string, n int) {
	d.t.Helper()
	d.put(name, n)
	d.flushed(name, at(n).Add(time.Minute))
}

func (d *dating) put(name string, n int) {
	d.t.Helper()
	body := d.Receive(4)
	if _, err := body.Write([]byte("body")); err != nil {
		d.t.Fatal(err)
	}
	if err := d.Commit(d.t.Context(), body, Entry{Key: key(name), ETag: etag([]byte("body")), Modified: at(n)}); err != nil {
		d.t.Fatal(err)
	}
}

func (d *dating) flushed(name string, upstream time.Time) {
	d.t.Helper()
	if err := d.FlushedNow(d.t.Context(), d.Take(key(name)), Stored{Modified: upstream}); err != nil {
		d.t.Fatal(err)
	}
}

// expect checks that the dates of the n-th object under a name are known, or that there are none if
// n is -1.
func (d *dating) expect(when, name string, n int) {
	d.t.Helper()
	got, ok := d.Translation(key(name))
	switch {
	case n < 0 && ok:
		d.t.Errorf("%s: %s has %+v, want no dates", when, name, got)
	case n >= 0 && (!ok || !got.PromisedModified.Equal(at(n)) || !got.UpstreamModified.Equal(at(n).Add(time.Minute)) || got.Size != 4 || got.Promised != etag([]byte("body")) || got.Upstream != got.Promised):
		d.t.Errorf("%s: %s has %+v %t, want those of %d", when, name, got, ok, n)
	}
}

// TestDatesLast: the dates of a flushed object are kept, even over restarts, until its key gets
// another object.
func TestDatesLast(t *testing.T) {
	d := openDating(t, crashfs.New(), 100)
	d.flush("stays", 1)
	d.flush("deleted", 2)
	d.flush("replaced", 3)
	d.flush("again", 4)
	d.flush("forgotten", 5)
	d.flush("undated", 6)
	if err := d.Delete(t.Context(), []akigw.Key{key("deleted")}, at(7)); err != nil {
		t.Fatal(err)
	}
	d.put("replaced", 8)
	for _, name := range []string{"deleted", "replaced", "undated"} {
		if name == "undated" {
			d.put(name, 9)
		}
		if err := d.Done(t.Context(), d.Take(key(name))); err != nil {
			t.Fatal(err)
		}
	}
	d.flush("again", 10)
	known, _ := d.Translation(key("forgotten"))
	if err := d.Forget(known)(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"at once", "started again", "and again"} {
		for name, n := range map[string]int{"stays": 1, "deleted": -1, "replaced": -1, "again": 10, "forgotten": -1, "undated": -1, "unknown": -1} {
			d.expect(when, name, n)
		}
		if st := d.Stats(); st.Dates != 2 || st.Translations != 0 || st.Pending != 0 {
			t.Errorf("%s: %+v", when, st)
		}
		if !d.Translates("bucket") || d.Translates("other") {
			t.Errorf("%s: the wrong buckets have dates", when)
		}
		d = d.again(100)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatesOfTranslations: an object whose ETag differs upstream keeps its date too.
func TestDatesOfTranslations(t *testing.T) {
	d := openDating(t, crashfs.New(), 100)
	d.flush("k", 1)
	d.put("k", 2)
	if err := d.FlushedNow(t.Context(), d.Take(key("k")), Stored{ETag: `"other"`, Modified: at(3), Version: "v"}); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		got, ok := d.Translation(key("k"))
		if !ok || got.Upstream != `"other"` || !got.PromisedModified.Equal(at(2)) || !got.UpstreamModified.Equal(at(3)) || got.Size != 4 || got.Version != "v" {
			t.Errorf("%+v %t", got, ok)
		}
		if st := d.Stats(); st.Dates != 0 || st.Translations != 1 {
			t.Errorf("%+v", st)
		}
		d = d.again(100)
	}
	d.flush("k", 4)
	d.expect("flushed again", "k", 4)
	if st := d.Stats(); st.Dates != 1 || st.Translations != 0 {
		t.Errorf("%+v", st)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatesAreBounded: the dates of the object that was flushed first are dropped first. They do
// not come back after a restart, nor when the bound is raised.
func TestDatesAreBounded(t *testing.T) {
	const limit = 20
	d := openDating(t, crashfs.New(), limit)
	check := func(when string, from, to int) {
		t.Helper()
		for n := range to {
			want := n
			if n < from {
				want = -1
			}
			d.expect(when, strconv.Itoa(n), want)
		}
		if st := d.Stats(); st.Dates != to-from {
			t.Errorf("%s: %d dates, want %d", when, st.Dates, to-from)
		}
	}
	for n := range 50 {
		d.flush(strconv.Itoa(n), n)
	}
	check("flushed", 30, 50)
	d = d.again(limit)
	check("started again", 30, 50)
	for n := 40; n < 50; n++ { // they must not take the room of the earlier ones
		known, _ := d.Translation(key(strconv.Itoa(n)))
		if err := d.Forget(known)(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	d = d.again(1000)
	check("with a larger bound", 30, 40)
	d = d.again(3)
	check("with a smaller bound", 37, 40)
	d = d.again(0)
	check("with none", 40, 40)
	d.flush("new", 60)
	d.expect("with none", "new", -1)
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestLateFlushIsNew: the order is that of the flushes, not of the acknowledgements.
func TestLateFlushIsNew(t *testing.T) {
	d := openDating(t, crashfs.New(), 5)
	d.put("late", 0)
	for n := 1; n < 10; n++ {
		d.flush(strconv.Itoa(n), n)
	}
	d.flushed("late", at(0).Add(time.Minute))
	for range 2 {
		d.expect("flushed last", "late", 0)
		d.expect("flushed last", "5", -1)
		d.expect("flushed last", "6", 6)
		d = d.again(5)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatesDoNotKeepSegments: a journal whose writes are all flushed takes little more space than
// the records of its dates, however many writes and starts there were.
func TestDatesDoNotKeepSegments(t *testing.T) {
	const limit, writes = 30, 1000
	d := openDating(t, crashfs.New(), limit)
	for n := range writes {
		d.flush(fmt.Sprint("k", n), n)
		if n%20 == 0 {
			d = d.again(limit)
		}
	}
	d = d.again(limit)
	d.flush("last", writes)
	for n := range writes {
		want := n
		if n <= writes-limit {
			want = -1
		}
		d.expect("after all", fmt.Sprint("k", n), want)
	}
	d.expect("after all", "last", writes)
	if st := d.Stats(); st.Dates != limit || st.SegmentBytes > 6*4<<10 || st.Segments > 6 {
		t.Errorf("%+v", st)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestDatesAreReadByThePreviousRelease: the previous release reads a done record with dates as a
// done record, and a translation with dates as a translation.
func TestDatesAreReadByThePreviousRelease(t *testing.T) {
	o := &op{kind: kindDone, entry: 7, key: key("k"), when: at(1), dated: &dated{stored: at(2).Unix(), size: 3, etag: `"e"`}, order: 5, floor: 4}
	in := codec.NewDecoder(o.encode(nil))
	if got := kind(in.Byte()); got != kindDone {
		t.Errorf("kind %d", got)
	}
	if entry, bucket, name := in.Uvarint(), in.String(), in.String(); entry != 7 || bucket != "bucket" || name != "k" {
		t.Errorf("%d %s %s", entry, bucket, name)
	}
	if text, when := in.String(), in.Time(); in.Bad() || len(in.Rest()) > 0 || text == "" || !when.Equal(at(1)) {
		t.Errorf("text %q at %s, then %q", text, when, in.Rest())
	}
	e := &Entry{Key: key("k"), ETag: `"e"`, Modified: at(1), Header: Stored{Modified: at(2)}.header(3)}
	raw := (&op{kind: kindTranslate, entry: 7, key: e.Key, put: e, text: `"f"`}).encode(nil)
	if got, err := decode(raw); err != nil || got.put.Size != 0 || len(got.data) > 0 || got.text != `"f"` {
		t.Errorf("%+v %v", got, err) // it would report trailing bytes or a size as damage
	}
}

// TestDatesOfALaterRelease: a done record with fields that this release does not know is still a
// done record.
func TestDatesOfALaterRelease(t *testing.T) {
	for _, text := range []string{"\x02whatever", "\x01", "\x01\xff", "x"} {
		raw := (&op{kind: kindDone, entry: 7, key: key("k"), text: text, when: at(1)}).encode(nil)
		if got, err := decode(raw); err != nil || got.dated != nil || got.entry != 7 {
			t.Errorf("%q: %+v %v", text, got, err)
		}
	}
}

// flushAll is a workload that flushes each write at once, so that segments hold only dates and are
// compacted. Some keys get another object or lose theirs.
func flushAll(rng *rand.Rand) func(*Journal, *expectation) error {
	return func(j *Journal, x *expectation) error {
		ctx := context.Background()
		for n := range 40 {
			k := "k" + strconv.Itoa(rng.IntN(8))
			body := bodyOf(k, 6*n-len(k)+6) // small, so that segments hold mostly records
			s := seen("dated " + etag(body))
			x.begin(k, seen(strconv.Itoa(6*n-len(k)+6)))
			var err error
			if rng.IntN(5) == 0 {
				x.begin(k, "-")
				err, s = j.Delete(ctx, []akigw.Key{key(k)}, time.Time{}), ""
			} else {
				d := j.Receive(int64(len(body)))
				_, err = d.Write(body)
				err = errors.Join(err, j.Commit(ctx, d, Entry{Key: key(k), ETag: etag(body), Modified: time.Unix(int64(len(body)), 0)}))
			}
			if err != nil {
				return err
			}
			x.end(k)
			e := j.Take(key(k))
			x.begin(k, s)
			if err := j.FlushedNow(ctx, e, Stored{Modified: e.Modified.Add(time.Second)}); err != nil {
				return err
			}
			x.end(k)
		}
		return nil
	}
}

// TestDatesSurviveCrashes: once a flush is done, the dates of the object survive a crash at any
// call, including those of a compaction or of the recovery. The dates of the key's previous object
// do not come back.
func TestDatesSurviveCrashes(t *testing.T) {
	seed, trials := testkit.Seed(t), new(atomic.Int64)
	for n := uint64(0); trials.Load() < 1500; n++ {
		c := &crashRun{seed: seed + n, rng: rand.New(rand.NewPCG(seed+n, 1)), dice: rand.New(rand.NewPCG(seed+n, 2)), mutate: unchanged, trials: trials, every: 5, twice: n%4 == 0}
		c.workload = flushAll(c.rng)
		if err := c.run(); err != nil {
			t.Fatalf("AKIGW_SEED=%d: %v", seed+n, err)
		}
	}
}

// TestDatesWithinBounds: an upstream date that is known within bounds only is kept with them, over a
// restart. An older release reads the middle of the record and ignores the bounds.
func TestDatesWithinBounds(t *testing.T) {
	d := openDating(t, crashfs.New(), 100)
	d.put("k", 1)
	if err := d.FlushedNow(t.Context(), d.Take(key("k")), Stored{Modified: at(1).Add(time.Minute), Spread: 3}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		d.expect("bounds", "k", 1)
		got, _ := d.Translation(key("k"))
		if first, last := DateBounds(got.UpstreamModified, got.Spread); !first.Equal(at(1).Add(57*time.Second)) || !last.Equal(at(1).Add(61*time.Second)) {
			t.Errorf("the upstream's date is from %s to %s", first, last)
		}
		d = d.again(100)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
}
