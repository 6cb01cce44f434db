package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors"
	"github.com/akidb/akigw/vectors/segment"
)

// history commits n manifests, each with one delta more, and returns the last.
func history(t *testing.T, r *Remote, n uint64) (c collection) {
	t.Helper()
	for seq := range n {
		if err := c.commit(t, r, append(slices.Clone(c.manifest.Parts), upload(t, r, segment.Delta, seq+1))...); err != nil {
			t.Fatal(err)
		}
	}
	return c
}

// wipe replaces an object by zeros of its length, with an ETag of their own.
func (u *upstream) wipe(t *testing.T, name string) {
	t.Helper()
	key := akigw.Key{Bucket: "bucket", Name: "vectors/" + name}
	o, ok := u.Get(key)
	if !ok {
		t.Fatalf("no object %s", name)
	}
	u.Put(key, make([]byte, len(o.Body)))
}

// rot replaces an object by zeros, and the upstream does not notice: the ETag stays.
func (u *upstream) rot(t *testing.T, name string) {
	t.Helper()
	key := akigw.Key{Bucket: "bucket", Name: "vectors/" + name}
	o, _ := u.Get(key)
	o.Body = make([]byte, len(o.Body))
	u.PutStored(key, o)
}

// TestDamagedManifest: what stands in for a manifest that is damaged or gone, and that nothing is committed
// from an older one.
func TestDamagedManifest(t *testing.T) {
	current, copy3, copy2 := where.dir()+"manifest.json", where.dir()+"manifest-00000000000000000003.json", where.dir()+"manifest-00000000000000000002.json"
	remove := func(u *upstream, name string) { u.Delete(akigw.Key{Bucket: "bucket", Name: "vectors/" + name}) }
	for _, c := range []struct {
		name       string
		damage     func(t *testing.T, u *upstream)
		local      bool // a local copy of the last generation
		source     Source
		generation uint64
		degraded   bool
	}{
		{"intact", func(*testing.T, *upstream) {}, false, FromUpstream, 3, false},
		{"a byte", func(t *testing.T, u *upstream) { u.flip(t, current, 300) }, false, FromCopy, 3, false},
		{"all of it, but the ETag is right", func(t *testing.T, u *upstream) { u.rot(t, current) }, false, FromCopy, 3, false},
		{"all of it", func(t *testing.T, u *upstream) { u.wipe(t, current) }, false, FromCopy, 3, true},
		{"all of it, local copy", func(t *testing.T, u *upstream) { u.wipe(t, current) }, true, FromLocal, 3, false},
		{"gone", func(_ *testing.T, u *upstream) { remove(u, current) }, false, FromCopy, 3, true},
		{"gone, local copy", func(_ *testing.T, u *upstream) { remove(u, current) }, true, FromLocal, 3, false},
		{"a byte, no copy of the last one", func(t *testing.T, u *upstream) { u.flip(t, current, 300); remove(u, copy3) }, false, FromCopy, 2, true},
		{"a byte, copy damaged", func(t *testing.T, u *upstream) { u.flip(t, current, 300); u.flip(t, copy3, 300) }, false, FromCopy, 2, true},
		{"a byte, copy damaged, local copy", func(t *testing.T, u *upstream) { u.flip(t, current, 300); u.flip(t, copy3, 300) }, true, FromLocal, 3, false},
		{"a byte, two copies damaged", func(t *testing.T, u *upstream) { u.flip(t, current, 300); u.wipe(t, copy3); u.wipe(t, copy2) }, false, FromCopy, 1, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUpstream()
			h := history(t, open(t, u, "one"), 3)
			c.damage(t, u)
			r := open(t, u, "one")
			local := func() ([]byte, error) { return nil, nil }
			if c.local {
				local = func() ([]byte, error) { return h.document, nil }
			}
			got, err := r.LoadManifest(t.Context(), where, local)
			if err != nil || got.Source != c.source || got.Generation != c.generation || got.Degraded != c.degraded {
				t.Fatalf("%s of generation %d, degraded %v, %v", got.Source, got.Generation, got.Degraded, err)
			}
			next := collection{manifest: *got.Manifest, etag: got.ETag}
			err = next.commit(t, r, got.Parts...)
			if c.degraded {
				if !errors.Is(err, ErrDegraded) {
					t.Errorf("a commit from an older manifest: %v", err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if again, err := open(t, u, "one").LoadManifest(t.Context(), where, nil); err != nil || again.Generation != 4 || again.Source != FromUpstream {
				t.Errorf("after the next commit: %+v, %v", again, err)
			}
		})
	}
}

// TestNothingStandsIn: a manifest without any copy is damaged, and a new one is absent.
func TestNothingStandsIn(t *testing.T) {
	u := newUpstream()
	history(t, open(t, u, "one"), 1)
	u.flip(t, where.dir()+"manifest.json", 300)
	u.wipe(t, where.dir()+"manifest-00000000000000000001.json")
	r := open(t, u, "one")
	broken := errors.New("disk error")
	for name, local := range map[string]func() ([]byte, error){
		"none":    nil,
		"damaged": func() ([]byte, error) { return []byte("{}"), nil },
		"error":   func() ([]byte, error) { return nil, broken },
	} {
		_, err := r.LoadManifest(t.Context(), where, local)
		if !errors.Is(err, segment.ErrCorrupt) || errors.Is(err, ErrAbsent) || name == "error" && !errors.Is(err, broken) {
			t.Errorf("local copy %s: %v", name, err)
		}
	}
}

// TestLocalCopyOfAnotherTenure: a local copy stands in for a damaged manifest only if nobody else can
// have replaced the manifest since.
func TestLocalCopyOfAnotherTenure(t *testing.T) {
	u := newUpstream()
	h := history(t, open(t, u, "one"), 1)
	two, err := Open(t.Context(), options(u, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Takeover(t.Context()); err != nil {
		t.Fatal(err)
	}
	one, err := Open(t.Context(), options(u, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Takeover(t.Context()); err != nil {
		t.Fatal(err)
	}
	one = open(t, u, "one") // and after a restart
	u.wipe(t, where.dir()+"manifest.json")
	got, err := one.LoadManifest(t.Context(), where, func() ([]byte, error) { return h.document, nil })
	if err != nil || !got.Degraded {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestOldLocalCopy: a local copy that is older than a copy in the upstream does not stand in for it.
func TestOldLocalCopy(t *testing.T) {
	u := newUpstream()
	r := open(t, u, "one")
	old := history(t, r, 1)
	next := old
	if err := next.commit(t, r, old.manifest.Parts...); err != nil {
		t.Fatal(err)
	}
	u.wipe(t, where.dir()+"manifest.json")
	got, err := open(t, u, "one").LoadManifest(t.Context(), where, func() ([]byte, error) { return old.document, nil })
	if err != nil || got.Generation != 2 || got.Source != FromCopy || !got.Degraded {
		t.Errorf("%+v, %v", got, err)
	}
}

// TestCorruptResponse: a response that is damaged on its way is no damage.
func TestCorruptResponse(t *testing.T) {
	for _, effect := range []faults.Effect{faults.Corrupt, faults.ShortBody, faults.HangBody, faults.SlowDown} {
		t.Run(string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				h := history(t, open(t, u, "one"), 2)
				r := open(t, u, "one")
				u.set(t, faults.Fault{Op: "GetObject", Key: "*manifest.json", Effect: effect, First: 1}, faults.Fault{Op: "GetObject", Key: "*parquet", Effect: effect, First: 1})
				got, err := r.LoadManifest(t.Context(), where, nil)
				if err != nil || got.Source != FromUpstream || !reflect.DeepEqual(got.Manifest, &h.manifest) {
					t.Fatalf("%+v, %v", got, err)
				}
				opened, err := r.OpenPart(t.Context(), got.Manifest, got.Parts[0], nil)
				if err := errors.Join(err, closeAll(opened)); err != nil || opened[0].Source != FromUpstream {
					t.Error(err)
				}
			})
		})
	}
}

// TestUnreachableIsNoDamage: an upstream that cannot be reached never leads to something older.
func TestUnreachableIsNoDamage(t *testing.T) {
	for _, fault := range []faults.Fault{{Op: "GetObject", Effect: faults.SlowDown}, {Op: "GetObject", Effect: faults.Hang}, {Op: "GetObject", Effect: faults.HangBody}, {Op: "GetObject", Effect: faults.ShortBody},
		{Op: "ListObjectsV2", Effect: faults.Refused}, {Op: "GetObject", Key: "*manifest-*", Effect: faults.Refused}, {Op: "GetObject", Key: "*manifest-*2.json", Effect: faults.Refused}} {
		t.Run(string(fault.Effect)+" "+fault.Op+fault.Key, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				h := history(t, open(t, u, "one"), 2)
				r := open(t, u, "one")
				u.flip(t, where.dir()+"manifest.json", 300)
				u.wipe(t, where.dir()+h.manifest.Parts[0].Name)
				u.set(t, fault)
				if got, err := r.LoadManifest(t.Context(), where, nil); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
					t.Errorf("manifest: %+v, %v", got, err)
				}
				if fault.Op == "GetObject" && fault.Key == "" {
					if _, err := r.OpenPart(t.Context(), &h.manifest, h.manifest.Parts[0], nil); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
						t.Errorf("part: %v", err)
					}
				}
			})
		})
	}
}

