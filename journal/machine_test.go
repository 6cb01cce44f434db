package journal

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
)

// register is what the model knows of a key.
type register struct {
	newest *Entry // nil: nothing is pending
	body   []byte // of it
	dead   bool   // it is a dead letter
	leased *Entry // may be older than the newest
	held   int
}

// idle reports whether the key has nothing left to do.
func (r *register) idle() bool { return r.newest == nil && r.leased == nil }

// machine runs operations on a journal and on a model of it.
type machine struct {
	disk *crashfs.FS
	j    *Journal
	keys [4]register

	records []appended // of streams
}

// appended is what the model knows of a record of a stream.
type appended struct {
	Record
	body []byte
}

func (m *machine) pick(t *rapid.T) (akigw.Key, *register) {
	n := rapid.IntRange(0, len(m.keys)-1).Draw(t, "key")
	return key(fmt.Sprint(n)), &m.keys[n]
}

func (m *machine) open(t *rapid.T) {
	j, err := Open(testConfig(m.disk, "/j"))
	if err != nil {
		t.Fatal(err)
	}
	m.j = j
	for n := range m.keys { // leases and holds end with the process
		m.keys[n].leased, m.keys[n].held = nil, 0
	}
}

func must(t *rapid.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// wrote records in the model that a key has a new entry.
func (m *machine) wrote(t *rapid.T, k akigw.Key, r *register, body []byte) {
	last := m.j.Last(k)
	if last == nil || r.newest != nil && last.ID <= r.newest.ID {
		t.Fatalf("%s: %+v comes after %+v", k, last, r.newest)
	}
	r.newest, r.body, r.dead = last, body, false
}

// Put commits a body.
func (m *machine) Put(t *rapid.T) {
	k, r := m.pick(t)
	body := random(rapid.SampledFrom([]int{0, 10, 4 << 10, 4<<10 + 1, 70_000}).Draw(t, "size"), rapid.Uint64().Draw(t, "body"))
	d := m.j.Receive(int64(len(body)))
	_, err := d.Write(body)
	must(t, err)
	must(t, m.j.Commit(context.Background(), d, Entry{Key: k, ETag: etag(body)}))
	m.wrote(t, k, r, body)
}

// Delete commits a deletion.
func (m *machine) Delete(t *rapid.T) {
	k, r := m.pick(t)
	must(t, m.j.Delete(context.Background(), []akigw.Key{k}, time.Now()))
	m.wrote(t, k, r, nil)
}

// Take leases an entry that has to be flushed.
func (m *machine) Take(t *rapid.T) {
	k, r := m.pick(t)
	want := r.newest
	if r.dead || r.leased != nil || r.held > 0 {
		want = nil
	}
	e := m.j.Take(k)
	if e != want {
		t.Fatalf("%s: took %+v, not %+v", k, e, want)
	}
	if e != nil {
		r.leased = e
	}
}

// Return gives a lease back.
func (m *machine) Return(t *rapid.T) {
	_, r := m.pick(t)
	if r.leased == nil {
		t.Skip("nothing is leased")
	}
	m.j.Return(r.leased, rapid.Bool().Draw(t, "tried"))
	r.leased = nil
}

// Done completes the leased entry.
func (m *machine) Done(t *rapid.T) {
	_, r := m.pick(t)
	if r.leased == nil {
		t.Skip("nothing is leased")
	}
	must(t, m.j.Done(context.Background(), r.leased))
	if r.leased == r.newest {
		r.newest, r.body = nil, nil
	}
	r.leased = nil
}

// Bury makes the leased entry a dead letter.
func (m *machine) Bury(t *rapid.T) {
	_, r := m.pick(t)
	if r.leased == nil || r.leased != r.newest {
		t.Skip("nothing is leased")
	}
	must(t, m.j.Bury(context.Background(), r.leased, "why", time.Now()))
	m.j.Return(r.leased, true)
	r.leased, r.dead = nil, true
}

// Revive schedules a dead letter for another try.
func (m *machine) Revive(t *rapid.T) {
	_, r := m.pick(t)
	if !r.dead {
		t.Skip("the key has no dead letter")
	}
	must(t, m.j.Revive(context.Background(), r.newest))
	r.dead = false
}

// Hold holds a key that has nothing pending, so that the call does not wait.
func (m *machine) Hold(t *rapid.T) {
	k, r := m.pick(t)
	if !r.idle() {
		t.Skip("something is pending")
	}
	must(t, m.j.Hold(context.Background(), k))
	r.held++
}

// Release ends a hold.
func (m *machine) Release(t *rapid.T) {
	k, r := m.pick(t)
	if r.held == 0 {
		t.Skip("the key is not held")
	}
	r.held--
	if can := m.j.Release(k); can != (r.held == 0 && r.newest != nil && !r.dead) {
		t.Fatalf("%s: may go now: %t, with %+v", k, can, r)
	}
}

// Append appends some records of streams, which share syncs.
func (m *machine) Append(t *rapid.T) {
	type result struct {
		appended
		err error
	}
	n := rapid.IntRange(1, 4).Draw(t, "records")
	results := make(chan result, n)
	for i := range n {
		body := random(rapid.SampledFrom([]int{0, 10, 4 << 10, 4<<10 + 1, 70_000}).Draw(t, "size"), rapid.Uint64().Draw(t, "body"))
		d := m.j.Receive(-1)
		_, err := d.Write(body)
		must(t, err)
		at := time.Unix(int64(i+1), 0)
		must(t, m.j.Records.Append(d, fmt.Sprint("stream", i%2), at, func(rec Record, err error) { results <- result{appended{rec, body}, err} }))
	}
	for i := range n {
		got := <-results
		must(t, got.err)
		if got.Stream != fmt.Sprint("stream", i%2) || got.At != time.Unix(int64(i+1), 0) || got.Size != int64(len(got.body)) {
			t.Fatalf("record %d of %d: %+v", i, n, got.Record)
		}
		m.records = append(m.records, got.appended)
	}
}

// EndRecords releases some of the records of streams.
func (m *machine) EndRecords(t *rapid.T) {
	defer m.j.committer.hasten()()
	var numbers []uint64
	m.records = slices.DeleteFunc(m.records, func(one appended) bool {
		if rapid.Bool().Draw(t, "done") {
			numbers = append([]uint64{one.ID}, numbers...)
			return true
		}
		return false
	})
	done := make(chan error, 1)
	must(t, m.j.Records.Done(numbers, func(err error) { done <- err }))
	must(t, <-done)
}

// Restart closes the journal and opens it again.
func (m *machine) Restart(t *rapid.T) {
	must(t, m.j.Close())
	m.open(t)
	m.again(t)
}

// Crash loses everything that was not synced.
func (m *machine) Crash(t *rapid.T) {
	after := m.disk.Crash(crashfs.Loss{})
	must(t, m.j.Close())
	m.disk = after
	m.open(t)
	m.again(t)
}

// again matches the model with the entries that recovery found.
func (m *machine) again(t *rapid.T) {
	for n := range m.keys {
		r := &m.keys[n]
		if r.newest == nil {
			continue
		}
		e := m.j.Last(r.newest.Key)
		if e == nil || e.ID != r.newest.ID || e.ETag != r.newest.ETag || e.Deleted != r.newest.Deleted {
			t.Fatalf("%+v is %+v", r.newest, e)
		}
		r.newest = e
	}
}

// Check compares the journal with the model.
func (m *machine) Check(t *rapid.T) {
	must(t, m.j.Accepting())
	var want, found []string
	entries, dead := 0, 0
	for n := range m.keys {
		r, k := &m.keys[n], key(fmt.Sprint(n))
		if e := m.j.Last(k); e != r.newest {
			t.Fatalf("%s is %+v, not %+v", k, e, r.newest)
		}
		if r.leased != nil && r.leased != r.newest {
			entries++
		}
		if r.newest == nil {
			continue
		}
		entries++
		want = append(want, k.Name)
		if r.dead {
			dead++
		}
		if r.newest.Deleted {
			continue
		}
		body, err := m.j.Body(r.newest, 0, r.newest.Size)
		must(t, err)
		got, err := io.ReadAll(body)
		must(t, err)
		must(t, body.Close())
		if !bytes.Equal(got, r.body) {
			t.Fatalf("%s has another body", k)
		}
	}
	m.j.Ascend("bucket", "", func(e *Entry) bool {
		found = append(found, e.Key.Name)
		return true
	})
	if !slices.Equal(found, want) || m.j.Len() != entries || len(m.j.DeadLetters()) != dead || m.j.Stats().Pending != entries-dead {
		t.Fatalf("keys %q, not %q; %d entries of %d, %d dead letters of %d, %+v", found, want, m.j.Len(), entries, len(m.j.DeadLetters()), dead, m.j.Stats())
	}
	m.checkRecords(t)
}

func (m *machine) checkRecords(t *rapid.T) {
	all := slices.Collect(m.j.Records.All)
	bytesHeld := int64(0)
	if len(all) != len(m.records) {
		t.Fatalf("%+v, not %+v", all, m.records)
	}
	for i, want := range m.records {
		bytesHeld += want.Size
		if got := all[i]; got.ID != want.ID || got.Stream != want.Stream || got.Size != want.Size || !got.At.Equal(want.At) {
			t.Fatalf("record %d is %+v, not %+v", i, got, want.Record)
		}
		body, err := m.j.Records.Body(all[i])
		must(t, err)
		got, err := io.ReadAll(body)
		must(t, err)
		must(t, body.Close())
		if !bytes.Equal(got, want.body) {
			t.Fatalf("record %+v has another body", want.Record)
		}
	}
	st := m.j.Stats().Records
	if st.Number != len(all) || st.Bytes != bytesHeld || len(all) > 0 && !st.Oldest.Equal(all[0].At) || len(all) == 0 && !st.Oldest.IsZero() {
		t.Fatalf("%+v of %d records with %d bytes", st, len(all), bytesHeld)
	}
}

// TestStateMachine compares random sequences of operations on a journal with a model and shrinks
// failures. -rapid.checks=N runs more sequences; -rapid.seed replays one.
func TestStateMachine(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &machine{disk: crashfs.New()}
		m.open(t)
		defer func() { m.j.Close() }()
		t.Repeat(rapid.StateMachineActions(m))
	})
}
