package tiers

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// longAgo dates the objects of an upstream far enough back for strong validators.
func longAgo(up *s3mem.Memory) {
	at := time.Now().Add(-time.Hour).Truncate(time.Second)
	up.Clock = func() time.Time { return at }
}

// dates makes an upstream answer with a Date that is this long after the object was modified; nil
// leaves the Date out.
func dates(up *s3mem.Memory, after *time.Duration) {
	up.After = func(_ *cold.Request, resp *http.Response) {
		modified, err := http.ParseTime(resp.Header.Get("Last-Modified"))
		switch {
		case after == nil:
			resp.Header.Del("Date")
		case err == nil:
			resp.Header.Set("Date", modified.Add(*after).UTC().Format(http.TimeFormat))
		}
	}
}

func span(d time.Duration) *time.Duration { return &d }

// recolor puts the same bytes again, in the same second, with other headers.
func recolor(up *s3mem.Memory, k akigw.Key, color string) {
	o, _ := up.Get(k)
	o.Header = http.Header{"X-Amz-Meta-Color": {color}}
	up.PutStored(k, o)
}

func colorOf(t *testing.T, s *Store, k akigw.Key) string {
	t.Helper()
	r, err := s.Head(t.Context(), k, akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	return r.Object.Header.Get("X-Amz-Meta-Color")
}

// TestYoungValidators: an entry whose Last-Modified was too recent when it was learned is validated
// with a plain HEAD, however late and even after a restart. This ends when a later response proves
// that the date is old enough. That way headers that were replaced in the same second are noticed.
func TestYoungValidators(t *testing.T) {
	for name, c := range map[string]struct {
		after  *time.Duration
		strong bool
	}{
		"no Date":           {nil, false},
		"the same second":   {span(0), false},
		"a second":          {span(time.Second), false},
		"a clock is behind": {span(-time.Hour), false},
		"almost old enough": {span(validatorAge - time.Second), false},
		"just old enough":   {span(validatorAge), true},
		"much older":        {span(1000 * time.Hour), true},
	} {
		for _, restart := range []string{"none", "clean", "crash"} {
			for _, how := range []string{"GET", "HEAD"} {
				t.Run(fmt.Sprintf("%s/restart=%s/%s", name, restart, how), func(t *testing.T) {
					up, dir := s3mem.New(), filepath.Join(t.TempDir(), "warm")
					s := openStore(t, testConfig(rules.Strict), dir, up)
					defer func() { s.Close() }()
					body := testkit.Bytes(1, 100)
					up.Put(key("k"), body)
					recolor(up, key("k"), "blue")
					dates(up, c.after)
					if how == "GET" {
						wantRead(t, s, key("k"), "", body, akigw.Cold)
					} else {
						colorOf(t, s, key("k"))
					}
					if restart != "none" {
						if err := s.Close(); err != nil {
							t.Fatal(err)
						}
						if restart == "crash" {
							if err := os.Remove(filepath.Join(dir, "CLEAN")); err != nil {
								t.Fatal(err)
							}
						}
						s = openStore(t, testConfig(rules.Strict), dir, up)
					}
					up.Reset()
					if !c.strong {
						recolor(up, key("k"), "red")
						if got := colorOf(t, s, key("k")); got != "red" {
							t.Errorf("the color is %q, want red, which was set in the same second as blue", got)
						}
						wantCount(t, up, "HEAD", 1)
						wantCount(t, up, "HEAD conditional", 0)
						dates(up, span(validatorAge)) // now the age is proved
						colorOf(t, s, key("k"))
						wantCount(t, up, "HEAD conditional", 0)
					}
					up.Reset()
					colorOf(t, s, key("k"))
					wantRead(t, s, key("k"), "", body, "")
					wantCount(t, up, "HEAD", 2)
					wantCount(t, up, "HEAD conditional", 2)
					wantCount(t, up, "HEAD 304", 2)
				})
			}
		}
	}
}

// TestProofIsKeptOnDisk: a plain HEAD that proved the age is not repeated after a restart, even if
// the entry was not in memory.
func TestProofIsKeptOnDisk(t *testing.T) {
	for _, memory := range []bool{true, false} {
		config := testConfig(rules.Strict)
		if !memory {
			config.HotBytes = 0
		}
		up, dir := s3mem.New(), filepath.Join(t.TempDir(), "warm")
		s := openStore(t, config, dir, up)
		body := testkit.Bytes(1, 3*block)
		up.Put(key("k"), body)
		dates(up, span(0))
		wantRead(t, s, key("k"), "", body, akigw.Cold)
		dates(up, span(validatorAge))
		wantRead(t, s, key("k"), "", body, "") // the proof
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		s = openStore(t, config, dir, up)
		up.Reset()
		wantRead(t, s, key("k"), "", body, akigw.Warm)
		wantCount(t, up, "HEAD 304", 1)
		wantCount(t, up, "GET", 0)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestRestoredEntriesAreAskedPlainly: entries from a snapshot have neither headers nor proof, so
// they are validated with a plain HEAD.
func TestRestoredEntriesAreAskedPlainly(t *testing.T) {
	up := s3mem.New()
	longAgo(up)
	s := newStore(t, testConfig(rules.Strict), up)
	body := testkit.Bytes(1, 100)
	etag := up.Put(key("k"), body)
	recolor(up, key("k"), "blue")
	o, _ := up.Get(key("k"))
	err := s.Import(t.Context(), func(put func(*akigw.CatalogEntry, []byte) (bool, error)) error {
		_, err := put(&akigw.CatalogEntry{Object: akigw.Object{Key: key("k"), Size: int64(len(body)), ETag: etag, LastModified: o.Modified}}, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := colorOf(t, s, key("k")); got != "blue" {
		t.Errorf("the color is %q", got)
	}
	wantCount(t, up, "HEAD", 1)
	wantCount(t, up, "HEAD conditional", 0)
}

// TestEntriesOfOlderReleases: entries of older releases contain no proof. An entry without a proof,
// predicted headers and parts is still written in their format.
func TestEntriesOfOlderReleases(t *testing.T) {
	for _, e := range sampleEntries() {
		e.strong, e.predicted, e.parts = false, nil, layout{}
		raw := appendEntry(nil, e)
		old := byte(0)
		if e.body != nil {
			old = 1
		}
		if got := raw[len(raw)-len(e.body)-1]; got != old {
			t.Errorf("%+v: %d bytes before the body, older releases wrote %d", e, got, old)
		}
		if got, err := decodeEntry(raw); err != nil || got.strong {
			t.Errorf("%+v %v", got, err)
		}
	}
}