// localFile is a local copy of a part.
type localFile struct {
	*bytes.Reader
	closed *int
}

// Close implements io.Closer.
func (l localFile) Close() error { *l.closed++; return nil }

// TestDamagedPart: a single damaged part of a merge loses nothing, and an older manifest is the last
// resort.
func TestDamagedPart(t *testing.T) {
	u := newUpstream()
	r := open(t, u, "one")
	h := history(t, r, 2)
	merged, inputs := upload(t, r, segment.Base, 2), h.manifest.Parts
	h.manifest.Merges = []segment.Merge{{Result: merged.Name, Generation: 3, Inputs: inputs}}
	later := upload(t, r, segment.Delta, 5)
	if err := h.commit(t, r, merged, later); err != nil {
		t.Fatal(err)
	}
	m := &h.manifest
	sources := func(p segment.Part, local func(segment.Part) (File, error)) (names []string, source Source, err error) {
		opened, err := r.OpenPart(t.Context(), m, p, local)
		for _, o := range opened {
			names, source = append(names, o.Name), o.Source
			if err := segment.Verify(t.Context(), o, o.Summary); err != nil {
				t.Error(err)
			}
		}
		return names, source, errors.Join(err, closeAll(opened))
	}
	u.wipe(t, where.dir()+merged.Name)
	closed := 0
	good := func(segment.Part) (File, error) {
		return localFile{bytes.NewReader(parts[segment.Base][2].file), &closed}, nil
	}
	if names, source, err := sources(merged, good); err != nil || source != FromLocal || !slices.Equal(names, []string{merged.Name}) || closed != 1 {
		t.Errorf("with a local copy: %q, %s, %v", names, source, err)
	}
	bad := func(segment.Part) (File, error) { return localFile{bytes.NewReader([]byte("x")), &closed}, nil }
	for name, local := range map[string]func(segment.Part) (File, error){"none": nil, "absent": func(segment.Part) (File, error) { return nil, nil }, "damaged": bad} {
		if names, source, err := sources(merged, local); err != nil || source != FromInputs || !slices.Equal(names, []string{inputs[0].Name, inputs[1].Name}) {
			t.Errorf("local copy %s: %q, %s, %v", name, names, source, err)
		}
	}
	if closed != 2 {
		t.Error("a damaged local copy was not closed")
	}
	if _, _, err := sources(later, nil); err != nil {
		t.Error(err)
	}
	u.Delete(akigw.Key{Bucket: "bucket", Name: "vectors/" + where.dir() + later.Name})
	if _, _, err := sources(later, nil); !errors.Is(err, ErrAbsent) {
		t.Errorf("a delta that is gone: %v", err)
	}
	u.flip(t, where.dir()+inputs[1].Name, 50)
	if _, _, err := sources(merged, nil); !errors.Is(err, segment.ErrCorrupt) {
		t.Errorf("a base and its input: %v", err)
	}
	old, err := r.OlderManifest(t.Context(), where, m.Generation, h.etag)
	if err != nil || !old.Degraded || old.Generation != 2 {
		t.Fatalf("%+v, %v", old, err)
	}
	if err := h.commit(t, r, later); !errors.Is(err, ErrDegraded) {
		t.Errorf("a commit from an older manifest: %v", err)
	}
	if _, err := r.OlderManifest(t.Context(), where, 1, h.etag); !errors.Is(err, ErrAbsent) {
		t.Error(err)
	}
}

