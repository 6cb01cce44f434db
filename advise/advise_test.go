package advise

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/cost"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/trace"
)

// workload makes a trace of one bucket.
type workload struct {
	*Observation
	at int64 // milliseconds
}

func newWorkload() *workload { return &workload{NewObservation(), 1_000_000} }

// object is the access to an object of a number of bytes, a second after the one before.
func (w *workload) object(key int, bytes int64, outcome akigw.Outcome) *trace.Access {
	w.at += 1000
	return &trace.Access{At: w.at, Bucket: "b", Key: fmt.Sprint(key), Version: "1", Size: bytes, Block: 1 << 20, Length: bytes, Outcome: outcome}
}

// uniform reads the objects of a working set at random.
func (w *workload) uniform(random *rand.Rand, reads, objects int, bytes int64) *workload {
	for range reads {
		w.Add(w.object(random.IntN(objects), bytes, akigw.Cold))
	}
	return w
}

// facts are those of a gateway with tiers of some sizes, which validated 1,000 times.
func facts(memory, disk int64) Facts {
	return Facts{
		Since: time.Unix(0, 0), Memory: Tier{Quota: memory}, Disk: Tier{Quota: disk}, Prices: cost.Default(),
		Latency: map[string]Latency{"hot": {1000, 1}, "warm": {1000, 2}, "cold": {1000, 50}, "upstream": {1000, 40}},
		Buckets: []Measured{{Bucket: "b", Freshness: "strict", Write: "through", Validated: Validated{Unchanged: 1000, Mean: 10}}},
	}
}

// proposal returns the proposal of a kind for the only bucket, nil if there is none.
func (r *Report) proposal(kind string) *Proposal {
	for _, b := range r.Buckets {
		for i, p := range b.Proposals {
			if p.Kind == kind {
				return &b.Proposals[i]
			}
		}
	}
	return nil
}

// honest checks what holds for every report: its TOML can be pasted, it never proposes what only a
// promise can justify, and write-back never without what a lost disk loses. It can be printed in all
// forms.
func honest(t *testing.T, r *Report) *Report {
	t.Helper()
	var parsed struct {
		Cache map[string]string
		Rule  []map[string]any
	}
	if err := toml.Unmarshal([]byte(r.TOML), &parsed); err != nil {
		t.Errorf("%v:\n%s", err, r.TOML)
	}
	for _, rule := range parsed.Rule {
		if f := rule["freshness"]; f != nil && f != "ttl" {
			t.Errorf("freshness %v is proposed", f)
		}
		if rule["write"] == "back" && !strings.Contains(r.TOML, "# "+lostDisk) || rule["pack_bytes"] != nil && !strings.Contains(r.TOML, "# "+lostPacks) {
			t.Errorf("a lost disk is not mentioned:\n%s", r.TOML)
		}
	}
	var text, page bytes.Buffer
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), r.TOML) {
		t.Errorf("%v:\n%s", err, text.String())
	}
	if err := r.WriteHTML(&page); err != nil || strings.Contains(page.String(), "<script") || strings.Count(page.String(), "<polyline") != 2*min(len(r.Memory), 1)+2*min(len(r.Disk), 1) {
		t.Errorf("%v:\n%s", err, page.String())
	}
	return r
}

// TestKneeIsAtTheWorkingSet: the size that is named is the smallest one in which a working set of
// known size fits.
func TestKneeIsAtTheWorkingSet(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	random := testkit.Random(t)
	for _, c := range []struct {
		name         string
		work         func(*workload) *workload
		memory, disk int64 // proposed, of a gateway with both tiers
	}{
		{"100 objects of 60 KiB", func(w *workload) *workload { return w.uniform(random, 20_000, 100, 60<<10) }, 8 << 20, 32 << 20},
		{"1,000 objects of 60 KiB", func(w *workload) *workload { return w.uniform(random, 40_000, 1000, 60<<10) }, 64 << 20, 32 << 20},
		{"a loop", func(w *workload) *workload { // smaller tiers hit as rarely as tiny ones
			for n := range 20_000 {
				w.Add(w.object(n%400, 30<<10, akigw.Cold))
			}
			return w
		}, 16 << 20, 32 << 20},
		{"nothing twice", func(w *workload) *workload {
			for n := range 5_000 {
				w.Add(w.object(n, 30<<10, akigw.Cold))
			}
			return w
		}, 1 << 20, 32 << 20},
	} {
		r := honest(t, New(facts(4<<20, 64<<20), c.work(newWorkload()).End(0)))
		if r.Sizes == nil || r.Sizes.Memory != c.memory || r.Sizes.Disk != c.disk {
			t.Errorf("%s: %+v, want %d and %d\n%+v\n%+v", c.name, r.Sizes, c.memory, c.disk, r.Memory, r.Disk)
		}
	}
}

