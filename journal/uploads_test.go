package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/akidb/akigw/internal/vfs"
)

// begin starts an upload and returns it.
func begin(t testing.TB, j *Journal, name, id string) *Upload {
	t.Helper()
	err := j.Uploads.Begin(t.Context(), Upload{ID: id, Key: key(name), Begun: time.Unix(1700000000, 0), Header: http.Header{"Content-Type": {"a/b"}}})
	if err != nil {
		t.Fatal(err)
	}
	return j.Uploads.Find(id)
}

func addPart(t testing.TB, j *Journal, u *Upload, n int, body []byte) (Part, error) {
	t.Helper()
	d := j.Uploads.Receive()
	if _, err := d.Write(body); err != nil {
		t.Fatal(err)
	}
	p := Part{Number: n, Size: int64(len(body)), ETag: etag(body), Header: http.Header{"X-Amz-Checksum-Crc32": {fmt.Sprint(n)}}}
	return p, j.Uploads.AddPart(t.Context(), u, d, p)
}

func mustAddPart(t testing.TB, j *Journal, u *Upload, n int, body []byte) Part {
	t.Helper()
	p, err := addPart(t, j, u, n, body)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// bodies counts the files of the spool.
func bodies(t testing.TB, j *Journal) int {
	t.Helper()
	names, err := j.config.FS.List(j.config.Dir + "/" + spoolDir)
	if err != nil {
		t.Fatal(err)
	}
	return len(names)
}

// settled waits until the journal's background goroutine has removed the files.
func settled(t testing.TB, j *Journal, want int) {
	t.Helper()
	for end := time.Now().Add(5 * time.Second); bodies(t, j) != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%d files in the spool, want %d", bodies(t, j), want)
		}
	}
}

// TestUploadAndPartsAreThereAfterRestart: an open upload is still open after a restart, with each
// part as it was last acknowledged.
//
// Scenarios: B13, B14.
func TestUploadAndPartsAreThereAfterRestart(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	u := begin(t, j, "k", "id")
	first, second := random(70_000, 1), random(10, 2)
	mustAddPart(t, j, u, 1, random(5, 9))
	mustAddPart(t, j, u, 7, second)
	mustAddPart(t, j, u, 1, first) // replaced
	mustAddPart(t, j, u, 3, nil)
	settled(t, j, 3)
	for range 2 {
		j = reopen(t, j)
		u := j.Uploads.Find("id")
		if u == nil || u.Key != key("k") || u.Header.Get("Content-Type") != "a/b" || !u.Begun.Equal(time.Unix(1700000000, 0)) {
			t.Fatalf("%+v", u)
		}
		parts, err := j.Uploads.Parts(u)
		if err != nil || len(parts) != 3 || parts[0].ETag != etag(first) || parts[0].Size != 70_000 || parts[1].Number != 3 || parts[2].Number != 7 || parts[2].Header.Get("X-Amz-Checksum-Crc32") != "7" {
			t.Errorf("%+v %v", parts, err)
		}
		if s := j.Stats(); s.Uploads != 1 || s.Bytes != 70_010 || s.Pending != 0 || !j.Idle() || j.Last(key("k")) != nil {
			t.Errorf("%+v", s)
		}
		if got := bodies(t, j); got != 3 {
			t.Errorf("%d files", got)
		}
	}
}

