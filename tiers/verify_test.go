package tiers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/checksum"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
	"github.com/akidb/akigw/tiers/cold"
)

// counted returns the value of a counter of a set.
func counted(t *testing.T, set *metrics.Set, name string) uint64 {
	t.Helper()
	for _, known := range set.ListMetricNames() {
		if known == name {
			return set.GetOrCreateCounter(name).Get()
		}
	}
	t.Fatalf("there is no metric %s", name)
	return 0
}

// TestVerifiedBy: whole bodies are verified with the checksum that the upstream has of them, else with
// the MD5 in the ETag, and it is counted how. A damaged body that can be verified is neither handed out
// whole nor cached.
//
// Scenarios: A8.
func TestVerifiedBy(t *testing.T) {
	small, large := testkit.Bytes(1, 100), testkit.Bytes(2, 9*block+1)
	type verified struct {
		name, by string
		header   func(body []byte) http.Header
	}
	cases := []verified{
		{"an MD5 ETag", "md5", func([]byte) http.Header { return nil }},
		{"an ETag of parts", "none", func([]byte) http.Header { return http.Header{"Etag": {`"0-2"`}} }},
		{"the checksum of parts", "none", func(body []byte) http.Header {
			return http.Header{"Etag": {`"0-2"`}, "X-Amz-Checksum-Type": {checksum.Composite}, "X-Amz-Checksum-Crc32c": {sumOf("X-Amz-Checksum-Crc32c", body)}}
		}},
		{"two checksums and an MD5", "crc64nvme", func(body []byte) http.Header {
			return http.Header{"X-Amz-Checksum-Type": {checksum.FullObject}, "X-Amz-Checksum-Sha256": {sumOf("X-Amz-Checksum-Sha256", body)}, "X-Amz-Checksum-Crc64nvme": {sumOf("X-Amz-Checksum-Crc64nvme", body)}}
		}},
	}
	for _, a := range checksum.Algorithms {
		cases = append(cases, verified{a.Name, strings.ToLower(a.Name), func(body []byte) http.Header {
			return http.Header{"Etag": {`"0-2"`}, "X-Amz-Checksum-Type": {checksum.FullObject}, a.Header: {sumOf(a.Header, body)}}
		}})
	}
	for _, c := range cases {
		for _, body := range [][]byte{small, large} {
			t.Run(fmt.Sprint(c.name, " of ", len(body), " bytes"), func(t *testing.T) { verifiedBy(t, c.by, body, c.header(body)) })
		}
	}
}

func verifiedBy(t *testing.T, by string, body []byte, header http.Header) {
	up, set := s3mem.New(), metrics.NewSet()
	config := testConfig(rules.Exclusive)
	config.WarmBytes = 0
	s, err := New(Options{Config: config, Rules: rules.NewSet(nil, config.Settings()), Upstream: up, Metrics: set})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	up.Put(key("k"), body)
	damaged := false
	up.After = func(r *cold.Request, resp *http.Response) {
		for name, values := range header {
			resp.Header[name] = values
		}
		if damaged {
			raw, _ := io.ReadAll(resp.Body)
			raw = bytes.Clone(raw)
			raw[len(raw)/2] ^= 1
			resp.Body = io.NopCloser(bytes.NewReader(raw))
		}
	}
	name := fmt.Sprintf("akigw_tiers_verified_bodies_total{by=%q}", by)
	wantRead(t, s, key("k"), "", body, akigw.Cold)
	wantRead(t, s, key("k"), "bytes=0-9", body[:10], akigw.Hot)
	if n := counted(t, set, name); n != 1 {
		t.Errorf("%s is %d after one body", name, n)
	}
	if by == "none" {
		return
	}
	damaged = true
	s.Begin(key("k")).End()
	if got, _, err := readAll(s, key("k"), ""); !errors.Is(err, akigw.ErrChecksum) || len(got) == len(body) {
		t.Errorf("read %d bytes of a damaged body, error %v", len(got), err)
	}
	if e, _ := s.lookup(key("k")); e != nil {
		t.Error("a damaged body is cached")
	}
	if n := counted(t, set, "akigw_tiers_corrupt_bodies_total"); n != 1 || counted(t, set, name) != 1 {
		t.Errorf("%d bodies count as corrupt, %d as verified; want one of each", n, counted(t, set, name))
	}
}

// stuckHash is a hash that takes bytes only while it may.
type stuckHash struct {
	hash.Hash
	may    chan struct{}
	hashed [][]byte
}

func (h *stuckHash) Write(p []byte) (int, error) {
	<-h.may
	h.hashed = append(h.hashed, p)
	return len(p), nil
}

// TestSlowHashLags: blocks do not wait until they are hashed, as long as few of them are waiting. The
// order stays, and stop waits for all of them.
func TestSlowHashLags(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &stuckHash{may: make(chan struct{})}
		v := newVerifier(&checksum.Digest{Hash: h, By: checksum.Algorithm{Slow: true}}, 10)
		written := 0
		var blocks [10]*sharedBlock
		go func() {
			defer close(h.may)
			for ; written < 10; written++ {
				b := newBlock([]byte{byte(written)}, nil)
				blocks[written] = b
				v.write(b, b.data)
				b.release()
			}
		}()
		synctest.Wait()
		if written != lag+1 {
			t.Errorf("%d blocks passed while the hash was stuck, want %d", written, lag+1)
		}
		for range 10 - lag - 1 {
			h.may <- struct{}{}
		}
		synctest.Wait()
		v.stop()
		v.stop() // does nothing
		if want := [][]byte{{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}, {8}, {9}}; fmt.Sprint(h.hashed) != fmt.Sprint(want) {
			t.Errorf("hashed %v", h.hashed)
		}
		for n, b := range blocks {
			if users := b.users.Load(); users != 0 {
				t.Errorf("block %d has %d users after it was hashed", n, users)
			}
		}
	})
}

// TestReaderDoesNotWaitForTheDisk: a block reaches its reader before it is stored on disk.
func TestReaderDoesNotWaitForTheDisk(t *testing.T) {
	up := s3mem.New()
	config := testConfig(rules.Exclusive)
	received := make(chan struct{})
	config.WarmFault = func(op akigw.DiskOp, _ string, size int) (int, error) {
		if op == akigw.DiskWrite && size >= block {
			<-received
		}
		return 0, nil
	}
	s := newStore(t, config, up)
	body := testkit.Bytes(5, 3*block)
	up.Put(key("k"), body)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second) // it would wait for ever
	defer cancel()
	r, err := s.Get(ctx, key("k"), akigw.RangeSpec{}, akigw.Conditions{})
	if err != nil {
		close(received)
		t.Fatal(err)
	}
	defer r.Close()
	first, err := r.Next(ctx)
	close(received)
	rest, err2 := drain(context.Background(), r)
	if err := errors.Join(err, err2); err != nil || !bytes.Equal(append(first, rest...), body) {
		t.Fatalf("%d and %d bytes, %v", len(first), len(rest), err)
	}
}
