package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/shadow"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/trace"
)

// shadowRig is a gateway with a Shadow over an upstream in memory.
type shadowRig struct {
	*s3client.Client
	up     *s3mem.Memory
	store  *tiers.Store
	shadow *shadow.Shadow
}

// openShadow opens a gateway. Its store runs until the test ends.
func openShadow(t testing.TB, config tiers.Config, observers ...tiers.Observer) *shadowRig {
	t.Helper()
	up, log := s3mem.New(), slog.New(slog.DiscardHandler)
	config.BlockBytes, config.SmallBytes, config.MD5ETags, config.FetchBytes, config.ParallelFetches = 64<<10, 4<<10, true, 2<<20, 12
	config.ReadAheadBytes, config.SequentialBytes, config.FillBytes, config.TTLSecs = 32<<20, 4<<20, 128<<20, 3600
	store, err := tiers.New(tiers.Options{Config: config, Rules: rules.NewSet(nil, config.Settings()), Dir: filepath.Join(t.TempDir(), "warm"), Upstream: up, Observers: observers, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	to := shadow.New(shadow.Options{Cache: config, Prices: cost.Default()})
	server := httptest.NewServer(New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: store, Upstream: up, Log: log, Shadow: to}))
	client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		client.CloseIdleConnections()
		server.Close()
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &shadowRig{&s3client.Client{Endpoint: server.URL, HTTP: client}, up, store, to}
}

// requests is how many requests have reached the upstream.
func (g *shadowRig) requests() (n int) {
	for _, method := range []string{"GET", "HEAD", "PUT", "POST", "DELETE"} {
		n += g.up.Count(method)
	}
	return n
}

// traffic is requests at random, as a trace records them: mostly reads, of whole objects and of ranges,
// some one after another, and some writes.
func traffic(random *rand.Rand, objects, requests int) (all []trace.Access) {
	popular := zipf.New(objects, 0.8)
	sizes := make([]int64, objects)
	for i := range sizes {
		sizes[i] = 1 + random.Int64N(4<<10)
		if random.IntN(3) > 0 {
			sizes[i] = 1 + random.Int64N(5*64<<10)
		}
	}
	for len(all) < requests {
		n := popular.Draw(random)
		a := trace.Access{Bucket: "bucket", Key: fmt.Sprintf("object-%04d", n), Size: sizes[n], Length: sizes[n]}
		switch dice := random.IntN(20); {
		case dice == 0:
			a.Write = true
		case dice < 4:
			a.Start = random.Int64N(a.Size)
			a.Length = 1 + random.Int64N(a.Size-a.Start)
		case dice == 4: // one range after the other
			for a.Length = 1 + a.Size/8; a.Start+a.Length < a.Size; a.Start += a.Length {
				all = append(all, a)
			}
			a.Length = a.Size - a.Start
		}
		all = append(all, a)
	}
	return all
}

// play sends the accesses of a trace as requests, and returns the share of the reads that came from
// memory or disk.
func (g *shadowRig) play(t *testing.T, accesses []trace.Access) (hitRatio float64) {
	t.Helper()
	reads, hits := 0, 0
	for n, a := range accesses {
		path := "/" + a.Bucket + "/" + a.Key
		if a.Write {
			if got := g.Must(t, "PUT", path, "", nil, testkit.Bytes(uint64(n), int(a.Size))); got.Status != 200 {
				t.Fatalf("PUT %s: %d", path, got.Status)
			}
			continue
		}
		var h http.Header
		if a.Length < a.Size {
			h = http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", a.Start, a.Start+a.Length-1)}}
		}
		got := g.Must(t, "GET", path, "", h, nil)
		if got.Status != 200 && got.Status != 206 || int64(len(got.Body)) != a.Length {
			t.Fatalf("GET %s %v: %d, %d bytes", path, h, got.Status, len(got.Body))
		}
		reads++
		if from := got.Header.Get("X-Akigw-Cache"); from == "hot" || from == "warm" {
			hits++
		}
	}
	return float64(hits) / float64(reads)
}