// TestNoRoom: a full disk is no fault of the upstream, and leaves no file.
func TestNoRoom(t *testing.T) {
	u := newUpstream()
	o := options(u, "one")
	o.Dir = filepath.Join(t.TempDir(), "gone")
	r, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ReadPart(t.Context(), where, parts[segment.Base][1].part); !errors.Is(err, os.ErrNotExist) || errors.Is(err, akigw.ErrUpstreamUnavailable) {
		t.Error(err)
	}
}

// TestCopyFails: a copy that cannot be written does not undo a commit, and is written before the next
// one.
func TestCopyFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		r := open(t, u, "one")
		var c collection
		u.set(t, faults.Fault{Op: "PutObject", Key: "*manifest-*", Effect: faults.SlowDown})
		p := upload(t, r, segment.Delta, 1)
		if err := c.commit(t, r, p); err != nil {
			t.Fatal(err)
		}
		if err := c.commit(t, r, p); !errors.Is(err, akigw.ErrUpstreamUnavailable) {
			t.Errorf("a commit over a manifest without a copy: %v", err)
		}
		u.set(t)
		if err := c.commit(t, r, p); err != nil {
			t.Fatal(err)
		}
		if n := len(slices.DeleteFunc(u.names(), func(name string) bool { return !strings.Contains(name, "manifest-") })); n != 2 {
			t.Errorf("%d copies: %q", n, u.names())
		}
	})
}

