package trace

import (
	"hash/maphash"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers"
)

// ErrRecording: another recording is running.
const ErrRecording = akigw.Error("a trace is already being recorded")

// Recorder observes the tiers for one recording at a time. The zero value is ready to use.
type Recorder struct {
	recording atomic.Pointer[Recording] // nil while nothing is recorded
}

// Recording is a trace that is being recorded. It never makes a request wait: an access that the
// reader of Accesses is too slow for is lost, and counted.
type Recording struct {
	recorder *Recorder
	accesses chan Access
	lost     atomic.Int64
	nameless bool
	seed     maphash.Seed
}

// queued is how many accesses can wait for the reader; further ones are lost.
const queued = 1 << 14

// Start begins a recording. With nameless it contains no names and no ETags, only numbers that
// cannot be computed from them without its secret. The error is ErrRecording if another one is
// running. The caller must Close it.
func (r *Recorder) Start(nameless bool) (*Recording, error) {
	t := &Recording{recorder: r, accesses: make(chan Access, queued), nameless: nameless, seed: maphash.MakeSeed()}
	if !r.recording.CompareAndSwap(nil, t) {
		return nil, ErrRecording
	}
	return t, nil
}

// Accesses returns the channel of recorded accesses. It is never closed.
func (t *Recording) Accesses() <-chan Access { return t.accesses }

// Lost returns how many accesses are missing because the reader was too slow.
func (t *Recording) Lost() int64 { return t.lost.Load() }

// Close ends the recording.
func (t *Recording) Close() { t.recorder.recording.CompareAndSwap(t, nil) }

// Accessed implements tiers.Observer.
func (r *Recorder) Accessed(a tiers.Access) {
	if t := r.recording.Load(); t != nil {
		t.record(a)
	}
}

func (t *Recording) record(a tiers.Access) {
	line := Access{
		At: time.Now().UnixMilli(), Version: a.Object.ETag, Write: a.Write(),
		Size: a.Object.Size, Block: a.Block, Start: a.Range.Start, Length: a.Range.Length, Outcome: a.Outcome,
		NoMemory: !a.Settings.Memory, NoDisk: !a.Settings.Disk,
	}
	if t.nameless {
		line.ID = strconv.FormatUint(maphash.Comparable(t.seed, a.Object.Key), 36)
		line.Version = strconv.FormatUint(maphash.String(t.seed, a.Object.ETag), 36)
	} else {
		line.Bucket, line.Key = a.Object.Key.Bucket, a.Object.Key.Name
	}
	select {
	case t.accesses <- line:
	default:
		t.lost.Add(1)
	}
}