// TestCompletedIsWhole: the parts named in the completion form the body, in order. The other parts
// and the upload are gone. The same holds after a restart.
//
// Scenarios: B15.
func TestCompletedIsWhole(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	u := begin(t, j, "k", "id")
	a, b, c := random(70_000, 1), random(66_000, 2), random(10, 3)
	pa := mustAddPart(t, j, u, 2, a)
	mustAddPart(t, j, u, 4, random(20, 4))
	pb, pc := mustAddPart(t, j, u, 5, b), mustAddPart(t, j, u, 9, c)
	if err := j.Uploads.Complete(t.Context(), u, Entry{Key: key("k"), Parts: []Part{pa, {Number: 5, ETag: `"other"`}}}); !errors.Is(err, ErrNoPart) {
		t.Errorf("with a missing part: %v", err)
	}
	if err := j.Uploads.Complete(t.Context(), u, Entry{Key: key("k"), ETag: `"x-3"`, Header: u.Header, Parts: []Part{pa, pb, pc}}); err != nil {
		t.Fatal(err)
	}
	want := append(append(bytes.Clone(a), b...), c...)
	for range 3 {
		e := j.Last(key("k"))
		if e == nil || e.Size != int64(len(want)) || len(e.Parts) != 3 || e.Parts[2].Number != 9 || e.UploadID != "id" || e.ETag != `"x-3"` {
			t.Fatalf("%+v", e)
		}
		if j.Uploads.Find("id") != nil || j.Uploads.Completed("id") == nil || bodies(t, j) != 3 && func() bool { settled(t, j, 3); return false }() {
			t.Error("the upload is still open")
		}
		for range 50 {
			from := rand.IntN(len(want) + 1)
			to := from + rand.IntN(len(want)-from+1)
			got, err := stretch(j, e, int64(from), int64(to-from))
			if err != nil || !bytes.Equal(got, want[from:to]) {
				t.Fatalf("%d to %d: %v", from, to, err)
			}
		}
		if _, err := addPart(t, j, u, 1, a); !errors.Is(err, ErrNoUpload) {
			t.Errorf("adding a part after completion: %v", err)
		}
		if err := j.Uploads.Abort(t.Context(), u); !errors.Is(err, ErrNoUpload) {
			t.Errorf("aborting after completion: %v", err)
		}
		j = reopen(t, j)
	}
	e := j.Take(key("k"))
	body, err := j.Body(e, 0, e.Size)
	if err != nil {
		t.Fatal(err)
	}
	if err := j.Done(t.Context(), e); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("a reader of a removed body: %d bytes, %v", len(got), err)
	}
	body.Close()
	settled(t, j, 0)
	if s := j.Stats(); s.Bytes != 0 || s.Uploads != 0 {
		t.Errorf("%+v", s)
	}
}

