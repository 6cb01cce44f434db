package compare

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/tiers/cold"
)

const (
	// headTime is how long the upstream may take to begin its answer, and maxTime to end it.
	headTime = time.Minute
	maxTime  = 10 * time.Minute
	// step is how many bytes are read from the upstream at a time.
	step = 64 << 10
)

// flowID is the flow of comparisons among those of clients, see cold.Flow.
const flowID = "compare"

// errNothing is an answer that says nothing of the object.
const errNothing = akigw.Error("the upstream's answer is not about the object")

// ask sends the request that a client was answered from the cache, signed by the gateway, and returns the
// upstream's answer. The body is read if it can be equal: if status, ETag and length are.
func (c *Comparer) ask(ctx context.Context, s *Sample) (*Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, maxTime)
	defer cancel()
	header := http.Header{}
	if s.Range != "" {
		header.Set("Range", s.Range)
	}
	if s.Checksums {
		header.Set("X-Amz-Checksum-Mode", "ENABLED")
	}
	r := &cold.Request{Op: "HeadObject", Method: s.Method, Key: s.Key, Header: header}
	if s.Method == http.MethodGet {
		r.Op, r.Bytes = "GetObject", s.Answer.Length
	}
	late := time.AfterFunc(headTime, cancel)
	defer late.Stop()
	resp, err := c.upstream.Do(&cold.FlowContext{Context: ctx, Flow: cold.Flow{ID: flowID}}, r)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if !late.Stop() {
		return nil, fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, cold.ErrDeadline)
	}
	if resp.StatusCode >= http.StatusInternalServerError || resp.StatusCode == http.StatusTooManyRequests {
		return nil, fmt.Errorf("%w: status %d", errNothing, resp.StatusCode)
	}
	theirs := &Answer{Status: resp.StatusCode, Header: Header(resp.Header), Length: resp.ContentLength}
	theirs.date, _ = http.ParseTime(resp.Header.Get("Date")) // absent stays zero
	if s.Method == http.MethodGet && theirs.Status == s.Answer.Status && theirs.get("Etag") == s.Answer.get("Etag") && theirs.Length == s.Answer.Length {
		theirs.Digest, err = c.digest(ctx, resp.Body)
	}
	return theirs, err
}

// digest reads a body, no faster than all comparisons together may, and returns its digest.
func (c *Comparer) digest(ctx context.Context, body io.Reader) (string, error) {
	buffer, sum := make([]byte, step), xxhash.New()
	for {
		n, err := body.Read(buffer)
		_, _ = sum.Write(buffer[:n]) // it never fails
		c.counters.received.Add(n)
		if errors.Is(err, io.EOF) {
			return Digest(sum), nil
		}
		if err == nil {
			err = c.bytes.WaitN(ctx, n)
		}
		if err != nil {
			return "", fmt.Errorf("%w: %w", akigw.ErrUpstreamUnavailable, err)
		}
	}
}

// Digest returns the digest of a body as Answer has it.
func Digest(sum *xxhash.Digest) string { return strconv.FormatUint(sum.Sum64(), 16) }
