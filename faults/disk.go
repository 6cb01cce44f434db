package faults

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/akidb/akigw"
)

// The effects on disks. But for SlowSync what they happen to is not done.
const (
	EIO        Effect = "eio"         // input/output error
	ENOSPC     Effect = "enospc"      // no space left: of what takes up room, and of asking how much there is
	ShortWrite Effect = "short_write" // half of a write is done, and fails with EIO
	SlowSync   Effect = "slow_sync"   // a sync takes LatencyMS, and up to JitterMS more
	FailedSync Effect = "failed_sync" // a sync fails with EIO
)

// DiskEffects are all of those.
var DiskEffects = []Effect{EIO, ENOSPC, ShortWrite, SlowSync, FailedSync}

// Where faults happen, and to what.
const (
	Cold    = "cold"    // on the way to an upstream
	Warm    = "warm"    // on the disk tier
	Journal = "journal" // on the journal's disk

	Read  = "read"
	Write = "write"
)

// diskOps are the operations that an effect on disks can happen to.
var diskOps = map[Effect][]akigw.DiskOp{
	EIO: {akigw.DiskMkdir, akigw.DiskCreate, akigw.DiskOpen, akigw.DiskRead, akigw.DiskWrite, akigw.DiskSync, akigw.DiskSyncDir,
		akigw.DiskRename, akigw.DiskRemove, akigw.DiskList},
	ENOSPC:     {akigw.DiskMkdir, akigw.DiskCreate, akigw.DiskWrite, akigw.DiskFree},
	ShortWrite: {akigw.DiskWrite},
	SlowSync:   {akigw.DiskSync, akigw.DiskSyncDir},
	FailedSync: {akigw.DiskSync, akigw.DiskSyncDir},
}

// reads are the operations that change nothing.
var reads = []akigw.DiskOp{akigw.DiskOpen, akigw.DiskRead, akigw.DiskList}

// Disk is the plan that is set, for the disk of a tier: Warm or Journal.
func (l *Layer) Disk(tier string) akigw.DiskFault {
	return func(op akigw.DiskOp, name string, size int) (int, error) {
		st := l.state.Load()
		if st == nil {
			return size, nil
		}
		u := use{tier: tier, op: string(op), key: name, read: slices.Contains(reads, op)}
		for _, f := range st.lines {
			if !slices.Contains(diskOps[f.Effect], op) {
				continue
			}
			strikes, how := f.strikes(u, time.Since(st.since))
			if !strikes {
				continue
			}
			switch f.Effect {
			case SlowSync:
				time.Sleep(f.wait(how)) // a sync cannot be called off
			case ENOSPC:
				return 0, fault(syscall.ENOSPC)
			case ShortWrite:
				return size / 2, fault(syscall.EIO)
			default:
				return 0, fault(syscall.EIO)
			}
		}
		return size, nil
	}
}

func fault(err error) error { return fmt.Errorf("fault: %w", err) }