// live is what the tests of Sweep say is live.
func live(inUse ...string) Live {
	return Live{Collection: func(c Collection) bool { return c == where }, InUse: func(_ Collection, part string) bool { return slices.Contains(inUse, part) }}
}

// TestSweep: garbage goes when it is safe, and nothing else.
func TestSweep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		r := open(t, u, "one") // keeps two manifests before the current one
		var c collection
		for seq := range uint64(5) { // each with a part of its own
			if err := c.commit(t, r, upload(t, r, segment.Delta, seq+1)); err != nil {
				t.Fatal(err)
			}
		}
		for generation := range uint64(5) {
			var etag string
			if generation > 0 {
				got, err := r.LoadCatalog(t.Context(), nil)
				if err != nil {
					t.Fatal(err)
				}
				etag = got.ETag
			}
			if _, _, err := r.CommitCatalog(t.Context(), &segment.Catalog{Generation: generation + 1}, etag); err != nil {
				t.Fatal(err)
			}
		}
		orphan, used := upload(t, r, segment.Delta, 8), upload(t, r, segment.Delta, 9)
		foreign := Collection{"other", "other", vectors.NewIncarnation()}
		if err := r.PutPart(t.Context(), foreign, orphan, bytes.NewReader(parts[segment.Delta][8].file)); err != nil {
			t.Fatal(err)
		}
		kept := []string{"notes.txt", "my-bucket/README", where.dir() + "notes.txt"} // not the gateway's
		for _, name := range append(kept, "probe-left") {
			u.Put(akigw.Key{Bucket: "bucket", Name: "vectors/" + name}, []byte("x"))
		}
		u.Put(akigw.Key{Bucket: "bucket", Name: "elsewhere"}, []byte("x"))
		done, err := r.Sweep(t.Context(), live(used.Name))
		if err != nil || done.Removed != 2+2+2 || done.Unknown != 2 { // two parts, two copies of the manifest and two of the catalog
			t.Fatalf("%+v, %v: %q", done, err, u.names())
		}
		if done, err := r.Sweep(t.Context(), live(used.Name)); err != nil || done.Removed != 0 {
			t.Errorf("a second time: %+v, %v", done, err)
		}
		time.Sleep(unknownFor + time.Minute)
		done, err = r.Sweep(t.Context(), live(used.Name))
		if err != nil || done.Removed != 3 || done.Unknown != 0 { // the orphan, the collection that nobody knows, the probe
			t.Errorf("after a day: %+v, %v", done, err)
		}
		want := append(kept, "owner.json", "catalog.json", where.dir()+"manifest.json", where.dir()+used.Name)
		for _, n := range []string{"3", "4", "5"} {
			want = append(want, "catalog-0000000000000000000"+n+".json", where.dir()+"manifest-0000000000000000000"+n+".json")
		}
		for seq := 3; seq <= 5; seq++ {
			want = append(want, where.dir()+parts[segment.Delta][seq].part.Name)
		}
		slices.Sort(want)
		if got := slices.DeleteFunc(u.names(), func(n string) bool { return n == "elsewhere" }); !slices.Equal(sorted(got), want) {
			t.Errorf("left:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if done, err := r.Sweep(t.Context(), live()); err != nil || done.Removed != 1 {
			t.Errorf("once nobody uses it: %+v, %v", done, err)
		}
	})
}

