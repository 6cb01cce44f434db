package writeback

import (
	"sync/atomic"
	"time"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/journal"
	"github.com/akidb/akigw/writeback/buckets"
)

// space enforces the limits of the journal: bytes, writes, age, and free space on its disks.
type space struct {
	config   *Config
	journal  *journal.Journal
	incoming atomic.Int64 // bytes of bodies on their way into the journal
}

// reserve reserves size bytes in the journal if they fit, and otherwise returns why not. A
// reservation counts until it is released.
func (s *space) reserve(size int64) buckets.Cause {
	incoming := s.incoming.Add(size)
	st := s.journal.Stats()
	why := buckets.Full
	switch {
	case st.Problem != nil:
		why = buckets.Journal
	case st.Bytes+incoming <= int64(s.config.MaxPendingBytes) && st.Pending+st.Dead+st.Records.Number < s.config.MaxPending &&
		sinceOldest(st) < time.Duration(s.config.MaxPendingSecs)*time.Second && s.free() >= int64(s.config.MinFreeBytes)+incoming:
		return buckets.NoCause
	}
	s.release(size)
	return why
}

// release ends the reservation of size bytes.
func (s *space) release(size int64) { s.incoming.Add(-size) }

// free returns how much space is free for the journal, in bytes.
func (s *space) free() int64 {
	if s.config.Fault != nil {
		if _, err := s.config.Fault(akigw.DiskFree, s.config.Dir, 0); err != nil {
			return 0
		}
	}
	if s.config.SecondDir == "" {
		return free(s.config.Dir)
	}
	return min(free(s.config.Dir), free(s.config.SecondDir))
}

// sinceOldest is the age of the oldest pending write.
func sinceOldest(st journal.Stats) time.Duration {
	if st.Oldest.IsZero() {
		return 0
	}
	return max(0, time.Since(st.Oldest))
}
