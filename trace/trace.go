// Package trace records what clients read and write through the tiers, and replays a recording
// against tiers of other sizes.
//
// A Recorder observes the tiers (it is a tiers.Observer) and passes what it sees to one recording
// at a time. Read loads a recorded trace, and Trace.Replay computes what the result of its reads
// would have been under another policy or with other sizes. A replay uses only keys and sizes: it
// moves no bytes and sends no request to the upstream.
//
// The format is lines of JSON: a Header, one Access per line, more Headers in between, and a Header
// with Lost at the end. A trace without that last line was cut off.
package trace

import "github.com/akidb/akigw"

// Version is the version of the format that this package writes and reads.
const Version = 1

// Header is the first line of a trace. It is repeated now and then, and at the end, with the number
// of accesses missing so far in Lost.
type Header struct {
	Version int    `json:"akigw_trace"` // see Version
	Lost    *int64 `json:"lost,omitempty"`
}

// Access is one line of a trace: one read of an object through the tiers, or one write into them.
// Reads of pending writes and of objects that no tier may hold are not recorded.
type Access struct {
	At int64 `json:"at"` // milliseconds since 1970
	// Bucket and Key are empty in a trace without names, whose ID and Version are numbers that
	// identify the object and its version within the trace.
	Bucket  string `json:"bucket,omitempty"`
	Key     string `json:"key,omitempty"`
	ID      string `json:"id,omitempty"`
	Version string `json:"version"`
	Write   bool   `json:"write,omitempty"`
	Size    int64  `json:"size"`   // bytes of the object
	Block   int64  `json:"block"`  // bytes of a block
	Start   int64  `json:"start"`  // offset of the first byte read
	Length  int64  `json:"length"` // number of bytes read
	// Outcome is the slowest tier that a read needed; empty for a write.
	Outcome akigw.Outcome `json:"outcome,omitempty"`
	// NoMemory and NoDisk mean that rules keep the object out of a tier.
	NoMemory bool `json:"no_memory,omitempty"`
	NoDisk   bool `json:"no_disk,omitempty"`
}