func sorted(names []string) []string {
	slices.Sort(names)
	return names
}

// TestSweepWhenInDoubt: nothing is removed while a manifest cannot be read, by a gateway that was fenced,
// or by a clock that the upstream does not show.
func TestSweepWhenInDoubt(t *testing.T) {
	for _, c := range []struct {
		name  string
		doubt func(t *testing.T, u *upstream)
		fails error // nil: it succeeds
	}{
		{"manifest damaged", func(t *testing.T, u *upstream) { u.flip(t, where.dir()+"manifest.json", 300) }, segment.ErrCorrupt},
		{"manifest gone", func(_ *testing.T, u *upstream) {
			u.Delete(akigw.Key{Bucket: "bucket", Name: "vectors/" + where.dir() + "manifest.json"})
		}, ErrAbsent},
		{"copy damaged", func(t *testing.T, u *upstream) { u.wipe(t, where.dir()+"manifest-00000000000000000003.json") }, segment.ErrCorrupt},
		{"fenced", func(t *testing.T, u *upstream) {
			two, err := Open(t.Context(), options(u, "two"))
			if err == nil {
				_, err = two.Takeover(t.Context())
			}
			if err != nil {
				t.Fatal(err)
			}
		}, ErrFenced},
		{"no clock", func(_ *testing.T, u *upstream) {
			u.After = func(_ *cold.Request, resp *http.Response) { resp.Header.Del("Date") }
			u.Delete(akigw.Key{Bucket: "bucket", Name: "vectors/" + where.dir() + "manifest-00000000000000000001.json"})
		}, nil},
		{"unavailable", func(t *testing.T, u *upstream) {
			u.set(t, faults.Fault{Op: "GetObject", Key: "*manifest.json", Effect: faults.SlowDown})
		}, akigw.ErrUpstreamUnavailable},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				r := open(t, u, "one")
				var h collection
				for seq := range uint64(4) {
					if err := h.commit(t, r, upload(t, r, segment.Delta, seq+1)); err != nil {
						t.Fatal(err)
					}
				}
				time.Sleep(2 * unknownFor)
				c.doubt(t, u)
				done, err := r.Sweep(t.Context(), live())
				if !errors.Is(err, c.fails) || c.fails == nil && err != nil || done.Removed != 0 {
					t.Errorf("%+v, %v", done, err)
				}
			})
		})
	}
}

