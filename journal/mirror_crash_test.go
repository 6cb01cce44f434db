package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw/journal/internal/spool"

	"golang.org/x/time/rate"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// repairRun crashes starts that repair or rebuild a directory, and the starts after those crashes.
type repairRun struct {
	seed   uint64
	dice   *rand.Rand
	want   allowed
	trials int
}

// start opens both directories and checks that everything is there. If depth is not 0, it also
// crashes this start at each call.
func (r *repairRun) start(disk *crashfs.FS, depth int) (err error) {
	r.trials++
	fs := crashfs.NewSteps(disk)
	at := 1 + r.dice.IntN(40)
	crash := func(n int, what string) error {
		if err != nil || depth == 0 || depth == 1 && n != at {
			return nil
		}
		clone := disk.Crash(crashfs.Loss{KeepPercent: []int{0, 40, 100}[r.dice.IntN(3)], Seed: r.dice.Uint64()})
		if e := errors.Join(r.start(clone, depth-1), r.alone(clone)); e != nil {
			err = fmt.Errorf("crash before %q (call %d, depth %d): %w", what, n, depth, e)
		}
		return nil
	}
	fs.Before(crash)
	j, openErr := openTwin(fs)
	if openErr != nil {
		return openErr
	}
	wrong := errors.Join(complete(j, r.want), j.scrubber.all(context.Background(), rate.NewLimiter(rate.Inf, scrubChunk)))
	return errors.Join(wrong, j.Close(), err)
}

// alone checks that the second directory, after a crash and a start together with the first, can
// replace the first.
func (r *repairRun) alone(disk *crashfs.FS) error {
	j, err := Open(smallConfig(disk, "/k"))
	if err != nil {
		return fmt.Errorf("the second alone: %w", err)
	}
	return errors.Join(complete(j, r.want), j.Close())
}

// TestT3_SecondDirectory_CrashInRepair: a start repairs either directory from the other, or
// rebuilds the second. A crash at any of its calls, followed by a crash of the next start, loses
// nothing.
func TestT3_SecondDirectory_CrashInRepair(t *testing.T) {
	testkit.WithoutRace(t, "it tries every place, one after the other")
	p := testkit.Prove(t, "T3-mirror")
	// Each start reads through large buffers and leaves them. With so little else in memory, collecting
	// them would take more time than the starts do.
	defer debug.SetGCPercent(debug.SetGCPercent(2000))
	damages := int64(p.Amount(6, 60, 1500))
	base, all := mirroredSample(t, p.Seed, 2)
	stale, later := staleSample(t, p.Seed)
	// damage returns the directories with the damage of a trial, and what must be in them.
	damage := func(n int64, rng *rand.Rand) (damaged tree, want allowed, blots [2][]blot) {
		damaged, want = base.clone(), all
		switch n % 6 {
		case 0: // an empty second directory
			for name := range damaged {
				if strings.HasPrefix(name, "1/") {
					delete(damaged, name)
				}
			}
		case 1: // one that was missing for a while
			damaged, want = stale.clone(), later
		case 2: // each body is damaged on both sides, in different blocks
			for _, name := range base.precious(0, false) {
				if raw := damaged[name]; strings.HasSuffix(name, ".body") && len(raw) > spool.Block+100 {
					raw[rng.IntN(spool.Block)] ^= 1
					damaged["1"+name[1:]] = damaged["1"+name[1:]][:spool.Block+rng.IntN(100)]
				}
			}
		case 3: // two segments are swapped, and the other copy of one is damaged
			names := base.precious(0, false)
			names = slices.DeleteFunc(names, func(name string) bool { return !strings.HasSuffix(name, ".seg") })
			if len(names) < 2 {
				break // everything fits into one segment
			}
			i := rng.IntN(len(names) - 1)
			one, other := names[i], names[i+1]
			damaged[one], damaged[other] = damaged[other], damaged[one]
			hit := "1" + names[i+rng.IntN(2)][1:]
			damaged[hit][rng.IntN(len(damaged[hit]))] ^= 1
		default:
			for range 1 + rng.IntN(5) {
				side := rng.IntN(2)
				names := damaged.precious(side, true)
				blots[side] = append(blots[side], hurt(rng, damaged, names[rng.IntN(len(names))]))
			}
		}
		return damaged, want, blots
	}
	var begun, trials atomic.Int64
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for n := begun.Add(1) - 1; n < damages && !t.Failed(); n = begun.Add(1) - 1 {
				rng := rand.New(rand.NewPCG(p.Seed, uint64(n)))
				damaged, want, blots := damage(n, rng)
				if !intactSomewhere(base, blots) {
					continue
				}
				disk := crashfs.New()
				damaged.load(t, disk)
				r := &repairRun{seed: p.Seed, dice: rng, want: want}
				if err := r.start(disk, 2); err != nil {
					t.Errorf("seed %d/%d, %v, after %d trials: %v", p.Seed, n, blots, r.trials, err)
				}
				if trials.Add(int64(r.trials)); n%100 == 99 {
					t.Logf("%d of %d damages", n+1, damages)
				}
			}
		})
	}
	workers.Wait()
	p.Figure("crash clones in the middle of a repair", trials.Load())
}

