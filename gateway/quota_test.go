package gateway

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/gateway/limits"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
)

// bucketsBench is a gateway in front of an upstream that has buckets.
func bucketsBench(t *testing.T, maxBuckets int, quotas ...limits.QuotaConfig) (b *bench, buckets *sync.Map) {
	b, buckets = backBench(t), &sync.Map{}
	buckets.Store("back", true)
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		switch {
		case r.Op == "ListBuckets":
			var names strings.Builder
			buckets.Range(func(name, _ any) bool {
				fmt.Fprintf(&names, "<Bucket><Name>%s</Name></Bucket>", name)
				return true
			})
			return s3mem.Response(200, nil, []byte("<ListAllMyBucketsResult><Buckets>"+names.String()+"</Buckets></ListAllMyBucketsResult>")), nil
		case r.Op == "CreateBucket":
			buckets.Store(r.Key.Bucket, true)
			return s3mem.Response(200, nil, nil), nil
		}
		return nil, nil
	}
	b.reconfigure(func(o *Options) { o.MaxBuckets, o.Quotas = maxBuckets, quotas })
	return b, buckets
}

// count has the gateway list the buckets of its quotas.
func (b *bench) count(t *testing.T) {
	t.Helper()
	if !b.g.quotas.Count(t.Context()) {
		t.Fatal("a quota could not be counted")
	}
}

// usage is the state of the first quota.
func (b *bench) usage() limits.Usage { return b.g.quotas.Usage()[0] }

// TestBucketLimit: however many are asked for at once, there are never more buckets than
// may be; one that is there may be asked for again.
//
// Scenarios: E23.
func TestBucketLimit(t *testing.T) {
	const most = 20
	b, buckets := bucketsBench(t, most)
	var made, refused atomic.Int64
	var all sync.WaitGroup
	for i := range 3 * most {
		all.Go(func() {
			switch w := b.ask("root", "PUT", fmt.Sprintf("/bucket-%03d", i), "", nil, ""); {
			case w.Code == 200:
				made.Add(1)
			case w.Code == 400 && strings.Contains(w.Body.String(), "<Code>TooManyBuckets</Code>"):
				refused.Add(1)
			default:
				t.Errorf("%d %s", w.Code, w.Body)
			}
		})
	}
	all.Wait()
	n := 0
	buckets.Range(func(any, any) bool { n++; return true })
	if n != most || made.Load() != most-1 || refused.Load() != 3*most-most+1 {
		t.Errorf("%d buckets, %d made, %d refused", n, made.Load(), refused.Load())
	}
	if w := b.ask("root", "PUT", "/back", "", nil, ""); w.Code != 200 {
		t.Errorf("one that is there: %d", w.Code)
	}
}

// TestQuota: writes that fit one by one and not together are refused before their bodies
// are read, by whichever way they come; what ends gives its room back.
//
// Scenarios: E21.
func TestQuota(t *testing.T) {
	for _, bucket := range []string{"exclusive", "back"} {
		b, buckets := bucketsBench(t, 0, limits.QuotaConfig{Bucket: bucket + "*", AccessKey: "*", MaxBytes: 100_000})
		buckets.Store(bucket, true)
		b.up.Put(keyOf(bucket, "there"), make([]byte, 10_000))
		b.count(t)
		body := strings.Repeat("x", 20_000)
		var stored, refused atomic.Int64
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				switch w := b.ask("root", "PUT", fmt.Sprintf("/%s/%d", bucket, i), "", nil, body); {
				case w.Code == 200:
					stored.Add(1)
				case w.Code == 403 && strings.Contains(w.Body.String(), "QuotaExceeded"):
					refused.Add(1)
				default:
					t.Errorf("%d %s", w.Code, w.Body)
				}
			})
		}
		all.Wait()
		if stored.Load() != 4 || refused.Load() != 8 {
			t.Errorf("%s: %d stored, %d refused", bucket, stored.Load(), refused.Load())
		}
		if b.usage().Used != 90_000 || b.usage().Reserved != 0 {
			t.Errorf("%s: %d used, %d reserved", bucket, b.usage().Used, b.usage().Reserved)
		}
		for i := range 12 { // over what is there: the same size
			if w := b.ask("root", "HEAD", fmt.Sprintf("/%s/%d", bucket, i), "", nil, ""); w.Code != 200 {
				continue
			}
			if w := b.ask("root", "PUT", fmt.Sprintf("/%s/%d", bucket, i), "", nil, body[:10_000]); w.Code != 200 {
				t.Errorf("%s: written over: %d", bucket, w.Code)
			}
		}
		if b.usage().Used != 50_000 {
			t.Errorf("%s: %d used", bucket, b.usage().Used)
		}
		if w := b.ask("root", "PUT", "/"+bucket+"/bad", "", http.Header{"Content-Md5": {"AAAAAAAAAAAAAAAAAAAAAA=="}}, body); w.Code != 400 || b.usage().Used != 50_000 || b.usage().Reserved != 0 {
			t.Errorf("%s: %d, then %d used, %d reserved", bucket, w.Code, b.usage().Used, b.usage().Reserved)
		}
		if w := b.ask("root", "PUT", "/"+bucket+"/copy", "", http.Header{"X-Amz-Copy-Source": {"/" + bucket + "/there"}}, ""); w.Code != 200 || b.usage().Used != 60_000 {
			t.Errorf("%s: copy %d, %d used", bucket, w.Code, b.usage().Used)
		}
		if w := b.ask("root", "DELETE", "/"+bucket+"/copy", "", nil, ""); w.Code != 204 || b.usage().Used > 60_000 {
			t.Errorf("%s: %d, %d used", bucket, w.Code, b.usage().Used)
		}
		if w := b.ask("root", "PUT", "/other/k", "", nil, strings.Repeat("x", 200_000)); w.Code != 200 {
			t.Errorf("another bucket: %d", w.Code)
		}
		b.drain(t)
		if b.count(t); b.usage().Used != b.stored(bucket) {
			t.Errorf("%s: %d after a listing, the upstream has %d", bucket, b.usage().Used, b.stored(bucket))
		}
	}
}

