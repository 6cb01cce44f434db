package trace

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/akidb/akigw"
)

// Trace is a recorded trace that can be replayed.
type Trace struct {
	// Recorded is the result of the accesses at the time of recording.
	Recorded Result
	// Objects is how many objects were accessed, and Bytes the total size of all distinct blocks
	// that were: tiers of that size never fetch a block twice. Both are estimates if Rate is below 1.
	Objects int
	Bytes   int64
	// Took is the time between the first and the last access. Lost is how many accesses are
	// missing.
	Took time.Duration
	Lost int64
	// Rate is the share of the objects whose accesses are kept, chosen by the hash of their names; 1
	// for all.
	Rate float64

	steps    []step
	accesses []access
	buckets  []bucket
}

// bucket is what a Trace knows of all accesses of a bucket, kept or not.
type bucket struct {
	name     string
	recorded Result
}

// access is what a replay needs of an Access: its first step, and how much was requested.
type access struct {
	step, bucket int
	object       uint64 // hash of its bucket and key
	at           int64  // milliseconds since 1970
	length, size int64
	outcome      akigw.Outcome // as recorded
	write        bool
	replaces     bool // the object had another version at the access before
	// carried means that the tiers had data that this access is the first of the trace to use: it came
	// to them before the trace began.
	carried bool
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
	s := NewSample(0)
	lost, err := Each(from, s.Add)
	if err != nil {
		return nil, err
	}
	return s.Trace(lost), nil
}

// Each calls yield with each access of a recorded trace, which is valid until yield returns, and
// returns how many accesses are missing. Its errors are those of Read; some accesses may have been
// yielded by then.
func Each(from io.Reader, yield func(*Access)) (lost int64, err error) {
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, maxLine)
	l := loader{yield: yield}
	for n := 1; lines.Scan(); n++ {
		if err := l.line(n, lines.Bytes()); err != nil {
			return 0, err
		}
	}
	if err := lines.Err(); err != nil {
		return 0, fmt.Errorf("the trace: %w", err)
	}
	if !l.whole {
		return 0, errors.New("the trace is cut off: its last line is missing")
	}
	return l.lost, nil
}

// loader parses a trace line by line.
type loader struct {
	yield func(*Access)
	lost  int64
	whole bool // the previous line was a Header with Lost
}

// line parses line n of the trace.
func (l *loader) line(n int, raw []byte) error {
	var line struct {
		Header
		Access
	}
	if err := json.Unmarshal(raw, &line); err != nil {
		if n == 1 {
			return errors.New("this is not a trace of akigw")
		}
		return fmt.Errorf("line %d of the trace: %w", n, err)
	}
	switch v := line.Header.Version; {
	case n == 1 && v == 0:
		return errors.New("this is not a trace of akigw")
	case v != 0 && v != Version:
		return fmt.Errorf("the trace has format %d, and this program reads %d", v, Version)
	case line.Lost != nil:
		l.lost, l.whole = *line.Lost, true
		return nil
	case v != 0:
		return nil
	}
	l.whole = false
	a := &line.Access
	if a.Block <= 0 || a.Size < 0 || a.Start < 0 || a.Length < 0 || a.Start > a.Size || a.Length > a.Size-a.Start {
		return fmt.Errorf("line %d of the trace: bytes %d to %d of an object of %d, blocks of %d", n, a.Start, a.Start+a.Length, a.Size, a.Block)
	}
	l.yield(a)
	return nil
}
