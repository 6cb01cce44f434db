package journal

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/crashfs"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/internal/vfs"
)

// TestT9_EachCall: whichever call fails, once or from then on, everything that is acknowledged is
// found by the next start.
func TestT9_EachCall(t *testing.T) {
	p := testkit.Prove(t, "T9-calls")
	for name, failure := range map[string]error{"C2 ENOSPC": syscall.ENOSPC, "C5 EROFS": syscall.EROFS, "C6 EIO": syscall.EIO} {
		t.Run(name, func(t *testing.T) {
			p.Figure("calls that failed, "+name, failAtEachCall(t, failure, p.Amount(3, 1, 1), false))
			p.Figure("calls that failed, of two directories, "+name, failAtEachCall(t, failure, p.Amount(11, 2, 1), true))
		})
	}
}

// failAtEachCall fails every n-th call, for a journal with or without a second directory. It
// returns how many calls failed.
func failAtEachCall(t *testing.T, failure error, every int, twice bool) (failed int) {
	for _, forever := range []bool{false, true} {
		for n := 1; n < 150; n += every {
			disk := crashfs.New()
			x := &expectation{acked: map[string]seen{}, pending: map[string]seen{}}
			faulty := crashfs.NewSteps(disk)
			what := ""
			faulty.Before(func(i int, call string) error {
				if i == n || forever && i > n {
					if what == "" {
						what = call
					}
					return failure
				}
				return nil
			})
			c := &crashRun{seed: uint64(n), rng: rand.New(rand.NewPCG(uint64(n), 2)), dice: rand.New(rand.NewPCG(uint64(n), 3)), mutate: unchanged, trials: &atomic.Int64{}, twice: twice}
			j, err := c.open(faulty, "")
			if err == nil {
				err = c.work(j, x)
				mustFail := strings.Contains(what, ".seg") && !strings.HasPrefix(what, "remove")
				problem := j.Accepting()
				for end := time.Now().Add(2 * time.Second); mustFail && problem == nil && !strings.HasPrefix(what, "create") && time.Now().Before(end); time.Sleep(time.Millisecond) {
					problem = j.Accepting() // a write that no caller waited for has just failed
				}
				wanted := ErrFailed
				if failure == syscall.ENOSPC && strings.HasPrefix(what, "write") {
					wanted = ErrFull
				}
				if failure == syscall.EROFS && errors.Is(problem, ErrFull) { // the start found the disk read-only
					wanted = ErrFull
				}
				if mustFail && !errors.Is(problem, wanted) && !strings.HasPrefix(what, "create") {
					t.Errorf("call %d (%s) failed and the journal says %v", n, what, problem)
				}
				if more := j.Accepting(); mustFail && more != nil {
					if err := put1(j, "more"); !errors.Is(err, ErrFailed) && !errors.Is(err, ErrFull) {
						t.Errorf("call %d (%s): after the failure: %v", n, what, err)
					}
				}
				err = errors.Join(err, j.Close())
			}
			if what == "" {
				continue
			}
			failed++
			// Without a reserve the journal goes on: the log, or the next write that needs room,
			// reports it.
			reserve := strings.Contains(what, reserveFile) || strings.HasSuffix(what, sideFile+draftSuffix)
			if err == nil && !reserve && !strings.HasPrefix(what, "remove") && !strings.HasPrefix(what, "sync_dir") && !strings.HasPrefix(what, "write") {
				t.Errorf("call %d (%s) failed and no error was reported", n, what)
			}
			for _, crashed := range []bool{true, false} { // the machine crashes, or only the process ends
				after := disk
				a := x.around(func() {
					if crashed {
						after = disk.Crash(crashfs.Loss{})
					}
				})
				if err := c.check(after, a, 3, ""); err != nil {
					t.Errorf("call %d (%s), forever %t: %v", n, what, forever, err)
				}
			}
		}
	}
	if failed < 200/every {
		t.Errorf("only %d calls failed", failed)
	}
	return failed
}

