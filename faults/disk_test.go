package faults

import (
	"errors"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/akidb/akigw"
)

// TestDiskEffects: each effect does what its name says, on the disk that the plan names. Effects on
// disks do not affect requests, and effects on requests do not affect disks.
func TestDiskEffects(t *testing.T) {
	for _, c := range []struct {
		fault Fault
		err   error
		done  int // of a write of 100 bytes
		hits  []akigw.DiskOp
	}{
		{Fault{Effect: EIO}, syscall.EIO, 0, []akigw.DiskOp{akigw.DiskMkdir, akigw.DiskCreate, akigw.DiskOpen, akigw.DiskRead, akigw.DiskWrite, akigw.DiskSync, akigw.DiskSyncDir, akigw.DiskRename, akigw.DiskRemove, akigw.DiskList}},
		{Fault{Effect: EIO, Direction: Read}, syscall.EIO, 100, []akigw.DiskOp{akigw.DiskOpen, akigw.DiskRead, akigw.DiskList}},
		{Fault{Effect: EIO, Op: "sync*"}, syscall.EIO, 100, []akigw.DiskOp{akigw.DiskSync, akigw.DiskSyncDir}},
		{Fault{Effect: ENOSPC, Tier: Warm}, syscall.ENOSPC, 0, []akigw.DiskOp{akigw.DiskMkdir, akigw.DiskCreate, akigw.DiskWrite, akigw.DiskFree}},
		{Fault{Effect: ShortWrite}, syscall.EIO, 50, []akigw.DiskOp{akigw.DiskWrite}},
		{Fault{Effect: FailedSync}, syscall.EIO, 100, []akigw.DiskOp{akigw.DiskSync, akigw.DiskSyncDir}},
		{Fault{Effect: EIO, Tier: Journal}, nil, 100, nil},
		{Fault{Effect: EIO, Key: "*.seg"}, nil, 100, nil},
		{Fault{Effect: SlowDown}, nil, 100, nil},
	} {
		var layer Layer
		if err := layer.Set(Plan{Faults: []Fault{c.fault}}); err != nil {
			t.Fatal(err)
		}
		disk, left := layer.Disk(Warm), c.hits
		for _, op := range akigw.DiskOps() {
			done, err := disk(op, "file", 100)
			hit := len(left) > 0 && left[0] == op
			if hit {
				left = left[1:]
			}
			if hit != (err != nil) || hit && !errors.Is(err, c.err) || op == akigw.DiskWrite && done != c.done {
				t.Errorf("%+v: %s: %d, %v", c.fault, op, done, err)
			}
		}
		if r := layer.Report(); r.Hits[0] != len(c.hits) || len(left) > 0 {
			t.Errorf("%+v: %+v", c.fault, r)
		}
		up := &upstream{}
		if resp, err := layer.Wrap(up).RoundTrip(request("GET", "/b/k", "")); err != nil || (resp.StatusCode == 503) != (c.fault.Effect == SlowDown) {
			t.Errorf("%+v and a request: %v", c.fault, err)
		}
	}
}

// TestSlowSync: a slow sync is delayed and carried out.
func TestSlowSync(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var layer Layer
		if err := layer.Set(Plan{Faults: []Fault{{Effect: SlowSync, LatencyMS: 200, First: 1}}}); err != nil {
			t.Fatal(err)
		}
		for i, want := range []time.Duration{200 * time.Millisecond, 0} {
			began := time.Now()
			if _, err := layer.Disk(Journal)(akigw.DiskSync, "f", 0); err != nil || time.Since(began) != want {
				t.Errorf("sync %d: %v after %s", i, err, time.Since(began))
			}
		}
	})
}