// TestDiskBelowMemory: where the memory that there is cannot hold a working set, the disk is sized for it.
func TestDiskBelowMemory(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	random := testkit.Random(t)
	f := facts(0, 32<<20) // memory was switched off
	r := honest(t, New(f, newWorkload().uniform(random, 30_000, 1000, 60<<10).End(0)))
	if r.Sizes.Memory != 0 || r.Sizes.Disk != 128<<20 || *r.Sizes.Expect.HitRatio < 0.999 || *r.Sizes.Expect.HotRatio != 0 {
		t.Errorf("%+v\n%+v", r.Sizes, r.Disk)
	}
	if *r.Now.HitRatio > 0.6 || *r.Sizes.Expect.Cost > *r.Now.Cost || *r.Sizes.Expect.Latency > 2.1 {
		t.Errorf("now %s, then %s", r.sentence(r.Now), r.sentence(r.Sizes.Expect))
	}
}

// TestTooLittleData: without enough data nothing is proposed, and the report says so.
func TestTooLittleData(t *testing.T) {
	random := testkit.Random(t)
	short := newWorkload()
	for n := range 10_000 {
		short.Add(short.object(n, 1000, akigw.Warm)) // everything was there before
		if n%2 == 0 {
			short.Add(short.object(n, 1000, akigw.Hot))
		}
	}
	nameless := newWorkload()
	for range 5000 {
		a := nameless.object(0, 1000, akigw.Cold)
		a.ID, a.Bucket, a.Key = fmt.Sprint(random.IntN(10)), "", ""
		nameless.Add(a)
	}
	for _, c := range []struct {
		name  string
		seen  *Observed
		sizes bool
		note  string
	}{
		{"no trace", nil, false, "No trace was recorded"},
		{"few reads", newWorkload().uniform(random, 500, 10, 1000).End(0), false, "too little data"},
		{"short", short.End(0), false, "too short"},
		{"no names", nameless.End(7), true, "no names"},
	} {
		r := honest(t, New(facts(1<<20, 0), c.seen))
		if (r.Sizes != nil) != c.sizes || !strings.Contains(strings.Join(r.Notes, "\n"), c.note) {
			t.Errorf("%s: %+v, %q", c.name, r.Sizes, r.Notes)
		}
	}
}

// TestDifferenceIsTold: if the gateway answered otherwise than the replay with its sizes, the report
// says so.
func TestDifferenceIsTold(t *testing.T) {
	for outcome, want := range map[akigw.Outcome]bool{akigw.Cold: true, akigw.Hot: false} {
		w := newWorkload()
		for n := range 5000 {
			a := w.object(n%10, 1000, outcome)
			if n < 10 {
				a.Outcome = akigw.Cold
			}
			w.Add(a)
		}
		r := honest(t, New(facts(1<<20, 0), w.End(0)))
		if got := strings.Contains(strings.Join(r.Notes, "\n"), "The gateway itself served"); got != want {
			t.Errorf("recorded as %s: %q", outcome, r.Notes)
		}
	}
}

