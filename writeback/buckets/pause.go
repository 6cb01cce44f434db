package buckets

import "github.com/akidb/akigw/writeback/facts"

// pauses reports whether pending writes are held back for a reason until an operator decides: they were
// acknowledged for a bucket that has since changed. A refusal is not among these reasons: the flush
// finds it and waits.
func pauses(reason facts.Reason) bool {
	switch reason {
	case facts.Absent, facts.Versioned, facts.Encrypted:
		return true
	default:
		return false
	}
}

// pauseOf returns the reason to hold back pending writes of a bucket, None if there is none.
func pauseOf(f *facts.Fact) facts.Reason {
	if pauses(f.Reason) && f.Resumed != f.Reason {
		return f.Reason
	}
	return facts.None
}

// report logs that the flush of a bucket is paused or resumed.
func (b *Buckets) report(bucket string, was, now facts.Reason) {
	switch {
	case was == now:
	case now == facts.None:
		b.log.Info("pending writes of a bucket are uploaded again", "bucket", bucket)
	default:
		b.log.Error("pending writes of a bucket are not uploaded; they are kept and can be read", "bucket", bucket, "reason", now.String(), "what_to_do", Remedy(bucket, now))
	}
}
