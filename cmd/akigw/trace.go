package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/akidb/akigw/internal/size"
	"github.com/akidb/akigw/trace"
)

// traceCommand is "akigw trace".
type traceCommand struct {
	Record traceRecord `cmd:"" help:"Record the accesses of a running gateway."`
	Replay traceReplay `cmd:"" help:"Compute the hit ratios and upstream traffic for tiers of given sizes."`
}

type traceRecord struct {
	remote
	File    string  `arg:"" help:"File to write, as lines of JSON; compressed if its name ends in .gz." type:"path"`
	Seconds float64 `help:"Duration in seconds; Ctrl-C ends the recording early." default:"600" placeholder:"SECS"`
	Hash    bool    `help:"Replace names and ETags by numbers that cannot be traced back."`
}

// Run records until the time is up or the user interrupts it.
func (t *traceRecord) Run() (err error) {
	gateway, err := t.gateway()
	if err != nil {
		return err
	}
	ctx, stop := until()
	defer stop()
	body, err := gateway.Trace(ctx, t.Seconds, t.Hash)
	if err != nil {
		return err
	}
	defer body.Close()
	out, err := t.create()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, out.Close()) }()
	c := traceCopy{to: out}
	if terminal(os.Stderr) {
		defer tell(os.Stderr, patience, func(since time.Duration) string {
			return fmt.Sprintf("%d accesses in %.0f of %.0f s", c.accesses.Load(), since.Seconds(), t.Seconds)
		})()
	}
	if err := c.copy(ctx, body); err != nil {
		return err
	}
	fmt.Printf("%d accesses in %s", c.accesses.Load(), t.File)
	if c.lost > 0 {
		fmt.Printf("; %d were not recorded because this machine was too busy", c.lost)
	}
	fmt.Println()
	return nil
}

