package faults

import (
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/akidb/akigw"
)

// The effects on disks. With all but SlowSync the operation is not carried out.
const (
	EIO        Effect = "eio"         // input/output error
	ENOSPC     Effect = "enospc"      // no space left, for operations that take space or ask how much is free
	ShortWrite Effect = "short_write" // half of a write is done, and it fails with EIO
	SlowSync   Effect = "slow_sync"   // a sync takes LatencyMS, and up to JitterMS, longer
	FailedSync Effect = "failed_sync" // a sync fails with EIO
)

// DiskEffects are all effects on disks.
var DiskEffects = []Effect{EIO, ENOSPC, ShortWrite, SlowSync, FailedSync}

// The values of Fault.Tier and Fault.Direction.
const (
	Cold    = "cold"    // requests to an upstream
	Warm    = "warm"    // the disk of the warm tier
	Journal = "journal" // the disk of the journal

	Read  = "read"
	Write = "write"
)

// diskOps are the operations to which each effect on disks applies.
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

// Disk applies the plan in force to the disk of a tier, Warm or Journal.
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
				time.Sleep(f.wait(how)) // a sync cannot be cancelled
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