// TestGhosts: without a trace, twice the size is proposed if the ghost cache says that it is worth it.
func TestGhosts(t *testing.T) {
	f := facts(1<<30, 1<<35)
	f.Reads = map[string]int64{"hot": 700, "warm": 200, "cold": 100}
	f.Memory.Lookups, f.Memory.Missed, f.Memory.MissedAtDouble = 100_000, 30_000, 10_000
	f.Disk.Lookups, f.Disk.Missed, f.Disk.MissedAtDouble = 30_000, 10_000, 9_900
	r := honest(t, New(f, nil))
	if r.Sizes == nil || r.Sizes.Memory != 2<<30 || r.Sizes.Disk != 1<<35 || *r.Sizes.Expect.HotRatio < 0.899 {
		t.Errorf("%+v", r.Sizes)
	}
	if *r.Now.HitRatio != 0.9 || *r.Now.Latency != 0.7*1+0.2*2+0.1*50 {
		t.Error(r.sentence(r.Now))
	}
	f.Memory.MissedAtDouble = 29_500
	if r := honest(t, New(f, nil)); r.Sizes != nil {
		t.Errorf("%+v", r.Sizes)
	}
}

// TestFreshness: a ttl is proposed only where nothing was ever found to have changed, and never more
// than that.
func TestFreshness(t *testing.T) {
	unchanged := func(w *workload) *Observed { return w.uniform(testkit.Random(t), 10_000, 50, 1000).End(0) }
	for _, c := range []struct {
		name   string
		change func(*Measured)
		seen   func(*workload) *Observed
		ttl    string // "" for no proposal
		says   string
	}{
		{"never replaced", func(*Measured) {}, unchanged, "ttl_secs = 600", "immutable"},
		{"a longer ttl", func(m *Measured) { m.Freshness, m.TTLSecs = "ttl", 60 }, unchanged, "ttl_secs = 600", "immutable"},
		{"ttl is long already", func(m *Measured) { m.Freshness, m.TTLSecs = "ttl", 3600 }, unchanged, "", "a tenth"},
		{"changed past the gateway", func(m *Measured) { m.Validated.Changed = 1 }, unchanged, "", "found another object"},
		{"never validated", func(m *Measured) { m.Validated = Validated{} }, unchanged, "", "No cached object was validated"},
		{"immutable already", func(m *Measured) { m.Freshness = "immutable" }, unchanged, "", ""},
		{"replaced through the gateway", func(*Measured) {}, func(w *workload) *Observed {
			for n := range 10_000 {
				a := w.object(n%50, 1000, akigw.Hot)
				if n%100 == 0 {
					a.Write, a.Outcome = true, ""
				}
				a.Version = fmt.Sprint(n / 100)
				w.Add(a)
			}
			return w.End(0)
		}, "ttl_secs = 600", "exclusive"},
		{"few reads", func(*Measured) {}, func(w *workload) *Observed { return w.uniform(testkit.Random(t), 100, 50, 1000).End(0) }, "", "Too little data"},
	} {
		f := facts(64<<20, 0)
		c.change(&f.Buckets[0])
		r := honest(t, New(f, c.seen(newWorkload())))
		p := r.proposal("freshness")
		switch said := strings.Join(r.Buckets[0].Notes, "\n"); {
		case c.ttl == "" && (p != nil || !strings.Contains(said, c.says)):
			t.Errorf("%s: %+v, %q", c.name, p, said)
		case c.ttl == "":
		case p == nil || !strings.Contains(p.TOML, c.ttl) || !strings.Contains(p.Caution, "promise") || !strings.Contains(p.Caution, c.says) || !strings.Contains(p.Why, "1000 validations"):
			t.Errorf("%s: %+v, %q", c.name, p, said)
		case *p.Expect.Cost >= *r.Buckets[0].Now.Cost:
			t.Errorf("%s: costs %g, before %g", c.name, *p.Expect.Cost, *r.Buckets[0].Now.Cost)
		}
	}
}

// TestPins: objects that take a large share of the reads are pinned if the tiers do not keep them.
func TestPins(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	for missed, want := range map[akigw.Outcome]bool{akigw.Cold: true, akigw.Warm: false} {
		w := newWorkload()
		w.Add(w.object(1, 1000, akigw.Cold))
		for n := range 10_000 {
			outcome := akigw.Hot
			if n%20 == 0 {
				outcome = missed
			}
			w.Add(w.object(1, 1000, outcome))
			w.Add(w.object(2+n, 1000, akigw.Cold))
		}
		r := honest(t, New(facts(1<<20, 64<<20), w.End(0)))
		if p := r.proposal("pin"); (p != nil) != want || want && (strings.Count(p.TOML, "pin = true") != 1 || !strings.Contains(p.TOML, `key = "1"`)) {
			t.Errorf("misses are %s: %+v", missed, p)
		}
	}
}

