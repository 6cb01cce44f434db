package facts

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/internal/codec"
)

var noLog = slog.New(slog.DiscardHandler)

func named(bucket string) ID { return ID{Endpoint: 7, Account: "account", Bucket: bucket} }

// answer records an answer that no change has overtaken.
func answer(t *testing.T, b *Book, id ID, reason Reason, at time.Time) {
	t.Helper()
	if !b.Answer(id, b.Epoch(), reason, at) {
		t.Fatalf("the answer %q for %s was not kept", reason, id.Bucket)
	}
}

// TestFactsSurviveARestart: a start finds all facts unchanged, in the same order of use.
func TestFactsSurviveARestart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "facts")
	b := Open(path, noLog)
	at := time.Now().Add(-time.Hour)
	for reason := None; reason < reasons; reason++ {
		answer(t, b, named("bucket-"+reason.String()), reason, at)
	}
	b.Raise(named("bucket-raised"))
	b.SetOtherETags(named("bucket-etags"))
	b.SetKind(named("bucket-kinds"), "storage-class GLACIER", true)
	b.SetKind(named("bucket-kinds"), "key backslash", false)
	b.Resume(named("bucket-versioned"), Versioned)
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	again := Open(path, noLog)
	want, got := b.All(), again.All()
	if len(got) != len(want) || again.Epoch() != b.Epoch() {
		t.Fatalf("%d records and epoch %d, want %d and %d", len(got), again.Epoch(), len(want), b.Epoch())
	}
	for i := range want {
		if !got[i].Asked.Equal(want[i].Asked) {
			t.Errorf("%s was asked %v, want %v", want[i].Bucket, got[i].Asked, want[i].Asked)
		}
		got[i].Asked = want[i].Asked
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("%+v, want %+v", got[i], want[i])
		}
	}
	if read, err := Read(path); err != nil || len(read) != len(want) {
		t.Errorf("Read: %d records, %v", len(read), err)
	}
}

// TestDamagedFactsAreSetAside: if any byte of the file is damaged, or the file is cut anywhere,
// none of it is used. The file is set aside, and a new one can be written.
func TestDamagedFactsAreSetAside(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "facts")
	b := Open(path, noLog)
	answer(t, b, named("one"), None, time.Now())
	answer(t, b, named("two"), Versioned, time.Now())
	if err := b.Save(); err != nil {
		t.Fatal(err)
	}
	sound, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var damages [][]byte
	for i := range sound {
		flipped := bytes.Clone(sound)
		flipped[i] ^= 0x10
		damages = append(damages, flipped, sound[:i])
	}
	for i, damage := range append(damages, bytes.Repeat([]byte("x"), 100)) {
		if err := os.WriteFile(path, damage, 0o600); err != nil {
			t.Fatal(err)
		}
		b := Open(path, noLog)
		if n := len(b.All()); n != 0 {
			t.Fatalf("damage %d: %d records were read", i, n)
		}
		if kept, err := os.ReadFile(path + damagedSuffix); err != nil || !bytes.Equal(kept, damage) {
			t.Fatalf("damage %d was not kept: %v", i, err)
		}
		answer(t, b, named("three"), None, time.Now())
		if err := b.Save(); err != nil || len(Open(path, noLog).All()) != 1 {
			t.Fatalf("damage %d: nothing can be saved: %v", i, err)
		}
	}
}

// TestFactsOfALaterRelease: a file of an unknown version is not misread.
func TestFactsOfALaterRelease(t *testing.T) {
	raw := encode(content{})
	later := bytes.Replace(raw, []byte(magic+"\x01"), []byte(magic+"\x02"), 1)
	if _, err := decode(later); err == nil {
		t.Error("a file with a wrong checksum was read")
	}
}

// TestAnswersAreOvertaken: an answer to a question that was asked before a change is not kept, even
// if the record of the change has been evicted in the meantime.
func TestAnswersAreOvertaken(t *testing.T) {
	for name, change := range map[string]func(b *Book, id ID){
		"raised":    (*Book).Raise,
		"forgotten": (*Book).Forget,
		"reset":     (*Book).Reset,
		"pushed out": func(b *Book, id ID) {
			b.Raise(id)
			for i := range maxAbsent {
				b.Raise(named(fmt.Sprint("other-", i)))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			b, id := New(), named("bucket")
			before := b.Epoch()
			change(b, id)
			if b.Answer(id, before, None, time.Now()) {
				t.Error("the old answer was kept")
			}
			if f := b.Get(id); f.Known(time.Now(), time.Hour) {
				t.Errorf("%+v", f)
			}
			answer(t, b, id, Versioned, time.Now())
		})
	}
	b := New()
	before := b.Epoch()
	b.Raise(named("another"))
	if !b.Answer(named("bucket"), before, None, time.Now()) {
		t.Error("a change of another bucket has overtaken the answer")
	}
}

// TestWhatAChangeKeeps: facts that were observed rather than reported by the upstream survive a
// change of the bucket's settings, and end when the bucket is deleted.
func TestWhatAChangeKeeps(t *testing.T) {
	b, id := New(), named("bucket")
	answer(t, b, id, None, time.Now())
	b.SetOtherETags(id)
	b.SetKind(id, "key control-character", false)
	b.Raise(id)
	if f := b.Get(id); !f.Known(time.Now(), time.Hour) || f.Why() != OtherETags {
		t.Errorf("during a change: %+v", f)
	}
	b.Forget(id)
	f := b.Get(id)
	if _, refused := f.Kinds["key control-character"]; f.Known(time.Now(), time.Hour) || !f.OtherETags || !refused {
		t.Errorf("after a change: %+v", f)
	}
	answer(t, b, id, None, time.Now())
	if f := b.Get(id); f.Why() != OtherETags {
		t.Errorf("asked again: %v", f.Why())
	}
	b.Reset(id)
	if f := b.Get(id); f.OtherETags || len(f.Kinds) > 0 {
		t.Errorf("the bucket was deleted: %+v", f)
	}
}