// TestPartsCount: parts of uploads count, and those of an upload that is aborted do not
// any more.
//
// Scenarios: E22.
func TestPartsCount(t *testing.T) {
	b, _ := bucketsBench(t, 0, limits.QuotaConfig{Bucket: "exclusive", AccessKey: "*", MaxBytes: 100_000})
	b.count(t)
	begun := b.ask("root", "POST", "/exclusive/k", "uploads", nil, "")
	id := between(begun.Body.String(), "<UploadId>", "</UploadId>")
	if id == "" {
		t.Fatal(begun.Body)
	}
	part := strings.Repeat("p", 40_000)
	for n, want := range []int{200, 200, 403} {
		if w := b.ask("root", "PUT", "/exclusive/k", fmt.Sprintf("partNumber=%d&uploadId=%s", n+1, id), nil, part); w.Code != want {
			t.Errorf("part %d: %d %s", n, w.Code, w.Body)
		}
	}
	if b.usage().Used != 80_000 {
		t.Errorf("%d used", b.usage().Used)
	}
	if w := b.ask("root", "DELETE", "/exclusive/k", "uploadId="+id, nil, ""); w.Code != 204 || b.usage().Used != 0 {
		t.Errorf("abort: %d, %d used", w.Code, b.usage().Used)
	}
	if w := b.ask("root", "PUT", "/exclusive/k", "", nil, part); w.Code != 200 {
		t.Errorf("%d", w.Code)
	}
}

// TestQuotaOfAnAccessKey: a quota refuses the writes of those that it names.
func TestQuotaOfAnAccessKey(t *testing.T) {
	b, _ := bucketsBench(t, 0, limits.QuotaConfig{Bucket: "exclusive", AccessKey: "somebody else", MaxBytes: 1000})
	b.count(t)
	if w := b.ask("root", "PUT", "/exclusive/k", "", nil, strings.Repeat("x", 5000)); w.Code != 200 || b.usage().Used != 5000 {
		t.Errorf("%d, %d used", w.Code, b.usage().Used)
	}
}

func between(s, from, to string) string {
	_, s, _ = strings.Cut(s, from)
	s, _, _ = strings.Cut(s, to)
	return s
}

// stored is how many bytes the upstream has in a bucket.
func (b *bench) stored(bucket string) (sum int64) {
	for _, name := range b.up.KeysOf(bucket) {
		o, _ := b.up.Get(keyOf(bucket, name))
		sum += int64(len(o.Body))
	}
	return sum
}

// TestQuotasPastAHangingUpstream: a CreateBucket that an upstream holds up keeps others waiting
// no longer than their clients do, and a quota of one bucket needs no answer of other upstreams.
func TestQuotasPastAHangingUpstream(t *testing.T) {
	b, _ := bucketsBench(t, 10, limits.QuotaConfig{Bucket: "exclusive", AccessKey: "*", MaxBytes: 100_000}, limits.QuotaConfig{Bucket: "absent", AccessKey: "*", MaxBytes: 100_000})
	q := b.g.quotas
	create := func(ctx context.Context, bucket string) (limits.Reservation, error) {
		return q.Begin(ctx, limits.Write{Op: "CreateBucket", Key: keyOf(bucket, "")})
	}
	first, err := create(t.Context(), "one")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := create(ctx, "two"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("while another one is made: %v", err)
	}
	first.End(200)
	second, err := create(t.Context(), "two")
	if err != nil {
		t.Fatal(err)
	}
	second.End(200)

	b.up.Put(keyOf("exclusive", "there"), make([]byte, 10_000))
	before := b.up.Before
	b.up.Before = func(r *cold.Request) (*http.Response, error) {
		switch {
		case r.Op == "ListBuckets":
			return nil, fmt.Errorf("%w: one upstream hangs", akigw.ErrUpstreamUnavailable)
		case r.Key.Bucket == "absent":
			return s3mem.Response(404, nil, nil), nil
		}
		return before(r)
	}
	b.count(t)
	for i, want := range []int64{10_000, 0} {
		if u := q.Usage()[i]; u.Used != want || !u.Counted {
			t.Errorf("%s: %d bytes, want %d, counted %t", u.Bucket, u.Used, want, u.Counted)
		}
	}
}