// create creates the file. It is compressed if its name ends in .gz.
func (t *traceRecord) create() (io.WriteCloser, error) {
	file, err := os.OpenFile(t.File, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil || !strings.HasSuffix(t.File, ".gz") {
		return file, err
	}
	return zipped{gzip.NewWriter(file), file}, nil
}

// zipped is a compressed file.
type zipped struct {
	*gzip.Writer
	file *os.File
}

// Close implements io.Closer.
func (z zipped) Close() error { return errors.Join(z.Writer.Close(), z.file.Close()) }

// traceCopy copies a trace and counts its accesses.
type traceCopy struct {
	to       io.Writer
	accesses atomic.Int64
	lost     int64 // accesses that the gateway could not record
	whole    bool  // the last line was the header that ends a trace
}

// copy copies a trace to its end or until ctx is done. In the latter case it adds the header that
// ends the trace.
func (c *traceCopy) copy(ctx context.Context, body io.Reader) error {
	for lines := bufio.NewReader(body); ; {
		line, err := lines.ReadBytes('\n')
		if err == io.EOF || err != nil && ctx.Err() != nil {
			break
		}
		if err == nil {
			err = c.line(line)
		}
		if err != nil {
			return err
		}
	}
	switch {
	case c.whole:
		return nil
	case ctx.Err() == nil:
		return fmt.Errorf("the connection to the gateway was lost after %d accesses: the trace is truncated", c.accesses.Load())
	}
	return json.NewEncoder(c.to).Encode(trace.Header{Version: trace.Version, Lost: &c.lost})
}

// line copies a line.
func (c *traceCopy) line(line []byte) error {
	var header trace.Header
	if bytes.HasPrefix(line, []byte(`{"akigw_trace"`)) {
		if err := json.Unmarshal(line, &header); err != nil {
			return err
		}
	}
	switch c.whole = header.Lost != nil; {
	case c.whole:
		c.lost = *header.Lost
	case header.Version == 0:
		c.accesses.Add(1)
	}
	_, err := c.to.Write(line)
	return err
}

type traceReplay struct {
	File   string       `arg:"" help:"Recorded trace." type:"existingfile"`
	Hot    []size.Bytes `help:"Sizes of the memory tier." default:"1GiB" placeholder:"SIZE,SIZE"`
	Warm   []size.Bytes `help:"Sizes of the disk tier." default:"10GiB" placeholder:"SIZE,SIZE"`
	Policy []string     `help:"akigw: the gateway's own policy; lru: least recently used; sieve, s3-fifo, arc: the published policies of these names; optimum: Belady's algorithm, which knows the future." default:"akigw" enum:"akigw,lru,sieve,s3-fifo,arc,optimum"`
	WarmUp float64      `help:"Share of the trace, from its beginning, that fills the tiers without being counted." default:"0" placeholder:"SHARE"`
	JSON   bool         `name:"json" help:"Print JSON."`
}

// replayed is one row of the result.
type replayed struct {
	Policy string     `json:"policy"`
	Hot    size.Bytes `json:"hot_bytes"`
	Warm   size.Bytes `json:"warm_bytes"`
	trace.Result
}

// Run replays the trace with each combination of sizes and policies.
func (t *traceReplay) Run() error {
	if t.WarmUp < 0 || t.WarmUp >= 1 {
		return errors.New("--warm-up must be 0 or more, and less than 1")
	}
	done := busy("reading the trace")
	recorded, err := readTrace(t.File, trace.Read)
	done()
	if err != nil {
		return fmt.Errorf("%s: %w", t.File, err)
	}
	all, err := t.play(recorded)
	if err != nil {
		return err
	}
	if t.JSON {
		return printJSON(map[string]any{"recorded": recorded.Recorded, "objects": recorded.Objects, "bytes": recorded.Bytes, "seconds": recorded.Took.Seconds(), "lost": recorded.Lost, "played": all})
	}
	fmt.Printf("%d reads of %s in %s, of %d objects with %s of distinct data\n", recorded.Recorded.Reads, size.Human(recorded.Recorded.Bytes), recorded.Took.Round(time.Second), recorded.Objects, size.Human(recorded.Bytes))
	if recorded.Lost > 0 {
		fmt.Printf("%d accesses are missing from the trace\n", recorded.Lost)
	}
	fmt.Println()
	share := func(n, of int) string { return fmt.Sprintf("%.1f%%", 100*float64(n)/float64(max(of, 1))) }
	row := func(what []any, p trace.Result, upstream ...any) []any {
		return append(append(what, share(p.Hot, p.Reads), share(p.Warm, p.Reads), share(p.Cold, p.Reads)), upstream...)
	}
	rows := [][]any{row([]any{"as recorded", "", ""}, recorded.Recorded, "", "", "")}
	for _, r := range all {
		rows = append(rows, row([]any{r.Policy, size.Human(int64(r.Hot)), size.Human(int64(r.Warm))}, r.Result, size.Human(r.UpstreamBytes), fmt.Sprintf("%.2f", float64(r.UpstreamBytes)/float64(max(r.Bytes, 1))), r.UpstreamReads))
	}
	return table([]string{"policy", "memory", "disk", "hot", "warm", "cold", "from upstream", "per byte read", "upstream reads"}, rows, func(r []any) []any { return r })
}

// play replays the trace with each combination of sizes and policies.
func (t *traceReplay) play(recorded *trace.Trace) (all []replayed, err error) {
	defer busy("replaying the trace")()
	for _, hot := range t.Hot {
		for _, warm := range t.Warm {
			for _, policy := range t.Policy {
				played, err := recorded.Replay(policy, int64(hot), int64(warm), t.WarmUp)
				if err != nil {
					return nil, err
				}
				all = append(all, replayed{policy, hot, warm, played})
			}
		}
	}
	return all, nil
}

// readTrace opens a trace file, which may be compressed, and reads it.
func readTrace[T any](name string, read func(io.Reader) (T, error)) (recorded T, err error) {
	file, err := os.Open(name)
	if err != nil {
		return recorded, err
	}
	defer file.Close()
	in := bufio.NewReader(file)
	if magic, _ := in.Peek(2); string(magic) != "\x1f\x8b" {
		return read(in)
	}
	zip, err := gzip.NewReader(in)
	if err != nil {
		return recorded, err
	}
	return read(zip)
}
