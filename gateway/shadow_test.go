package gateway

import (
	"bytes"
	"context"
	"crypto/md5"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/internal/testing/s3client"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/zipf"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/shadow"
	"github.com/akidb/akigw/tiers"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/trace"
)

// shadowRig is a gateway with a Shadow over an upstream in memory.
type shadowRig struct {
	*s3client.Client
	up     *s3mem.Memory
	store  *tiers.Store
	shadow *shadow.Shadow
}

// direct is a handler as the transport of a client, without a network.
type direct struct{ http.Handler }

// RoundTrip serves a request. The response has its headers under their canonical names.
func (d direct) RoundTrip(r *http.Request) (*http.Response, error) {
	in := r.Clone(r.Context())
	in.RequestURI, in.RemoteAddr = r.URL.RequestURI(), "127.0.0.1:1"
	if in.Body == nil {
		in.Body = http.NoBody
	}
	w := httptest.NewRecorder()
	d.ServeHTTP(w, in)
	resp := w.Result()
	for name, values := range resp.Header {
		delete(resp.Header, name)
		resp.Header[http.CanonicalHeaderKey(name)] = values
	}
	return resp, nil
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
	client := &http.Client{Transport: direct{New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: store, Upstream: up, Log: log, Shadow: to})}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error)
	go func() { done <- store.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && ctx.Err() == nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return &shadowRig{&s3client.Client{Endpoint: "http://gateway.test", HTTP: client}, up, store, to}
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

// pace is the time between two requests of a trace.
const pace = 20 * time.Millisecond

// play sends the accesses of a trace as requests, and returns the share of the reads that came from
// memory or disk. It needs a bubble: each request is sent when everything that the last one has started has
// ended, reading ahead above all. Otherwise two runs of the same trace hit up to a point more or less.
func (g *shadowRig) play(t *testing.T, accesses []trace.Access) (hitRatio float64) {
	t.Helper()
	reads, hits := 0, 0
	for n, a := range accesses {
		time.Sleep(pace)
		synctest.Wait()
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

// comparison is what a gateway did that served a trace, and what one in shadow mode has predicted.
type comparison struct {
	freshness       rules.Freshness
	requests        int     // of the trace
	ratio           float64 // hits of the reads
	saved, received int     // requests, and bytes from the upstream
	by              shadow.Prediction
}

// compareShadow sends a trace to a gateway of one configuration that serves, and to one of another
// configuration in shadow mode.
func compareShadow(t *testing.T, serving, passing tiers.Config, sent []trace.Access) comparison {
	t.Helper()
	served := openShadow(t, serving)
	served.fill(sent)
	c := comparison{freshness: serving.Freshness, requests: len(sent)}
	c.ratio = served.play(t, sent)
	c.saved, c.received = len(sent)-served.requests(), int(served.up.Sent())

	passing.Shadow = rules.ShadowMetadata
	passed := openShadow(t, passing)
	passed.fill(sent)
	if hits := passed.play(t, sent); hits != 0 || passed.requests() != len(sent) {
		t.Fatalf("in shadow mode %f of the reads are hits, and %d requests of %d reach the upstream", hits, passed.requests(), len(sent))
	}
	report := passed.shadow.Report()
	if report.Total.Replaced != 0 {
		t.Errorf("%d objects were replaced by others", report.Total.Replaced)
	}
	c.by = report.Total.Configured
	t.Logf("%-9s %3d MiB of memory, %3d MiB of disk: hit ratio %.4f, predicted %.4f; saved %d requests of %d, predicted %d; received %d bytes, predicted %d", c.freshness,
		serving.HotBytes>>20, serving.WarmBytes>>20, c.ratio, c.by.HitRatio, c.saved, c.requests, c.by.SavedRequests, c.received, c.by.Bytes)
	return c
}

// The bounds of what a prediction may be off by. Those of the hit ratio and of the requests are promised.
// Received bytes are not: in 7 long runs they were off by 0.7% in the mean on disks that are too small, and by 5.2%
// at most.
const (
	mostPoints   = 1 // of the hit ratio, in percent
	mostRequests = 3 // percent of the saved requests
	mostBytes    = 8 // percent of the received bytes
)

// wrong says what was predicted wrongly, "" for nothing.
func (c comparison) wrong() (what string) {
	if math.Abs(c.by.HitRatio-c.ratio) > mostPoints/100. {
		what += " hit ratio"
	}
	of := float64(c.saved)
	if c.freshness == rules.Strict { // it saves few requests, if any: there, the percentage is of the requests
		of = float64(c.requests)
	}
	if math.Abs(float64(c.by.SavedRequests)-float64(c.saved)) > mostRequests/100.*math.Abs(of) {
		what += " requests"
	}
	if math.Abs(float64(c.by.Bytes)-float64(c.received)) > mostBytes/100.*float64(c.received) {
		what += " bytes"
	}
	return what
}

// TestShadowPredicts: the same recorded trace, once in shadow mode and once served. The hit ratio
// agrees within one point, and the saved requests within 3%, also on a disk that is too small for the trace.
// AKIGW_LONG=1 tries more sizes.
func TestShadowPredicts(t *testing.T) {
	testkit.WithoutRace(t, "it sends one request after the other")
	const requests = 3000
	for _, c := range []struct {
		freshness rules.Freshness
		memory    int // MiB
		disk      int // MiB
		objects   int
		long      bool // only with AKIGW_LONG
	}{
		{rules.Strict, 8, 0, 400, false},
		{rules.TTL, 2, 0, 400, true},
		{rules.TTL, 8, 0, 400, false},
		{rules.TTL, 24, 0, 400, true},
		{rules.Immutable, 2, 0, 400, true},
		{rules.Exclusive, 8, 0, 400, true},
		{rules.Exclusive, 4, 256, 400, false},
		{rules.TTL, 4, 40, 400, false}, // from here on, disks that are too small for the trace
		{rules.Exclusive, 4, 40, 400, true},
		{rules.TTL, 4, 64, 800, true},
		{rules.Exclusive, 4, 64, 800, true},
		{rules.TTL, 4, 96, 1200, true},
		{rules.Exclusive, 4, 96, 1200, true},
	} {
		if c.long && os.Getenv("AKIGW_LONG") == "" {
			continue
		}
		t.Run(fmt.Sprintf("%s/%d+%d", c.freshness, c.memory, c.disk), func(t *testing.T) {
			random := testkit.Random(t)
			synctest.Test(t, func(t *testing.T) {
				config := tiers.Config{Freshness: c.freshness, HotBytes: size.Bytes(c.memory << 20), WarmBytes: size.Bytes(c.disk << 20)}
				sent := recorded(t, config, traffic(random, c.objects, requests))
				if got := compareShadow(t, config, config, sent).wrong(); got != "" {
					t.Errorf("predicted wrongly:%s", got)
				}
			})
		})
	}
}

// TestShadowPredictsWhatIsConfigured: a prediction for tiers of another size is not that of these, so that
// TestShadowPredicts can fail.
func TestShadowPredictsWhatIsConfigured(t *testing.T) {
	testkit.WithoutRace(t, "it sends one request after the other")
	random := testkit.Random(t)
	for name, c := range map[string]struct{ memory, disk size.Bytes }{"less memory": {4 << 20, 0}, "more memory": {12 << 20, 0}, "a disk": {8 << 20, 40 << 20}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				serving := tiers.Config{Freshness: rules.TTL, HotBytes: 8 << 20}
				passing := tiers.Config{Freshness: rules.TTL, HotBytes: c.memory, WarmBytes: c.disk}
				if got := compareShadow(t, serving, passing, traffic(random, 400, 1500)); got.wrong() == "" {
					t.Error("the prediction agrees with a gateway of another size")
				}
			})
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

// TestShadowCounts: which requests count as reads that a cache could have answered, and as what. Each is sent
// twice, after object "k" of two versions was read.
func TestShadowCounts(t *testing.T) {
	failing := func(status int) func(*cold.Request) (*http.Response, error) {
		return func(*cold.Request) (*http.Response, error) {
			return s3mem.Response(status, nil, []byte("<Error><Code>InternalError</Code></Error>")), nil
		}
	}
	etag := `"` + hex.EncodeToString(md5of(testkit.Bytes(1, 100_000))) + `"`
	for _, c := range []struct {
		name, method, query string
		header              http.Header
		before              func(*cold.Request) (*http.Response, error)
		reads               uint64 // of the two
		hits                float64
	}{
		{name: "the whole object", method: "GET", reads: 2, hits: 2},
		{name: "a range", method: "GET", header: http.Header{"Range": {"bytes=10-99"}}, reads: 2, hits: 2},
		{name: "a range that it does not have", method: "GET", header: http.Header{"Range": {"bytes=100000-"}}, reads: 2, hits: 2},
		{name: "HEAD", method: "HEAD", reads: 2, hits: 2},
		{name: "not modified", method: "GET", header: http.Header{"If-None-Match": {etag}}, reads: 2, hits: 2},
		{name: "a failed condition", method: "GET", header: http.Header{"If-Match": {`"other"`}}, reads: 2, hits: 2},
		{name: "another version", method: "GET", query: "versionId=v1", reads: 2, hits: 1},
		{name: "the version null, which changes", method: "GET", query: "versionId=null"},
		{name: "no-store", method: "GET", header: http.Header{"Cache-Control": {"no-store"}}},
		{name: "a subresource", method: "GET", query: "tagging"},
		{name: "500 from the upstream", method: "GET", before: failing(500)},
		{name: "503 from the upstream", method: "HEAD", before: failing(503)},
		{name: "403 from the upstream", method: "GET", before: failing(403)},
		{name: "no upstream", method: "GET", before: func(*cold.Request) (*http.Response, error) { return nil, akigw.ErrUpstreamUnavailable }},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := openShadow(t, tiers.Config{Freshness: rules.Immutable, HotBytes: 8 << 20, Shadow: rules.ShadowMetadata})
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "k"}, testkit.Bytes(1, 100_000))
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "k", Version: "v1"}, testkit.Bytes(1, 100_000))
			g.Must(t, "GET", "/bucket/k", "", nil, nil)
			before := g.shadow.Report().Total
			g.up.Before = c.before
			for range 2 {
				g.Must(t, c.method, "/bucket/k", c.query, c.header, nil)
			}
			after := g.shadow.Report().Total
			hits := after.Configured.HitRatio*float64(after.Reads) - before.Configured.HitRatio*float64(before.Reads)
			if after.Requests-before.Requests != 2 || after.Reads-before.Reads != c.reads || math.Abs(hits-c.hits) > 0.01 {
				t.Errorf("%d requests, %d reads, %.2f hits; want 2, %d, %.2f", after.Requests-before.Requests, after.Reads-before.Reads, hits, c.reads, c.hits)
			}
			for _, p := range after.Modes {
				if p.Stale != 0 || after.Replaced != 0 {
					t.Errorf("%s: %d stale responses, %d replaced", p.Freshness, p.Stale, after.Replaced)
				}
			}
		})
	}
}