// TestKindsAreLearned: a refused kind stays refused, and the number of kinds is bounded.
func TestKindsAreLearned(t *testing.T) {
	b, id := New(), named("bucket")
	learned := func() map[string]bool { return maps.Clone(b.Get(id).Kinds) }
	b.SetKind(id, "a", true)
	shared := b.Get(id).Kinds
	b.SetKind(id, "a", false)
	b.SetKind(id, "a", true)
	b.SetKind(id, "b", false)
	if got := learned(); !reflect.DeepEqual(got, map[string]bool{"a": false, "b": false}) {
		t.Error(got)
	}
	if !shared["a"] {
		t.Error("a returned map was changed")
	}
	for i := range 2 * maxKinds {
		b.SetKind(id, fmt.Sprint(i), true)
	}
	if n := len(learned()); n != maxKinds {
		t.Errorf("%d kinds", n)
	}
	b.SetKind(id, "0", false)
	if accepted, known := learned()["0"]; accepted || !known {
		t.Error("no further kind can be refused")
	}
}

// TestTheBookIsBounded: the least recently used buckets are evicted, and invented names evict no
// bucket that exists.
func TestTheBookIsBounded(t *testing.T) {
	b := New()
	now := time.Now()
	for i := range maxPresent {
		answer(t, b, named(fmt.Sprint("real-", i)), None, now)
	}
	for i := range 3 * maxAbsent {
		answer(t, b, named(fmt.Sprint("invented-", i)), Absent, now)
	}
	if n := len(b.All()); n != maxPresent+maxAbsent {
		t.Fatalf("%d records", n)
	}
	if f := b.Get(named("real-0")); f.Asked.IsZero() { // this also counts as a use
		t.Fatal("an invented name evicted a bucket")
	}
	answer(t, b, named("one more"), None, now)
	if f := b.Get(named("real-0")); f.Asked.IsZero() {
		t.Error("the most recently used bucket was evicted")
	}
	if f := b.Get(named("real-1")); !f.Asked.IsZero() {
		t.Error("the least recently used bucket was not evicted")
	}
}

// TestAgeOfFacts: facts expire, even if the clock is set back by a large amount.
func TestAgeOfFacts(t *testing.T) {
	now := time.Now()
	for age, want := range map[time.Duration]bool{0: true, time.Hour: true, time.Hour + 1: false, -time.Minute: true, -2 * time.Hour: false} {
		f := Fact{Asked: now.Add(-age)}
		if got := f.Known(now, time.Hour); got != want {
			t.Errorf("age %v: known %t", age, got)
		}
	}
	if f := (Fact{}); f.Known(now, time.Hour) {
		t.Error("nothing is known")
	}
}

// TestSavesAreGathered: a new fact is on disk within a second, a fact that was only refreshed
// within a minute, and a failed save is repeated.
func TestSavesAreGathered(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "facts")
		var logged strings.Builder
		b := Open(path, slog.New(slog.NewTextHandler(&logged, nil)))
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Run(ctx)
		}()
		saved := func() (at time.Time) {
			t.Helper()
			records, err := Read(path)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				at = r.Asked
			}
			return at
		}
		sleep := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		first := time.Now()
		answer(t, b, named("bucket"), None, first)
		if sleep(saveSoon + time.Millisecond); !saved().Equal(first) {
			t.Error("a new fact was not saved")
		}
		second := time.Now()
		answer(t, b, named("bucket"), None, second)
		if sleep(2 * saveSoon); !saved().Equal(first) {
			t.Error("a refreshed fact was saved at once")
		}
		if sleep(saveLate); !saved().Equal(second) {
			t.Error("a refreshed fact was not saved")
		}
		blocker := path + ".new" // where the next file is written
		if err := os.Mkdir(blocker, 0o700); err != nil {
			t.Fatal(err)
		}
		third := time.Now()
		answer(t, b, named("bucket"), Versioned, third)
		if sleep(3 * saveLate); !saved().Equal(second) || strings.Count(logged.String(), "could not be saved") != 1 {
			t.Errorf("a failed save: %s", logged.String())
		}
		if err := os.Remove(blocker); err != nil {
			t.Fatal(err)
		}
		if sleep(saveLate); !saved().Equal(third) {
			t.Error("the save was not repeated")
		}
		cancel()
		<-done
	})
}

// FuzzFacts: no file is misread, and what is read is written back unchanged. The test corrects the
// checksum so that the fuzzer reaches the code behind it.
func FuzzFacts(f *testing.F) {
	b := New()
	b.Answer(named("bucket"), 0, Versioned, time.Unix(1, 2))
	b.SetKind(named("kinds"), "key backslash", true)
	unsummed := func(raw []byte) []byte { return raw[:len(raw)-crc32.Size] }
	f.Add(unsummed(encode(content{records: b.All()})))
	f.Add(unsummed(encode(content{})))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := decode(binary.LittleEndian.AppendUint32(bytes.Clone(raw), codec.Checksum(raw)))
		if err != nil {
			return
		}
		again, err := decode(encode(c))
		if err != nil || len(again.records) != len(c.records) || again.epoch != c.epoch {
			t.Errorf("%+v was read again as %+v, %v", c, again, err)
		}
	})
}