// TestAbortedIsGone: an aborted upload is gone for good, with all its parts.
//
// Scenarios: B16.
func TestAbortedIsGone(t *testing.T) {
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	u := begin(t, j, "k", "id")
	p := mustAddPart(t, j, u, 1, random(70_000, 1))
	if err := j.Uploads.Abort(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	settled(t, j, 0)
	j = reopen(t, j)
	_, partErr := addPart(t, j, u, 2, nil)
	_, listErr := j.Uploads.Parts(u)
	for what, err := range map[string]error{"part": partErr, "list": listErr, "complete": j.Uploads.Complete(t.Context(), u, Entry{Key: key("k"), Parts: []Part{p}})} {
		if !errors.Is(err, ErrNoUpload) {
			t.Errorf("%s: %v", what, err)
		}
	}
	settled(t, j, 0)
	if s := j.Stats(); s.Bytes != 0 || s.Uploads != 0 || len(j.Uploads.List("")) != 0 || !j.Idle() {
		t.Errorf("%+v", s)
	}
}

// TestCompleteAbortAndPartAreInOrder: when a completion, an abort and a part race, exactly one
// operation ends the upload. What was acknowledged before it counts; what comes after it is
// refused.
//
// Scenarios: D17.
func TestCompleteAbortAndPartAreInOrder(t *testing.T) {
	completed, aborted := 0, 0
	j := open(t, testConfig(vfs.Disk{}, t.TempDir()))
	defer func() { j.Close() }()
	for round := range 60 {
		name := fmt.Sprint(round)
		u := begin(t, j, name, name)
		old, body := random(9, 1), random(8, 2)
		p := mustAddPart(t, j, u, 1, old)
		var wait sync.WaitGroup
		var completeErr, abortErr, partErr error
		complete := func() {
			completeErr = j.Uploads.Complete(context.Background(), u, Entry{Key: key(name), Parts: []Part{p}})
		}
		abort := func() { abortErr = j.Uploads.Abort(context.Background(), u) }
		if round%2 == 0 {
			complete, abort = abort, complete
		}
		wait.Go(complete)
		if round%3 == 0 { // no race: the first operation has already won
			wait.Wait()
		}
		wait.Go(abort)
		wait.Go(func() { _, partErr = addPart(t, j, u, 1, body) })
		wait.Wait()
		e := j.Last(key(name))
		switch {
		case completeErr == nil:
			completed++
			if data, err := stretch(j, e, 0, e.Size); err != nil || !bytes.Equal(data, old) || !errors.Is(abortErr, ErrNoUpload) || partErr != nil && !errors.Is(partErr, ErrNoUpload) {
				t.Errorf("completed: %q %v, abort %v, part %v", data, err, abortErr, partErr)
			}
		case errors.Is(completeErr, ErrNoPart) && partErr == nil || errors.Is(completeErr, ErrNoUpload):
			aborted++
			if e != nil || abortErr != nil {
				t.Errorf("aborted: %+v %v", e, abortErr)
			}
		default:
			t.Errorf("complete: %v, abort: %v, part: %v", completeErr, abortErr, partErr)
		}
		if j.Uploads.Find(name) != nil {
			t.Error("the upload is still open")
		}
	}
	if completed == 0 || aborted == 0 {
		t.Errorf("%d completed, %d aborted", completed, aborted)
	}
}

// TestOpenUploadsSurviveCompaction: an upload and its parts are moved out of old segments in any
// order, and are intact after a restart.
func TestOpenUploadsSurviveCompaction(t *testing.T) {
	c := testConfig(vfs.Disk{}, t.TempDir())
	c.SegmentBytes = 2 << 10
	j := open(t, c)
	defer func() { j.Close() }()
	u := begin(t, j, "k", "id")
	var parts []Part
	for n := 1; n <= 5; n++ {
		parts = append(parts, mustAddPart(t, j, u, n, random(100*n, uint64(n))))
		for i := range 60 { // short-lived writes fill segments
			mustPut(t, j, fmt.Sprint("other", i), random(50, 7))
		}
	}
	for i := range 200 {
		mustPut(t, j, "other", random(50, uint64(i)))
	}
	for end := time.Now().Add(5 * time.Second); j.log.firstID() < 3; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("segment %d still exists: nothing was moved", j.log.firstID())
		}
	}
	j = reopen(t, j)
	got, err := j.Uploads.Parts(j.Uploads.Find("id"))
	if err != nil || len(got) != 5 {
		t.Fatalf("%+v %v", got, err)
	}
	if err := j.Uploads.Complete(t.Context(), u, Entry{Key: key("k"), Parts: parts}); err != nil {
		t.Fatal(err)
	}
	for i := range 400 {
		mustPut(t, j, "other", random(50, uint64(i)))
	}
	j = reopen(t, j)
	e := j.Last(key("k"))
	for at, n := int64(0), 1; n <= 5; n++ {
		if data, err := stretch(j, e, at, int64(100*n)); err != nil || !bytes.Equal(data, random(100*n, uint64(n))) {
			t.Errorf("part %d: %v", n, err)
		}
		at += int64(100 * n)
	}
}

// TestUploadIDOfARewrittenEntry: at a start, the record of an entry's upstream upload ID can come
// before the record of the entry itself, because compaction rewrote the entry.
func TestUploadIDOfARewrittenEntry(t *testing.T) {
	s := newState()
	s.apply(&op{kind: kindUpload, entry: 900, key: key("k"), text: "up"}, place{number: 901, segment: 7})
	s.apply(&op{kind: kindPut, entry: 900, key: key("k"), put: &Entry{Key: key("k")}}, place{number: 902, segment: 8})
	if it := s.items[900]; it == nil || it.remote != "up" || len(s.orphans) > 0 || s.left(7) > 0 {
		t.Errorf("%+v, orphans %v", it, s.orphans)
	}
}