func md5of(body []byte) []byte {
	sum := md5.Sum(body)
	return sum[:]
}

// TestShadowPastTheGateway: an object that others replace or delete counts as stale once, in each mode
// that would not have asked.
func TestShadowPastTheGateway(t *testing.T) {
	key := akigw.Key{Bucket: "bucket", Name: "k"}
	for name, change := range map[string]func(*s3mem.Memory){
		"replaced": func(up *s3mem.Memory) { up.Put(key, []byte("new")) },
		"deleted":  func(up *s3mem.Memory) { up.Delete(key) },
	} {
		t.Run(name, func(t *testing.T) {
			g := openShadow(t, tiers.Config{Freshness: rules.TTL, HotBytes: 8 << 20, Shadow: rules.ShadowMetadata})
			g.Must(t, "PUT", "/bucket/k", "", nil, []byte("old"))
			g.Must(t, "GET", "/bucket/k", "", nil, nil)
			change(g.up)
			g.Must(t, "GET", "/bucket/k", "", nil, nil)
			l := g.shadow.Report().Total
			if l.Replaced != 1 {
				t.Errorf("%d objects were replaced or deleted", l.Replaced)
			}
			for _, p := range l.Modes {
				want := map[rules.Freshness]uint64{rules.TTL: 1, rules.Immutable: 1, rules.Exclusive: 1}[p.Freshness]
				if p.Stale != want {
					t.Errorf("%s: %d stale responses, want %d", p.Freshness, p.Stale, want)
				}
			}
			g.Must(t, "PUT", "/bucket/k", "", nil, []byte("ours")) // which is not past the gateway
			g.Must(t, "GET", "/bucket/k", "", nil, nil)
			g.Must(t, "DELETE", "/bucket/k", "", nil, nil)
			g.Must(t, "GET", "/bucket/k", "", nil, nil)
			if l := g.shadow.Report().Total; l.Replaced != 1 {
				t.Errorf("changes through the gateway count as well: %d", l.Replaced)
			}
		})
	}
}

