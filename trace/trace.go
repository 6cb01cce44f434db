// Package trace records what clients read and write through the tiers, and replays such a
// recording against tiers of other sizes.
//
// A Recorder observes the tiers (it is a tiers.Observer) and hands what it sees to one
// recording at a time. Read loads a recorded trace, and Trace.Replay says how its reads would
// have ended under another policy or with other sizes. A replay works on keys and sizes alone:
// it moves no bytes and asks no upstream.
//
// The format is lines of JSON: a Header, one Access a line, more Headers in between, and a
// Header with Lost at the end. A trace without that last line was cut off.
package trace

import "github.com/akidb/akigw"

// Version is the version of the format that this package writes and reads.
const Version = 1

// Header is the first line of a trace. It is repeated now and then, and at the end, with the
// number of accesses that are missing so far in Lost.
type Header struct {
	Version int    `json:"akigw_trace"` // see Version
	Lost    *int64 `json:"lost,omitempty"`
}

// Access is one read of an object through the tiers, or one write into them: a line of a
// trace. Reads of pending writes are not recorded, nor are those of objects that no tier may
// hold.
type Access struct {
	At int64 `json:"at"` // milliseconds since 1970
	// Bucket and Key are empty in a trace without names. There ID and Version are numbers that
	// identify the object and its version within this trace.
	Bucket  string `json:"bucket,omitempty"`
	Key     string `json:"key,omitempty"`
	ID      string `json:"id,omitempty"`
	Version string `json:"version"`
	Write   bool   `json:"write,omitempty"`
	Size    int64  `json:"size"`   // bytes of the object
	Block   int64  `json:"block"`  // bytes of a block
	Start   int64  `json:"start"`  // offset of the first byte that was read
	Length  int64  `json:"length"` // bytes that were read
	// Outcome is the slowest tier that a read needed; empty for a write.
	Outcome akigw.Outcome `json:"outcome,omitempty"`
	// NoMemory and NoDisk say that rules keep the object out of a tier.
	NoMemory bool `json:"no_memory,omitempty"`
	NoDisk   bool `json:"no_disk,omitempty"`
}
