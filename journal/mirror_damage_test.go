package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// tree is the content of a journal's directories, with names such as "0/segments/..." and "1/...".
type tree map[string][]byte

func readTree(t *testing.T, dirs ...string) tree {
	t.Helper()
	all := tree{}
	for i, dir := range dirs {
		for name, raw := range testkit.ReadTree(t, dir) {
			all[filepath.Join(strconv.Itoa(i), name)] = raw
		}
	}
	return all
}

func (tr tree) clone() tree {
	c := tree{}
	for name, raw := range tr {
		c[name] = bytes.Clone(raw)
	}
	return c
}

// load puts the files into a file system in memory, as /j and /k.
func (tr tree) load(t testing.TB, m *crashfs.FS) {
	t.Helper()
	for _, dir := range []string{"/j", "/k"} {
		for _, sub := range []string{segmentDir, spoolDir, quarantineDir} {
			if err := m.MkdirAll(filepath.Join(dir, sub)); err != nil {
				t.Fatal(err)
			}
		}
	}
	for name, raw := range tr {
		path := filepath.Join(map[byte]string{'0': "/j", '1': "/k"}[name[0]], name[2:])
		if err := writeDraft(m, path, raw); err != nil { // writes the name itself, which may be that of a draft
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"/", "/j", "/j/" + segmentDir, "/j/" + spoolDir, "/j/" + quarantineDir, "/k", "/k/" + segmentDir, "/k/" + spoolDir, "/k/" + quarantineDir} {
		if err := m.SyncDir(dir); err != nil {
			t.Fatal(err)
		}
	}
}

// precious returns the files of one side that are damaged in turn: segments and bodies, and with
// all also the other files that a start reads.
func (tr tree) precious(side int, all bool) (names []string) {
	for name := range tr {
		if !strings.HasPrefix(name, strconv.Itoa(side)+"/") {
			continue
		}
		base := filepath.Base(name)
		if strings.HasSuffix(name, ".seg") || strings.HasSuffix(name, ".body") || all && (base == endFile || base == sideFile) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// mirroredSample is a closed journal with two directories, and what it holds.
func mirroredSample(t *testing.T, seed uint64, rounds int) (tree, allowed) {
	t.Helper()
	return sampleOf(t, seed, rounds, 0)
}

// staleSample is mirroredSample, after which only the first directory was used.
func staleSample(t *testing.T, seed uint64) (tree, allowed) {
	t.Helper()
	return sampleOf(t, seed, 1, 2)
}

// sampleOf is a journal that was used for some rounds with both directories, and then for some with
// only the first.
func sampleOf(t *testing.T, seed uint64, together, alone int) (tree, allowed) {
	t.Helper()
	dir, second := twoDirs(t)
	c := smallConfig(vfs.Disk{}, dir)
	c.SecondDir = second
	x := &expectation{acked: map[string]seen{}, pending: map[string]seen{}}
	run := &crashRun{seed: seed, rng: rand.New(rand.NewPCG(seed, 4))}
	for _, rounds := range []int{together, alone} {
		if rounds == 0 {
			continue
		}
		j := open(t, c)
		for range rounds {
			if err := run.work(j, x); err != nil {
				t.Fatal(err)
			}
		}
		if err := flushDated(j, x, "dated"); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		c.SecondDir = ""
	}
	return readTree(t, dir, second), x.around(func() {})
}

// flushDated writes a key and flushes it; the upstream gives it another date.
func flushDated(j *Journal, x *expectation, name string) error {
	if err := put1(j, name); err != nil {
		return err
	}
	e := j.Take(key(name))
	x.begin(name, seen("dated "+e.ETag))
	defer x.end(name)
	return j.FlushedNow(context.Background(), e, Stored{Modified: time.Unix(e.Size+1, 0)})
}

// smallConfig configures a journal with all kinds of records in short segments, and a reserve.
func smallConfig(fs vfs.FS, dir string) Config {
	c := testConfig(fs, dir)
	c.InlineBytes, c.SegmentBytes, c.ReserveBytes, c.MaxDates = 512, 2<<10, 4<<10, 1000
	return c
}

// openTwin opens the journal of both directories in memory.
func openTwin(m vfs.FS) (*Journal, error) {
	c := smallConfig(m, "/j")
	c.SecondDir = "/k"
	return Open(c)
}

// complete reports keys that are not as they were acknowledged.
func complete(j *Journal, want allowed) error {
	if err := j.Accepting(); err != nil {
		return err
	}
	for k, states := range want {
		found, err := observe(j, k)
		if err != nil {
			return err
		}
		if found != states[0] {
			return fmt.Errorf("key %s is %q and should be %q", k, found, states[0])
		}
	}
	return nil
}

// survives opens the damaged directories and checks that everything is there: first with both
// directories and then, after a scrub, with either one alone, since each has been repaired.
func survives(t testing.TB, damaged tree, want allowed) error {
	t.Helper()
	disk := crashfs.New()
	damaged.load(t, disk)
	j, err := openTwin(disk)
	if err != nil {
		return err
	}
	err = complete(j, want)
	err = errors.Join(err, j.scrubber.all(context.Background(), rate.NewLimiter(rate.Inf, scrubChunk)))
	if err := errors.Join(err, j.Close()); err != nil {
		return err
	}
	for _, dir := range []string{"/j", "/k"} {
		j, err := Open(smallConfig(disk, dir))
		if err != nil {
			return fmt.Errorf("%s alone: %w", dir, err)
		}
		if err := errors.Join(complete(j, want), j.Close()); err != nil {
			return fmt.Errorf("%s alone: %w", dir, err)
		}
	}
	return nil
}

// TestT10_SecondDirectory_EveryByte: whichever byte of either directory is wrong, everything
// acknowledged is there, and both directories are repaired.
func TestT10_SecondDirectory_EveryByte(t *testing.T) {
	testkit.WithoutRace(t, "it tries every place, one after the other")
	p := testkit.Prove(t, "T10-mirror-bytes")
	base, want := mirroredSample(t, 5, 1)
	step, flips := p.Amount(193, 41, 1), 0
	for side := range 2 {
		for _, name := range base.precious(side, true) {
			for at := flips % step; at < len(base[name]); at += step {
				damaged := base.clone()
				damaged[name][at] ^= 1 << (at % 8)
				if err := survives(t, damaged, want); err != nil {
					t.Fatalf("byte %d of %s: %v", at, name, err)
				}
				flips++
			}
		}
	}
	p.Figure("bytes", flips)
}

// TestT10_SecondDirectory_Files: files of one directory that are missing, cut short, emptied, too
// long or swapped are restored from the other.
func TestT10_SecondDirectory_Files(t *testing.T) {
	base, want := mirroredSample(t, 6, 2)
	damages := map[string]func(tr tree, name string){
		"missing": func(tr tree, name string) { delete(tr, name) },
		"cut":     func(tr tree, name string) { tr[name] = tr[name][:len(tr[name])/2] },
		"empty":   func(tr tree, name string) { tr[name] = nil },
		"longer":  func(tr tree, name string) { tr[name] = append(tr[name], "more"...) },
		"zeros":   func(tr tree, name string) { clear(tr[name]) },
	}
	for what, do := range damages {
		t.Run(what, func(t *testing.T) {
			for side := range 2 {
				for _, name := range base.precious(side, true) {
					damaged := base.clone()
					do(damaged, name)
					if err := survives(t, damaged, want); err != nil {
						t.Errorf("%s: %v", name, err)
					}
				}
			}
		})
	}
	t.Run("all segments", func(t *testing.T) {
		for side := range 2 {
			damaged := base.clone()
			for _, name := range base.precious(side, false) {
				delete(damaged, name)
			}
			if err := survives(t, damaged, want); err != nil {
				t.Errorf("side %d: %v", side, err)
			}
		}
	})
	t.Run("swapped", func(t *testing.T) {
		for side := range 2 {
			names := base.precious(side, false)
			for i, a := range names {
				for _, b := range names[i+1:] {
					if filepath.Ext(a) != filepath.Ext(b) {
						continue
					}
					damaged := base.clone()
					damaged[a], damaged[b] = damaged[b], damaged[a]
					if err := survives(t, damaged, want); err != nil {
						t.Errorf("%s and %s: %v", a, b, err)
					}
				}
			}
		}
	})
}

// blot is a damaged stretch of one file.
type blot struct {
	name     string
	from, to int
}

// hurt damages a stretch, cuts a file or removes it, and returns which bytes are lost.
func hurt(rng *rand.Rand, tr tree, name string) blot {
	raw := tr[name]
	if len(raw) == 0 {
		return blot{name, 0, 0}
	}
	at := rng.IntN(len(raw))
	switch rng.IntN(6) {
	case 0:
		tr[name] = raw[:at]
		return blot{name, at, len(raw)}
	case 1:
		delete(tr, name)
		return blot{name, 0, len(raw)}
	case 2:
		to := min(at+1+rng.IntN(200), len(raw))
		clear(raw[at:to])
		return blot{name, at, to}
	default:
		raw[at] ^= 1 << rng.IntN(8)
		return blot{name, at, at + 1}
	}
}

// units returns the stretches of a file that are either intact or not: the records of a segment; a
// body's blocks, each with its checksum, and its foot.
func units(base tree, name string) (all []blot) {
	raw := base[name]
	if strings.HasSuffix(name, ".seg") {
		s := &scan{segment: &segment{}, size: int64(len(raw))}
		s.read(raw)
		for _, r := range s.records {
			all = append(all, blot{name, int(r.from), int(r.from + r.place.size)})
		}
		return all
	}
	return []blot{{name, 0, len(raw)}}
}

// intactSomewhere reports whether each unit is intact on at least one side.
func intactSomewhere(base tree, blots [2][]blot) bool {
	for _, name := range base.precious(0, true) {
		for _, u := range units(base, name) {
			hit := [2]bool{}
			for side := range blots {
				for _, b := range blots[side] {
					hit[side] = hit[side] || b.name[2:] == u.name[2:] && b.from < u.to && b.to > u.from
				}
			}
			if hit[0] && hit[1] {
				return false
			}
		}
	}
	return true
}

// TestT10_SecondDirectory_Damage: random damage on one side or both loses nothing as long as each
// record and each body is intact on one of them. Where neither copy is intact, the journal reports
// it, and never returns wrong bytes.
func TestT10_SecondDirectory_Damage(t *testing.T) {
	p := testkit.Prove(t, "T10-mirror")
	base, want := mirroredSample(t, p.Seed, 3)
	trials, whole, refused := p.Amount(150, 1000, 10_000), 0, 0
	for n := range trials {
		rng := rand.New(rand.NewPCG(p.Seed, uint64(n)))
		damaged := base.clone()
		var blots [2][]blot
		sides := [][]int{{0}, {1}, {0, 1}, {0, 1}}[rng.IntN(4)]
		for _, side := range sides {
			for range 1 + rng.IntN(4) {
				names := damaged.precious(side, rng.IntN(8) == 0)
				blots[side] = append(blots[side], hurt(rng, damaged, names[rng.IntN(len(names))]))
			}
		}
		if intactSomewhere(base, blots) {
			whole++
			if err := survives(t, damaged, want); err != nil {
				t.Fatalf("seed %d/%d, %v: %v", p.Seed, n, blots, err)
			}
			continue
		}
		disk := crashfs.New()
		damaged.load(t, disk)
		j, err := openTwin(disk)
		if err != nil {
			t.Fatalf("seed %d/%d, %v: %v", p.Seed, n, blots, err)
		}
		if err := complete(j, want); err != nil {
			refused++
			for k, states := range want {
				if found, err := observe(j, k); err == nil && found != states[0] && j.Accepting() == nil {
					t.Errorf("seed %d/%d, %v: key %s is %q and should be %q, and no error was reported", p.Seed, n, blots, k, found, states[0])
				}
			}
		}
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
	}
	p.Figure("damages", trials)
	p.Figure("with each record intact somewhere", whole)
	p.Figure("of these lost", 0)
	p.Figure("reported as damaged on both", refused)
	if whole < trials/3 || refused == 0 {
		t.Errorf("%d damages of %d left each record somewhere, %d were reported", whole, trials, refused)
	}
}

// TestLastSegmentLost: the newest segment is removed from the only directory or from both. The
// journal notices, because the file written at its close names that segment.
func TestLastSegmentLost(t *testing.T) {
	for _, second := range []bool{false, true} {
		for _, keep := range []int{1, 0} { // segments that are left
			t.Run(fmt.Sprintf("second directory %t, %d left", second, keep), func(t *testing.T) {
				c := testConfig(vfs.Disk{}, filepath.Join(t.TempDir(), "a"))
				dirs := []string{c.Dir}
				if second {
					c.SecondDir = filepath.Join(t.TempDir(), "b")
					dirs = append(dirs, c.SecondDir)
				}
				for _, k := range []string{"older", "newer"} { // one segment for each epoch
					j := open(t, c)
					mustPut(t, j, k, []byte(k))
					if err := j.Close(); err != nil {
						t.Fatal(err)
					}
				}
				for _, dir := range dirs {
					names, err := filepath.Glob(filepath.Join(dir, segmentDir, "*"))
					if err != nil || len(names) < 2 {
						t.Fatal(names, err)
					}
					for _, name := range names[keep:] {
						if err := os.Remove(name); err != nil {
							t.Fatal(err)
						}
					}
				}
				j, err := Open(c)
				if err != nil {
					return // Open reports it at once
				}
				defer j.Close()
				if j.Accepting() == nil {
					t.Errorf("no error was reported: %+v", j.Stats())
				}
			})
		}
	}
}