// TestShadowRestart: a gateway that is restarted counts from zero, and takes nothing that happened
// meanwhile for stale. With bodies it predicts hits of what the tiers have kept.
func TestShadowRestart(t *testing.T) {
	for mode, hits := range map[rules.Shadow]float64{rules.ShadowMetadata: 0, rules.ShadowBodies: 1} {
		t.Run(string(mode), func(t *testing.T) {
			config := tiers.Config{Freshness: rules.Immutable, HotBytes: 8 << 20, Shadow: mode}
			g := openShadow(t, config)
			for _, name := range []string{"same", "replaced"} {
				g.up.Put(akigw.Key{Bucket: "bucket", Name: name}, testkit.Bytes(1, 1000))
				g.Must(t, "GET", "/bucket/"+name, "", nil, nil)
			}
			again := shadow.New(shadow.Options{Cache: config, Prices: cost.Default()})
			g.HTTP.Transport = direct{New(Options{Verifier: verifier(), Policies: rootOnly{}, Store: g.store, Upstream: g.up, Log: slog.New(slog.DiscardHandler), Shadow: again})}
			g.up.Put(akigw.Key{Bucket: "bucket", Name: "replaced"}, testkit.Bytes(2, 1000))
			g.Must(t, "GET", "/bucket/same", "", nil, nil)
			if l := again.Report().Total; l.Reads != 1 || l.Configured.HitRatio != hits {
				t.Errorf("after the restart: %+v", l)
			}
			g.Must(t, "GET", "/bucket/replaced", "", nil, nil)
			l := again.Report().Total
			if l.Reads != 2 || l.Replaced != 0 || l.Configured.Stale != 0 {
				t.Errorf("after a replacement during the restart: %+v", l)
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