// TestSyncHangs: when a disk stops responding, acknowledgements stop after a bounded wait.
//
// Scenarios: C7.
func TestSyncHangs(t *testing.T) {
	disk := crashfs.NewSteps(crashfs.New())
	hang := make(chan struct{})
	var armed atomic.Bool
	disk.Before(func(_ int, what string) error {
		if armed.Load() && strings.HasPrefix(what, "sync ") {
			<-hang
		}
		return nil
	})
	c := testConfig(disk, "/j")
	c.SyncTimeout = 20 * time.Millisecond
	j := open(t, c)
	armed.Store(true)
	if err := put1(j, "k"); !errors.Is(err, errStuck) {
		t.Errorf("%v", err)
	}
	if err := put1(j, "l"); !errors.Is(err, errStuck) {
		t.Errorf("%v", err)
	}
	armed.Store(false)
	close(hang)
	for j.Accepting() != nil {
		time.Sleep(time.Millisecond)
	}
	if err := put1(j, "m"); err != nil || j.Last(key("k")) == nil {
		t.Errorf("%v, %v", err, j.Last(key("k")))
	}
	j.Close()
}

// sample is a closed journal on disk, and what it holds.
func sample(t *testing.T, seed uint64) (Config, allowed) {
	c := smallConfig(vfs.Disk{}, t.TempDir())
	j := open(t, c)
	x := &expectation{acked: map[string]seen{}, pending: map[string]seen{}}
	run := &crashRun{seed: seed, rng: rand.New(rand.NewPCG(seed, 4))}
	if err := errors.Join(run.work(j, x), run.work(j, x)); err != nil {
		t.Fatal(err)
	}
	j.Close()
	return c, x.around(func() {})
}

// TestT10_C9_JournalFlips: a flipped bit or a zeroed sector in any file never leads to wrong bytes
// or a lost entry. Either what was acknowledged is there, or the journal reports the damage and
// accepts no more writes.
//
// Scenarios: C9.
func TestT10_C9_JournalFlips(t *testing.T) {
	testkit.WithoutRace(t, "it tries every place, one after the other")
	p := testkit.Prove(t, "T10-journal")
	flips := p.Amount(100, 500, 20_000)
	noticed, refused := flipBits(t, p.Seed, flips)
	for name, n := range map[string]int{"damages": flips, "noticed at the start": noticed, "keys refused": refused, "wrong bytes": 0} {
		p.Figure(name, n)
	}
}

