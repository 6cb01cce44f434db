package trace

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
)

// Trace is a recorded trace that can be replayed.
type Trace struct {
	// Recorded is the result of the accesses at the time of recording.
	Recorded Result
	// Objects is how many objects were accessed, and Bytes the total size of all distinct blocks
	// that were: tiers of that size never fetch a block twice.
	Objects int
	Bytes   int64
	// Took is the time between the first and the last access. Lost is how many accesses are
	// missing.
	Took time.Duration
	Lost int64

	steps    []step
	accesses []access
}

// access is what a replay needs of an Access: its first step, and how much was requested.
type access struct {
	step   int
	length int64
	write  bool
}

// step is the use of one block of one version of an object, or the end of that version.
type step struct {
	block            uint64 // hash of object, version and number of the block
	bytes            int64
	replaced         bool // the version was replaced: the block is not used again
	noMemory, noDisk bool
}

// Result is the result of the reads of a trace.
type Result struct {
	Reads int `json:"reads"`
	// Hot, Warm and Cold count reads by the slowest tier that they need.
	Hot  int `json:"hot"`
	Warm int `json:"warm"`
	Cold int `json:"cold"`
	// UpstreamBytes is how much is fetched from the upstream, and UpstreamReads the number of
	// requests for one range each. Both are 0 for Trace.Recorded: the format does not record them.
	UpstreamBytes int64 `json:"upstream_bytes"`
	UpstreamReads int   `json:"upstream_reads"`
	// Bytes is how much the clients requested.
	Bytes int64 `json:"bytes"`
}

// count counts a read.
func (r *Result) count(outcome akigw.Outcome, bytes int64) {
	r.Reads++
	r.Bytes += bytes
	switch outcome {
	case akigw.Hot:
		r.Hot++
	case akigw.Warm, akigw.Stale: // a stale object may come from either tier
		r.Warm++
	default:
		r.Cold++
	}
}

// maxLine is the longest line of a trace in bytes: keys and ETags are shorter than 4 KiB.
const maxLine = 64 << 10

// Read reads a trace. It fails if the trace is malformed, has another version of the format, or is
// cut off.
func Read(from io.Reader) (*Trace, error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	l := loader{trace: &Trace{}, current: map[string]version{}, seen: map[uint64]bool{}}
	for n := 1; lines.Scan(); n++ {
		if err := l.line(n, lines.Bytes()); err != nil {
			return nil, err
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("the trace: %w", err)
	}
	if !l.whole {
		return nil, errors.New("the trace is cut off: its last line is missing")
	}
	l.trace.Took = time.Duration(l.last-l.first) * time.Millisecond
	return l.trace, nil
}

// loader builds a Trace line by line.
type loader struct {
	trace       *Trace
	current     map[string]version // of each object
	seen        map[uint64]bool    // blocks used so far
	first, last int64              // times of the first and last access
	whole       bool               // the previous line was a Header with Lost
}

// version is a version of an object.
type version struct {
	etag        string
	size, block int64
}

// line parses line n of the trace.
func (l *loader) line(n int, raw []byte) error {
	var line struct {
		Header
		Access
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		return fmt.Errorf("line %d of the trace: %w", n, err)
	}
	switch v := line.Header.Version; {
	case n == 1 && v == 0:
		return errors.New("this is not a trace of akigw")
	case v != 0 && v != Version:
		return fmt.Errorf("the trace has format %d, and this program reads %d", v, Version)
	case line.Lost != nil:
		l.trace.Lost, l.whole = *line.Lost, true
		return nil
	case v != 0:
		return nil
	}
	l.whole = false
	a := &line.Access
	if a.Block <= 0 || a.Size < 0 || a.Start < 0 || a.Length < 0 || a.Start > a.Size || a.Length > a.Size-a.Start {
		return fmt.Errorf("line %d of the trace: bytes %d to %d of an object of %d, blocks of %d", n, a.Start, a.Start+a.Length, a.Size, a.Block)
	}
	l.access(a)
	return nil
}

// access adds the steps of an access.
func (l *loader) access(a *Access) {
	t := l.trace
	l.first, l.last = cmp.Or(l.first, a.At), max(l.last, a.At)
	id := cmp.Or(a.ID, a.Bucket+"/"+a.Key)
	if before, ok := l.current[id]; ok && before.etag != a.Version {
		l.replaced(id, before)
	} else if !ok {
		t.Objects++
	}
	l.current[id] = version{a.Version, a.Size, a.Block}
	t.accesses = append(t.accesses, access{len(t.steps), a.Length, a.Write})
	if !a.Write {
		t.Recorded.count(a.Outcome, a.Length)
	}
	for n := a.Start / a.Block; n == a.Start/a.Block || n*a.Block < a.Start+a.Length; n++ { // an empty object has one block
		s := step{block: blockID(id, a.Version, n), bytes: min(a.Block, a.Size-n*a.Block), noMemory: a.NoMemory, noDisk: a.NoDisk}
		if !l.seen[s.block] {
			l.seen[s.block] = true
			t.Bytes += s.bytes
		}
		t.steps = append(t.steps, s)
	}
}

// replaced adds the end of the used blocks of a version.
func (l *loader) replaced(id string, v version) {
	for n := range (v.size + v.block - 1) / v.block {
		if block := blockID(id, v.etag, n); l.seen[block] {
			l.trace.steps = append(l.trace.steps, step{block: block, replaced: true})
		}
	}
}

// blockID returns a number for a block of a version of an object.
func blockID(id, version string, n int64) uint64 {
	d := xxhash.New()
	fmt.Fprintf(d, "%s\x00%s\x00%d", id, version, n) // a hash never fails
	return d.Sum64()
}