// paths returns the directories of a test.
func twoDirs(t *testing.T) (dir, second string) {
	t.Helper()
	return filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "b")
}

// TestSecondDirectory_TwoProcesses: a second process started by mistake changes nothing in an open
// journal, whichever of its directories it names first.
//
// Scenarios: B24.
func TestSecondDirectory_TwoProcesses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, second := twoDirs(t)
		j, err := openMirrored(t, dir, second)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		mustPut(t, j, "small", []byte("small"))
		mustPut(t, j, "large", random(100_000, 1))
		synctest.Wait() // until the mark after the last record is written, which no write waits for
		before := readTree(t, dir, second)
		empty := filepath.Join(t.TempDir(), "c")
		for name, dirs := range map[string][2]string{
			"the same":          {dir, second},
			"exchanged":         {second, dir},
			"the first alone":   {dir, ""},
			"the second alone":  {second, ""},
			"as a second one":   {empty, dir},
			"with an empty one": {second, empty},
		} {
			if other, err := openMirrored(t, dirs[0], dirs[1]); err == nil || !strings.Contains(err.Error(), "in use by another process") {
				if err == nil {
					_ = other.Close()
				}
				t.Errorf("%s: %v", name, err)
			}
			if after := readTree(t, dir, second); !sameTree(before, after) {
				t.Errorf("%s: the directories were changed", name)
			}
		}
		mustPut(t, j, "later", nil)
	})
}

func sameTree(a, b tree) bool {
	for name := range b {
		if _, ok := a[name]; !ok {
			return false
		}
	}
	for name := range a {
		if !bytes.Equal(a[name], b[name]) {
			return false
		}
	}
	return true
}

// TestSecondDirectory_Exchanged: the two directories may be given in either order.
func TestSecondDirectory_Exchanged(t *testing.T) {
	dir, second := twoDirs(t)
	for i := range 4 {
		j, err := openMirrored(t, dir, second)
		if err != nil {
			t.Fatal(err)
		}
		for k := range i {
			if got := read(t, j, key(fmt.Sprint(k))); !bytes.Equal(got, random(5000+k, uint64(k))) {
				t.Errorf("start %d: key %d", i, k)
			}
		}
		mustPut(t, j, fmt.Sprint(i), random(5000+i, uint64(i)))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		dir, second = second, dir
	}
}

// done completes the flush of a key.
func done(t *testing.T, j *Journal, name string) {
	t.Helper()
	if err := j.Done(t.Context(), j.Last(key(name))); err != nil {
		t.Fatal(err)
	}
}

// restart opens one or two directories, does something, and closes them.
func restart(t *testing.T, dir, second string, do func(j *Journal)) {
	t.Helper()
	j, err := openMirrored(t, dir, second)
	if err != nil {
		t.Fatal(err)
	}
	do(j)
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
}

// many fills segments so that old ones are removed.
func many(t *testing.T, j *Journal) {
	t.Helper()
	for n := range 300 {
		mustPut(t, j, "churn", random(1000, uint64(n)))
	}
	done(t, j, "churn")
}

