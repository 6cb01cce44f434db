package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/time/rate"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/vfs"
)

// prepare prepares a record of a stream.
func prepare(t testing.TB, j *Journal, body []byte) (*Prepared, error) {
	t.Helper()
	d := j.Receive(-1)
	if _, err := d.Write(body); err != nil {
		d.Discard()
		return nil, err
	}
	return j.Records.Prepare(d)
}

// appendTo appends a record to a stream and waits for the result.
func appendTo(t testing.TB, j *Journal, stream string, body []byte) (Record, error) {
	t.Helper()
	p, err := prepare(t, j, body)
	if err != nil {
		return Record{}, err
	}
	type result struct {
		rec Record
		err error
	}
	done := make(chan result, 1)
	if err := p.Append(stream, time.Unix(1, 0), func(rec Record, err error) { done <- result{rec, err} }); err != nil {
		return Record{}, err
	}
	got := <-done
	return got.rec, got.err
}

func mustAppend(t testing.TB, j *Journal, stream string, body []byte) Record {
	t.Helper()
	rec, err := appendTo(t, j, stream, body)
	if err != nil {
		t.Fatal(err)
	}
	return rec
}

// recordsDone releases records and waits for the result.
func recordsDone(t testing.TB, j *Journal, records ...Record) error {
	t.Helper()
	var numbers []uint64
	for _, rec := range records {
		numbers = append(numbers, rec.ID)
	}
	done := make(chan error, 1)
	if err := j.Records.Done(numbers, func(err error) { done <- err }); err != nil {
		return err
	}
	defer j.committer.hasten()()
	return <-done
}

func readRecord(j *Journal, rec Record) ([]byte, error) {
	b, err := j.Records.Body(rec)
	if err != nil {
		return nil, err
	}
	defer b.Close()
	return io.ReadAll(b)
}

func recordsOfAll(j *Journal) []Record { return slices.Collect(j.Records.All) }

