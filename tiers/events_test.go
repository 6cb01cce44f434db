package tiers

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// TestEventsInvalidate: in mode Events a hit needs no validation, and a change behind the cache is
// seen as soon as its event arrives.
//
// Scenarios: E25.
func TestEventsInvalidate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Hour}, up)
		bodies := [][]byte{testkit.Bytes(1, 3*block), testkit.Bytes(2, 3*block), testkit.Bytes(3, 100)}
		up.Put(key("k"), bodies[0])
		wantRead(t, s, key("k"), "", bodies[0], akigw.Cold)
		wantRead(t, s, key("k"), "", bodies[0], akigw.Hot) // opens the stream and validates
		synctest.Wait()
		wantRead(t, s, key("k"), "", bodies[0], akigw.Hot) // confirmed after the stream began
		up.Reset()
		for range 5 {
			wantRead(t, s, key("k"), "", bodies[0], akigw.Hot)
		}
		wantCount(t, up, "HEAD", 0)
		wantCount(t, up, "GET", 0)
		for _, body := range bodies[1:] {
			up.Put(key("k"), body)
			synctest.Wait()
			wantRead(t, s, key("k"), "", body, "")
		}
		up.Delete(key("k"))
		synctest.Wait()
		if _, _, err := readAll(s, key("k"), ""); err == nil {
			t.Error("a removed object is still served")
		}
		// The same bytes with other metadata: the new headers are served.
		etag := up.Put(key("m"), bodies[0])
		wantRead(t, s, key("m"), "", bodies[0], akigw.Cold)
		stored, _ := up.Get(key("m"))
		stored.Header, stored.Modified = http.Header{"X-Amz-Meta-Color": {"red"}}, stored.Modified.Add(time.Second)
		up.PutStored(key("m"), stored)
		synctest.Wait()
		up.Reset()
		head, err := s.Head(context.Background(), key("m"), akigw.RangeSpec{}, akigw.Conditions{})
		if err != nil || head.Object.Header.Get("X-Amz-Meta-Color") != "red" || head.Object.ETag != etag {
			t.Errorf("%+v %v", head, err)
		}
		wantRead(t, s, key("m"), "", bodies[0], "")
	})
}

// TestEventGapIsStrict: while there is no stream, each read validates. After a gap, entries that
// were confirmed before it are validated once.
func TestEventGapIsStrict(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Hour}, up)
		old, changed := testkit.Bytes(1, 100), testkit.Bytes(2, 100)
		up.Put(key("k"), old)
		up.Put(key("other"), old)
		for range 3 {
			wantRead(t, s, key("k"), "", old, "")
			wantRead(t, s, key("other"), "", old, "")
			synctest.Wait()
		}
		up.Deaf.Store(true)
		up.BreakStreams()
		synctest.Wait()
		up.Put(key("k"), changed) // no event is sent
		wantRead(t, s, key("k"), "", changed, "")
		up.Reset()
		for range 4 {
			wantRead(t, s, key("other"), "", old, akigw.Hot)
		}
		wantCount(t, up, "HEAD", 4)
		up.Put(key("other"), changed) // no event is sent for this either
		up.Deaf.Store(false)
		time.Sleep(reopenMost)
		if up.Streams() != 1 {
			t.Fatalf("%d streams", up.Streams())
		}
		wantRead(t, s, key("other"), "", changed, "")
		up.Reset()
		wantRead(t, s, key("other"), "", changed, akigw.Hot)
		wantRead(t, s, key("k"), "", changed, akigw.Hot)
		wantRead(t, s, key("k"), "", changed, akigw.Hot)
		wantCount(t, up, "HEAD", 1) // for k, which was confirmed before the gap
	})
}

// mute is an upstream whose streams open but send nothing.
type mute struct{ *s3mem.Memory }

func (mute) Listen(ctx context.Context, _ string, alive func(), _ func(cold.Change)) error {
	alive()
	<-ctx.Done()
	return context.Cause(ctx)
}

// TestSilentStreamIsAGap: a stream without heartbeats is not trusted, and is opened again.
func TestSilentStreamIsAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Hour}, mute{up})
		up.Put(key("k"), []byte("old"))
		for range 3 {
			wantRead(t, s, key("k"), "", []byte("old"), "")
			synctest.Wait()
		}
		before := s.counters.eventGaps.Get()
		up.Put(key("k"), []byte("new"))
		time.Sleep(silence)
		wantRead(t, s, key("k"), "", []byte("new"), "")
		time.Sleep(silence)
		if s.counters.eventGaps.Get() == before {
			t.Error("no gap was counted")
		}
	})
}

// webhooked is an upstream that only posts events.
type webhooked struct{ *s3mem.Memory }

func (webhooked) Events(string) cold.EventSource { return cold.Webhook }

// TestWebhookEvents: an event invalidates an entry at once. Because events can get lost, a
// confirmation also expires after ttl_secs.
func TestWebhookEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Minute}, webhooked{up})
		up.Put(key("k"), []byte("old"))
		wantRead(t, s, key("k"), "", []byte("old"), akigw.Cold)
		up.Reset()
		wantRead(t, s, key("k"), "", []byte("old"), akigw.Hot)
		wantCount(t, up, "HEAD", 0)
		up.Put(key("k"), []byte("new"))
		s.Changed(cold.Change{Key: key("k"), ETag: `"x"`, Size: 3})
		wantRead(t, s, key("k"), "", []byte("new"), akigw.Cold)
		up.Put(key("k"), []byte("newest")) // this event gets lost
		wantRead(t, s, key("k"), "", []byte("new"), akigw.Hot)
		time.Sleep(time.Minute)
		wantRead(t, s, key("k"), "", []byte("newest"), "")
	})
}

// TestEventsOfOwnWrites: after the event of the gateway's own write, the object is in the cache and
// is read without a GET.
func TestEventsOfOwnWrites(t *testing.T) {
	up := s3mem.New()
	s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Hour}, webhooked{up})
	body := testkit.Bytes(1, 3*block)
	if err := put(s, up, key("k"), body); err != nil {
		t.Fatal(err)
	}
	stored, _ := up.Get(key("k"))
	s.Changed(cold.Change{Key: key("k"), ETag: stored.ETag, Size: int64(len(body))})
	up.Reset()
	wantRead(t, s, key("k"), "", body, akigw.Hot)
	wantRead(t, s, key("k"), "", body, akigw.Hot)
	wantCount(t, up, "GET", 0)
	wantCount(t, up, "HEAD", 1)
}

// TestEventDuringAFill: a response that was in progress when the event of a newer version arrived
// is not kept.
//
// Scenarios: D1.
func TestEventDuringAFill(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Events, TTL: time.Hour}, up)
		up.Put(key("k"), []byte("old"))
		for range 2 {
			up.Put(key("first"), []byte("x"))
			wantRead(t, s, key("first"), "", []byte("x"), "")
			synctest.Wait()
		}
		asked, hold := make(chan struct{}), make(chan struct{})
		up.After = func(r *cold.Request, _ *http.Response) {
			if r.Key == key("k") && asked != nil {
				close(asked)
				asked = nil
				<-hold
			}
		}
		waiting := asked
		done := make(chan struct{})
		go func() {
			defer close(done)
			wantRead(t, s, key("k"), "", []byte("old"), akigw.Cold)
		}()
		<-waiting
		up.Put(key("k"), []byte("new"))
		synctest.Wait() // the event has arrived
		close(hold)
		<-done
		wantRead(t, s, key("k"), "", []byte("new"), "")
	})
}