// recorded plays traffic through a gateway that serves, and returns what its recorder has seen.
func recorded(t *testing.T, config tiers.Config, sent []trace.Access) (all []trace.Access) {
	t.Helper()
	var r trace.Recorder
	g := openShadow(t, config, &r)
	g.fill(sent)
	recording, err := r.Start(false)
	if err != nil {
		t.Fatal(err)
	}
	defer recording.Close()
	g.play(t, sent)
	var file bytes.Buffer // a trace is lines of JSON
	for len(recording.Accesses()) > 0 {
		if err := json.NewEncoder(&file).Encode(<-recording.Accesses()); err != nil {
			t.Fatal(err)
		}
	}
	for lines := json.NewDecoder(&file); lines.More(); {
		var a trace.Access
		if err := lines.Decode(&a); err != nil {
			t.Fatal(err)
		}
		all = append(all, a)
	}
	if recording.Lost() != 0 || len(all) != len(sent) {
		t.Fatalf("recorded %d accesses of %d", len(all), len(sent))
	}
	return all
}

// fill puts the objects of a trace into the upstream.
func (g *shadowRig) fill(accesses []trace.Access) {
	for i, a := range accesses {
		key := akigw.Key{Bucket: a.Bucket, Name: a.Key}
		if _, known := g.up.Get(key); !known {
			g.up.Put(key, testkit.Bytes(uint64(i), int(a.Size)))
		}
	}
}

// TestShadowPredicts: the same recorded trace, once in shadow mode and once served. The hit ratio
// agrees within one point, and the saved requests within 3%.
func TestShadowPredicts(t *testing.T) {
	const objects, requests = 400, 3000
	for _, c := range []struct {
		name   string
		config tiers.Config
	}{
		{"strict, memory", tiers.Config{Freshness: rules.Strict, HotBytes: 8 << 20}},
		{"ttl, memory", tiers.Config{Freshness: rules.TTL, HotBytes: 8 << 20}},
		{"immutable, little memory", tiers.Config{Freshness: rules.Immutable, HotBytes: 2 << 20}},
		{"exclusive, memory", tiers.Config{Freshness: rules.Exclusive, HotBytes: 8 << 20}},
		{"exclusive, memory and disk", tiers.Config{Freshness: rules.Exclusive, HotBytes: 4 << 20, WarmBytes: 256 << 20}},
	} {
		t.Run(c.name, func(t *testing.T) {
			sent := recorded(t, c.config, traffic(testkit.Random(t), objects, requests))

			served := openShadow(t, c.config)
			served.fill(sent)
			ratio := served.play(t, sent)
			saved := len(sent) - served.requests()

			c.config.Shadow = rules.ShadowMetadata
			passed := openShadow(t, c.config)
			passed.fill(sent)
			if hits := passed.play(t, sent); hits != 0 || passed.requests() != len(sent) {
				t.Fatalf("in shadow mode %f of the reads are hits, and %d requests of %d reach the upstream", hits, passed.requests(), len(sent))
			}
			report := passed.shadow.Report()
			got := report.Total.Configured
			t.Logf("hit ratio %.4f, predicted %.4f; saved %d requests of %d, predicted %d; received %d bytes, predicted %d", ratio, got.HitRatio, saved, len(sent), got.SavedRequests, served.up.Sent(), got.Bytes)
			if math.Abs(got.HitRatio-ratio) > 0.01 {
				t.Errorf("hit ratio %.4f, predicted %.4f", ratio, got.HitRatio)
			}
			// Strict saves few requests, if any: there, 3% are of the requests.
			of := float64(saved)
			if c.config.Freshness == rules.Strict {
				of = float64(len(sent))
			}
			if math.Abs(float64(got.SavedRequests)-float64(saved)) > 0.03*math.Abs(of) {
				t.Errorf("saved %d requests, predicted %d", saved, got.SavedRequests)
			}
			if bytes := float64(served.up.Sent()); math.Abs(float64(got.Bytes)-bytes) > 0.03*bytes {
				t.Errorf("received %.0f bytes, predicted %d", bytes, got.Bytes)
			}
			if report.Total.Replaced != 0 {
				t.Errorf("%d objects were replaced by others", report.Total.Replaced)
			}
		})
	}
}

