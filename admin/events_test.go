package admin

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/minio/minio-go/v7/pkg/signer"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/placement"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/sigv4"
	"github.com/akidb/akigw/tiers"
)

// testServer returns the admin listener of a store over an upstream in memory.
func testServer(t *testing.T) (*Server, *tiers.Store, *s3mem.Memory) {
	up := s3mem.New()
	config := tiers.Config{HotBytes: 1 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true}
	log, dir := slog.New(slog.DiscardHandler), t.TempDir()
	book := rules.NewSet(nil, rules.Settings{Freshness: rules.Immutable, Memory: true, Block: 64 << 10})
	accesses, pins := placement.NewAccesses(), placement.OpenPins(dir, log)
	store, err := tiers.New(tiers.Options{Config: config, Rules: book, Upstream: up, Pins: pins, Observers: []tiers.Observer{accesses}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	place := placement.New(placement.Options{Dir: dir, Store: store, Pins: pins, Accesses: accesses, Rules: book, Upstream: up})
	return New(Options{Config: Config{Listen: "127.0.0.1:9001", EventsToken: "the-token-of-events"}, Store: store, Placement: place, Keys: sigv4.StaticKeys{"operator": "secret-of-the-operator"}, Region: "us-east-1", Version: "test", Log: log}), store, up
}

// notification returns an event message as S3 and MinIO send it.
func notification(event, bucket, key, etag string, size int) string {
	return fmt.Sprintf(`{"EventName":"s3:ObjectCreated:Put","Key":"b/k","Records":[{"eventVersion":"2.1","eventName":%q,"s3":{"bucket":{"name":%q},"object":{"key":%q,"size":%d,"eTag":%q,"sequencer":"1"}}}]}`,
		event, bucket, key, size, etag)
}

// TestWebhook: a notification invalidates its key; any other body changes nothing and gets an error.
func TestWebhook(t *testing.T) {
	s, store, up := testServer(t)
	post := func(body string, change func(r *http.Request)) (int, string) {
		r := httptest.NewRequest("POST", "http://127.0.0.1:9001/events", strings.NewReader(body))
		r.RemoteAddr = "127.0.0.1:5"
		r.Header.Set("Authorization", "Bearer the-token-of-events")
		if change != nil {
			change(r)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		return w.Code, w.Body.String()
	}
	key := akigw.Key{Bucket: "bucket", Name: "a key/ü+1"}
	outcome := func() akigw.Outcome {
		r, err := store.Get(context.Background(), key, akigw.RangeSpec{}, akigw.Conditions{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for err == nil {
			_, err = r.Next(context.Background())
		}
		return r.Outcome
	}
	up.Put(key, []byte("old"))
	if first, second := outcome(), outcome(); first != akigw.Cold || second != akigw.Hot {
		t.Fatal(first, second)
	}
	for _, c := range []struct {
		name, body string
		change     func(r *http.Request)
		code       int
		outcome    akigw.Outcome
	}{
		{"another key", notification("s3:ObjectCreated:Put", "bucket", "a+key", "x", 3), nil, 200, akigw.Hot},
		{"this key", notification("s3:ObjectCreated:Put", "bucket", "a+key/%C3%BC%2B1", "x", 3), nil, 200, akigw.Cold},
		{"removed", notification("ObjectRemoved:Delete", "bucket", "a+key/%C3%BC%2B1", "", 0), nil, 200, akigw.Cold},
		{"a test", `{"Service":"Amazon S3","Event":"s3:TestEvent","Bucket":"bucket"}`, nil, 200, akigw.Hot},
		{"no JSON", "<xml/>", nil, 400, akigw.Hot},
		{"no key", notification("s3:ObjectCreated:Put", "bucket", "", "x", 3), nil, 400, akigw.Hot},
		{"badly encoded", notification("s3:ObjectCreated:Put", "bucket", "%zz", "x", 3), nil, 400, akigw.Hot},
		{"too large", strings.Repeat(" ", maxEvents+1), nil, 400, akigw.Hot},
		{"no token", notification("s3:ObjectCreated:Put", "bucket", "a+key/%C3%BC%2B1", "x", 3), func(r *http.Request) { r.Header.Del("Authorization") }, 401, akigw.Hot},
		{"wrong token", notification("s3:ObjectCreated:Put", "bucket", "a+key/%C3%BC%2B1", "x", 3), func(r *http.Request) { r.Header.Set("Authorization", "Bearer x") }, 403, akigw.Hot},
		{"signed for another body", notification("s3:ObjectCreated:Put", "bucket", "a+key/%C3%BC%2B1", "x", 3), func(r *http.Request) {
			r.Header.Set("X-Amz-Content-Sha256", noBody)
			r.Header.Del("Authorization")
			*r = *signer.SignV4(*r, "operator", "secret-of-the-operator", "", "us-east-1")
		}, 400, akigw.Hot},
	} {
		code, body := post(c.body, c.change)
		if got := outcome(); code != c.code || got != c.outcome {
			t.Errorf("%s: %d %s then %s, want %d and %s", c.name, code, strings.TrimSpace(body), got, c.code, c.outcome)
		}
	}
}
