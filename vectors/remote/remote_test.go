package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/segment"
)

// head is the collection of most tests.
var head = segment.Head{Bucket: "my-bucket", Index: "my-index", Incarnation: "0123456789abcdef0123456789abcdef", Dimension: 2, Metric: vectors.Cosine}

var where = CollectionOf(head)

// upstream is an upstream in memory behind a fault plan.
type upstream struct{ s3mem.Faulty }

func newUpstream() *upstream { return &upstream{s3mem.Faulty{Memory: s3mem.New()}} }

// set replaces the fault plan.
func (u *upstream) set(t *testing.T, f ...faults.Fault) {
	t.Helper()
	if err := u.Set(faults.Plan{Seed: 1, Faults: f}); err != nil {
		t.Fatal(err)
	}
}

// flip damages an object: it changes a byte, and the ETag is that of the damaged bytes.
func (u *upstream) flip(t *testing.T, name string, at int) {
	t.Helper()
	key := akigw.Key{Bucket: "bucket", Name: "vectors/" + name}
	o, ok := u.Get(key)
	if !ok {
		t.Fatalf("no object %s among %q", name, u.KeysOf("bucket"))
	}
	body := bytes.Clone(o.Body)
	body[at] ^= 1
	u.Put(key, body)
}

// names are the objects below the prefix.
func (u *upstream) names() (names []string) {
	for _, key := range u.KeysOf("bucket") {
		names = append(names, strings.TrimPrefix(key, "vectors/"))
	}
	return names
}

func options(u cold.Doer, writer string) Options {
	return Options{Upstream: u, Bucket: "bucket", Prefix: "vectors/", Writer: writer, Keep: 2, Log: slog.New(slog.DiscardHandler)}
}