// TestSecondDirectory_OldSide: from a directory that is out of date, only the bytes of live entries
// are used. As the second directory it is rebuilt: what has been flushed meanwhile does not come
// back, and another body with the same number and length is not mistaken for the wanted one. As the
// first directory it is refused.
func TestSecondDirectory_OldSide(t *testing.T) {
	for name, replace := range map[string]func(t *testing.T, from, to string){
		"detached": func(*testing.T, string, string) {},
		"restored": func(t *testing.T, from, to string) {
			if err := errors.Join(os.RemoveAll(to), os.CopyFS(to, os.DirFS(from))); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, second := twoDirs(t)
			restart(t, dir, second, func(j *Journal) {
				mustPut(t, j, "stays", random(5000, 2))
				mustPut(t, j, "flushed", random(5000, 1))
			})
			backup := filepath.Join(t.TempDir(), "backup")
			if err := os.CopyFS(backup, os.DirFS(second)); err != nil {
				t.Fatal(err)
			}
			left := "" // the second disk is missing
			if name == "restored" {
				left = second // it comes back from a backup
			}
			restart(t, dir, left, func(j *Journal) {
				done(t, j, "flushed")
				many(t, j)
			})
			restart(t, dir, left, func(j *Journal) { mustPut(t, j, "new", random(5000, 3)) }) // its body reuses a number that was free
			replace(t, backup, second)
			if j, err := openMirrored(t, second, dir); err == nil || !strings.Contains(err.Error(), "behind") {
				if err == nil {
					_ = j.Close()
				}
				t.Fatalf("the old one as the first: %v", err)
			}
			check := func(j *Journal) {
				t.Helper()
				if j.Last(key("flushed")) != nil || j.Last(key("churn")) != nil || j.Accepting() != nil {
					t.Errorf("flushed entries came back: %+v, %+v, %v", j.Last(key("flushed")), j.Last(key("churn")), j.Accepting())
				}
				if !bytes.Equal(read(t, j, key("stays")), random(5000, 2)) || !bytes.Equal(read(t, j, key("new")), random(5000, 3)) {
					t.Error("a body has other content")
				}
			}
			restart(t, dir, second, check)
			restart(t, second, "", check)
			restart(t, dir, "", check)
		})
	}
}

// TestSecondDirectory_WrittenApart: two directories that each acknowledged something the other does
// not have are refused rather than merged.
func TestSecondDirectory_WrittenApart(t *testing.T) {
	dir, second := twoDirs(t)
	restart(t, dir, second, func(j *Journal) { mustPut(t, j, "both", nil) })
	restart(t, dir, "", func(j *Journal) { mustPut(t, j, "first", nil) })
	restart(t, second, "", func(j *Journal) { mustPut(t, j, "second", nil) })
	restart(t, second, "", func(j *Journal) { mustPut(t, j, "second", nil) })
	before := readTree(t, dir, second)
	for _, dirs := range [][2]string{{dir, second}, {second, dir}} {
		if _, err := openMirrored(t, dirs[0], dirs[1]); err == nil || !strings.Contains(err.Error(), "apart") {
			t.Errorf("%v", err)
		}
	}
	if !sameTree(before, readTree(t, dir, second)) {
		t.Error("the directories were changed")
	}
}

// TestSecondDirectory_Unfinished: an unfinished copy is not accepted as a journal.
func TestSecondDirectory_Unfinished(t *testing.T) {
	dir, second := twoDirs(t)
	restart(t, dir, "", func(j *Journal) { mustPut(t, j, "k", random(100_000, 1)) })
	disk := &failSecond{FS: vfs.Disk{}, dir: filepath.Join(second, spoolDir)}
	disk.write.Store(true)
	c := testConfig(disk, dir)
	c.SecondDir = second
	if _, err := Open(c); !errors.Is(err, os.ErrInvalid) {
		j, alone := openMirrored(t, second, "")
		if alone == nil {
			_ = j.Close()
		}
		t.Fatalf("the body could not be copied, and the start says %v; the second alone: %v", err, alone)
	}
	for _, dirs := range [][2]string{{second, ""}, {second, dir}} {
		if _, err := openMirrored(t, dirs[0], dirs[1]); err == nil || !strings.Contains(err.Error(), "unfinished copy") {
			t.Errorf("%v", err)
		}
	}
	want := func(j *Journal) {
		if !bytes.Equal(read(t, j, key("k")), random(100_000, 1)) {
			t.Error("the body has other content")
		}
	}
	restart(t, dir, second, want)
	restart(t, second, "", want)
}

