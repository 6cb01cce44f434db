package placement

import (
	"encoding/binary"
	"time"

	"github.com/akidb/akigw/internal/codec"
)

// usage describes how an object is used. Accesses are counted in windows of time that begin at
// multiples of their length: the current one and the one before.
type usage struct {
	last        int64 // time of the last access or write, in seconds since 1970; 0: never
	window      int64 // number of the current window
	now, before uint32
	total       uint64 // accesses since counting began
}

// roll advances to a later window.
func (u *usage) roll(window int64) {
	switch {
	case window <= u.window:
	case window == u.window+1:
		u.window, u.now, u.before = window, 0, u.now
	default:
		u.window, u.now, u.before = window, 0, 0
	}
}

// add adds counts from elsewhere.
func (u *usage) add(other usage) {
	newest := max(u.window, other.window)
	u.roll(newest)
	other.roll(newest)
	u.now += other.now
	u.before += other.before
	u.last = max(u.last, other.last)
	u.total += other.total
}

// within estimates the number of accesses in the last d. Of the previous window it counts the share
// that d still covers, as if accesses were evenly spread.
func (u usage) within(d time.Duration, at time.Time) uint32 {
	length := int64(d / time.Second)
	if length == 0 {
		return 0
	}
	now := at.Unix()
	u.roll(now / length)
	return u.now + uint32((int64(u.before)*(length-now%length)+length/2)/length)
}

// idle returns the time since the last use; 0 if the clock was set back.
func (u usage) idle(at time.Time) time.Duration {
	return max(0, at.Sub(time.Unix(u.last, 0)))
}

// lastAccess returns the time of the last use, zero for never.
func (u usage) lastAccess() time.Time {
	if u.last == 0 {
		return time.Time{}
	}
	return time.Unix(u.last, 0)
}

// usageVersion is the first byte of an encoded usage.
const usageVersion = 1

func appendUsage(b []byte, u usage) []byte {
	b = append(b, usageVersion)
	b = binary.AppendUvarint(b, uint64(u.last))
	b = binary.AppendUvarint(b, uint64(u.window))
	b = binary.AppendUvarint(b, uint64(u.now))
	b = binary.AppendUvarint(b, uint64(u.before))
	return binary.AppendUvarint(b, u.total)
}

// decodeUsage decodes what appendUsage wrote. It returns the zero usage if b is malformed or empty.
func decodeUsage(b []byte) usage {
	d := codec.NewDecoder(b)
	if d.Byte() != usageVersion {
		return usage{}
	}
	u := usage{last: int64(d.Uvarint()), window: int64(d.Uvarint()), now: uint32(d.Uvarint()), before: uint32(d.Uvarint()), total: d.Uvarint()}
	if d.Bad() || u.last < 0 || u.window < 0 {
		return usage{}
	}
	return u
}