// open opens the prefix and takes it.
func open(t *testing.T, u cold.Doer, writer string) *Remote {
	t.Helper()
	r, err := Open(t.Context(), options(u, writer))
	if err == nil {
		_, err = r.Acquire(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// made is a part and its file.
type made struct {
	part segment.Part
	file []byte
}

// parts are made before the first test: the encoder of Parquet keeps channels, which belong to the
// bubble of a test in which they are made.
var parts = func() map[segment.Level][]made {
	all := map[segment.Level][]made{}
	for _, level := range []segment.Level{segment.Base, segment.Delta} {
		for seq := range uint64(16) {
			var b bytes.Buffer
			w := segment.NewWriter(&b, head)
			key := fmt.Sprint("key", seq)
			err := w.Add(segment.Row{Hash: vectors.HashKey(key), Key: key, Seq: seq, Data: []float32{1, float32(seq)}})
			s, ended := w.Close()
			if err := errors.Join(err, ended); err != nil {
				panic(err)
			}
			all[level] = append(all[level], made{segment.NewPart(level, s), b.Bytes()})
		}
	}
	return all
}()

// makePart returns a part with one vector and a sequence number below 16.
func makePart(level segment.Level, seq uint64) (segment.Part, []byte) {
	m := parts[level][seq]
	return m.part, m.file
}

// collection is what a test knows of a collection.
type collection struct {
	manifest segment.Manifest
	document []byte
	etag     string
}

// commit uploads parts and commits a manifest with them.
func (c *collection) commit(t *testing.T, r *Remote, parts ...segment.Part) error {
	t.Helper()
	m := c.manifest
	m.Head, m.Parts = head, parts
	m.Generation++
	for _, p := range parts {
		m.Applied = max(m.Applied, p.MaxSeq)
	}
	document, etag, err := r.CommitManifest(t.Context(), &m, c.etag)
	if err == nil {
		c.manifest, c.document, c.etag = m, document, etag
	}
	return err
}

// upload uploads a part with one vector.
func upload(t *testing.T, r *Remote, level segment.Level, seq uint64) segment.Part {
	t.Helper()
	p, body := makePart(level, seq)
	if err := r.PutPart(t.Context(), where, p, bytes.NewReader(body)); err != nil {
		t.Fatal(err)
	}
	return p
}

// TestRoundTrip: what is committed is found by another Remote.
func TestRoundTrip(t *testing.T) {
	u := newUpstream()
	r := open(t, u, "one")
	if _, err := r.LoadManifest(t.Context(), where, nil); !errors.Is(err, ErrAbsent) {
		t.Fatalf("a new collection: %v", err)
	}
	if _, err := r.LoadCatalog(t.Context(), nil); !errors.Is(err, ErrAbsent) {
		t.Fatalf("a new prefix: %v", err)
	}
	var c collection
	first := upload(t, r, segment.Delta, 1)
	if err := c.commit(t, r, first); err != nil {
		t.Fatal(err)
	}
	second := upload(t, r, segment.Delta, 2)
	if err := c.commit(t, r, first, second); err != nil {
		t.Fatal(err)
	}
	catalog := &segment.Catalog{Generation: 1, Buckets: []vectors.Bucket{{Name: "my-bucket", Incarnation: vectors.NewIncarnation()}}}
	document, etag, err := r.CommitCatalog(t.Context(), catalog, "")
	if err != nil {
		t.Fatal(err)
	}

	r = open(t, u, "one")
	if got, err := r.LoadCatalog(t.Context(), nil); err != nil || got.ETag != etag || !bytes.Equal(got.Document, document) || !reflect.DeepEqual(got.Catalog, catalog) {
		t.Errorf("catalog: %+v, %v", got, err)
	}
	got, err := r.LoadManifest(t.Context(), where, nil)
	if err != nil || got.ETag != c.etag || got.Source != FromUpstream || got.Degraded || !reflect.DeepEqual(got.Manifest, &c.manifest) {
		t.Fatalf("manifest: %+v, %v", got, err)
	}
	for _, p := range got.Parts {
		opened, err := r.OpenPart(t.Context(), got.Manifest, p, nil)
		if err != nil || len(opened) != 1 || opened[0].Source != FromUpstream {
			t.Fatalf("%v, %v", opened, err)
		}
		if err := segment.Read(t.Context(), opened[0], head, p.Summary, func(segment.Row) error { return nil }); err != nil {
			t.Error(err)
		}
		if err := closeAll(opened); err != nil {
			t.Error(err)
		}
	}
	want := []string{"catalog-00000000000000000001.json", "catalog.json",
		where.dir() + first.Name, where.dir() + second.Name,
		where.dir() + "manifest-00000000000000000001.json", where.dir() + "manifest-00000000000000000002.json", where.dir() + "manifest.json", "owner.json"}
	if names := u.names(); !slices.Equal(names, want) {
		t.Errorf("objects: %q", names)
	}
}

// ignoring is an upstream that ignores some conditions, or answers them with a status.
type ignoring struct {
	*s3mem.Memory
	header string
	status int // 0: the condition is ignored
}

// Do implements cold.Doer.
func (i *ignoring) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	if r.Method == http.MethodPut && r.Header.Get(i.header) != "" {
		if i.status != 0 {
			return s3mem.Response(i.status, nil, []byte("<Error><Code>NotImplemented</Code></Error>")), nil
		}
		own := *r
		own.Header = r.Header.Clone()
		own.Header.Del(i.header)
		r = &own
	}
	return i.Memory.Do(ctx, r)
}

// TestProbe: an upstream that does not honour conditional writes is refused, and the probe leaves
// nothing behind.
func TestProbe(t *testing.T) {
	for _, c := range []struct {
		name, header string
		status       int
	}{
		{"If-None-Match is ignored", "If-None-Match", 0},
		{"If-Match is ignored", "If-Match", 0},
		{"If-None-Match is not implemented", "If-None-Match", http.StatusNotImplemented},
		{"If-Match is not implemented", "If-Match", http.StatusNotImplemented},
		{"If-Match always fails", "If-Match", http.StatusPreconditionFailed},
		{"If-None-Match always fails", "If-None-Match", http.StatusPreconditionFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := s3mem.New()
			_, err := Open(t.Context(), options(&ignoring{m, c.header, c.status}, "one"))
			if !errors.Is(err, ErrConditions) || errors.Is(err, akigw.ErrUpstreamUnavailable) {
				t.Error(err)
			}
			if m.Len() != 0 {
				t.Errorf("left behind: %q", m.KeysOf("bucket"))
			}
		})
	}
}

// TestProbeUnreachable: an upstream that cannot be reached is another error than one that is not fit,
// and an upstream that forbids says so.
func TestProbeUnreachable(t *testing.T) {
	for _, c := range []struct {
		name        string
		fault       faults.Fault
		unavailable bool
	}{
		{"refused", faults.Fault{Effect: faults.Refused}, true},
		{"503", faults.Fault{Effect: faults.SlowDown}, true},
		{"hangs", faults.Fault{Effect: faults.Hang}, true},
		{"hangs after the PUT", faults.Fault{Effect: faults.HangAfter, Op: "PutObject"}, true},
		{"error in 200", faults.Fault{Effect: faults.ErrorIn200, Op: "PutObject"}, true},
		{"forbidden", faults.Fault{Effect: faults.AnyError, Status: 403, Code: "AccessDenied"}, false},
		{"no bucket", faults.Fault{Effect: faults.AnyError, Status: 404, Code: "NoSuchBucket"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				u.set(t, c.fault)
				_, err := Open(t.Context(), options(u, "one"))
				if errors.Is(err, akigw.ErrUpstreamUnavailable) != c.unavailable || err == nil || errors.Is(err, ErrConditions) {
					t.Error(err)
				}
			})
		})
	}
}

// TestProbeSurvivesFaults: a probe whose responses get lost now and then succeeds.
func TestProbeSurvivesFaults(t *testing.T) {
	for _, effect := range []faults.Effect{faults.ResetAfter, faults.ResetBefore, faults.SlowDown, faults.Duplicate} {
		for nth := 1; nth <= 4; nth++ {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				u.set(t, faults.Fault{Op: "PutObject", Effect: effect, Nth: nth})
				if _, err := Open(t.Context(), options(u, "one")); err != nil {
					t.Errorf("%s of PUT %d: %v", effect, nth, err)
				}
			})
		}
	}
}

var _ io.Closer = File(nil)
