package remote

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/faults"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/tiers/cold"
	"github.com/akidb/akigw/vectors/segment"
)

// TestOwner: who gets the prefix, and in which epoch.
func TestOwner(t *testing.T) {
	u := newUpstream()
	one := open(t, u, "one")
	if o, err := one.mine(); err != nil || o.Epoch != 1 || o.Tenure != 1 {
		t.Fatalf("%+v, %v", o, err)
	}
	one = open(t, u, "one")
	if o, err := one.mine(); err != nil || o.Epoch != 2 || o.Tenure != 1 {
		t.Errorf("after a restart: %+v, %v", o, err)
	}
	two, err := Open(t.Context(), options(u, "two"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = two.Acquire(t.Context())
	var owned *OwnedError
	if !errors.Is(err, ErrOwned) || !errors.As(err, &owned) || owned.Owner.Writer != "one" || !strings.Contains(err.Error(), "one has it since") {
		t.Fatalf("a second gateway: %v", err)
	}
	if _, _, err := two.CommitManifest(t.Context(), &segment.Manifest{Head: head, Generation: 1}, ""); !errors.Is(err, ErrNotOwner) {
		t.Errorf("a commit without the prefix: %v", err)
	}
	if err := one.CheckOwner(t.Context()); err != nil {
		t.Error(err)
	}
	if o, err := two.Takeover(t.Context()); err != nil || o.Epoch != 3 || o.Tenure != 3 {
		t.Fatalf("takeover: %+v, %v", o, err)
	}
	for range 2 {
		if err := one.CheckOwner(t.Context()); !errors.Is(err, ErrFenced) {
			t.Errorf("the first gateway after a takeover: %v", err)
		}
	}
	one, err = Open(t.Context(), options(u, "one"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := one.Acquire(t.Context()); !errors.Is(err, ErrOwned) {
		t.Errorf("the old data directory, started again: %v", err)
	}
	if err := two.CheckOwner(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestOwnerRace: of two gateways that start at the same time, one gets the prefix.
func TestOwnerRace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		one, err := Open(t.Context(), options(u, "one"))
		if err != nil {
			t.Fatal(err)
		}
		u.Before = func(q *cold.Request) (*http.Response, error) {
			if q.Op == "PutObject" { // after it has read that there is no owner
				u.Before = nil
				open(t, u, "two")
			}
			return nil, nil
		}
		if o, err := one.Acquire(t.Context()); !errors.Is(err, ErrOwned) {
			t.Errorf("%+v, %v", o, err)
		}
	})
}

// TestOwnerCopied: of two processes with the same data directory, the first is fenced.
func TestOwnerCopied(t *testing.T) {
	u := newUpstream()
	first := open(t, u, "one")
	var c collection
	if err := c.commit(t, first, upload(t, first, segment.Delta, 1)); err != nil {
		t.Fatal(err)
	}
	second := open(t, u, "one")
	theirs := c
	if err := theirs.commit(t, second, upload(t, second, segment.Delta, 2)); err != nil {
		t.Fatal(err)
	}
	if err := c.commit(t, first, upload(t, first, segment.Delta, 3)); !errors.Is(err, ErrFenced) {
		t.Error(err)
	}
}

// TestOwnerLost: an owner document that is gone or damaged gives the prefix to nobody else as long as
// anything says whose it was, and a takeover gets an epoch that is higher than any before.
func TestOwnerLost(t *testing.T) {
	gone := func(_ *testing.T, u *upstream) {
		u.Delete(akigw.Key{Bucket: "bucket", Name: "vectors/" + ownerName})
	}
	damaged := func(t *testing.T, u *upstream) { u.flip(t, ownerName, 90) }
	for _, c := range []struct {
		name     string
		lose     func(t *testing.T, u *upstream)
		catalogs int // copies of the catalog that are intact, with itself
		free     bool
		least    uint64 // epoch
	}{
		{"gone", gone, -1, true, 1},
		{"gone, catalog", gone, 2, false, 1 + jump},
		{"gone, copy of the catalog", gone, 1, false, 1 + jump},
		{"gone, catalog damaged", gone, 0, false, jump * jump},
		{"damaged", damaged, -1, false, jump},
		{"damaged, catalog", damaged, 2, false, 1 + jump},
		{"damaged, copy of the catalog", damaged, 1, false, 1 + jump},
		{"damaged, catalog damaged", damaged, 0, false, jump * jump},
	} {
		t.Run(c.name, func(t *testing.T) {
			u := newUpstream()
			one := open(t, u, "one")
			if c.catalogs >= 0 {
				if _, _, err := one.CommitCatalog(t.Context(), &segment.Catalog{Generation: 1}, ""); err != nil {
					t.Fatal(err)
				}
			}
			for _, name := range []string{"catalog.json", "catalog-00000000000000000001.json"}[:max(0, min(2, 2-c.catalogs))] {
				if c.catalogs >= 0 {
					u.flip(t, name, 100)
				}
			}
			c.lose(t, u)
			two, err := Open(t.Context(), options(u, "two"))
			if err != nil {
				t.Fatal(err)
			}
			if o, err := two.Acquire(t.Context()); (err == nil) != c.free {
				t.Errorf("another gateway: %+v, %v", o, err)
			}
			if o, err := two.Takeover(t.Context()); err != nil || o.Epoch < c.least {
				t.Errorf("%+v, %v", o, err)
			}
			if err := one.CheckOwner(t.Context()); !errors.Is(err, ErrFenced) {
				t.Error(err)
			}
		})
	}
	u := newUpstream() // a gateway that runs writes it again
	one := open(t, u, "one")
	gone(t, u)
	for range 2 {
		if err := one.CheckOwner(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, ok := u.Get(akigw.Key{Bucket: "bucket", Name: "vectors/" + ownerName}); !ok {
		t.Error("it is still gone")
	}
}

// TestFencing: a gateway that was fenced cannot commit, and the one that fenced it understands a commit
// that arrives late.
func TestFencing(t *testing.T) {
	u := newUpstream()
	one := open(t, u, "one")
	var c collection
	if err := c.commit(t, one, upload(t, one, segment.Delta, 1)); err != nil {
		t.Fatal(err)
	}
	two, err := Open(t.Context(), options(u, "two"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := two.Takeover(t.Context()); err != nil {
		t.Fatal(err)
	}
	theirs := c
	if err := c.commit(t, one, upload(t, one, segment.Delta, 2)); err != nil { // it does not know yet, and nothing is lost
		t.Fatal(err)
	}
	if err := theirs.commit(t, two, upload(t, two, segment.Delta, 3)); !errors.Is(err, ErrStale) || errors.Is(err, ErrFenced) {
		t.Fatalf("after a late commit of the previous owner: %v", err)
	}
	got, err := two.LoadManifest(t.Context(), where, nil)
	if err != nil || got.Generation != 2 {
		t.Fatalf("%+v, %v", got, err)
	}
	theirs.manifest, theirs.etag = *got.Manifest, got.ETag
	if err := theirs.commit(t, two, append(got.Parts, upload(t, two, segment.Delta, 4))...); err != nil {
		t.Fatal(err)
	}
	for range 2 { // it stays fenced
		if err := c.commit(t, one); !errors.Is(err, ErrFenced) {
			t.Errorf("the gateway that was fenced: %v", err)
		}
	}
	p, body := makePart(segment.Delta, 9)
	if err := one.PutPart(t.Context(), where, p, bytes.NewReader(body)); !errors.Is(err, ErrFenced) {
		t.Errorf("upload: %v", err)
	}
}

// TestLostResponses: a commit whose response is lost is found out, whatever happened to it.
func TestLostResponses(t *testing.T) {
	for _, effect := range []faults.Effect{faults.ResetAfter, faults.ResetBefore, faults.TimeoutAfter, faults.HangAfter, faults.Hang, faults.SlowDown, faults.InternalError,
		faults.ErrorIn200, faults.Duplicate, faults.TooManyRequests, faults.TimeoutBefore} {
		for _, key := range []string{"manifest.json", "owner.json", "manifest-*", "catalog.json", "delta-*"} {
			t.Run(string(effect)+" "+key, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					u := newUpstream()
					fault := faults.Fault{Op: "PutObject", Key: "vectors/*" + key, Effect: effect, First: 2}
					if effect == faults.TimeoutAfter || effect == faults.TimeoutBefore {
						fault.LatencyMS = 1000
					}
					u.set(t, fault)
					r := open(t, u, "one")
					var c collection
					var parts []segment.Part
					for seq := range uint64(3) {
						parts = append(parts, upload(t, r, segment.Delta, seq+1))
						if err := c.commit(t, r, parts...); err != nil {
							t.Fatal(err)
						}
					}
					if _, _, err := r.CommitCatalog(t.Context(), &segment.Catalog{Generation: 1}, ""); err != nil {
						t.Fatal(err)
					}
					got, err := r.LoadManifest(t.Context(), where, nil)
					if err != nil || got.Generation != 3 || len(got.Parts) != 3 || got.ETag != c.etag {
						t.Errorf("%+v, %v", got, err)
					}
					if epoch := r.owner.Epoch; key != "owner.json" && epoch != 1 {
						t.Errorf("epoch %d", epoch)
					}
				})
			})
		}
	}
}

// TestOutcomeOpen: if the upstream stays silent, the caller learns that the outcome is open, within
// minutes, and can find out later.
func TestOutcomeOpen(t *testing.T) {
	for _, effect := range []faults.Effect{faults.HangAfter, faults.Hang, faults.ResetAfter} {
		t.Run(string(effect), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				r := open(t, u, "one")
				var c collection
				part := upload(t, r, segment.Delta, 1)
				u.set(t, faults.Fault{Op: "PutObject", Effect: effect}, faults.Fault{Op: "GetObject", Effect: faults.Hang})
				if err := c.commit(t, r, part); !errors.Is(err, akigw.ErrUpstreamUnavailable) || errors.Is(err, ErrFenced) || errors.Is(err, ErrStale) {
					t.Fatal(err)
				}
				u.set(t)
				got, err := r.LoadManifest(t.Context(), where, nil)
				if landed := effect != faults.Hang; landed != (err == nil) || !landed && !errors.Is(err, ErrAbsent) {
					t.Fatal(err)
				}
				err = c.commit(t, r, part) // as if it had not loaded it
				switch {
				case effect == faults.Hang && err != nil, effect != faults.Hang && !errors.Is(err, ErrStale):
					t.Fatal(err)
				case effect != faults.Hang:
					c.manifest, c.etag = *got.Manifest, got.ETag
					if err := c.commit(t, r, part); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// TestCancelled: a caller that gives up is not told that the upstream is unavailable forever.
func TestCancelled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newUpstream()
		r := open(t, u, "one")
		u.set(t, faults.Fault{Effect: faults.Hang})
		ctx, cancel := context.WithTimeout(t.Context(), 1)
		defer cancel()
		p, body := makePart(segment.Delta, 1)
		_, _, commit := r.CommitManifest(ctx, &segment.Manifest{Head: head, Generation: 1}, "")
		_, load := r.LoadManifest(ctx, where, nil)
		_, read := r.ReadPart(ctx, where, p)
		for i, err := range []error{commit, load, read, r.PutPart(ctx, where, p, bytes.NewReader(body)), r.CheckOwner(ctx), r.DropCollection(ctx, where)} {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%d: %v", i, err)
			}
		}
	})
}

// otherETags is an upstream that writes ETags in another form.
type otherETags struct {
	*s3mem.Memory
	form func(etag string) string
}

// Do implements cold.Doer.
func (o *otherETags) Do(ctx context.Context, r *cold.Request) (*http.Response, error) {
	own := *r
	if match := r.Header.Get("If-Match"); match != "" {
		own.Header = r.Header.Clone()
		own.Header.Set("If-Match", `"`+strings.Trim(strings.TrimPrefix(match, "W/"), `"`)+`"`)
	}
	resp, err := o.Memory.Do(ctx, &own)
	if err == nil && resp.Header.Get("Etag") != "" {
		if form := o.form(resp.Header.Get("Etag")); form != "" {
			resp.Header.Set("Etag", form)
		} else if r.Method == http.MethodPut {
			resp.Header.Del("Etag")
		}
	}
	return resp, err
}

// TestETagForms: ETags without quotes, weak ones, none in the response to a PUT, and ones that are no MD5.
func TestETagForms(t *testing.T) {
	for name, form := range map[string]func(string) string{
		"bare": func(e string) string { return strings.Trim(e, `"`) },
		"weak": func(e string) string { return "W/" + e },
		"none": func(string) string { return "" },
	} {
		t.Run(name, func(t *testing.T) {
			r := open(t, &otherETags{s3mem.New(), form}, "one")
			var c collection
			for seq := range uint64(3) {
				if err := c.commit(t, r, upload(t, r, segment.Delta, seq+1)); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
	for _, c := range []struct {
		name          string
		kms, checksum bool
		reads         int
	}{{"ETag", false, false, 0}, {"checksum", true, true, 0}, {"neither", true, false, 1}} {
		u := newUpstream()
		u.KMS.Store(c.kms)
		r := open(t, u, "one")
		u.Reset()
		if c.checksum {
			var sum string
			u.Before = func(q *cold.Request) (*http.Response, error) {
				sum = cmp.Or(q.Header.Get(checksumHeader), sum)
				return nil, nil
			}
			u.After = func(q *cold.Request, resp *http.Response) {
				if q.Header.Get("X-Amz-Checksum-Mode") == "ENABLED" {
					resp.Header.Set(checksumHeader, sum)
				}
			}
		}
		upload(t, r, segment.Delta, 1)
		if n := u.Count("GetObject"); n != c.reads {
			t.Errorf("verified by %s: read back %d times", c.name, n)
		}
	}
}

// TestReadBack: an upload that the upstream stored wrongly is repeated, and reported if that does not
// help.
func TestReadBack(t *testing.T) {
	for _, c := range []struct {
		name  string
		wrong int // how many uploads are damaged
		kms   bool
	}{{"once", 1, false}, {"once, and the ETag says nothing", 1, true}, {"always", 100, false}, {"always, and the ETag says nothing", 100, true}} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newUpstream()
				r := open(t, u, "one")
				u.KMS.Store(c.kms)
				n := 0
				u.Before = func(q *cold.Request) (*http.Response, error) {
					if q.Op == "PutObject" && n < c.wrong {
						n++
						other := make([]byte, q.Length)
						q.Body, q.SHA256 = bytes.NewReader(other), ""
					}
					return nil, nil
				}
				p, body := makePart(segment.Delta, 1)
				err := r.PutPart(t.Context(), where, p, bytes.NewReader(body))
				if (err == nil) != (c.wrong == 1) || err != nil && !errors.Is(err, segment.ErrCorrupt) {
					t.Error(err)
				}
			})
		})
	}
}

// TestPutPartRefuses: a name that is not that of the content, and an upstream that forbids.
func TestPutPartRefuses(t *testing.T) {
	u := newUpstream()
	r := open(t, u, "one")
	p, body := makePart(segment.Delta, 1)
	wrong := p
	wrong.Name = "../" + p.Name
	if err := r.PutPart(t.Context(), where, wrong, bytes.NewReader(body)); !errors.Is(err, segment.ErrRow) {
		t.Error(err)
	}
	u.set(t, faults.Fault{Op: "PutObject", Effect: faults.AnyError, Status: 403, Code: "AccessDenied"})
	u.Reset()
	if err := r.PutPart(t.Context(), where, p, bytes.NewReader(body)); err == nil || errors.Is(err, akigw.ErrUpstreamUnavailable) || !strings.Contains(err.Error(), "allow the gateway") {
		t.Error(err)
	}
}

// TestFaults: under random faults, commits succeed or leave the outcome open, and what succeeded is there.
func TestFaults(t *testing.T) {
	random := testkit.Random(t)
	for range 40 {
		plan := s3mem.RandomPlan(random, 6)
		synctest.Test(t, func(t *testing.T) {
			u := newUpstream()
			r := open(t, u, "one")
			if err := u.Set(plan); err != nil {
				t.Fatal(err)
			}
			var c collection
			var parts []segment.Part
			for seq := range uint64(10) {
				p, body := makePart(segment.Delta, seq+1)
				err := r.PutPart(t.Context(), where, p, bytes.NewReader(body))
				if err == nil {
					err = c.commit(t, r, append(parts, p)...)
				}
				switch {
				case err == nil:
					parts = append(parts, p)
				case errors.Is(err, akigw.ErrUpstreamUnavailable), errors.Is(err, ErrStale), errors.Is(err, segment.ErrCorrupt): // found out below
					u.set(t)
					if got, err := r.LoadManifest(t.Context(), where, nil); err == nil {
						c.manifest, c.etag, parts = *got.Manifest, got.ETag, got.Parts
					} else if !errors.Is(err, ErrAbsent) {
						t.Fatal(err)
					}
					if err := u.Set(plan); err != nil {
						t.Fatal(err)
					}
				default:
					t.Fatalf("%v under %+v", err, plan)
				}
			}
			u.set(t)
			got, err := r.LoadManifest(t.Context(), where, nil)
			if err != nil || fmt.Sprint(got.Parts) != fmt.Sprint(parts) {
				t.Fatalf("%v: %v instead of %v", err, got.Manifest, parts)
			}
			for _, p := range parts {
				opened, err := r.OpenPart(t.Context(), got.Manifest, p, nil)
				if err := errors.Join(err, closeAll(opened)); err != nil {
					t.Error(err)
				}
			}
		})
	}
}