// TestSweepIsFenced: a takeover while a Sweep runs ends it before it removes anything.
func TestSweepIsFenced(t *testing.T) {
	u := newUpstream()
	r := open(t, u, "one")
	var h collection
	for seq := range uint64(5) {
		if err := h.commit(t, r, upload(t, r, segment.Delta, seq+1)); err != nil {
			t.Fatal(err)
		}
	}
	two, err := Open(t.Context(), options(u, "two"))
	if err != nil {
		t.Fatal(err)
	}
	u.Before = func(q *cold.Request) (*http.Response, error) {
		if q.Op == "ListObjectsV2" {
			u.Before = nil
			if _, err := two.Takeover(t.Context()); err != nil {
				t.Error(err)
			}
		}
		return nil, nil
	}
	if done, err := r.Sweep(t.Context(), live()); !errors.Is(err, ErrFenced) || done.Removed != 0 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestDropCollection: all objects of one incarnation go, also if a first try is interrupted.
func TestDropCollection(t *testing.T) {
	for nth := 1; nth <= 6; nth++ {
		synctest.Test(t, func(t *testing.T) {
			u := newUpstream()
			r := open(t, u, "one")
			history(t, r, 2)
			other := where
			other.Incarnation = vectors.NewIncarnation()
			p, body := makePart(segment.Delta, 1)
			if err := r.PutPart(t.Context(), other, p, bytes.NewReader(body)); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			deletes := 0
			u.Before = func(q *cold.Request) (*http.Response, error) {
				if q.Method == http.MethodDelete {
					if deletes++; deletes == nth {
						cancel()
					}
				}
				return nil, nil
			}
			if err := r.DropCollection(ctx, where); (err == nil) != (nth == 6) {
				t.Fatalf("cancelled at deletion %d: %v", nth, err)
			}
			if got, err := r.LoadManifest(t.Context(), where, nil); nth > 1 && err == nil && !got.Degraded {
				t.Error("a manifest may be left without its parts")
			}
			if err := r.DropCollection(t.Context(), where); err != nil {
				t.Fatal(err)
			}
			if want := []string{other.dir() + p.Name, "owner.json"}; !slices.Equal(u.names(), want) {
				t.Errorf("%q", u.names())
			}
			if _, err := r.LoadManifest(t.Context(), where, nil); !errors.Is(err, ErrAbsent) {
				t.Error(err)
			}
			cancel()
		})
	}
}

// TestSender: a part above PutBytes goes through the Sender, and is read back whole.
func TestSender(t *testing.T) {
	u := newUpstream()
	o := options(u, "one")
	s := &sender{u: u}
	o.Sender, o.PutBytes = s, 10
	r, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Acquire(t.Context()); err != nil {
		t.Fatal(err)
	}
	upload(t, r, segment.Delta, 1)
	if s.sent != 1 || u.Count("GetObject") == 0 {
		t.Errorf("%d were sent", s.sent)
	}
}

// sender stores objects as a multipart upload does: the ETag is no MD5.
type sender struct {
	u    *upstream
	sent int
}

// Send implements Sender.
func (s *sender) Send(_ context.Context, to akigw.Key, _ string, body io.ReaderAt, size int64) error {
	s.sent++
	data, err := io.ReadAll(io.NewSectionReader(body, 0, size))
	s.u.PutStored(to, s3mem.Stored{Body: data, ETag: `"0123456789abcdef0123456789abcdef-2"`})
	return err
}
