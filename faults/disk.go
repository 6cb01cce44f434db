package faults

import (
	"syscall"
	"time"

	"github.com/akidb/akigw"
)

// Disk applies the plan in force to the disk of a tier, Warm or Journal.
func (l *Layer) Disk(tier string) akigw.DiskFault {
	return func(op akigw.DiskOp, name string, size int) (int, error) {
		st := l.state.Load()
		if st == nil {
			return size, nil
		}
		u := use{tier: tier, op: string(op), key: name, read: op == akigw.DiskOpen || op == akigw.DiskRead || op == akigw.DiskList}
		for _, f := range st.lines {
			if !f.Effect.applies(op) {
				continue
			}
			applies, how := f.applies(u, time.Since(st.since))
			if !applies {
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