// TestPinsAreNotForReplacedObjects: of an object that is replaced often, each version has to be fetched
// once, and a pin does not change that.
func TestPinsAreNotForReplacedObjects(t *testing.T) {
	testkit.WithoutRace(t, "it has one goroutine")
	for every, want := range map[int]bool{1: false, 2: true} { // reads of each version, all from the upstream
		w := newWorkload()
		for n := range 10_000 {
			a := w.object(1, 1000, akigw.Cold)
			a.Version = fmt.Sprint(n / every)
			w.Add(a)
			w.Add(w.object(2+n, 1000, akigw.Cold))
		}
		if p := honest(t, New(facts(1<<20, 64<<20), w.End(0))).proposal("pin"); (p != nil) != want {
			t.Errorf("%d reads of each version: %+v", every, p)
		}
	}
}

// TestWrites: many writes that take long are proposed to be written back, small ones in packs.
func TestWrites(t *testing.T) {
	for _, c := range []struct {
		name   string
		bytes  int64
		writes int
		change func(*Facts)
		want   string // in the TOML; "" for no proposal
	}{
		{"small", 1000, 1000, func(*Facts) {}, `pack_bytes = "64KiB"`},
		{"large", 1 << 20, 1000, func(*Facts) {}, `write = "back"`},
		{"few", 1000, 100, func(*Facts) {}, ""},
		{"fast", 1000, 1000, func(f *Facts) { f.Latency["upstream"] = Latency{1000, 2} }, ""},
		{"unmeasured", 1000, 1000, func(f *Facts) { delete(f.Latency, "upstream") }, ""},
		{"back already", 1000, 1000, func(f *Facts) { f.Buckets[0].Write = "back" }, `pack_bytes = "64KiB"`},
		{"packed already", 1000, 1000, func(f *Facts) { f.Buckets[0].Write, f.Buckets[0].Packs = "back", true }, ""},
		{"unknown rules", 1000, 1000, func(f *Facts) { f.Buckets = nil }, ""},
		{"shadow mode", 1000, 1000, func(f *Facts) { f.Buckets[0].Shadow = true }, ""},
	} {
		w := newWorkload()
		for n := range c.writes {
			a := w.object(n, c.bytes, "")
			a.Write = true
			w.Add(a)
		}
		f := facts(1<<20, 0)
		c.change(&f)
		r := honest(t, New(f, w.End(0)))
		p := r.proposal("write")
		if (p != nil) != (c.want != "") || p != nil && (!strings.Contains(p.TOML, c.want) || !strings.Contains(p.Caution, lostDisk)) {
			t.Errorf("%s: %+v", c.name, p)
		}
		if p != nil && c.bytes > small && strings.Contains(p.TOML, "pack_bytes") {
			t.Errorf("%s: %s", c.name, p.TOML)
		}
	}
}

// TestValidationsCount: answers are counted by bucket.
func TestValidationsCount(t *testing.T) {
	v := NewValidations()
	v.Validated("a", true, 2*time.Millisecond)
	v.Validated("a", false, 4*time.Millisecond)
	v.Validated("b", true, time.Millisecond)
	if got := v.Counts(); got["a"] != (Validated{1, 1, 3}) || got["b"] != (Validated{1, 0, 1}) || len(got) != 2 {
		t.Errorf("%+v", got)
	}
}

// TestQuoted: any key can be written in TOML.
func TestQuoted(t *testing.T) {
	for _, key := range []string{"a", `a"b\c`, "a\x01\n\x7f", "ü/日本"} {
		var parsed map[string]string
		if err := toml.Unmarshal([]byte("key = "+quoted(key)), &parsed); err != nil || parsed["key"] != key {
			t.Errorf("%q: %q, %v", key, parsed["key"], err)
		}
	}
}
