package limits

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/s3err"
)

// twoUpstreams are "logs", which owns the buckets whose names begin with logs, and "default". Each
// has two buckets.
type twoUpstreams struct {
	takes map[string]time.Duration // to answer
	down  string
}

func (*twoUpstreams) Upstreams() []string { return []string{"logs", "default"} }

func (*twoUpstreams) OwnerOf(bucket string) string {
	if strings.HasPrefix(bucket, "logs") {
		return "logs"
	}
	return "default"
}

func (u *twoUpstreams) BucketsOf(ctx context.Context, upstream string) ([]string, error) {
	select {
	case <-time.After(u.takes[upstream]):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if u.down == upstream {
		return nil, akigw.ErrUpstreamUnavailable
	}
	name := map[string]string{"logs": "logs", "default": "other"}[upstream]
	return []string{name + "-1", name + "-2"}, nil
}

// TestBucketLimitPastAHangingUpstream: a bucket can be created while another upstream hangs; the
// last known number of that counts, and it is not asked each time.
func TestBucketLimitPastAHangingUpstream(t *testing.T) {
	for _, c := range []struct {
		name  string
		known bool // what the other one has
		most  int
		want  error
		took  time.Duration // of the first
	}{
		{"known, and there is room", true, 5, nil, otherPatience},
		{"known, and there is none", true, 4, s3err.TooManyBuckets, otherPatience},
		{"not known", false, 4, nil, otherPatience},
		{"not known, and there is no room without it", false, 2, s3err.TooManyBuckets, otherPatience},
	} {
		synctest.Test(t, func(t *testing.T) {
			up := &twoUpstreams{takes: map[string]time.Duration{}}
			q := NewQuotas(QuotaOptions{MaxBuckets: c.most, Buckets: up, Log: slog.New(slog.DiscardHandler)})
			create := func(bucket string) (error, time.Duration) {
				began := time.Now()
				made, err := q.Begin(t.Context(), Write{Op: "CreateBucket", Key: akigw.Key{Bucket: bucket}})
				made.End(200)
				return err, time.Since(began)
			}
			if c.known {
				create("other-1")
			}
			up.takes["logs"] = time.Hour
			for n, took := range []time.Duration{c.took, 0, 0} {
				if err, got := create("other-new"); !errors.Is(err, c.want) || got != took {
					t.Errorf("%s, bucket %d: %v after %v, want %v after %v", c.name, n+1, err, got, c.want, took)
				}
			}
			up.takes["logs"], up.down = 0, "default"
			if err, _ := create("other-new"); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
				t.Errorf("%s, on an upstream that is down: %v", c.name, err)
			}
			time.Sleep(2 * otherRetry)
			if err, _ := create("logs-new"); (err == nil) != (c.most > 4) || err != nil && !errors.Is(err, s3err.TooManyBuckets) { // the two buckets of the one that is down still count
				t.Errorf("%s, on the other one after that: %v", c.name, err)
			}
		})
	}
}

// TestQuotaCounts: what is written while buckets are listed counts, a quota that has not been counted
// refuses nothing, and a reservation that fails gives its room back.
func TestQuotaCounts(t *testing.T) {
	objects := &sizes{bytes: map[string]int64{"a-1": 40, "a-2": 20}}
	q := NewQuotas(QuotaOptions{Quotas: []QuotaConfig{{Bucket: "a-*", AccessKey: "*", MaxBytes: 100}}, Objects: objects, Buckets: oneUpstream{"a-1", "a-2", "b"}, Log: slog.New(slog.DiscardHandler)})
	put := func(bucket string, n int64) (Reservation, error) {
		return q.Begin(t.Context(), Write{Op: "PutObject", AccessKey: "k", Key: akigw.Key{Bucket: bucket, Name: "o"}, Length: n})
	}
	if r, err := put("a-1", 1000); err != nil {
		t.Errorf("before it was counted: %v", err)
	} else {
		r.End(500)
	}
	objects.while = func() { // a write during the listing
		r, err := put("a-1", 10)
		if err != nil {
			t.Error(err)
		}
		r.End(200)
	}
	if !q.Count(t.Context()) {
		t.Error("it could not be counted")
	}
	if u := q.Usage()[0]; u.Used != 70 || u.Reserved != 0 || !u.Counted {
		t.Errorf("%+v", u)
	}
	first, err := put("a-2", 30)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := put("a-1", 1); !errors.Is(err, s3err.QuotaExceeded) {
		t.Errorf("over the quota: %v", err)
	}
	if _, err := put("b", 1000); err != nil {
		t.Errorf("another bucket: %v", err)
	}
	first.End(500)
	if u := q.Usage()[0]; u.Used != 70 || u.Reserved != 0 {
		t.Errorf("after a write that failed: %+v", u)
	}
	objects.fails = true
	if q.Count(t.Context()) || q.Usage()[0].Used != 70 {
		t.Errorf("a count that failed: %+v", q.Usage()[0])
	}
}

// oneUpstream has these buckets.
type oneUpstream []string

func (oneUpstream) Upstreams() []string                                           { return []string{"default"} }
func (oneUpstream) OwnerOf(string) string                                         { return "default" }
func (u oneUpstream) BucketsOf(context.Context, string) (names []string, _ error) { return u, nil }

// sizes has objects of some size in each bucket, none of which is known by its key.
type sizes struct {
	bytes map[string]int64
	while func() // called during the first listing
	fails bool
}

func (s *sizes) BytesOf(_ context.Context, bucket string) (int64, error) {
	if while := s.while; while != nil {
		s.while = nil
		while()
	}
	if s.fails {
		return 0, akigw.ErrUpstreamUnavailable
	}
	return s.bytes[bucket], nil
}

func (*sizes) SizeOf(akigw.Key) int64                                 { return 0 }
func (*sizes) SizeOfSource(context.Context, akigw.Key) (int64, error) { return 0, nil }
