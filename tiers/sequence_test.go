package tiers

import (
	"fmt"
	"testing"
	"testing/synctest"

	"github.com/akidb/akigw"
	"github.com/akidb/akigw/internal/testing/s3mem"
	"github.com/akidb/akigw/internal/testing/testkit"
	"github.com/akidb/akigw/rules"
)

// wantBlocks reads n blocks of key "k" starting at first, and waits for the read-ahead.
func wantBlocks(t *testing.T, s *Store, body []byte, first, n int, want akigw.Outcome) {
	t.Helper()
	from, to := first*block, (first+n)*block
	wantRead(t, s, key("k"), fmt.Sprintf("bytes=%d-%d", from, to-1), body[from:to], want)
	synctest.Wait()
}

// TestSequentialRangesAreReadAhead: a reader that requests one range after the other finds the next
// ones cached. Read-ahead is bounded and stops with the reader.
func TestSequentialRangesAreReadAhead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		const blocks, most = 64, 8
		config := testConfig(rules.Immutable)
		config.WarmBytes, config.HotBytes, config.ReadAheadBytes, config.FetchBytes = 0, 64<<20, 16<<20, 4*block
		s := inMemoryWith(t, config, rules.Settings{Freshness: rules.Immutable, ReadAhead: most * block}, up)
		body := testkit.Bytes(1, blocks*block)
		up.Put(key("k"), body)
		read := func(n int, want akigw.Outcome) {
			t.Helper()
			wantBlocks(t, s, body, n, 1, want)
		}
		for n := range 3 { // the pattern is detected after some requests
			read(n, akigw.Cold)
		}
		for n := 3; n < 20; n++ {
			read(n, akigw.Hot)
		}
		ahead := 0
		e, _ := s.lookup(key("k"))
		for n := int64(20); n < blocks; n++ {
			if s.locate(e, n) == akigw.Hot {
				ahead++
			}
		}
		if ahead != most {
			t.Errorf("%d blocks were read ahead, want %d", ahead, most)
		}
		if got, most := up.Sent(), int64((20+most)*block); got != most {
			t.Errorf("the upstream sent %d bytes, want %d: each once", got, most)
		}
		up.Reset()
		for _, n := range []int{50, 40, 60, 45} { // not sequential
			read(n, akigw.Cold)
		}
		if got := up.Sent(); got != 4*block {
			t.Errorf("%d bytes were fetched for 4 scattered blocks", got)
		}
	})
}

// TestNoReadAheadForLargeRanges: no read-ahead for a reader that requests a quarter of the window
// or more at a time.
func TestNoReadAheadForLargeRanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Immutable, ReadAhead: 12 * block}, up)
		body := testkit.Bytes(1, 40*block)
		up.Put(key("k"), body)
		for n := range 8 {
			wantBlocks(t, s, body, 4*n, 4, akigw.Cold)
		}
		if got := up.Count("GET"); got != 8 {
			t.Errorf("%d GETs for 8 ranges", got)
		}
	})
}

// TestNoReadAheadWithoutARule: without a rule, ranges are fetched as requested.
func TestNoReadAheadWithoutARule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		up := s3mem.New()
		s := inMemory(t, rules.Settings{Freshness: rules.Immutable}, up)
		body := testkit.Bytes(1, 20*block)
		up.Put(key("k"), body)
		for n := range 10 {
			wantBlocks(t, s, body, n, 1, akigw.Cold)
		}
		if got := up.Sent(); got != 10*block {
			t.Errorf("%d bytes sent", got)
		}
	})
}