// TestRecordsKeepTheirOrder: results arrive in the order of the calls, and that is the order of the
// numbers, after a restart and after compaction too.
func TestRecordsKeepTheirOrder(t *testing.T) {
	disk := crashfs.New()
	c := testConfig(disk, "/j")
	c.SegmentBytes = 8 << 10
	j := open(t, c)
	var mu sync.Mutex // orders the calls, as a caller's would
	var called, ended []int
	var workers, results sync.WaitGroup
	for w := range 4 {
		workers.Go(func() {
			for i := range 100 {
				n := 1 + w*100 + i
				p, err := prepare(t, j, random(n%3*3000, uint64(n)))
				if err != nil {
					t.Error(err)
					return
				}
				results.Add(1)
				mu.Lock()
				called = append(called, n)
				err = p.Append(fmt.Sprint(w), time.Unix(int64(n), 0), func(rec Record, err error) {
					defer results.Done()
					if n == int(rec.At.Unix()) && err == nil {
						ended = append(ended, n) // by one goroutine, and results orders it before the check
					}
				})
				mu.Unlock()
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	workers.Wait()
	results.Wait()
	if !slices.Equal(called, ended) {
		t.Fatalf("called in the order %d, ended in %d", called, ended)
	}
	inOrder := func() {
		t.Helper()
		all := recordsOfAll(j)
		if len(all) != len(called) {
			t.Fatalf("%d records of %d", len(all), len(called))
		}
		for i, rec := range all {
			n := called[i]
			if int(rec.At.Unix()) != n || rec.Stream != fmt.Sprint((n-1)/100) || i > 0 && rec.ID <= all[i-1].ID {
				t.Fatalf("record %d is %+v, and was appended as %d", i, rec, n)
			}
			if data, err := readRecord(j, rec); err != nil || !bytes.Equal(data, random(n%3*3000, uint64(n))) {
				t.Fatalf("%+v has a body of %d bytes, %v", rec, len(data), err)
			}
		}
	}
	inOrder()
	all := recordsOfAll(j)
	if err := recordsDone(t, j, all[:300]...); err != nil {
		t.Fatal(err)
	}
	called = called[300:]
	for n := range 600 { // garbage, so that the rest is rewritten
		mustPut(t, j, "k", random(3000, uint64(n)))
	}
	last := all[399].ID
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(time.Millisecond) {
		var moved bool
		j.table.read(func(s *state) { moved = s.items[last].segment > 200 })
		if moved {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the last record was not rewritten: %+v", j.Stats())
		}
	}
	inOrder()
	j = reopen(t, j)
	defer func() { j.Close() }()
	inOrder()
	if rec := mustAppend(t, j, "s", nil); rec.ID <= last {
		t.Errorf("a record after the restart has the number %d, and one before has %d", rec.ID, last)
	}
}

// TestRecordsNotTaken: what is not appended leaves nothing behind.
func TestRecordsNotTaken(t *testing.T) {
	disk := crashfs.New()
	j := open(t, testConfig(disk, "/j"))
	never := func(Record, error) { t.Error("a record that was not queued has a result") }
	large := random(10_000, 1)
	prepared := func() *Prepared {
		t.Helper()
		p, err := prepare(t, j, large)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	if err := prepared().Append(strings.Repeat("s", maxStream+1), time.Time{}, never); !errors.Is(err, errStream) {
		t.Errorf("a long name: %v", err)
	}
	p := prepared()
	p.Discard()
	p.Discard()
	if err := p.Append("s", time.Time{}, never); !errors.Is(err, errEnded) {
		t.Errorf("after Discard: %v", err)
	}
	settled(t, j, 0)
	rec := mustAppend(t, j, strings.Repeat("s", maxStream), large)
	if data, err := readRecord(j, rec); err != nil || !bytes.Equal(data, large) {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	if err := errors.Join(recordsDone(t, j), recordsDone(t, j, rec, rec, Record{ID: 1 << 60}, Record{}), recordsDone(t, j, rec)); err != nil {
		t.Error(err)
	}
	if _, err := readRecord(j, rec); !errors.Is(err, ErrGone) {
		t.Errorf("a record that has left: %v", err)
	}
	settled(t, j, 0)
	late := prepared()
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := prepare(t, j, []byte("x")); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if err := late.Append("s", time.Time{}, never); !errors.Is(err, errClosed) {
		t.Errorf("prepared before Close: %v", err)
	}
	if err := j.Records.Done([]uint64{rec.ID}, func(error) { never(Record{}, nil) }); !errors.Is(err, errClosed) {
		t.Errorf("Done after Close: %v", err)
	}
	j = open(t, j.config)
	if st := j.Stats(); st.Records != (Held{}) || st.Bytes != 0 {
		t.Errorf("%+v", st)
	}
	settled(t, j, 0) // a start removes what the closed journal could not
	j.Close()
}

// TestManyRecordsDone: more records than one journal record can name leave together.
func TestManyRecordsDone(t *testing.T) {
	j := open(t, testConfig(crashfs.New(), "/j"))
	rec := mustAppend(t, j, "s", nil)
	numbers := []uint64{rec.ID}
	for n := range uint64(2*maxDone + 1) {
		numbers = append(numbers, 1<<63+n)
	}
	done := make(chan error, 1)
	if err := j.Records.Done(numbers, func(err error) { done <- err }); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err != nil || len(recordsOfAll(j)) > 0 {
		t.Errorf("%v, %+v", err, j.Stats())
	}
	j = reopen(t, j)
	defer j.Close()
	if len(recordsOfAll(j)) > 0 || j.Accepting() != nil {
		t.Errorf("after a restart: %+v", j.Stats())
	}
}

// TestRecordsOnAFullDisk: while the disk is full no record is acknowledged, and what was refused does
// not come back. Records that are in the upstream leave nevertheless.
//
// Scenarios: C2.
func TestRecordsOnAFullDisk(t *testing.T) {
	for _, second := range []string{"", "/k"} {
		for free := int64(0); free < 6000; free += 499 {
			disk := crashfs.NewLimited(crashfs.New(), "", 1<<20)
			c := reserving(disk, "/j")
			c.SecondDir = second
			j := open(t, c)
			kept := []Record{mustAppend(t, j, "s", random(10, 1)), mustAppend(t, j, "s", random(5000, 2))}
			disk.Set(free, 1000)
			for n := range 40 {
				rec, err := appendTo(t, j, "s", random([]int{300, 3000}[n%2], uint64(n)))
				if err == nil {
					kept = append(kept, rec)
				} else if !errors.Is(err, ErrFull) && !errors.Is(err, errSpool) {
					t.Fatalf("%d bytes free: %v", free, err)
				}
			}
			if err := j.Accepting(); !errors.Is(err, ErrFull) {
				t.Fatalf("%d bytes free: %v", free, err)
			}
			if all := recordsOfAll(j); !slices.Equal(all, kept) {
				t.Fatalf("%d bytes free: %+v, not %+v", free, all, kept)
			}
			for _, rec := range kept {
				if data, err := readRecord(j, rec); err != nil || len(data) != int(rec.Size) {
					t.Fatalf("%d bytes free: %+v: %v", free, rec, err)
				}
			}
			if j = reopen(t, j); len(recordsOfAll(j)) != len(kept) {
				t.Fatalf("%d bytes free: %+v after a restart", free, recordsOfAll(j))
			}
			if err := recordsDone(t, j, kept...); err != nil {
				t.Fatalf("%d bytes free: %v", free, err)
			}
			dropped(t, j, 1)
			disk.Set(1<<20, 1000)
			accepting(t, j)
			after := mustAppend(t, j, "s", nil)
			j = reopen(t, j)
			if all := recordsOfAll(j); len(all) != 1 || all[0].ID != after.ID || j.Accepting() != nil {
				t.Errorf("%d bytes free: %+v, %+v", free, all, j.Stats())
			}
			j.Close()
		}
	}
}

// TestFailedSyncOfARecord: a record whose sync failed is not acknowledged and not in the journal,
// and nothing is acknowledged afterwards.
//
// Scenarios: C6.
func TestFailedSyncOfARecord(t *testing.T) {
	disk := &failSecond{FS: vfs.Disk{}, dir: t.TempDir()}
	j := open(t, testConfig(disk, filepath.Join(disk.dir, "j")))
	rec := mustAppend(t, j, "s", []byte("x"))
	disk.sync.Store(true)
	if _, err := appendTo(t, j, "s", []byte("y")); !errors.Is(err, ErrFailed) {
		t.Errorf("%v", err)
	}
	if all := recordsOfAll(j); len(all) != 1 || all[0].ID != rec.ID {
		t.Errorf("%+v", all)
	}
	if _, err := appendTo(t, j, "s", []byte("z")); !errors.Is(err, ErrFailed) {
		t.Errorf("afterwards: %v", err)
	}
	if err := recordsDone(t, j, rec); !errors.Is(err, ErrFailed) {
		t.Errorf("Done: %v", err)
	}
	j.Close()
}

// TestPatientRecordsDone: records leave with the next sync, or after a bounded time.
func TestPatientRecordsDone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := &crashfs.Counting{FS: crashfs.New()}
		j := open(t, testConfig(fs, "/j"))
		defer j.Close()
		a, b := mustAppend(t, j, "s", nil), mustAppend(t, j, "s", nil)
		synctest.Wait()
		before, ended := fs.Syncs.Load(), 0
		done := func(rec Record) {
			if err := j.Records.Done([]uint64{rec.ID}, func(err error) {
				if err == nil {
					ended++
				}
			}); err != nil {
				t.Error(err)
			}
			synctest.Wait()
		}
		if done(a); ended != 0 || fs.Syncs.Load() != before || len(recordsOfAll(j)) != 2 {
			t.Errorf("%d at once, with %d syncs", ended, fs.Syncs.Load()-before)
		}
		mustAppend(t, j, "s", nil)
		if synctest.Wait(); ended != 1 || fs.Syncs.Load() != before+1 || len(recordsOfAll(j)) != 2 {
			t.Errorf("%d after another record, with %d syncs", ended, fs.Syncs.Load()-before)
		}
		done(b)
		time.Sleep(maxPatience)
		if synctest.Wait(); ended != 2 || len(recordsOfAll(j)) != 1 {
			t.Errorf("%d after a while", ended)
		}
	})
}

// TestDamagedRecords: damage to a record is found by the next start or by its reader, names the
// stream, and is repaired from the second directory if there is one, also when nobody reads it.
//
// Scenarios: C8.
func TestDamagedRecords(t *testing.T) {
	const inline, spooled, gone = "inline", "spooled", "gone"
	for _, test := range []struct{ what, second string }{{inline, ""}, {spooled, ""}, {gone, ""}, {inline, "/k"}, {spooled, "/k"}, {gone, "/k"}} {
		t.Run(test.what+test.second, func(t *testing.T) {
			disk := crashfs.New()
			c := testConfig(disk, "/j")
			c.SecondDir = test.second
			j := open(t, c)
			rec := mustAppend(t, j, "s", random(10_000, 1))
			if test.what == inline {
				rec = mustAppend(t, j, "s", random(100, 1))
			}
			body, segment := j.spool.Name(1), j.log.segmentName(j.log.lastID())
			if err := j.Close(); err != nil {
				t.Fatal(err)
			}
			switch test.what {
			case inline:
				raw, err := vfs.ReadFile(disk, segment)
				if err != nil {
					t.Fatal(err)
				}
				flip(t, disk, segment, bytes.Index(raw, random(100, 1)))
			case spooled:
				flip(t, disk, body, 5000)
			case gone:
				if err := errors.Join(disk.Remove(body), disk.SyncDir("/j/"+spoolDir)); err != nil {
					t.Fatal(err)
				}
			}
			j = open(t, c)
			defer j.Close()
			if test.second != "" {
				if err := j.scrubber.all(t.Context(), rate.NewLimiter(rate.Inf, scrubChunk)); err != nil || j.Accepting() != nil || j.Stats().Repaired != 1 {
					t.Errorf("%v, %+v", err, j.Stats())
				}
				if data, err := readRecord(j, rec); err != nil || len(data) != int(rec.Size) {
					t.Errorf("%d bytes, %v", len(data), err)
				}
				return
			}
			if reported := errors.Is(j.Accepting(), ErrDamaged); reported != (test.what != spooled) {
				t.Errorf("%v", j.Accepting())
			}
			if test.what == inline { // nobody can tell what it was
				return
			}
			if err := j.Accept(); err != nil {
				t.Fatal(err)
			}
			_, err := readRecord(j, rec)
			if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("record %d of stream %q", rec.ID, "s")) || test.what == spooled && !errors.Is(err, akigw.ErrChecksum) {
				t.Errorf("%v", err)
			}
			if err := recordsDone(t, j, rec); err != nil || len(recordsOfAll(j)) > 0 {
				t.Errorf("a damaged record cannot leave: %v", err)
			}
		})
	}
}

// older reads a segment as a release does that does not know records of streams. follows means that
// it reads another record of the write of each one that it does not know, damaged that it takes the
// head for damage.
func older(raw []byte) (follows, damaged bool) {
	number, durable, head, unknown := uint64(0), int64(0), false, int64(-1)
	for at := int64(0); at < int64(len(raw)); {
		o, f, n := recordAt(raw, at, number)
		if n == 0 {
			break
		}
		switch {
		case o.kind.ofStreams():
			unknown = at
		case !o.seg.streams:
			durable, head = max(durable, f.durable), head || at == 0
			if f.durable <= unknown {
				unknown = -1
			}
		}
		number, at = f.number, at+int64(n)
	}
	return unknown < 0, !head && durable > 0
}

// TestRecordsAndOlderReleases: a release that does not know records of streams finds damage, so that
// it acknowledges nothing and removes nothing, and continues the log after them. A journal that has
// no more of them can be read by it after the next start.
func TestRecordsAndOlderReleases(t *testing.T) {
	disk := crashfs.New()
	j := open(t, testConfig(disk, "/j"))
	mustPut(t, j, "k", []byte("x"))
	last := func() (raw []byte) {
		t.Helper()
		raw, err := vfs.ReadFile(disk, j.log.segmentName(j.log.lastID()))
		if err != nil {
			t.Fatal(err)
		}
		return raw
	}
	if _, damaged := older(last()); damaged {
		t.Error("a journal without records of streams is refused")
	}
	first := mustAppend(t, j, "s", []byte("x"))
	mustPut(t, j, "k", []byte("y"))
	rec := mustAppend(t, j, "s", []byte("z"))
	if follows, damaged := older(last()); !damaged || !follows {
		t.Errorf("damaged %t, continues after the records %t", damaged, follows)
	}
	j = reopen(t, j)
	if o, _, _ := recordAt(last(), 0, 0); !o.seg.streams {
		t.Error("a segment that compaction may move records to does not say so")
	}
	if err := recordsDone(t, j, first, rec); err != nil {
		t.Fatal(err)
	}
	j = reopen(t, j)
	defer j.Close()
	mustPut(t, j, "k", []byte("z"))
	if _, damaged := older(last()); damaged {
		t.Error("a journal that has no more records of streams is refused")
	}
	dropped(t, j, 1)
}