// TestSecondDirectory_ReadsFallBack: readers do not notice damage that happens while the journal is
// open. It is repaired in the background: in body files, in small bodies in segments, and when
// files disappear.
//
// Scenarios: C9.
func TestSecondDirectory_ReadsFallBack(t *testing.T) {
	for _, side := range []int{0, 1} {
		for name, damage := range map[string]func(raw []byte) []byte{
			"bit":     func(raw []byte) []byte { raw[len(raw)/3] ^= 4; return raw },
			"table":   func(raw []byte) []byte { raw[len(raw)-18] ^= 4; return raw },
			"cut":     func(raw []byte) []byte { return raw[:len(raw)/2] },
			"missing": nil,
		} {
			t.Run(fmt.Sprintf("%s %d", name, side), func(t *testing.T) {
				dir, second := twoDirs(t)
				j, err := openMirrored(t, dir, second)
				if err != nil {
					t.Fatal(err)
				}
				defer j.Close()
				for n := range 30 { // several segments
					mustPut(t, j, fmt.Sprint(n), random(4000, uint64(n)))
				}
				mustPut(t, j, "large", random(200_000, 1))
				for _, path := range []string{j.log.segmentName(1), j.spool.Name(j.spool.Last())} {
					path = j.mirror.on(side, path)
					raw, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if damage == nil {
						err = os.Remove(path)
					} else {
						err = os.WriteFile(path, damage(bytes.Clone(raw)), 0o600)
					}
					if err != nil {
						t.Fatal(err)
					}
					defer func() {
						if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, raw) {
							t.Errorf("%s was not repaired: %v", path, err)
						}
					}()
				}
				for n := range 30 {
					if !bytes.Equal(read(t, j, key(fmt.Sprint(n))), random(4000, uint64(n))) {
						t.Errorf("key %d", n)
					}
				}
				if !bytes.Equal(read(t, j, key("large")), random(200_000, 1)) {
					t.Error("large")
				}
				j.scrubber.stop()
				if err := errors.Join(j.scrubber.all(t.Context(), rate.NewLimiter(rate.Inf, scrubChunk)), j.bodies.repair.all()); err != nil {
					t.Error(err)
				}
				for n := range 30 {
					if !bytes.Equal(read(t, j, key(fmt.Sprint(n))), random(4000, uint64(n))) {
						t.Errorf("key %d after the repair", n)
					}
				}
				if s := j.Stats(); s.Repaired == 0 || s.Lost > 0 || s.Problem != nil {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// TestSecondDirectory_OldCopyOfTheSameRun: a copy of a directory that was made while the journal
// was open, and put back later, brings nothing back that has since been flushed and compacted. This
// holds whether or not the side files, which say from where segments count, are lost.
func TestSecondDirectory_OldCopyOfTheSameRun(t *testing.T) {
	for _, sideFiles := range []bool{true, false} {
		for side := range 2 {
			t.Run(fmt.Sprintf("side files %t, side %d", sideFiles, side), func(t *testing.T) {
				dir, second := twoDirs(t)
				backup := filepath.Join(t.TempDir(), "backup")
				restart(t, dir, second, func(j *Journal) {
					mustPut(t, j, "flushed", random(1000, 1))
					mustPut(t, j, "large", random(70_000, 1))
					if err := os.CopyFS(backup, os.DirFS([]string{dir, second}[side])); err != nil {
						t.Fatal(err)
					}
					done(t, j, "flushed")
					done(t, j, "large")
					many(t, j)
					mustPut(t, j, "stays", random(5000, 2))
				})
				old := []string{dir, second}[side]
				if err := errors.Join(os.RemoveAll(old), os.CopyFS(old, os.DirFS(backup))); err != nil {
					t.Fatal(err)
				}
				if !sideFiles {
					if err := errors.Join(os.Remove(filepath.Join(dir, sideFile)), os.Remove(filepath.Join(second, sideFile))); err != nil {
						t.Fatal(err)
					}
				}
				check := func(j *Journal) {
					t.Helper()
					for _, name := range []string{"flushed", "large", "churn"} {
						if e := j.Last(key(name)); e != nil {
							t.Errorf("%s came back: %+v", name, e)
						}
					}
					if err := j.Accepting(); err != nil || !bytes.Equal(read(t, j, key("stays")), random(5000, 2)) {
						t.Errorf("%v", err)
					}
				}
				restart(t, dir, second, check)
				restart(t, second, "", check)
				restart(t, dir, "", check)
			})
		}
	}
}

// TestSecondDirectory_UnfinishedAndFirstLost: the first disk is lost while the second is an
// incomplete copy. What was copied is not deleted.
func TestSecondDirectory_UnfinishedAndFirstLost(t *testing.T) {
	dir, second := twoDirs(t)
	restart(t, dir, second, func(j *Journal) { mustPut(t, j, "k", random(1000, 1)) })
	if err := os.WriteFile(filepath.Join(second, unfinishedFile), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openMirrored(t, filepath.Join(t.TempDir(), "new"), second); err == nil || !strings.Contains(err.Error(), "behind") {
		t.Errorf("%v", err)
	}
	if err := os.Remove(filepath.Join(second, unfinishedFile)); err != nil { // as the message says
		t.Fatal(err)
	}
	restart(t, second, "", func(j *Journal) { read(t, j, key("k")) })
}

// TestSecondDirectory_ReadersWhileItRepairs: reads, writes, flushes and the removal of segments
// continue while one directory is repeatedly damaged and repaired.
func TestSecondDirectory_ReadersWhileItRepairs(t *testing.T) {
	dir, second := twoDirs(t)
	j, err := openMirrored(t, dir, second)
	if err != nil {
		t.Fatal(err)
	}
	mustPut(t, j, "stays", random(300_000, 9))
	mustPut(t, j, "small", random(3000, 8))
	var over atomic.Bool
	var wait sync.WaitGroup
	wait.Go(func() {
		for !over.Load() {
			if err := j.scrubber.all(t.Context(), rate.NewLimiter(rate.Inf, scrubChunk)); err != nil {
				t.Error(err)
			}
		}
	})
	wait.Go(func() {
		for n := byte(0); !over.Load(); n++ {
			for name, size := range map[string]int{"stays": 300_000, "small": 3000} {
				if got := read(t, j, key(name)); len(got) != size {
					t.Errorf("%s has %d bytes", name, len(got))
				}
			}
		}
	})
	for n := range 200 {
		k := fmt.Sprint(n % 3)
		mustPut(t, j, k, random([]int{3000, 70_000}[n%2], uint64(n)))
		if n%4 == 0 {
			done(t, j, k)
		}
		for _, sub := range []string{segmentDir, spoolDir} {
			harm(t, filepath.Join(second, sub), n)
		}
	}
	over.Store(true)
	wait.Wait()
	if s := j.Stats(); s.Repaired == 0 || s.Lost > 0 || s.Problem != nil {
		t.Errorf("%+v", s)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	restart(t, dir, second, func(j *Journal) { read(t, j, key("stays")) })
}

// harm flips a bit in a file of a directory that is not being written.
func harm(t *testing.T, dir string, n int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < 2 {
		return
	}
	f, err := os.OpenFile(filepath.Join(dir, files[n%(len(files)-1)].Name()), os.O_RDWR, 0)
	if err != nil {
		return // it was removed
	}
	defer f.Close()
	b := make([]byte, 1)
	at := int64(100 + n*37%2500)
	if _, err := f.ReadAt(b, at); err != nil {
		return // it is shorter
	}
	b[0] ^= 8
	if _, err := f.WriteAt(b, at); err != nil {
		t.Error(err)
	}
}

// TestSecondDirectory_BodyDamagedOnBothSides: a body is assembled from the intact blocks and
// checksums of both directories.
func TestSecondDirectory_BodyDamagedOnBothSides(t *testing.T) {
	dir, second := twoDirs(t)
	j, err := openMirrored(t, dir, second)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	body := random(200_000, 1) // four blocks
	mustPut(t, j, "k", body)
	table := len(body)
	for side, places := range [][]int{{table + 1, 3 * spool.Block}, {table + 9, spool.Block + 7}} {
		name := j.mirror.on(side, j.spool.Name(1))
		raw, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range places {
			raw[at] ^= 1
		}
		if err := os.WriteFile(name, raw, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(read(t, j, key("k")), body) {
		t.Error("the body has other content")
	}
	if s := j.Stats(); s.Repaired != 2 || s.Lost != 0 {
		t.Errorf("%+v", s)
	}
	if !sameFile(t, j.spool.Name(1), j.mirror.on(1, j.spool.Name(1))) {
		t.Error("the copies differ")
	}
}

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.ReadFile(a)
	y, secondErr := os.ReadFile(b)
	if err = errors.Join(err, secondErr); err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

// TestBodiesExchanged: a body in the place of another one of the same length is not mistaken for
// it. With a second directory it is repaired; without one it is refused.
//
// Scenarios: C9.
func TestBodiesExchanged(t *testing.T) {
	for _, second := range []string{"", filepath.Join(t.TempDir(), "b")} {
		j, err := openMirrored(t, filepath.Join(t.TempDir(), "a"), second)
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		mustPut(t, j, "k1", random(70_000, 1))
		mustPut(t, j, "k2", random(70_000, 2))
		one, other := j.spool.Name(1), j.spool.Name(2)
		if err := errors.Join(os.Rename(one, one+".test"), os.Rename(other, one), os.Rename(one+".test", other)); err != nil {
			t.Fatal(err)
		}
		b, err := j.Body(j.Last(key("k1")), 0, 70_000)
		if second == "" {
			if !errors.Is(err, akigw.ErrChecksum) {
				t.Errorf("%v", err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		b.Close()
		if !bytes.Equal(read(t, j, key("k1")), random(70_000, 1)) || !bytes.Equal(read(t, j, key("k2")), random(70_000, 2)) {
			t.Error("a body has other content")
		}
	}
}

// TestSecondDirectory_KilledInRepair: two segments of one directory are swapped, and one of them is
// damaged in the other directory. A process killed at any call of a start leaves everything to the
// next start.
func TestSecondDirectory_KilledInRepair(t *testing.T) {
	base, want := mirroredSample(t, 11, 3)
	var names []string
	for _, name := range base.precious(0, false) {
		if strings.HasSuffix(name, ".seg") {
			names = append(names, name)
		}
	}
	if len(names) < 2 {
		t.Fatalf("only %d segments", len(names))
	}
	one, other := names[0], names[1]
	for _, hit := range []string{one, other} {
		damaged := base.clone()
		damaged[one], damaged[other] = damaged[other], damaged[one]
		u := units(base, hit)[1] // the record after the head
		damaged["1"+hit[1:]][u.from+frameHead] ^= 1
		for n, whole := 1, false; !whole; n++ {
			disk := crashfs.New()
			damaged.load(t, disk)
			fs := crashfs.NewSteps(disk)
			fs.Before(func(i int, _ string) error {
				if i >= n {
					return os.ErrInvalid
				}
				return nil
			})
			j, err := openTwin(fs)
			if whole = err == nil; whole {
				_ = j.Close() // it fails like every other call
			}
			fs.Before(nil)
			if err := survives(t, dump(t, disk), want); err != nil {
				t.Fatalf("%s damaged, killed at call %d: %v", hit, n, err)
			}
		}
	}
}

// dump returns the tree of a file system in memory.
func dump(t *testing.T, m *crashfs.FS) tree {
	t.Helper()
	all := tree{}
	for i, dir := range []string{"/j", "/k"} {
		for _, sub := range []string{"", segmentDir, spoolDir, quarantineDir} {
			names, err := m.List(filepath.Join(dir, sub))
			if err != nil {
				continue // not created yet
			}
			for _, name := range names {
				if raw, err := vfs.ReadFile(m, filepath.Join(dir, sub, name)); err == nil && name != lockFile && !slices.Contains([]string{segmentDir, spoolDir, quarantineDir}, name) {
					all[filepath.Join(fmt.Sprint(i), sub, name)] = raw
				}
			}
		}
	}
	return all
}