// flipBits damages a journal n times. It returns how often the journal noticed at its start, and
// how many keys it refused.
func flipBits(t *testing.T, seed uint64, flips int) (damaged, lost int) {
	c, want := sample(t, seed)
	base := t.TempDir()
	for n := range flips {
		rng := rand.New(rand.NewPCG(seed, uint64(n)))
		dir := filepath.Join(base, strconv.Itoa(n))
		if err := os.CopyFS(dir, os.DirFS(c.Dir)); err != nil {
			t.Fatal(err)
		}
		name, what := damage(t, rng, dir)
		d := c
		d.Dir = dir
		j, err := Open(d)
		if err != nil {
			t.Fatalf("seed %d/%d, %s in %s: %v", seed, n, what, name, err)
		}
		problem := j.Accepting()
		if problem != nil {
			damaged++
		}
		for k, states := range want {
			found, err := observe(j, k)
			switch {
			case err == nil && found == states[0]:
			case err != nil && !errors.Is(err, akigw.ErrChecksum) && !errors.Is(err, fs.ErrNotExist):
				t.Errorf("seed %d/%d, %s in %s: %v", seed, n, what, name, err)
			case err != nil && problem != nil, problem != nil, err != nil && strings.HasSuffix(name, ".body"):
				lost++
			default:
				t.Errorf("seed %d/%d, %s in %s: key %s is %q and should be %q, %v, and no error was reported", seed, n, what, name, k, found, states[0], err)
			}
		}
		if problem != nil && (!errors.Is(problem, ErrDamaged) || put1(j, "x") == nil || j.Take(key("k1")) != nil) {
			t.Errorf("seed %d/%d: %v", seed, n, problem)
		}
		j = reopen(t, j)
		if (j.Accepting() != nil) != (problem != nil) {
			t.Errorf("seed %d/%d, %s in %s: first start %v, second %v", seed, n, what, name, problem, j.Accepting())
		}
		if problem != nil {
			if err := j.Accept(); err != nil || j.Accepting() != nil {
				t.Fatalf("%v, %v", err, j.Accepting())
			}
			j = reopen(t, j)
			if err := j.Accepting(); err != nil {
				t.Errorf("seed %d/%d: accepted, then reopened: %v", seed, n, err)
			}
		}
		j.Close()
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
	if damaged < flips/10 {
		t.Errorf("only %d damages were noticed", damaged)
	}
	return damaged, lost
}

// damage changes something in a file of a journal.
func damage(t *testing.T, rng *rand.Rand, dir string) (name, what string) {
	var files []string
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && (strings.HasSuffix(path, ".seg") || strings.HasSuffix(path, ".body")) {
			files = append(files, path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	name = files[rng.IntN(len(files))]
	raw, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	at := rng.IntN(len(raw))
	if rng.IntN(4) > 0 {
		what = fmt.Sprintf("bit %d of byte %d", rng.IntN(8), at)
		raw[at] ^= 1 << rng.IntN(8)
	} else {
		what = fmt.Sprintf("64 zeros from byte %d", at)
		clear(raw[at:min(at+64, len(raw))])
	}
	if err := os.WriteFile(name, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	return name, what
}

// TestTornTailAndMiddleDamage: an unfinished record at the end was never acknowledged and is
// dropped silently. A damaged record before the end is quarantined.
//
// Scenarios: B23.
func TestTornTailAndMiddleDamage(t *testing.T) {
	for name, tc := range map[string]struct {
		change func(raw []byte) []byte
		damage bool
	}{
		"torn":    {func(raw []byte) []byte { return append(raw, frameMagic...) }, false},
		"garbage": {func(raw []byte) []byte { return append(raw, random(100, 3)...) }, false},
		"middle":  {func(raw []byte) []byte { raw[bytes.Index(raw, random(100, 5))] ^= 1; return raw }, true},
		"last":    {func(raw []byte) []byte { raw[len(raw)-frameHead-1-3] ^= 1; return raw }, true}, // the record before the mark
	} {
		t.Run(name, func(t *testing.T) {
			c := testConfig(vfs.Disk{}, t.TempDir())
			j := open(t, c)
			for i := range 10 {
				mustPut(t, j, fmt.Sprint(i), random(100, uint64(i)))
			}
			file := j.log.segmentName(1)
			j.Close()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, tc.change(raw), 0o600); err != nil {
				t.Fatal(err)
			}
			j = open(t, c)
			if got := j.Accepting(); (got != nil) != tc.damage {
				t.Errorf("%v", got)
			}
			if want := 10; !tc.damage && j.Len() != want || tc.damage && j.Len() != want-1 {
				t.Errorf("%d entries", j.Len())
			}
			if kept, _ := os.ReadDir(filepath.Join(c.Dir, quarantineDir)); (len(kept) == 1) != tc.damage {
				t.Errorf("%v in quarantine", kept)
			}
			j.Close()
		})
	}
}

// TestDamagedRecordKeepsItsBody: the body of a damaged record is kept until an operator has
// accepted the damage. If the segment is restored from a backup, it is an acknowledged write again.
func TestDamagedRecordKeepsItsBody(t *testing.T) {
	for _, back := range []bool{true, false} {
		disk := crashfs.New()
		j := open(t, testConfig(disk, "/j"))
		for n := range 3 {
			mustPut(t, j, fmt.Sprint(n), random(10_000, uint64(n)))
		}
		damaged, at := j.log.segmentName(1), 0
		raw, err := vfs.ReadFile(disk, damaged)
		if err != nil {
			t.Fatal(err)
		}
		at = bytes.Index(raw, []byte(etag(random(10_000, 1))))
		if err := j.Close(); err != nil {
			t.Fatal(err)
		}
		flip(t, disk, damaged, at)
		j = open(t, testConfig(disk, "/j"))
		if err := j.Accepting(); !errors.Is(err, ErrDamaged) || bodies(t, j) != 3 {
			t.Errorf("%v, %d bodies", err, bodies(t, j))
		}
		if back {
			flip(t, disk, damaged, at)
			j = reopen(t, j)
			if !bytes.Equal(read(t, j, key("1")), random(10_000, 1)) {
				t.Error("the body has other content")
			}
		}
		if err := j.Accept(); err != nil {
			t.Fatal(err)
		}
		j = reopen(t, j)
		if want := map[bool]int{true: 3, false: 2}[back]; j.Accepting() != nil || bodies(t, j) != want {
			t.Errorf("back %t: %v, %d bodies", back, j.Accepting(), bodies(t, j))
		}
		if err := j.Close(); err != nil {
			t.Error(err)
		}
	}
}
