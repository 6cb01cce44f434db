package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/akidb/akigw/internal/testing/testkit"
)

// TestLongWarmLimit: reading 6 GiB from disk works within a cgroup of 1 GiB, without the kernel killing
// the gateway, and at half the speed or more of the same without a limit. Both start with nothing in the
// page cache. Where no cgroup can be made, only the second part runs, and the pages of files that the
// gateway has mapped must not exceed 512 MiB, because nothing shows that they can be reclaimed.
func TestLongWarmLimit(t *testing.T) {
	long(t)
	const objects, each, limit = 96, 64 << 20, 1 << 30
	up, behind := startLean(t)
	block := testkit.Bytes(11, 1<<20)
	if err := up.Fill("warmbucket", block, each, "CRC64NVME"); err != nil {
		t.Fatal(err)
	}
	o := options{plain: true, upstream: behind, dir: t.TempDir(), env: []string{"AKIGW_CACHE_HOT_BYTES=64MiB", "AKIGW_CACHE_WARM_BYTES=10GiB", "AKIGW_CACHE_FRESHNESS=exclusive"}}
	g := startGateway(t, o)
	readWarm(t, g, objects, each, block) // cold: from now on everything is on disk
	g.stop()
	// again restarts the gateway without the page cache of its files, reads everything, and returns MiB/s.
	again := func(name string) (rate float64, mapped int64) {
		dropPages(t, o.dir)
		g := startGateway(t, o)
		gets := up.Count("GET")
		rate = readWarm(t, g, objects, each, block)
		file, anonymous := g.resident()
		t.Logf("%s: %d MiB from disk, %.0f MiB/s, RssFile %d MiB, RssAnon %d MiB, %d upstream GETs", name, objects*each>>20, rate, file>>20, anonymous>>20, up.Count("GET")-gets)
		if got := up.Count("GET") - gets; got > objects/50 {
			t.Errorf("%s: %d upstream GETs: the objects were not on disk", name, got)
		}
		g.stop()
		return rate, file
	}
	free, mapped := again("without a limit")
	group := limitedGroup(t, limit)
	if group == "" {
		if mapped > 512<<20 {
			t.Errorf("RssFile is %d MiB", mapped>>20)
		}
		t.Skip("no run within a limit: no cgroup (version 2) with the memory controller can be made here")
	}
	o.under = writeFile(t, filepath.Join(t.TempDir(), "limited"), []byte("#!/bin/sh\necho $$ > "+group+"/cgroup.procs && exec \"$@\"\n"))
	if err := os.Chmod(o.under, 0o700); err != nil {
		t.Fatal(err)
	}
	limited, _ := again("within 1 GiB")
	events := string(readFile(t, filepath.Join(group, "memory.events")))
	t.Logf("within 1 GiB: %.2f of the speed\n%s", limited/free, events)
	if !strings.Contains(events, "oom_kill 0\n") {
		t.Errorf("the kernel killed something:\n%s", events)
	}
	if limited < free/2 {
		t.Errorf("%.0f MiB/s within the limit, %.0f without", limited, free)
	}
}

// readWarm reads all objects of a test, four at a time, and returns MiB per second.
func readWarm(t *testing.T, g *gateway, objects, each int, block []byte) float64 {
	t.Helper()
	started := time.Now()
	var next atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for i := next.Add(1); i <= int64(objects); i = next.Add(1) {
				check := &comparing{block: block}
				if status := g.do(t, "GET", fmt.Sprintf("/warmbucket/%d", i), nil, 0, check); status != 200 || check.n != each || check.wrong {
					t.Errorf("object %d: %d, %d bytes, wrong %t", i, status, check.n, check.wrong)
				}
			}
		})
	}
	wait.Wait()
	return float64(objects*(each>>20)) / time.Since(started).Seconds()
}

// resident returns the gateway's memory in bytes: pages of files, and anonymous.
func (g *gateway) resident() (file, anonymous int64) {
	pid := g.cmd.Process.Pid
	return rss(pid, "RssFile"), rss(pid, "RssAnon")
}

// dropPages writes the files of a directory back, and removes them from the page cache.
func dropPages(t *testing.T, dir string) {
	t.Helper()
	testkit.EachFile(t, dir, func(_, path string) error {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := f.Sync(); err != nil {
			return err
		}
		return unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED)
	})
}

// limitedGroup makes a cgroup (version 2) with a memory limit below the one of the test, or beside it, and
// returns its directory. "" means that neither group hands its memory controller on, or that the test
// may not.
func limitedGroup(t *testing.T, limit int64) string {
	t.Helper()
	for line := range strings.Lines(string(readFile(t, "/proc/self/cgroup"))) {
		own, found := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for _, parent := range []string{own, filepath.Dir(own)} {
			parent = filepath.Join("/sys/fs/cgroup", parent)
			controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.subtree_control"))
			if !found || err != nil || !slices.Contains(strings.Fields(string(controllers)), "memory") {
				continue
			}
			group := filepath.Join(parent, fmt.Sprintf("akigw-test-%d", os.Getpid()))
			if err := os.Mkdir(group, 0o755); err != nil {
				t.Log(err)
				continue
			}
			t.Cleanup(func() { os.Remove(group) }) // the gateway has left it
			writeFile(t, filepath.Join(group, "memory.max"), fmt.Append(nil, limit))
			_ = os.WriteFile(filepath.Join(group, "memory.swap.max"), []byte("0"), 0o644) // absent without swap accounting
			return group
		}
	}
	return ""
}
