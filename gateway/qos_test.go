package gateway

import (
	"bytes"
	"log/slog"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers"
)

// byBucket gives each bucket the class of its name.
type byBucket struct{}

func (byBucket) For(bucket, _ string) *rules.Settings {
	s := &rules.Settings{Freshness: rules.Exclusive, Memory: true, Block: 64 << 10}
	if bucket != "plain" {
		s.Class = bucket
	}
	return s
}

func (byBucket) Pinning() (uint64, bool) { return 0, false }
func (byBucket) Backs(string) bool       { return false }

func limitedBench(t *testing.T, classes ...limits.QoSConfig) *bench {
	t.Helper()
	b := &bench{up: s3mem.New()}
	log := slog.New(slog.DiscardHandler)
	var err error
	b.store, err = tiers.New(tiers.Options{Config: tiers.Config{HotBytes: 64 << 20, BlockBytes: 64 << 10, SmallBytes: 4 << 10}, Rules: byBucket{}, Upstream: b.up, Log: log})
	if err != nil {
		t.Fatal(err)
	}
	who := tenants(t)
	who["carol"] = who["root"]
	b.g = newBenchGateway(b, b.up, who, log)
	qos, err := limits.NewQoS(classes, byBucket{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.reconfigure(func(o *Options) { o.QoS = qos })
	return b
}

// TestRequestLimits: an identity, and a bucket, has so many requests a second;
// more are told to slow down, and others do not suffer.
func TestRequestLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := limitedBench(t, limits.QoSConfig{Name: "slow", IdentityRequests: 5, Weight: 1}, limits.QoSConfig{Name: "busy", BucketRequests: 8, Weight: 1})
		defer b.store.Close()
		count := func(who, path string, n int) (served int) {
			for range n {
				w := b.ask(who, "GET", path, "", nil, "")
				switch {
				case w.Code == 404:
					served++
				case w.Code != 503 || codeOf(w) != "SlowDown" || w.Header().Get("Retry-After") == "":
					t.Fatalf("%d %s", w.Code, w.Body)
				}
			}
			return served
		}
		for _, c := range []struct {
			who, path string
			want      int
		}{{"root", "/slow/k", 5}, {"carol", "/slow/k", 5}, {"root", "/plain/k", 20}, {"root", "/busy/k", 8}, {"carol", "/busy/k", 0}} {
			if got := count(c.who, c.path, 20); got != c.want {
				t.Errorf("%s at %s: %d of 20 served, want %d", c.who, c.path, got, c.want)
			}
		}
		time.Sleep(time.Second)
		if got := count("root", "/slow/k", 20); got != 5 {
			t.Errorf("a second later %d were served", got)
		}
		// Who is refused anyway takes nothing from anybody.
		time.Sleep(time.Second)
		for range 20 {
			if w := b.ask("alice", "GET", "/busy/k", "", nil, ""); w.Code != 403 {
				t.Fatal(w.Code)
			}
		}
		if got := count("root", "/busy/k", 20); got != 8 {
			t.Errorf("%d served after somebody else's refusals", got)
		}
	})
}

// TestByteLimits: bodies go no faster than they may, in both directions, whole.
func TestByteLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pace = 100 << 10
		b := limitedBench(t, limits.QoSConfig{Name: "slow", IdentityBytes: pace, Weight: 1}, limits.QoSConfig{Name: limits.DefaultClass, BucketBytes: pace, Weight: 1})
		defer b.store.Close()
		body := testkit.Bytes(1, 10*pace)
		for _, bucket := range []string{"slow", "plain"} {
			time.Sleep(time.Minute)
			started := time.Now()
			if w := b.ask("root", "PUT", "/"+bucket+"/k", "", nil, string(body)); w.Code != 200 {
				t.Fatalf("%s: %d %s", bucket, w.Code, w.Body)
			}
			if took := time.Since(started); took < 8*time.Second || took > 11*time.Second {
				t.Errorf("%s: the upload took %v", bucket, took)
			}
			time.Sleep(time.Minute)
			for range 2 { // cold or hot
				started = time.Now()
				w := b.ask("root", "GET", "/"+bucket+"/k", "", nil, "")
				if w.Code != 200 || !bytes.Equal(w.Body.Bytes(), body) {
					t.Fatalf("%s: %d, %d bytes", bucket, w.Code, w.Body.Len())
				}
				if took := time.Since(started); took < 8*time.Second || took > 11*time.Second {
					t.Errorf("%s: the download took %v", bucket, took)
				}
				time.Sleep(time.Minute)
			}
		}
		b.up.Put(keyOf("free", "k"), body)
		started := time.Now()
		if w := b.ask("root", "GET", "/free/k", "", http.Header{"Cache-Control": {"no-store"}}, ""); w.Code != 200 || time.Since(started) != 0 {
			t.Errorf("a class that there is not: %d after %v", w.Code, time.Since(started))
		}
	})
}