// TestShadowOnlyPasses: in shadow mode the upstream gets what a client sends, as it is sent, and the
// response is the upstream's. The tiers stay empty, or get what passes, but answer nothing.
func TestShadowOnlyPasses(t *testing.T) {
	for _, mode := range []rules.Shadow{rules.ShadowMetadata, rules.ShadowBodies} {
		t.Run(string(mode), func(t *testing.T) {
			g := openShadow(t, tiers.Config{Freshness: rules.Immutable, HotBytes: 8 << 20, WarmBytes: 64 << 20, Shadow: mode})
			large, small := testkit.Bytes(1, 300_000), []byte("small")
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "large"}, large)
			g.Must(t, "PUT", "/bucket/small", "", nil, small)
			for range 2 {
				for _, c := range []struct {
					method, path, byteRange string
					want                    []byte
				}{{"GET", "large", "", large}, {"GET", "large", "bytes=10-99", large[10:100]}, {"GET", "small", "", small}, {"HEAD", "large", "", nil}} {
					before := g.requests()
					var h http.Header
					if c.byteRange != "" {
						h = http.Header{"Range": {c.byteRange}}
					}
					got := g.Must(t, c.method, "/bucket/"+c.path, "", h, nil)
					if !bytes.Equal(got.Body, c.want) || got.Header.Get("X-Akigw-Cache") != "bypass" || g.requests() != before+1 {
						t.Errorf("%+v: %d, %d bytes from %s, %d requests", c, got.Status, len(got.Body), got.Header.Get("X-Akigw-Cache"), g.requests()-before)
					}
				}
			}
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "large"}, small)
			if got := g.Must(t, "GET", "/bucket/large", "", nil, nil); !bytes.Equal(got.Body, small) {
				t.Errorf("after a replacement: %d bytes", len(got.Body))
			}
			usage := g.store.Usage()
			if (usage.HotBytes > 0) != (mode == rules.ShadowBodies) {
				t.Errorf("the tiers hold %+v", usage)
			}
			l := g.shadow.Report().Total
			if l.Reads != 9 || l.Replaced != 1 || l.Requests != 10 {
				t.Errorf("reported %+v", l)
			}
			for _, p := range l.Modes {
				want := map[rules.Freshness]uint64{rules.TTL: 1, rules.Immutable: 1, rules.Exclusive: 1}[p.Freshness]
				if p.Stale != want {
					t.Errorf("%s: %d stale responses, want %d", p.Freshness, p.Stale, want)
				}
			}
			if l.Best != rules.Events {
				t.Errorf("best is %s", l.Best)
			}
		})
	}
}

// TestShadowFillsTiers: what passed in shadow mode with bodies is served once the mode is off, and a
// body that does not match its checksum is not kept.
func TestShadowFillsTiers(t *testing.T) {
	mode := rules.Settings{Freshness: rules.Immutable, Memory: true, Block: 64 << 10, Shadow: rules.ShadowBodies}
	b := newBench(t, rootAlone, rootAlone)
	settings := &mode
	store, err := tiers.New(tiers.Options{Config: tiers.Config{HotBytes: 8 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10, MD5ETags: true}, Upstream: b.up, Rules: changing{settings}})
	if err != nil {
		t.Fatal(err)
	}
	defer store.Close()
	b.reconfigure(func(o *Options) { o.Store = store; o.Shadow = shadow.New(shadow.Options{}) })
	for name, size := range map[string]int{"small": 100, "large": 200_000, "empty": 0} {
		b.up.Put(akigw.Key{Bucket: "bucket", Name: name}, testkit.Bytes(1, size))
		b.ask("root", "GET", "/bucket/"+name, "", nil, "")
	}
	b.up.PutStored(akigw.Key{Bucket: "bucket", Name: "wrong"}, s3mem.Stored{Body: []byte("body"), ETag: `"0123456789abcdef0123456789abcdef"`, Modified: time.Now().Add(-time.Hour)})
	b.ask("root", "GET", "/bucket/wrong", "", nil, "")
	settings.Shadow = rules.ShadowOff
	for name, want := range map[string]string{"small": "hot", "large": "hot", "empty": "hot"} {
		if w := b.ask("root", "GET", "/bucket/"+name, "", nil, ""); sentHeader(w, "x-akigw-cache") != want {
			t.Errorf("%s: %d from %s, want %s", name, w.Code, sentHeader(w, "x-akigw-cache"), want)
		}
	}
	if w := b.ask("root", "GET", "/bucket/wrong", "", nil, ""); sentHeader(w, "x-akigw-cache") == "hot" {
		t.Error("a body that does not match its checksum was kept")
	}
}

// changing are rules whose settings a test changes between requests.
type changing struct{ settings *rules.Settings }

func (c changing) For(string, string) *rules.Settings { return c.settings }

func (c changing) Pinning() (uint64, bool) { return 0, false }
